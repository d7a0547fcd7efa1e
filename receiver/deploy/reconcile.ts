/** Settles what a crash has left, before the receiver says that it is ready: every deploy is finished or taken back. */
import type { ActivateResult, InstanceName, InstanceStatus, StatusResult } from '../../node-agent/protocol.ts';
import type { EnvironmentConfig } from '../config.ts';
import { pruneArtifacts } from '../git/artifact.ts';
import { openRepository, removeStaleLocks } from '../git/repository.ts';
import type { DeployRecord, Journal } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import { instanceName, type Target, targetName } from '../target.ts';
import { type Deployer, releaseRef } from './deploy.ts';

export interface ReconcileOptions {
  data: string;
  journal: Journal;
  deployer: Deployer;
  /** Null for an environment that the configuration no longer has. */
  environment(target: Target): EnvironmentConfig | null;
  log(event: string, fields: Record<string, unknown>): void;
}

const REQUEST_LIMIT_MS = 120_000;

export async function reconcile(options: ReconcileOptions): Promise<void> {
  const { data, journal, deployer, log } = options;
  const locks = await removeStaleLocks(data);
  if (locks > 0) log('receiver.locks_removed', { count: locks });
  await pruneArtifacts(data, journal.artifactNeeded, true);
  for (const deploy of journal.openDeploys()) {
    const fields = { target: targetName(deploy.target), release: deploy.release, phase: deploy.phase };
    try {
      const end = await settle(options, deploy);
      log('deploy.reconciled', { ...fields, end });
    } catch (error) {
      // One node that is down must not keep the receiver from serving the others; `status` shows the disagreement.
      log('deploy.reconcile_failed', { ...fields, message: error instanceof Error ? error.message : String(error) });
    }
  }
  for (const target of journal.unretired()) {
    const current = journal.target(target)?.current;
    const release = current == null ? null : journal.release(target, current);
    if (release === null || options.environment(target) === null) continue;
    await deployer.retire(target, release.spec).then(
      () => journal.setAllRetired(target),
      (error: unknown) => log('deploy.retire_failed', { target: targetName(target), message: String(error) }),
    );
  }
}

async function settle(options: ReconcileOptions, deploy: DeployRecord): Promise<'finished' | 'taken back'> {
  const { journal, deployer } = options;
  const environment = options.environment(deploy.target);
  if (environment === null) {
    journal.failDeploy(deploy, 'interrupted; its environment is no longer configured');
    return 'taken back';
  }
  const nodes = deployer.nodesOf(deploy.target);
  const instance = instanceName(deploy.target, environment.suffix);
  if (deploy.phase === 'preparing' || !(await someNodeServes(nodes, instance, deploy))) {
    await abandonEverywhere(options, deploy, nodes, instance);
    journal.failDeploy(deploy, 'interrupted by the end of the receiver');
    return 'taken back';
  }
  // Every node was ready when the first was switched: forward is the shorter way, and it is the same from any point.
  for (const node of nodes) {
    const serve = deploy.serving?.[node.name];
    if (serve === undefined) continue;
    const switched = await serves(node, instance, deploy);
    const request = node.request(
      { op: 'activate', instance, serve },
      { timeoutMs: REQUEST_LIMIT_MS },
    ) as Promise<ActivateResult>;
    // Where it serves already, a process that is just being restarted is no reason to stop.
    await (switched ? request.catch(() => undefined) : request);
  }
  journal.setPhase(deploy.id, 'activated');
  const repository = openRepository(options.data, deploy.target);
  if (deploy.ref !== null && (await repository.readRef(deploy.ref)) !== deploy.commit)
    await repository.moveRef(deploy.ref, deploy.refFrom, deploy.commit);
  if (deploy.kind === 'push' || deploy.kind === 'deploy')
    await repository.setRefs(new Map([[releaseRef(deploy.release), deploy.commit]]));
  if (deploy.ref !== null) await repository.setHead(deploy.ref);
  journal.finishDeploy(deploy);
  return 'finished';
}

async function abandonEverywhere(
  { journal }: ReconcileOptions,
  deploy: DeployRecord,
  nodes: readonly Node[],
  instance: InstanceName,
): Promise<void> {
  const made = deploy.kind === 'push' || deploy.kind === 'deploy';
  const keep = journal
    .releases(deploy.target)
    .map(({ release }) => release)
    .filter((release) => !made || release !== deploy.release);
  for (const node of nodes) await node.request({ op: 'abandon', instance, keep }, { timeoutMs: REQUEST_LIMIT_MS });
}

async function someNodeServes(nodes: readonly Node[], instance: InstanceName, deploy: DeployRecord): Promise<boolean> {
  for (const node of nodes) if (await serves(node, instance, deploy)) return true;
  return false;
}

async function serves(node: Node, instance: InstanceName, deploy: DeployRecord): Promise<boolean> {
  const { instances } = (await node.request(
    { op: 'status', instances: [instance] },
    { timeoutMs: REQUEST_LIMIT_MS },
  )) as StatusResult;
  const current = (instances[0] as InstanceStatus | undefined)?.current ?? null;
  const wanted = deploy.serving?.[node.name];
  return current !== null && wanted !== undefined && current.release === wanted.release && current.boot === wanted.boot;
}
