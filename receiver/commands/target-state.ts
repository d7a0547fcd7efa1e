/** What targets are doing now: the journal's word, the locks', and what each node says when it is asked once. */
import { type InstanceName, type InstanceStatus, nodePlace, type StatusResult } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import { siteUrl } from '../deploy/release-ref.ts';
import type { NameConflict } from '../instances.ts';
import type { ReleaseRecord, TargetRecord } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import type { Holder } from '../target-locks.ts';
import type { ReceiverApi } from './command.ts';

/** none: nothing was ever deployed. down: it should run and does not; degraded: on some nodes. unknown: no node could be asked. */
export type State = 'running' | 'stopped' | 'degraded' | 'down' | 'none' | 'unknown';

export interface NodeState {
  node: string;
  /** Why it could not be asked; null when it answered. */
  error: string | null;
  instance: InstanceStatus | null;
  httpPort: number;
}

export interface TargetState {
  target: Target;
  record: TargetRecord;
  release: ReleaseRecord | null;
  state: State;
  /** Another target has its name on a node: then none is asked about it. Null: none has. */
  conflict: NameConflict | null;
  /** Who has put it in maintenance; null: nobody. */
  maintenance: { since: string; by: string } | null;
  /** Who works on it right now. */
  busy: Holder | null;
  nodes: NodeState[];
  /** Of the router that visitors come to; null: they come to the nodes. */
  routerPort: number | null;
}

const LIMIT_MS = 30_000;

/** Asks each node once, for all of the targets that it serves. @param targets that the journal knows; others are left out */
export async function readStates(
  receiver: ReceiverApi,
  targets: readonly Target[],
  { memory }: { memory: boolean },
): Promise<TargetState[]> {
  const { config, instances, journal, locks, nodes } = receiver;
  const asked: { node: Node; instances: InstanceName[] }[] = [];
  for (const node of nodes.values()) {
    const asking = targets.flatMap((target) => {
      const environment = config.environments.get(target.environment);
      return environment?.nodes.includes(node.name) ? (instances.find(target) ?? []) : [];
    });
    if (asking.length > 0) asked.push({ node, instances: asking });
  }
  const answers = new Map<Node, ReadonlyMap<string, InstanceStatus> | string>();
  await allBounded(asked, async ({ node, instances: names }) => answers.set(node, await ask(node, names, memory)));
  return targets.flatMap((target): TargetState[] => {
    const record = journal.target(target);
    if (record === null) return [];
    const environment = config.environments.get(target.environment);
    const instance = instances.find(target);
    const conflict = instances.conflict(target);
    const states = (instance === null ? [] : (environment?.nodes ?? [])).flatMap((name): NodeState[] => {
      const node = nodes.get(name);
      const answer = node === undefined ? undefined : answers.get(node);
      if (node === undefined || answer === undefined) return [];
      const httpPort = node.facts()?.httpPort ?? nodePlace(node.profile).httpPort;
      if (typeof answer === 'string') return [{ node: name, error: answer, instance: null, httpPort }];
      return [{ node: name, error: null, instance: answer.get(instance ?? '') ?? null, httpPort }];
    });
    const release = record.current === null ? null : journal.release(target, record.current);
    const busy = locks.holder(targetName(target));
    const routerPort = environment === undefined ? null : receiver.routes.port(target);
    const maintenance = journal.data.maintenance(target);
    const about = { target, record, release, conflict, maintenance, busy, nodes: states, routerPort };
    return [{ ...about, state: judge(record, states) }];
  });
}

async function ask(
  node: Node,
  instances: readonly InstanceName[],
  memory: boolean,
): Promise<ReadonlyMap<string, InstanceStatus> | string> {
  try {
    const result = (await node.request({ op: 'status', instances, memory }, { timeoutMs: LIMIT_MS })) as StatusResult;
    return new Map(result.instances.map((instance) => [instance.instance, instance]));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return message.replace(`node ${node.name}: `, '');
  }
}

