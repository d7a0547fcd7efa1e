/** What nodes say -> what is wrong with them, and what mends it. Pure. */
import type { NameConflict } from '../instances.ts';
import type { DeployRecord } from '../journal.ts';
import type { Inspection } from '../nodes/inspect.ts';
import { type Target, targetName } from '../target.ts';
import { type NodeState, serves, type TargetState } from './target-state.ts';
import { formatSize } from './units.ts';

/** What `doctor --fix` can do about a problem. */
export type Remedy = 'deploy' | 'stop' | 'settle' | 'route';

export interface Problem {
  /** Null: it is about no node alone. */
  node: string | null;
  target: Target | null;
  what: string;
  /** Commands, or what to look at. */
  mend: readonly string[];
  remedy: Remedy | null;
}

const MB = 1024 ** 2;
const CLOCK_LIMIT_MS = 2_000;

export function diagnoseNode(inspection: Inspection, agentVersion: string): Problem[] {
  const { node, facts, error, clockOffsetMs } = inspection;
  const problem = (what: string, ...mend: string[]): Problem => ({ node, target: null, what, mend, remedy: null });
  if (facts === null) return [problem(withoutName(error?.message ?? 'no answer', node), ...(error?.hints ?? []))];
  const found: Problem[] = [];
  if (facts.agentVersion !== agentVersion)
    found.push(problem("its agent is not this receiver's", 'restart the receiver: it brings its agent along'));
  const { diskBytes, diskFreeBytes, memoryBytes, memoryFreeBytes } = facts;
  if (diskFreeBytes < Math.min(diskBytes / 10, 2_000 * MB))
    found.push(
      problem(
        `disk: ${formatSize(diskFreeBytes)} of ${formatSize(diskBytes)} are free`,
        'look what fills it, on the node: df -h; du -xh / | sort -h | tail',
        'fewer old releases: keep_releases in kraftwerk.yaml',
      ),
    );
  if (memoryFreeBytes < memoryBytes / 20)
    found.push(
      problem(
        `memory: ${formatSize(memoryFreeBytes)} of ${formatSize(memoryBytes)} are free`,
        'fewer workers in kraftwerk.yaml, or fewer projects on the node',
      ),
    );
  if (Math.abs(clockOffsetMs ?? 0) > CLOCK_LIMIT_MS) {
    const seconds = Math.round((clockOffsetMs ?? 0) / 1000);
    const what = `clock: ${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} the receiver's`;
    found.push(problem(what, 'on the node: timedatectl set-ntp true'));
  }
  return found;
}

/** Where nodes that can be asked do not do what the journal says. Targets that somebody is at work on are left out. */
export function diagnoseTarget({ busy, nodes, record, release, target }: TargetState): Problem[] {
  if (busy !== null || record.current === null || release === null) return [];
  const wanted = `v${record.current}`;
  const name = targetName(target);
  return nodes.flatMap((state) => {
    const what = disagreement(state, record.current ?? 0, wanted, record.stopped);
    if (what === null) return [];
    const remedy = record.stopped ? 'stop' : 'deploy';
    return [
      { node: state.node, target, what: `${name}: ${what}`, mend: [`ssh kraftwerk@HOST ${remedy} ${name}`], remedy },
    ];
  });
}

function disagreement(
  { error, instance }: NodeState,
  current: number,
  wanted: string,
  stopped: boolean,
): string | null {
  if (error !== null) return null;
  const serving = instance?.current ?? null;
  const runs = instance !== null && serves(instance);
  if (stopped) return instance?.stopped === false && runs ? 'runs, the journal says stopped' : null;
  if (instance === null || serving === null) return `has no release, the journal says ${wanted}`;
  if (serving.release !== current) return `serves v${serving.release}, the journal says ${wanted}`;
  if (instance.stopped) return 'is stopped, the journal says running';
  return runs ? null : `${wanted} does not run`;
}

/** Two targets that would be one site on a node. Whoever asks for a diagnosis sees all targets. */
export function diagnoseName({ name, node, owner, target }: NameConflict): Problem {
  return {
    node,
    target,
    what: `${targetName(target)}: the name ${name} belongs to ${targetName(owner)} here`,
    mend: [
      `give one of their environments another suffix, or give one up: ssh kraftwerk@HOST destroy ${targetName(target)}`,
      'docs/troubleshooting.md: "the name … on node … belongs to …"',
    ],
    remedy: null,
  };
}

/** A deploy that was cut off, and could not be settled so far. */
export function diagnoseOpen(deploy: DeployRecord): Problem {
  const name = targetName(deploy.target);
  const toDo = deploy.phase === 'preparing' || deploy.phase === 'abandoning' ? 'taken back' : 'settled';
  return {
    node: null,
    target: deploy.target,
    what: `${name}: v${deploy.release} was cut off and waits to be ${toDo}`,
    mend: ['it is tried again every few seconds, until all of its nodes answer'],
    remedy: 'settle',
  };
}

export function diagnoseRoute(node: string, instance: string, what: 'missing' | 'different' | 'superfluous'): Problem {
  return {
    node,
    target: null,
    what: `the route of ${instance} is ${what}`,
    mend: [`ssh kraftwerk@HOST doctor ${node} --fix`],
    remedy: 'route',
  };
}

function withoutName(message: string, node: string): string {
  return message.replace(`node ${node}: `, '').replace(`node ${node} is`, 'is');
}
