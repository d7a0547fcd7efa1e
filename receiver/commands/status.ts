/** `status TARGET`: what serves, since when and by whom, how it does, and whether everything agrees about it. */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { seesTarget, targetNotFound } from '../access.ts';
import { openRepository } from '../git/repository.ts';
import type { DeployRecord } from '../journal.ts';
import { escapeForTerminal, printPairs } from '../print-table.ts';
import { nameOwner } from '../taken.ts';
import { targetName } from '../target.ts';
import { describeHolder } from '../target-locks.ts';
import { type Command, type CommandContext, printJson } from './command.ts';
import { printProcesses, processJson, runningProcesses } from './process-table.ts';
import {
  describeState,
  findDisagreements,
  findMaintenance,
  isClosed,
  type NodeState,
  readStates,
  type State,
  serves,
  type TargetState,
  urlsOf,
} from './target-state.ts';
import { formatTime } from './units.ts';

export const status: Command = {
  name: 'status',
  aliases: ['info', 'apps:info', 'apps:report'],
  summary: 'release, processes, memory, domains, nodes',
  usage: 'TARGET [--json]',
  examples: ['status blog/live', 'status blog/live --json'],
  verb: 'status',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    const { json, receiver, stderr, stdout } = context;
    const [state, ref] = await Promise.all([readTarget(context), readBranch(context)]);
    const deploy = receiver.journal.deployOfCurrent(state.target);
    const [last] = receiver.journal.deploys(state.target, 1);
    const failure = last?.phase === 'failed' ? last : null;
    const warnings = findDisagreements(state, ref);
    const taken = state.conflict === null ? null : receiver.instances.refusal(state.target);
    const told = nameOwner(taken, seesTarget(context.identity));
    const name = told instanceof KraftwerkError ? told : null;
    const closed = findMaintenance(state);
    if (json)
      printJson(
        stdout,
        toJson(state, deploy, failure, [
          ...(name === null ? [] : [name.message]),
          ...warnings,
          ...(closed?.warnings ?? []),
        ]),
      );
    else print(context, state, deploy, failure);
    if (name !== null) {
      stderr.write(`warning: ${name.message}\n`);
      for (const hint of name.hints) stderr.write(`hint: ${hint}\n`);
    }
    for (const warning of warnings) stderr.write(`warning: ${escapeForTerminal(warning)}\n`);
    if (warnings.length > 0)
      stderr.write(`hint: to make all agree: ssh kraftwerk@HOST deploy ${targetName(state.target)}\n`);
    for (const warning of closed?.warnings ?? []) stderr.write(`warning: ${escapeForTerminal(warning)}\n`);
    if (closed !== null)
      stderr.write(
        `hint: to make all agree: ssh kraftwerk@HOST maintenance ${targetName(state.target)} ${closed.mend}\n`,
      );
    const silent = state.nodes.find(({ error }) => error !== null);
    if (silent !== undefined) stderr.write(`hint: ssh kraftwerk@HOST doctor ${silent.node}\n`);
    return exitCodeOf(state.state);
  },
};

/** 6 where a process should run and does not, on one node or on all; 1 where nobody can say. */
export function exitCodeOf(state: State): number {
  return state === 'down' || state === 'degraded'
    ? EXIT_CODES.unhealthy
    : state === 'unknown'
      ? EXIT_CODES.failed
      : EXIT_CODES.ok;
}

/** @throws KraftwerkError `target.unknown` */
export async function readTarget({ receiver, target }: CommandContext): Promise<TargetState> {
  if (target === null) throw new TypeError('a command with a target has none');
  const [state] = await readStates(receiver, [target], { memory: true });
  if (state === undefined) throw targetNotFound(target);
  return state;
}

async function readBranch({
  receiver,
  target,
}: CommandContext): Promise<{ name: string; commit: string | null } | null> {
  const branch = target === null ? null : (receiver.journal.target(target)?.branch ?? null);
  if (target === null || branch === null) return null;
  const commit = await openRepository(receiver.data, target).readRef(branch);
  return { name: branch.slice('refs/heads/'.length), commit };
}

