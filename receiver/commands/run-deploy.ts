/** What rollback, deploy and restart have in common: the target's lock, the release to start from, the telling. */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { refuseWhileOpen } from '../data/settle-operations.ts';
import type { DeployOrder } from '../deploy/deploy.ts';
import { type SayLines, tellDeploy } from '../deploy/tell.ts';
import { openRepository } from '../git/repository.ts';
import { refuseWhileDraining } from '../git-session.ts';
import type { ReleaseRecord, TargetRecord } from '../journal.ts';
import { type Target, targetName } from '../target.ts';
import { type CommandContext, printJson } from './command.ts';
import { holdTarget } from './hold-target.ts';

/** A target that serves a release, or did until it was stopped. */
export interface Deployed {
  target: Target;
  record: TargetRecord;
  release: ReleaseRecord;
}

/** @throws KraftwerkError `target.empty`: nothing was ever deployed */
export function findDeployed({ receiver, target }: CommandContext): Deployed {
  if (target === null) throw new TypeError('a command with a target has none');
  const record = receiver.journal.target(target);
  const release = record?.current == null ? null : receiver.journal.release(target, record.current);
  if (record === null || release === null) {
    throw new KraftwerkError('target.empty', `${targetName(target)}: nothing is deployed yet`, {
      hint: `git push ${target.environment} master`,
      exit: 'denied',
    });
  }
  return { target, record, release };
}

/**
 * Holds the target for `body`, which gets what is deployed then.
 * @param what for whoever finds it busy: `rollback`
 * @throws KraftwerkError `target.busy`, `deploy.aborted`, `receiver.draining`, `target.empty`
 */
export async function withTarget<T>(
  context: CommandContext,
  what: string,
  body: (deployed: Deployed) => Promise<T>,
): Promise<T> {
  const { receiver } = context;
  refuseWhileDraining(receiver);
  const { target } = findDeployed(context);
  const lock = await holdTarget(context, target, what);
  try {
    refuseWhileOpen(receiver.journal, target);
    return await body(findDeployed(context));
  } finally {
    lock.release();
  }
}

/** Deploys what `prepare` orders and tells it on stderr; with --json, what serves then on stdout. @returns the exit code */
export async function deployAndTell(
  { identity, json, receiver, signal, stderr, stdout }: CommandContext,
  target: Target,
  prepare: (sayLines: SayLines) => Promise<DeployOrder>,
): Promise<number> {
  const say = (line: string): void => void stderr.write(`${line}\n`);
  // Started now, the agents are ready when the order is.
  receiver.deployer.reserve(target);
  try {
    const { exit, outcome } = await tellDeploy({ target, identity, signal, say }, receiver, prepare);
    if (json && outcome !== null) {
      const { release, url, ms } = outcome;
      printJson(stdout, { target: targetName(target), release, url, ms: Math.round(ms) });
    }
    return EXIT_CODES[exit];
  } finally {
    receiver.deployer.unreserve(target);
  }
}

/** The order for a release that is kept: the same artifact and configuration. */
export function orderRelease(
  { identity }: CommandContext,
  kept: ReleaseRecord,
  how: Pick<DeployOrder, 'kind' | 'release' | 'ref'>,
): DeployOrder {
  const { target, commit, subject, spec, artifact } = kept;
  return {
    ...how,
    target,
    commit,
    subject,
    spec,
    artifact,
    by: identity.name,
    override: false,
    setUpServices: true,
    runReleaseCommand: how.kind === 'deploy',
    dumpBeforeRelease: true,
  };
}

/** The branch last deployed, to be moved from where it is. */
export async function branchOf(
  { receiver }: CommandContext,
  { record, target }: Deployed,
): Promise<DeployOrder['ref']> {
  if (record.branch === null) return null;
  return { name: record.branch, from: await openRepository(receiver.data, target).readRef(record.branch) };
}
