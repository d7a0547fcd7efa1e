/** Services: what a service.yaml says, or every error with its place; what a project asks of it; its scripts, rendered. */
import {
  type EnvironmentName,
  type InstanceName,
  KraftwerkError,
  LOG_USER,
  NGINX_USER,
  type NodeProfile,
  nodePlace,
  type ProjectName,
  type ServiceName,
  type SiteOwner,
  siteOwner,
} from '../node-agent/protocol.ts';
import { type SitePaths, sitePaths } from './deploy/plan.ts';
import {
  definitionSchema,
  type Options,
  optionsSchema,
  PLACEHOLDER,
  type Placeholders,
  type ServiceDefinition,
  type ServiceLink,
} from './service-schema.ts';
import type { Templates } from './templates.ts';
import { parseYaml, YamlError } from './yaml-source.ts';
import { didYouMean, validate } from './yaml-validate.ts';

/** @param file stands in front of each problem @throws YamlError `service.invalid`: the first problem, and all others as lines */
export function parseService(text: string, name: ServiceName, file: string): ServiceDefinition {
  const source = parseYaml(text, {
    file,
    code: 'service.invalid',
    isText: ([key, ...rest]) => (key === 'variables' || key === 'health') && rest.length === 1,
  });
  const { value, problems } = validate(definitionSchema, source);
  if (value === null) throw new YamlError('service.invalid', file, problems);
  return { name, ...value };
}

export type ScriptName = 'setup' | 'destroy' | 'dump' | 'load';

/** @throws KraftwerkError `template.missing`, `service.invalid`, `service.incomplete` */
export function readService(templates: Templates, name: ServiceName): ServiceDefinition {
  const path = `services/${name}/service.yaml`;
  const definition = parseService(templates.read(path), name, templates.find(path) ?? path);
  const missing = scriptsOf(definition).filter((script) => templates.find(`services/${name}/${script}.sh`) === null);
  if (missing.length > 0)
    throw new KraftwerkError(
      'service.incomplete',
      `the service ${name} has no ${missing.map((script) => `${script}.sh`).join(', no ')}`,
      { hint: `beside its service.yaml: ${templates.find(path) ?? path}`, reason: `service ${name} is incomplete` },
    );
  return definition;
}

function scriptsOf({ data }: ServiceDefinition): ScriptName[] {
  return data ? ['setup', 'destroy', 'dump', 'load'] : ['setup', 'destroy'];
}

/** Options with those that are not given; for what a journal keeps, too, whatever the service has meanwhile become. @throws KraftwerkError `service.option` */
export function completeOptions(definition: ServiceDefinition, given: Options): Options {
  const defaults = Object.entries(definition.options).map(([name, { default: value }]) => [name, value]);
  const parsed = optionsSchema(definition, false).safeParse(given);
  if (parsed.success) return { ...Object.fromEntries(defaults), ...parsed.data } as Options;
  const lines = parsed.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => `unknown option "${key}"${didYouMean(key, Object.keys(definition.options))}`)
      : [`${issue.path.join('.')}: ${issue.message}`],
  );
  throw new KraftwerkError('service.option', `service ${definition.name}: ${lines[0]}`, {
    lines: lines.slice(1),
    exit: 'config',
    reason: `an option of ${definition.name} is wrong`,
  });
}

/** What the scripts see as `it`. */
export interface ServiceValues extends SitePaths {
  instance: InstanceName;
  project: ProjectName;
  environment: EnvironmentName;
  /** The site's user, and with its groups the owner; null on a rootless node. */
  user: string | null;
  owner: SiteOwner | null;
  nginxUser: string;
  logUser: string;
  options: Options;
}

export interface ServiceOrder {
  profile: NodeProfile;
  instance: InstanceName;
  project: ProjectName;
  environment: EnvironmentName;
  options: Options;
}

/** @throws KraftwerkError `service.option` */
export function serviceValues(definition: ServiceDefinition, order: ServiceOrder): ServiceValues {
  const { profile, instance, project, environment } = order;
  const owner = siteOwner(profile, instance);
  return {
    ...sitePaths(nodePlace(profile).root, instance),
    instance,
    project,
    environment,
    user: owner?.user ?? null,
    owner,
    nginxUser: NGINX_USER,
    logUser: LOG_USER,
    options: completeOptions(definition, order.options),
  };
}

/** Null: it has no data. */
export type ServiceScripts = Readonly<Record<ScriptName, string | null>>;

export function renderScripts(
  templates: Templates,
  definition: ServiceDefinition,
  values: ServiceValues,
): ServiceScripts {
  const wanted = scriptsOf(definition);
  const render = (script: ScriptName): string | null =>
    wanted.includes(script) ? templates.render('shell', `services/${definition.name}/${script}.sh`, values) : null;
  return { setup: render('setup'), destroy: render('destroy'), dump: render('dump'), load: render('load') };
}

/** Where a node has the sockets of a service whose data is on another. */
export function linkFolder(instance: InstanceName, service: ServiceName): string {
  return `/run/kraftwerk-link/${instance}/${service}`;
}

/** Variables, health and sockets of one site. @param linked its data is on another node */
export function fillPlaceholders(
  { name, variables, health, link }: Pick<ServiceDefinition, 'name' | 'variables' | 'health' | 'link'>,
  values: ServiceValues,
  linked = false,
): { variables: Record<string, string>; health: string[] | null; link: ServiceLink | null } {
  const known: Placeholders = { ...values, user: values.user ?? '', sockets: '' };
  const fillWith = (all: Placeholders) => (text: string) =>
    text.replace(PLACEHOLDER, (_, word: string) => all[word as keyof Placeholders]);
  const folder = link === null ? '' : fillWith(known)(link.folder);
  const fill = fillWith({ ...known, sockets: linked ? linkFolder(values.instance, name) : folder });
  return {
    variables: Object.fromEntries(Object.entries(variables).map(([variable, text]) => [variable, fill(text)])),
    health: health?.map(fill) ?? null,
    link: link && { ...link, folder },
  };
}

/** Who gives a variable where several services do: the one that kraftwerk.yaml names first. */
export function ownersOfVariables(definitions: readonly ServiceDefinition[]): Map<string, ServiceName> {
  const owners = new Map<string, ServiceName>();
  for (const { name, variables, written } of definitions)
    for (const variable of [...Object.keys(variables), ...written])
      if (!owners.has(variable)) owners.set(variable, name);
  return owners;
}
