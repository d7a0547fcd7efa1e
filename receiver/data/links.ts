/** Links between the nodes of an environment: each reaches the services whose data another one has. What is asked of whom, and when. */
import {
  type DeployEvent,
  type InstanceName,
  KraftwerkError,
  type ServiceName,
  siteOwner,
} from '../../node-agent/protocol.ts';
import type {
  LinkAcceptResult,
  LinkKeyResult,
  LinkRequest,
  LinkResult,
  VariablesResult,
  WrittenVariables,
} from '../../node-agent/protocol-data.ts';
import type { EnvironmentConfig } from '../config.ts';
import type { NodeConfig } from '../config-nodes.ts';
import type { AgentOf } from '../deploy/fan-out.ts';
import { shortNames } from '../deploy/node-names.ts';
import { type ReleaseSpec, sitePaths } from '../deploy/plan.ts';
import type { Instances } from '../instances.ts';
import type { Journal } from '../journal.ts';
import type { AskedService } from '../journal-data.ts';
import type { Node } from '../nodes/node.ts';
import { linkFolder } from '../services.ts';
import type { Target } from '../target.ts';
import type { Templates } from '../templates.ts';
import { askAll } from './data-services.ts';
import { homesOf, placeOn } from './placement.ts';
import { type RenderedService, renderServices } from './render-services.ts';

export interface LinksOptions {
  journal: Journal;
  nodes: ReadonlyMap<string, Node>;
  configured: ReadonlyMap<string, NodeConfig>;
  instances: Instances;
  environment(target: Target): EnvironmentConfig;
  templatesOf(node: string): Templates;
  nowMs(): number;
}

/** Makes the links as they are to be, through these agents. */
export type MakeLinks = (agents: AgentOf, emit: (event: DeployEvent) => void) => Promise<void>;
/** Of a target's current release, or of one that is being made; null: it has none, and never had. */
export type PlanLinks = (target: Target, spec?: Pick<ReleaseSpec, 'services' | 'environ'>) => MakeLinks | null;

const LIMIT_MS = 180_000;

/** A service that a node of the target reaches on another. */
interface Linked {
  node: Node;
  home: Node;
  service: RenderedService;
}

export function createLinks(options: LinksOptions): PlanLinks {
  const { environment, journal, nodes } = options;

  return (target, given) => {
    const names = environment(target).nodes;
    const before = journal.data.linkedNodes(target);
    if (names.length < 2 && before.length === 0) return null;
    const current = journal.target(target)?.current ?? null;
    const spec = given ??
      (current === null ? null : journal.release(target, current)?.spec) ?? { services: [], environ: {} };
    const { all, written } = findLinked(target, spec);
    if (all.length === 0 && before.length === 0) return null;
    const order = { target, all, before, written: given === undefined ? written : null };
    return (agents, emit) => makeLinks(options, order, agents, emit);
  };

  /** Also those that are no longer asked for: what served before may be gone back to, and their data is there. */
  function findLinked(
    target: Target,
    spec: Pick<ReleaseSpec, 'services' | 'environ'>,
  ): Pick<LinksOrder, 'all' | 'written'> {
    const records = journal.data.services(target);
    const { nodes: names } = environment(target);
    const homes = homesOf(records, spec.services, names);
    // Who gives a variable is decided by the order in which a release asks for its services.
    const others = records.filter(({ name }) => !spec.services.some((service) => service.name === name));
    const instance = options.instances.of(target);
    const written = new Map<Node, WrittenVariables>();
    const all = names.flatMap((name): Linked[] => {
      const node = nodes.get(name);
      if (node === undefined) return [];
      const templates = options.templatesOf(name);
      const known = templates.services();
      const services: AskedService[] = [...spec.services, ...others.filter((service) => known.includes(service.name))];
      const placed = services.filter((service) => (homes.get(service.name) ?? name) !== name);
      if (placed.length === 0) return [];
      const rendered = renderServices(templates, node.profile, {
        ...{ target, instance, services, spec },
        placeOf: (definition) => placeOn(name, homes, definition),
      });
      const asked = rendered.slice(0, spec.services.length).filter(({ place }) => place !== 'absent');
      written.set(
        node,
        asked.map((service) => ({ name: service.name, written: service.written })),
      );
      return rendered.flatMap((service) => {
        const home = nodes.get(homes.get(service.name) ?? '');
        return service.place === 'linked' && home !== undefined ? [{ node, home, service }] : [];
      });
    });
    return { all, written };
  }
}

