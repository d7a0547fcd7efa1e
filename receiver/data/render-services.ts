/** The services of a site on one node: what they give and their scripts, from the templates of that very node. */
import {
  type InstanceName,
  KraftwerkError,
  type NodeProfile,
  nodePlace,
  type ServiceName,
} from '../../node-agent/protocol.ts';
import type { ReleaseSpec, ServiceFacts } from '../deploy/plan.ts';
import { sitePaths } from '../deploy/plan.ts';
import type { Options, ServiceDefinition, ServiceLink } from '../service-schema.ts';
import {
  fillPlaceholders,
  ownersOfVariables,
  readService,
  renderScripts,
  type ServiceScripts,
  serviceValues,
} from '../services.ts';
import type { Target } from '../target.ts';
import type { Templates } from '../templates.ts';
import type { ServicePlace } from './placement.ts';

export interface RenderedService extends ServiceFacts {
  name: ServiceName;
  /** What this node has of it; where that is nothing, it gives nothing. */
  place: ServicePlace;
  link: ServiceLink | null;
  definition: ServiceDefinition;
  scripts: ServiceScripts;
  /** For the scripts. */
  environment: Readonly<Record<string, string>>;
  /** Variables that its scripts write and that the site gets from it. */
  written: readonly string[];
  health: readonly string[] | null;
}

export interface ServicesOrder {
  target: Target;
  instance: InstanceName;
  services: readonly { name: ServiceName; options: Options }[];
  /** Its `environ` wins. */
  spec: Pick<ReleaseSpec, 'environ'>;
  /** Absent: the node has all of them itself. */
  placeOf?: (definition: ServiceDefinition) => ServicePlace;
}

/** @throws KraftwerkError `service.rootless`, `service.invalid`, `service.incomplete`, `service.option`, `template.*` */
export function renderServices(
  templates: Templates,
  profile: NodeProfile,
  { target, instance, services, spec, placeOf = () => 'here' }: ServicesOrder,
): RenderedService[] {
  const definitions = services.map(({ name }) => readService(templates, name));
  const owners = ownersOfVariables(definitions.filter((definition) => placeOf(definition) !== 'absent'));
  return services.map(({ name, options }, index) => {
    const definition = definitions[index] as ServiceDefinition;
    if (profile.profile === 'rootless' && (!definition.rootless || placeOf(definition) === 'linked'))
      throw notRootless(name);
    const values = serviceValues(definition, { profile, instance, ...target, options });
    const place = placeOf(definition);
    const { variables, health, link } = fillPlaceholders(definition, values, place === 'linked');
    const given = ([variable]: readonly [string, unknown]): boolean => owners.get(variable) === name;
    return {
      name,
      place,
      link,
      definition,
      scripts: renderScripts(templates, definition, values),
      environment: {
        SITE_ROOT: sitePaths(nodePlace(profile).root, instance).site,
        KRAFTWERK_PROJECT: target.project,
        KRAFTWERK_ENVIRONMENT: target.environment,
      },
      uploads: definition.uploads && place === 'here',
      variables: Object.fromEntries(Object.entries(variables).filter(given)),
      written: definition.written.filter(
        (variable) => given([variable, null]) && !Object.hasOwn(spec.environ, variable),
      ),
      // A node that reaches it elsewhere need not have its programs.
      health: place === 'here' ? health : null,
    };
  });
}

function notRootless(name: ServiceName): KraftwerkError {
  return new KraftwerkError(
    'service.rootless',
    `the service ${name} needs a node of its own users: this one is rootless`,
    {
      step: 'Services',
      hint: [
        'a server that kraftwerk setup-node (or setup-receiver) has made can have it',
        'on a rootless node there are: files, sqlite',
      ],
      reason: `service ${name} needs another node`,
    },
  );
}
