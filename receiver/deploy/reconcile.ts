/** Settles what a crash has left, before the receiver says that it is ready. */
import type { EnvironmentConfig } from '../config.ts';
import { pruneArtifacts } from '../git/artifact.ts';
import { removeStaleLocks } from '../git/repository.ts';
import type { Journal } from '../journal.ts';
import { type Target, targetName } from '../target.ts';
import type { Deployer } from './deploy.ts';

export interface ReconcileOptions {
  data: string;
  journal: Journal;
  deployer: Deployer;
  /** Null for an environment that the configuration no longer has. */
  environment(target: Target): EnvironmentConfig | null;
  log(event: string, fields: Record<string, unknown>): void;
}

/** One node that is down does not keep the receiver from serving the others: its deploys stay open, and the next push to it settles them. */
export async function reconcile({ data, journal, deployer, environment, log }: ReconcileOptions): Promise<void> {
  const locks = await removeStaleLocks(data);
  if (locks > 0) log('receiver.locks_removed', { count: locks });
  await pruneArtifacts(data, journal.artifactNeeded, true);
  for (const deploy of journal.openDeploys()) {
    const fields = { target: targetName(deploy.target), release: deploy.release, phase: deploy.phase };
    if (environment(deploy.target) === null) {
      journal.failDeploy(deploy, 'interrupted; its environment is no longer configured');
      continue;
    }
    await deployer.settle(deploy).then(
      (end) => log('deploy.settled', { ...fields, end }),
      (error: unknown) => log('deploy.settle_failed', { ...fields, message: String(error) }),
    );
  }
  for (const target of journal.unretired()) {
    if (environment(target) === null) continue;
    // What serves is settled; old processes may drain while others push.
    deployer.retireLater(target);
  }
}
