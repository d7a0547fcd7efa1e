/** One order to all nodes of an environment: prepare in parallel, activate one by one, take back, retire. */
// Long because: what is asked of several nodes at once, and what becomes of it, is on one page.
import type { Readable } from 'node:stream';
import {
  type ActivateResult,
  type AgentEvent,
  type DeployEvent,
  type InstanceName,
  isDeployEvent,
  KraftwerkError,
  type Limits,
  type PrepareRequest,
  type PrepareResult,
  type Serving,
} from '../../node-agent/protocol.ts';
import type { DumpName } from '../../node-agent/protocol-data.ts';
import { allBounded } from '../bounded.ts';
import type { Audience } from '../data/data-services.ts';
import type { MakeLinks } from '../data/links.ts';
import { type Homes, placeOn } from '../data/placement.ts';
import { readArtifact } from '../git/artifact.ts';
import type { Switches } from '../journal.ts';
import type { Node, NodeOrder, NodeSession } from '../nodes/node.ts';
import { targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import type { DeployOrder } from './deploy.ts';
import { mergeEvents } from './merge-events.ts';
import { addHints, nameNode } from './node-names.ts';
import { planHealthcheck, type ReleaseSpec } from './plan.ts';
import { type RenderedRelease, renderRelease, type SiteRouter } from './render.ts';

/** pip and the project's own commands have limits of their own; this is the last resort. */
const PREPARE_LIMIT_MS = 3 * 3_600_000;
const REQUEST_LIMIT_MS = 120_000;
/** A switch takes milliseconds; nginx may have to be reloaded. Who takes longer is asked again, which does no harm. */
const ACTIVATE_LIMIT_MS = 20_000;
const PRESENCE_LIMIT_MS = 10_000;
const PIP_LIMIT_MS = 900_000;

export interface Prepared {
  node: Node;
  result: PrepareResult;
}

export interface Site {
  instance: InstanceName;
  nodes: readonly Node[];
}

/** What a deploy asks of nodes with. */
export interface FanOut {
  data: string;
  templatesOf(node: string): Templates;
  /** How a router reaches the site on a node; null: visitors come to the node itself. */
  routerOf(order: DeployOrder, node: Node): Promise<SiteRouter | null>;
  limitsOf(order: DeployOrder): Limits | null;
  /** Which node has the data of which service. */
  homesOf(order: DeployOrder): Homes;
  /**
   * Null: there is nothing that a release command could spoil. Else the dump is made by calling it, through the agents of this
   * deploy, which hold the site's lock.
   */
  dumpBeforeRelease(order: DeployOrder): ((agents: AgentOf, audience: Audience) => Promise<DumpName>) | null;
  /** Null: no node needs another's services. Else it is asked between what the nodes build and what they start. */
  linksOf(order: DeployOrder): MakeLinks | null;
  nowMs(): number;
}

/** A node's agent of this deploy. */
export type AgentOf = (node: Node) => Pick<NodeSession, 'request'>;

/** One agent on each node, by its name: each holds the site's lock there. */
export type Sessions = ReadonlyMap<string, NodeSession>;

export function openSessions({ instance, nodes }: Site): Sessions {
  return new Map(nodes.map((node) => [node.name, node.session(instance)]));
}

export function closeSessions(sessions: Sessions): void {
  for (const session of sessions.values()) session.close();
}

/**
 * All nodes are there, or nothing is begun.
 * @param hint what to do about a node that is not
 * @throws KraftwerkError `node.unreachable`, `node.login`, `node.lost`… with the name of the first that is not
 */
export async function reachAll(site: Site, sessions: Sessions, hint: (node: string) => string): Promise<void> {
  const waiting = site.nodes.map(async ({ name }) => {
    await sessions.get(name)?.opened.catch((error: unknown) => {
      throw notThere(name, error, hint(name));
    });
  });
  for (const one of waiting) one.catch(() => undefined);
  await Promise.all(waiting);
}

function notThere(name: string, error: unknown, hint: string): unknown {
  if (!(error instanceof KraftwerkError)) return error;
  const { code, message, hints, lines, exit, reason } = error;
  const said = message.replace(`node ${name}: `, '');
  const whole = code === 'node.unreachable' ? `node ${name} is unreachable: ${said}` : `node ${name}: ${said}`;
  const short = reason ?? (code === 'node.unreachable' ? `node ${name} is unreachable` : `node ${name} failed`);
  return new KraftwerkError(code, whole, { hint: [...hints, hint], lines, exit, reason: short, cause: error });
}

/** A node's agent of this deploy. */
function agentOf(node: Node, sessions: Sessions): Pick<NodeSession, 'request'> {
  return sessions.get(node.name) ?? node;
}

/**
 * All or none: the first failure ends the others, and each node takes its own part back. A release command, which nothing
 * takes back, runs on the first node, and only when every node has built.
 */
export async function prepareAll(
  options: FanOut,
  order: DeployOrder,
  site: Site,
  sessions: Sessions,
  signal: AbortSignal,
  emit: (event: DeployEvent) => void,
): Promise<Prepared[]> {
  const [first] = site.nodes;
  const names = site.nodes.map(({ name }) => name);
  const merger = mergeEvents(names, emit, options.nowMs);
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const rendered = new Map<string, Promise<RenderedRelease>>();
  for (const node of site.nodes) {
    const files = render(options, node, order, site);
    files.catch(() => undefined);
    rendered.set(node.name, files);
  }

  async function ask(node: Node, part: PrepareRequest['part']): Promise<PrepareResult | null> {
    const files = await rendered.get(node.name);
    if (files === undefined) throw new TypeError('a node of no environment');
    const command = order.runReleaseCommand && node === first ? order.spec.release : null;
    const result = await agentOf(node, sessions).request(describe(order, site, files, part, command), {
      timeoutMs: PREPARE_LIMIT_MS,
      signal: either,
      artifact: (): Readable => readArtifact(options.data, order.artifact),
      onEvent: (event: AgentEvent) => {
        if (isDeployEvent(event)) merger.on(node.name, event);
      },
    });
    return result as PrepareResult | null;
  }

  /** Every node is waited for, so that none is still busy with taking things back; the first cause is told. */
  async function everywhere(part: PrepareRequest['part']): Promise<Prepared[]> {
    const causes: { node: string; error: unknown }[] = [];
    const outcomes = await allBounded(site.nodes, async (node) => {
      try {
        either.throwIfAborted();
        return { node, result: (await ask(node, part)) as PrepareResult };
      } catch (error) {
        causes.push({ node: node.name, error });
        failed.abort();
        throw error;
      }
    });
    const [cause] = causes;
    if (cause === undefined) {
      merger.flush();
      return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    }
    if (signal.aborted) throw aborted();
    merger.failed(cause.node);
    throw names.length === 1 ? cause.error : nameNode(cause.error, cause.node);
  }

  const releases = order.runReleaseCommand && order.spec.release !== null;
  const dumpFirst = releases && order.dumpBeforeRelease ? options.dumpBeforeRelease(order) : null;
  const link = options.linksOf(order);
  const apart = (releases && (names.length > 1 || dumpFirst !== null)) || link !== null;
  if (first === undefined || !apart) return everywhere('all');
  await everywhere('build');
  await link?.((node) => agentOf(node, sessions), emit);
  if (!releases) return everywhere('boot');
  const dump = (await dumpFirst?.((node) => agentOf(node, sessions), { signal: either, emit })) ?? null;
  await ask(first, 'release').catch((error: unknown) => {
    merger.failed(first.name);
    const named = names.length === 1 ? error : nameNode(error, first.name);
    throw dump === null ? named : addHints(named, waysBack(targetName(order.target), dump));
  });
  return await everywhere('boot').catch((error: unknown) => {
    throw dump === null ? error : addHints(error, waysBack(targetName(order.target), dump));
  });
}

/** After a release command that may have begun to change the data. */
function waysBack(target: string, dump: DumpName): string[] {
  return [
    `the data was dumped before the command (${dump}); if it has changed anything:`,
    `ssh kraftwerk@HOST rollback ${target} --with-data`,
  ];
}

export function aborted(): KraftwerkError {
  return new KraftwerkError('deploy.aborted', 'the client went away before the new release served', {
    reason: 'cancelled',
  });
}

async function render(options: FanOut, node: Node, order: DeployOrder, site: Site): Promise<RenderedRelease> {
  const { cores, memoryBytes } = node.facts() ?? (await node.hello());
  const router = await options.routerOf(order, node);
  const facts = { profile: node.profile, cores, memoryBytes };
  const homes = options.homesOf(order);
  return renderRelease(options.templatesOf(node.name), facts, {
    ...order,
    instance: site.instance,
    router,
    limits: options.limitsOf(order),
    placeOf: (definition) => placeOn(node.name, homes, definition),
  });
}

function describe(
  order: DeployOrder,
  site: Site,
  rendered: RenderedRelease,
  part: PrepareRequest['part'],
  releaseCommand: string | null,
): NodeOrder {
  const { target, release, spec } = order;
  return {
    op: 'prepare',
    part,
    instance: site.instance,
    target: targetName(target),
    release,
    artifact: order.artifact,
    site: rendered.site,
    services: rendered.services,
    linked: rendered.linked,
    setUpServices: order.setUpServices,
    python: spec.python,
    requirements: spec.requirements,
    requirementsNamed: spec.requirementsNamed,
    generation: spec.generation,
    build: spec.build,
    releaseCommand,
    buildEnvironment: rendered.buildEnvironment,
    environment: rendered.environment,
    startLabel: rendered.startLabel,
    health: planHealthcheck(spec),
    timeoutMs: spec.timeoutMs,
    override: order.override,
    pipTimeoutMs: PIP_LIMIT_MS,
  };
}

/**
 * Whether all nodes still answer: one that has gone while the others were busy is better found out before the first is
 * switched than after. One node alone tells it when it is switched.
 */
export async function confirmAll(site: Site, sessions: Sessions): Promise<void> {
  if (site.nodes.length === 1) return;
  const order = { op: 'ready', instance: site.instance } as const;
  const outcomes = await allBounded(site.nodes, (node) =>
    agentOf(node, sessions).request(order, { timeoutMs: PRESENCE_LIMIT_MS }),
  );
  const [failure] = failuresOf(site, outcomes);
  if (failure !== undefined) throw nameNode(failure.error, failure.node);
}

/** Switches node after node. Saying it twice does no harm, so an agent that was lost is asked once more. */
export async function activateAll(
  site: Site,
  sessions: Sessions,
  switches: Switches,
  onSwitched: (count: number) => void,
): Promise<void> {
  for (const [index, node] of site.nodes.entries()) {
    const serve = switches[node.name]?.next;
    if (serve === undefined) continue;
    await activate(node, site.instance, serve, agentOf(node, sessions)).catch((error: unknown) => {
      throw site.nodes.length === 1 ? error : nameNode(error, node.name);
    });
    onSwitched(index + 1);
  }
}

export async function activate(
  node: Node,
  instance: InstanceName,
  serve: Serving,
  agent: Pick<NodeSession, 'request'> = node,
): Promise<ActivateResult> {
  const order = { op: 'activate', instance, serve } as const;
  const limit = { timeoutMs: ACTIVATE_LIMIT_MS };
  const result = await agent.request(order, limit).catch((error: unknown) => {
    if (error instanceof KraftwerkError && error.code === 'node.lost') return node.request(order, limit);
    throw error;
  });
  return result as ActivateResult;
}

/** What an environment's node did not do. */
export interface NodeFailure {
  node: string;
  error: unknown;
}

/**
 * Every node serves again what it served before, and what the deploy has made is gone.
 * @param switches null: no node has been switched yet
 * @param spec of the release that is taken back; null: it is not known any more
 * @returns the nodes that could not be put back; all have been asked
 */
export async function abandonAll(
  site: Site,
  switches: Switches | null,
  spec: ReleaseSpec | null,
  keep: readonly number[],
): Promise<NodeFailure[]> {
  const timeoutMs = spec?.timeoutMs ?? 30_000;
  const drain = { timeoutMs, healthPath: spec?.healthcheck.path ?? '/', host: spec?.domains[0] ?? 'localhost' };
  const ask = (node: Node): Promise<unknown> => {
    const planned = switches?.[node.name];
    const restore = planned === undefined ? null : { serve: planned.previous, ...drain };
    const order = { op: 'abandon', instance: site.instance, restore, keep } as const;
    return node.request(order, { timeoutMs: REQUEST_LIMIT_MS + 2 * timeoutMs });
  };
  const outcomes = await allBounded(site.nodes, (node) =>
    ask(node).catch((error: unknown) => {
      if (error instanceof KraftwerkError && error.code === 'node.lost') return ask(node);
      throw error;
    }),
  );
  return failuresOf(site, outcomes);
}

function failuresOf(site: Site, outcomes: readonly PromiseSettledResult<unknown>[]): NodeFailure[] {
  return outcomes.flatMap((outcome, index) => {
    const node = site.nodes[index]?.name ?? '';
    return outcome.status === 'rejected' ? [{ node, error: outcome.reason as unknown }] : [];
  });
}

/** Lets what was replaced finish its requests, and removes what is not kept. @throws what the first node that failed says */
export async function retireAll(
  site: Site,
  spec: ReleaseSpec,
  switches: Switches | null,
  { release, keep }: { release: number; keep: readonly number[] },
): Promise<void> {
  const order = {
    op: 'retire',
    instance: site.instance,
    release,
    timeoutMs: spec.timeoutMs,
    healthPath: spec.healthcheck.path,
    host: spec.domains[0] ?? 'localhost',
    keep,
  } as const;
  const limit = { timeoutMs: spec.timeoutMs * 2 + 60_000 };
  const outcomes = await allBounded(site.nodes, (node) =>
    node.request({ ...order, old: switches?.[node.name]?.previous?.boot ?? null }, limit),
  );
  const [failure] = failuresOf(site, outcomes);
  if (failure !== undefined) throw nameNode(failure.error, failure.node);
}