interface LinksOrder {
  target: Target;
  all: readonly Linked[];
  /** Nodes that have had links, or keys of others. */
  before: readonly string[];
  /** What the site's start script is to have of them, where the current release stays; else null. */
  written: ReadonlyMap<Node, WrittenVariables> | null;
}

/** @throws KraftwerkError `service.link`, with the name of the node */
async function makeLinks(
  { configured, environment, instances, journal, nodes, nowMs, templatesOf }: LinksOptions,
  { target, all, before, written: asked }: LinksOrder,
  agents: AgentOf,
  emit: (event: DeployEvent) => void,
): Promise<void> {
  const begin = nowMs();
  const { nodes: names } = environment(target);
  const instance = instances.of(target);
  const members = names.flatMap((name) => nodes.get(name) ?? []).map((node) => ({ node }));
  const limit = { timeoutMs: LIMIT_MS };
  const linkedOn = (node: Node): Linked[] => all.filter((one) => one.node === node);
  // Who has had a link, or a key, is known whatever becomes of this.
  const touched = new Set(all.flatMap(({ node, home }) => [node.name, home.name]));
  note([...before, ...touched]);

  const keys = new Map<Node, string | null>();
  await askAll(members, async ({ node }) => {
    const linked = linkedOn(node).map(({ service }) => service.name);
    const order = { op: 'link-key', instance, linked } as const;
    keys.set(node, ((await agents(node).request(order, limit)) as LinkKeyResult).publicKey);
  });
  const accepted = new Map<Node, LinkAcceptResult>();
  const written = new Map<Node, VariablesResult>();
  await askAll(members, async ({ node }) => {
    const order = {
      op: 'link-accept',
      instance,
      guests: guestsOf(node),
      port: configured.get(node.name)?.kind === 'local',
    } as const;
    accepted.set(node, (await agents(node).request(order, limit)) as LinkAcceptResult);
    const own = all.filter(({ home, service }) => home === node && service.written.length > 0);
    if (own.length === 0) return;
    const wanted = own.map(({ service }) => ({ name: service.name, written: service.written }));
    const variables = { op: 'variables', instance, written: wanted } as const;
    written.set(node, (await agents(node).request(variables, limit)) as VariablesResult);
  });

  const made: { node: Node; services: readonly ServiceName[] }[] = [];
  const { site } = sitePaths('/', instance);
  const user = siteOwner({ profile: 'system' }, instance)?.user;
  const users = members.filter(({ node }) => linkedOn(node).length > 0);
  await askAll(users, async ({ node }) => {
    const links = linkedOn(node).map(({ home, service }) => {
      const values = written.get(home) ?? {};
      const { hostKeys, port } = accepted.get(home) ?? { hostKeys: [], port: null };
      const render = (file: string, more: object): string =>
        templatesOf(node.name).render('text', `node/${file}`, {
          ...{ instance, service: service.name, to: home.name, user, site },
          ...more,
        });
      return describeLink(service, home, values, hostKeys, instance, render, addressOf(configured, home, port));
    });
    const order = { op: 'link', instance, links, written: asked?.get(node) ?? null } as const;
    const result = (await agents(node).request(order, {
      ...limit,
      onEvent: (event) => {
        if (event.event === 'progress') emit(event);
      },
    })) as LinkResult;
    made.push({ node, services: result.made });
  });
  // Where the name is another target's by now, the links of that name are its.
  const left = before.filter((name) => !names.includes(name) && nodes.has(name) && instances.owns(target, name));
  note([...touched, ...left]);
  // A load has its visitors wait, and one that has left may be lost: the next deploy asks it.
  if (asked === null) note([...touched, ...(await forgetOthers(left))]);
  for (const home of new Set(all.map((one) => one.home))) tell(home);

  function guestsOf(home: Node): { key: string; sockets: string[] }[] {
    return members.flatMap(({ node }) => {
      const key = keys.get(node);
      const sockets = linkedOn(node).flatMap((one) =>
        one.home === home ? (one.service.link?.sockets ?? []).map((name) => `${one.service.link?.folder}/${name}`) : [],
      );
      return key && sockets.length > 0 ? [{ key, sockets }] : [];
    });
  }

  function note(some: readonly string[]): void {
    const wanted = [...new Set(some)].sort();
    if (wanted.join(' ') !== journal.data.linkedNodes(target).sort().join(' '))
      journal.data.setLinkedNodes(target, wanted);
  }

  /** Nodes that have left the environment have nothing of it any more. @returns those that could not be asked */
  async function forgetOthers(left: readonly string[]): Promise<string[]> {
    const failed = left.map(async (name): Promise<string[]> => {
      const node = nodes.get(name) as Node;
      try {
        await node.request({ op: 'link-key', instance, linked: [] }, limit);
        if (!touched.has(name)) await node.request({ op: 'link-accept', instance, guests: [], port: false }, limit);
        return [];
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        emit({ event: 'warning', message: `${name} has left the environment, and may still have its links: ${why}` });
        return [name];
      }
    });
    return (await Promise.all(failed)).flat();
  }

  function tell(home: Node): void {
    const short = shortNames([...nodes.keys()]);
    const mine = all.filter((one) => one.home === home);
    const services = [...new Set(mine.map(({ service }) => service.name))].join(', ');
    const guests = [...new Set(mine.map(({ node }) => short.get(node.name) ?? node.name))].join(', ');
    const quiet = !made.some(({ services: some }) =>
      some.some((name) => mine.some(({ service }) => service.name === name)),
    );
    const detail = `${services} of ${short.get(home.name) ?? home.name} linked to ${guests}`;
    emit({ event: 'step', step: 'Services', detail, ms: nowMs() - begin, ...(quiet && { quiet }) });
  }
}