/** One word for all nodes. Pure. */
export function judge(record: Pick<TargetRecord, 'current'>, nodes: readonly NodeState[]): State {
  if (record.current === null) return 'none';
  const instances = nodes.flatMap(({ instance }) => instance ?? []);
  if (instances.length === 0) return 'unknown';
  if (instances.every(serves)) return 'running';
  if (instances.every((one) => one.stopped)) return 'stopped';
  return instances.some(serves) ? 'degraded' : 'down';
}

/** Whether visitors of the node reach a process. */
export function serves({ processes }: InstanceStatus): boolean {
  return processes.some((process) => process.serves && process.state === 'run');
}

/** What does not agree between journal, ref and nodes, in words; empty while somebody works on it. Pure. */
export function findDisagreements(
  { busy, nodes, record, release }: TargetState,
  ref: { name: string; commit: string | null } | null,
): string[] {
  if (busy !== null || record.current === null || release === null) return [];
  const wanted = `v${record.current}`;
  const short = (commit: string | null): string => commit?.slice(0, 7) ?? 'missing';
  const found = nodes.flatMap(({ error, instance, node }): string[] => {
    if (error !== null) return [`node ${node} cannot be asked: ${error}`];
    const current = instance?.current ?? null;
    if (instance === null || current === null) return [`node ${node} has no release, the journal says ${wanted}`];
    const silent = nodes.length > 1 && !instance.stopped && !serves(instance) ? [`node ${node} does not run it`] : [];
    const stopped = instance.stopped === record.stopped ? silent : [stoppedWords(node, instance.stopped)];
    if (current.release === record.current) return stopped;
    return [`node ${node} serves v${current.release}, the journal says ${wanted}`, ...stopped];
  });
  if (ref !== null && ref.commit !== release.commit)
    found.push(`${ref.name} is at ${short(ref.commit)}, ${wanted} is ${short(release.commit)}`);
  return found;
}

/** Which nodes are closed to visitors though nobody wants that, or are not though somebody does; null while somebody works on it. Pure. */
export function findMaintenance({
  busy,
  maintenance,
  nodes,
}: Pick<TargetState, 'busy' | 'maintenance' | 'nodes'>): { warnings: string[]; mend: 'on' | 'off' } | null {
  if (busy !== null) return null;
  const wanted = maintenance !== null;
  const wrong = nodes.filter(({ instance }) => instance?.current != null && instance.maintenance !== wanted);
  if (wrong.length === 0) return null;
  const words = wanted
    ? 'is open to visitors, the journal says maintenance'
    : 'is in maintenance, the journal says that it is not';
  return { warnings: wrong.map(({ node }) => `node ${node} ${words}`), mend: wanted ? 'on' : 'off' };
}

function stoppedWords(node: string, stopped: boolean): string {
  return stopped ? `node ${node} is stopped, the journal says running` : `node ${node} runs, the journal says stopped`;
}

/** Addresses of the site: the canonical one of each node's port first. */
export function urlsOf({ nodes, release, routerPort }: TargetState): string[] {
  if (release === null) return [];
  const ports = routerPort === null ? [...new Set(nodes.map(({ httpPort }) => httpPort))] : [routerPort];
  return ports.flatMap((port) => release.spec.domains.map((domain) => siteUrl({ domains: [domain] }, port)));
}

/** Whether visitors get the page of `maintenance`, on one node at least. */
export function isClosed({ maintenance, nodes }: Pick<TargetState, 'maintenance' | 'nodes'>): boolean {
  return maintenance !== null || nodes.some(({ instance }) => instance?.maintenance);
}

/** `running`, `down, busy`, `running, maintenance`… */
export function describeState(state: TargetState): string {
  const word = state.state === 'none' ? 'not deployed' : state.state;
  return [word, ...(isClosed(state) ? ['maintenance'] : []), ...(state.busy === null ? [] : ['busy'])].join(', ');
}