function print(
  { receiver, stdout }: CommandContext,
  state: TargetState,
  deploy: DeployRecord | null,
  failure: DeployRecord | null,
): void {
  const { busy, nodes, record, release } = state;
  const pairs: (readonly [string, string])[] = [
    ['target', targetName(state.target)],
    ['state', describeState(state)],
  ];
  const { maintenance } = state;
  if (maintenance !== null) pairs.push(['maintenance', `since ${formatTime(maintenance.since)} by ${maintenance.by}`]);
  if (busy !== null) pairs.push(['busy', describeHolder(busy, receiver.nowMs())]);
  if (release !== null) {
    pairs.push(['release', `v${release.release}`], ['commit', `${release.commit.slice(0, 7)} ${release.subject}`]);
    const how = deploy?.kind === 'rollback' ? ' (rollback)' : '';
    pairs.push([
      'deployed',
      `${formatTime(deploy?.endedAt ?? release.createdAt)} by ${deploy?.by ?? release.createdBy}${how}`,
    ]);
    pairs.push(['branch', record.branch?.slice('refs/heads/'.length) ?? '-']);
    for (const [index, url] of urlsOf(state).entries()) pairs.push([index === 0 ? 'url' : '', url]);
    if (release.spec.aliases.length > 0) pairs.push(['aliases', release.spec.aliases.join(', ')]);
  }
  pairs.push(['nodes', nodes.map((node) => describeNode(node, record.current)).join(', ') || '-']);
  const router = receiver.routes.routerOf(state.target);
  if (router !== null) pairs.push(['router', router]);
  if (failure !== null) {
    const what = failure.kind === 'push' || failure.kind === 'deploy' ? '' : `${failure.kind} to `;
    pairs.push([
      'failed',
      `${what}v${failure.release} ${formatTime(failure.endedAt)} by ${failure.by}: ${failure.error ?? ''}`,
    ]);
  }
  stdout.write(printPairs(pairs));
  const processes = printProcesses(runningProcesses(state), nodes.length);
  if (processes !== '') stdout.write(`\n${processes}`);
}

/** `web1`, `web2 (v41)`: what is other than it should be is said. */
function describeNode({ error, instance, node }: NodeState, current: number | null): string {
  if (error !== null) return `${node} (no answer)`;
  const release = instance?.current?.release ?? null;
  if (current !== null && release === null) return `${node} (no release)`;
  if (release !== current) return `${node} (v${release})`;
  if (instance === null || release === null) return node;
  return instance.stopped ? `${node} (stopped)` : serves(instance) ? node : `${node} (down)`;
}

function toJson(
  state: TargetState,
  deploy: DeployRecord | null,
  failure: DeployRecord | null,
  warnings: readonly string[],
): object {
  const { busy, nodes, record, release, target } = state;
  return {
    target: targetName(target),
    project: target.project,
    environment: target.environment,
    state: state.state,
    maintenance: isClosed(state),
    busy: busy && { by: busy.by, what: busy.what, since: new Date(busy.since).toISOString() },
    release: record.current,
    commit: release?.commit ?? null,
    subject: release?.subject ?? null,
    branch: record.branch?.slice('refs/heads/'.length) ?? null,
    deployedAt: deploy?.endedAt ?? null,
    deployedBy: deploy?.by ?? null,
    deployedHow: deploy?.kind ?? null,
    domains: release?.spec.domains ?? [],
    aliases: release?.spec.aliases ?? [],
    urls: urlsOf(state),
    nodes: nodes.map(({ error, instance, node }) => ({
      node,
      error,
      release: instance?.current?.release ?? null,
      stopped: instance?.stopped ?? null,
      maintenance: instance?.maintenance ?? null,
      running: instance && serves(instance),
    })),
    processes: runningProcesses(state).map(processJson),
    lastFailure: failure && {
      release: failure.release,
      how: failure.kind,
      at: failure.endedAt,
      by: failure.by,
      error: failure.error,
    },
    warnings,
  };
}
