/** Settles what a crash has left, before the receiver says that it is ready, and what had to wait for a node, later. */
import type { EnvironmentConfig } from '../config.ts';
import { pruneArtifacts } from '../git/artifact.ts';
import { removeStaleLocks } from '../git/repository.ts';
import type { DeployRecord, Journal } from '../journal.ts';
import { type Target, targetName } from '../target.ts';
import type { TargetLocks } from '../target-locks.ts';
import type { Deployer } from './deploy.ts';

export interface ReconcileOptions {
  data: string;
  journal: Journal;
  deployer: Deployer;
  locks: TargetLocks;
  /** Ends what was begun with a target's data; the caller holds its lock. */
  settleData(target: Target): Promise<void>;
  /** Nodes that have answered since the start. */
  awake: ReadonlySet<string>;
  /** Null for an environment that the configuration no longer has. */
  environment(target: Target): EnvironmentConfig | null;
  log(event: string, fields: Record<string, unknown>): void;
}

/** What had to wait for a node is tried again so often. */
const AGAIN_MS = 10_000;

/** One node that is down does not keep the receiver from serving the others: its deploys stay open, until it is back. */
export async function reconcile(options: ReconcileOptions): Promise<void> {
  const { data, journal, deployer, awake, environment, log } = options;
  const locks = await removeStaleLocks(data);
  if (locks > 0) log('receiver.locks_removed', { count: locks });
  await pruneArtifacts(data, journal.artifactNeeded, true);
  for (const deploy of journal.openDeploys()) {
    const fields = describe(deploy);
    const configured = environment(deploy.target);
    if (configured === null) {
      journal.failDeploy(deploy, 'interrupted; its environment is no longer configured');
      continue;
    }
    const asleep = configured.nodes.filter((node) => !awake.has(node));
    if (asleep.length > 0) {
      log('deploy.settle_waits', { ...fields, nodes: asleep });
      continue;
    }
    await deployer.settle(deploy).then(
      (end) => log('deploy.settled', { ...fields, end }),
      (error: unknown) => log('deploy.settle_failed', { ...fields, message: String(error) }),
    );
  }
  for (const target of targetsOf(journal)) {
    if (environment(target)?.nodes.some((node) => !awake.has(node)) ?? false) continue;
    await options.settleData(target).catch((error: unknown) => {
      log('operation.settle_failed', { target: targetName(target), message: String(error) });
    });
  }
  for (const target of journal.unretired()) {
    if (environment(target) === null) continue;
    // What serves is settled; old processes may drain while others push.
    deployer.retireLater(target);
  }
}

/** Goes on with what could not be settled, whenever nobody is at work on its target. */
export function keepSettling(options: ReconcileOptions, everyMs = AGAIN_MS): { stop(): Promise<void> } {
  const { journal, deployer, locks, environment, log } = options;
  const told = new Map<number, string>();
  let running: Promise<void> = Promise.resolve();
  let stopped = false;

  async function tryAgain(deploy: DeployRecord): Promise<void> {
    const name = targetName(deploy.target);
    if (environment(deploy.target) === null || locks.holder(name) !== null) return;
    const lock = locks.acquireNow(name, 'receiver', `settling v${deploy.release}`);
    try {
      // Whoever held the lock last may have done it.
      if (!journal.openDeploys(deploy.target).some(({ id }) => id === deploy.id)) return;
      const end = await deployer.settle(deploy);
      log('deploy.settled', { ...describe(deploy), end });
      deployer.retireLater(deploy.target);
    } catch (error) {
      const message = String(error);
      if (told.get(deploy.id) !== message) log('deploy.settle_failed', { ...describe(deploy), message });
      told.set(deploy.id, message);
    } finally {
      lock.release();
    }
  }

  async function endOperations(target: Target): Promise<void> {
    const name = targetName(target);
    if (locks.holder(name) !== null) return;
    const lock = locks.acquireNow(name, 'receiver', 'settling what was begun with its data');
    try {
      await options.settleData(target);
    } catch (error) {
      log('operation.settle_failed', { target: name, message: String(error) });
    } finally {
      lock.release();
    }
  }

  async function round(): Promise<void> {
    for (const deploy of journal.openDeploys()) if (!stopped) await tryAgain(deploy);
    for (const target of targetsOf(journal)) if (!stopped) await endOperations(target);
  }

  const timer = setInterval(() => {
    running = running.then(round);
  }, everyMs);
  timer.unref();
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
      return running;
    },
  };
}

/** Those of operations that have not come to their end. */
function targetsOf(journal: Journal): Target[] {
  const all = journal.data.openOperations().map(({ target }) => target);
  return all.filter((target, index) => all.findIndex((other) => targetName(other) === targetName(target)) === index);
}

function describe({ target, release, phase }: DeployRecord): { target: string; release: number; phase: string } {
  return { target: targetName(target), release, phase };
}
