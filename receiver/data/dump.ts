/** The story of a dump: all of a target's data at one moment, on the nodes that have it, under one name. */
import type { ServiceName } from '../../node-agent/protocol.ts';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { DumpName, DumpReason, DumpSummary, DumpsResult } from '../../node-agent/protocol-data.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { type Audience, askAll, type Choice, type DataServices, findPlaces, tellRequest } from './data-services.ts';

/** How many are kept of each kind, where the environment's `backups` do not say otherwise. */
export const KEPT: Readonly<Record<DumpReason, number>> = {
  asked: 10,
  scheduled: 14,
  load: 5,
  sync: 3,
  release: 5,
  move: 3,
  destroy: 3,
  upload: 5,
};

export interface DumpOrder {
  target: Target;
  reason: DumpReason;
  choice: Choice;
  /** The release whose release command comes next. */
  before?: number;
  keep?: number;
  /** Not removed to make room: it is about to be loaded. */
  spare?: DumpName;
}

export interface MadeDump {
  name: DumpName;
  parts: { node: Node; summary: DumpSummary }[];
}

/** Nobody makes two dumps of a target at a time: its lock is held. So the last second is enough to tell them apart. */
const lastSeconds = new Map<string, number>();
/** A receiver that was killed a moment ago may have made one in this very second. */
const FIRST_SECOND = Math.floor(Date.now() / 1_000);
/** A clock that was set back by more is believed. */
const SET_BACK_S = 10;

/**
 * The caller holds the target's lock.
 * @param agentOf a node's agent that holds the site's lock already, if there is one
 * @throws KraftwerkError `dump.nothing`, and what keeps a service from being dumped
 */
export async function makeDump(
  services: DataServices,
  order: DumpOrder,
  audience: Audience,
  agentOf: (node: Node) => Pick<Node, 'request'> = (node) => node,
): Promise<MadeDump> {
  const { target, reason, choice, before } = order;
  const places = findPlaces(services, target, choice);
  if (places.length === 0) {
    throw new KraftwerkError('dump.nothing', `${targetName(target)}: there is nothing to dump`, {
      hint: 'services with data are asked for in kraftwerk.yaml: services: [files, postgres]',
      exit: 'denied',
    });
  }
  const name = await nextName(services, targetName(target));
  const release = services.journal.target(target)?.current ?? null;
  const parts = await askAll(places, async ({ node }, index) => {
    const { instance, scripts } = services.describeServices(target, node);
    const summary = await tellRequest(
      agentOf(node),
      {
        op: 'dump',
        instance,
        target: targetName(target),
        name,
        reason,
        release,
        before: before ?? null,
        services: scripts('dump', places[index]?.services ?? []),
        keep: order.keep ?? KEPT[reason],
        spare: order.spare ?? null,
      },
      audience,
    );
    return { node, summary: summary as DumpSummary };
  });
  services.log('dump.done', { target: targetName(target), name, reason, bytes: sumBytes(parts) });
  return { name, parts };
}

export function sumBytes(parts: MadeDump['parts']): number {
  return parts.reduce((sum, { summary }) => sum + summary.bytes, 0);
}

/** What a new dump of `PROJECT/ENV` is called. The caller holds the target's lock. */
export async function nextName({ nowMs }: Pick<DataServices, 'nowMs'>, target: string): Promise<DumpName> {
  for (;;) {
    const second = Math.floor(nowMs() / 1_000);
    const last = lastSeconds.get(target) ?? FIRST_SECOND;
    if (second > last || second < last - SET_BACK_S) {
      lastSeconds.set(target, second);
      return new Date(second * 1_000).toISOString().slice(0, 19) as DumpName;
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000 - (nowMs() % 1_000)));
  }
}

/** A dump as `dumps` lists it: all that has one name. */
export interface ListedDump {
  name: DumpName;
  /** Left of a site that was destroyed. */
  destroyed: boolean;
  parts: MadeDump['parts'];
}

/** Newest first. @throws KraftwerkError what a node says that cannot be asked */
export async function listDumps(services: DataServices, target: Target): Promise<ListedDump[]> {
  const nodes = nodesWithData(services, target);
  const answers = await askAll(
    nodes.map((node) => ({ node })),
    async ({ node }) => {
      const instance = services.instances.of(target, node.name);
      const order = { op: 'dumps', of: { instance, target: targetName(target) } } as const;
      return { node, result: (await node.request(order, { timeoutMs: 60_000 })) as DumpsResult };
    },
  );
  const found = new Map<string, ListedDump>();
  for (const { node, result } of answers) {
    for (const destroyed of [false, true]) {
      for (const summary of destroyed ? result.destroyed : result.dumps) {
        const key = `${destroyed} ${summary.name}`;
        const dump = found.get(key) ?? { name: summary.name, destroyed, parts: [] };
        dump.parts.push({ node, summary });
        found.set(key, dump);
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? 1 : -1));
}

/** Those of the environment, and those that have a service's data though they are not in it any more. */
function nodesWithData(services: DataServices, target: Target): Node[] {
  const names = [
    ...services.environment(target).nodes,
    ...services.journal.data.services(target).map(({ node }) => node),
  ];
  return [...new Set(names)].flatMap((name) => services.nodes.get(name) ?? []);
}

/** @throws KraftwerkError `dump.unknown` */
export async function findDump(services: DataServices, target: Target, name: DumpName): Promise<ListedDump> {
  const all = await listDumps(services, target);
  const found = all.find((dump) => dump.name === name);
  if (found !== undefined) return found;
  const [newest] = all;
  throw new KraftwerkError('dump.unknown', `${targetName(target)} has no dump ${name}`, {
    hint:
      newest === undefined
        ? 'there is none yet'
        : `the newest: ${newest.name}; all: ssh kraftwerk@HOST dumps ${targetName(target)}`,
    exit: 'denied',
  });
}

export function servicesOf(dump: ListedDump): ServiceName[] {
  return dump.parts.flatMap(({ summary }) => summary.services.map(({ name }) => name));
}