function describeLink(
  service: RenderedService,
  home: Node,
  values: VariablesResult,
  hostKeys: readonly string[],
  instance: InstanceName,
  render: (file: string, more: object) => string,
  address: { host: string; port: number },
): LinkRequest['links'][number] {
  const { link, name } = service;
  if (link === null) throw new TypeError(`${name} has no link`);
  const folder = linkFolder(instance, name);
  const forwards = link.sockets.map((socket) => ({ from: `${folder}/${socket}`, to: `${link.folder}/${socket}` }));
  // What was written there names the sockets that are there.
  const here = (value: string): string => forwards.reduce((text, { from, to }) => text.replaceAll(to, from), value);
  const mine = Object.entries(values).filter(([variable]) => service.written.includes(variable));
  return {
    service: name,
    to: home.name,
    unit: render('link.service', {}),
    config: render('link.ssh', { forwards, ...address }),
    hostKeys,
    sockets: link.sockets,
    variables: Object.fromEntries(mine.map(([variable, value]) => [variable, here(value)])),
  };
}

/** Where the others reach a node's sshd. @throws KraftwerkError `service.link` */
function addressOf(
  configured: ReadonlyMap<string, NodeConfig>,
  node: Node,
  port: number | null,
): { host: string; port: number } {
  const config = configured.get(node.name);
  const host = config?.kind === 'ssh' ? (config.address ?? config.host) : node.facts()?.addresses[0];
  if (config !== undefined && host !== undefined && /^[A-Za-z0-9._:-]+$/.test(host))
    return { host, port: config.kind === 'ssh' ? config.port : (port ?? 22) };
  throw new KraftwerkError('service.link', `nobody knows where the other nodes reach ${node.name}`, {
    step: 'Services',
    hint: `nodes.${node.name}.address in the receiver's configuration says it`,
    exit: 'config',
  });
}
