/** What a target is on one of its nodes now: the services that it has, their scripts, its variables, nginx's file. */
import {
  type HelloResult,
  type InstanceName,
  KraftwerkError,
  type Limits,
  type ServiceName,
} from '../../node-agent/protocol.ts';
import type { ServiceScript, WrittenVariables } from '../../node-agent/protocol-data.ts';
import type { EnvironmentConfig } from '../config.ts';
import { renderRelease, type SiteRouter } from '../deploy/render.ts';
import type { Instances } from '../instances.ts';
import type { Journal, ReleaseRecord } from '../journal.ts';
import type { ServiceRecord } from '../journal-data.ts';
import type { Node } from '../nodes/node.ts';
import type { Routes } from '../router/routes.ts';
import { readService, type ScriptName } from '../services.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import { homesOf, placeOn } from './placement.ts';
import { type RenderedService, renderServices } from './render-services.ts';

export interface SiteServicesOptions {
  journal: Journal;
  routes: Pick<Routes, 'reach'>;
  instances: Pick<Instances, 'of'>;
  environment(target: Target): EnvironmentConfig;
  /** A node's own. */
  templatesOf(node: string): Templates;
}

/** Also of a target that has never come to serve. */
export interface ServicesOnNode {
  instance: InstanceName;
  /** What the target has, asked for or not any more. */
  services: readonly ServiceRecord[];
  /**
   * Those of `services` that have the script; a service without data has neither dump nor load. Without `only` those that the
   * node has itself.
   */
  scripts(script: ScriptName, only?: readonly ServiceName[]): ServiceScript[];
}

export interface SiteOnNode extends ServicesOnNode {
  release: ReleaseRecord;
  /** All of a process's variables but those that services have written on the node. */
  environment: Record<string, string>;
  written: WrittenVariables;
  health: { name: ServiceName; command: readonly string[] }[];
  limits: Limits | null;
  /** nginx's. */
  siteFile: string;
}

/**
 * @param instance another name that it has had on the node
 * @throws KraftwerkError `name.taken`, `service.*`, `template.*`
 */
export function describeServices(
  options: Pick<SiteServicesOptions, 'journal' | 'instances' | 'templatesOf'>,
  target: Target,
  node: Node,
  instance: InstanceName = options.instances.of(target, node.name),
): ServicesOnNode & { rendered: readonly RenderedService[] } {
  const { journal } = options;
  const templates = options.templatesOf(node.name);
  // One that a rootless node cannot have was asked for in a push that failed: it has nothing there.
  const possible = ({ name }: ServiceRecord): boolean =>
    node.profile.profile === 'system' || readService(templates, name).rootless;
  const services = journal.data.services(target).filter(possible);
  const current = journal.target(target)?.current ?? null;
  const spec = (current === null ? null : journal.release(target, current)?.spec) ?? { environ: {} };
  const homes = homesOf(services, [], []);
  const rendered = renderServices(templates, node.profile, {
    ...{ target, instance, services, spec },
    placeOf: (definition) => placeOn(node.name, homes, definition),
  });
  return {
    instance,
    services,
    rendered,
    scripts: (script, only) =>
      rendered.flatMap((service) => {
        const text = service.scripts[script];
        const wanted = only?.includes(service.name) ?? service.place === 'here';
        return text === null || !wanted ? [] : [{ name: service.name, script: text, environment: service.environment }];
      }),
  };
}

/**
 * @param chosen another release than the current one
 * @throws KraftwerkError `target.empty`, `service.*`, `template.*`
 */
export async function describeSite(
  options: SiteServicesOptions,
  target: Target,
  node: Node,
  chosen: ReleaseRecord | null = null,
): Promise<SiteOnNode> {
  const { journal, routes } = options;
  const environment = options.environment(target);
  const current = journal.target(target)?.current ?? null;
  const release = chosen ?? (current === null ? null : journal.release(target, current));
  if (release === null) {
    throw new KraftwerkError('target.empty', `${targetName(target)}: nothing is deployed yet`, {
      hint: `git push ${target.environment} master`,
      exit: 'denied',
    });
  }
  const templates = options.templatesOf(node.name);
  const { instance, rendered, scripts, services } = describeServices(options, target, node);
  const asked = rendered.filter(
    ({ name, place }) => place !== 'absent' && release.spec.services.some((service) => service.name === name),
  );
  const facts: HelloResult = node.facts() ?? (await node.hello());
  const router: SiteRouter | null = await routes.reach(target, node);
  const homes = homesOf(services, release.spec.services, environment.nodes);
  const site = renderRelease(
    templates,
    { profile: node.profile, cores: facts.cores, memoryBytes: facts.memoryBytes },
    {
      ...{ ...release, instance, router, limits: environment.limits },
      placeOf: (definition) => placeOn(node.name, homes, definition),
    },
  );
  return {
    instance,
    release,
    services,
    scripts,
    environment: site.environment,
    written: asked.map(({ name, written }) => ({ name, written })),
    health: healthOf(asked),
    limits: environment.limits,
    siteFile: site.site.site,
  };
}

function healthOf(services: readonly RenderedService[]): SiteOnNode['health'] {
  return services.flatMap(({ name, health }) => (health === null ? [] : [{ name, command: health }]));
}
