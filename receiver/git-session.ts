/** What every git request goes through, whatever it came over: access, and for a push the target's lock, held until git has ended. */
import { KraftwerkError } from '../node-agent/protocol.ts';
import { decide, type Identity, requireAccess, targetNotFound } from './access.ts';
import type { EnvironmentConfig } from './config.ts';
import { refuseWhileOpen } from './data/settle-operations.ts';
import { type GitService, parseTargetPath, type TargetName } from './exec-line.ts';
import { openObjects } from './git/object-reader.ts';
import type { HookServer } from './git/proc-receive.ts';
import { createRepository, openRepository, removeRepository, repositoryExists } from './git/repository.ts';
import type { GitOptions } from './git/run-git.ts';
import { type PushServices, receivePush } from './push.ts';
import { type Target, targetName } from './target.ts';
import { describeWait, type Lock, type TargetLocks } from './target-locks.ts';

export interface GitServices extends PushServices {
  locks: TargetLocks;
  hooks: HookServer;
  /** `blog` alone, or with its environment. @throws KraftwerkError `target.ambiguous`, `environment.unknown` */
  resolve(name: TargetName, visible: (target: Target) => boolean, forPush: boolean): Target | null;
  environment(target: Target): EnvironmentConfig;
  /** No new pushes: the receiver is about to end. */
  draining(): boolean;
}

/** Said when it was rejected and when it was not: git tells nobody before it has ended. */
export const SHALLOW_HINT = 'hint: this clone is shallow: git fetch --unshallow, in CI fetch-depth: 0';

/** Somebody who pushes. */
export interface GitClient {
  identity: Identity;
  /** Aborted when the client is gone. */
  signal: AbortSignal;
  /** A line for the client, before git speaks. */
  say(line: string): void;
}

/** @throws KraftwerkError `receiver.draining` */
export function refuseWhileDraining({ draining }: Pick<GitServices, 'draining'>): void {
  if (!draining()) return;
  throw new KraftwerkError('receiver.draining', 'the receiver is about to end and begins nothing new', {
    hint: 'try again in a minute',
    exit: 'busy',
    reason: 'the receiver is about to end',
  });
}

/**
 * The target that a remote's path names, if the client may do that there.
 * @throws KraftwerkError `target.*`, `environment.unknown`, `access.*`
 */
export function findTarget(identity: Identity, service: GitService, path: string, services: GitServices): Target {
  const name = parseTargetPath(path);
  const push = service === 'receive-pack';
  const target = services.resolve(name, (candidate) => decide(identity, 'status', candidate).allow, push);
  if (target === null) throw targetNotFound(name);
  const known = services.journal.target(target) !== null;
  if (!known && !push) throw targetNotFound(name);
  requireAccess(identity, push ? 'git.push' : 'git.read', push ? 'git push' : 'git fetch', target);
  if (!known) requireAccess(identity, 'project.create', 'git push', target);
  return target;
}

/** What git-upload-pack is started with. @param protocol what the client asks for: `version=2` */
export function uploadOptions(target: Target, protocol: string | null, services: GitServices): GitOptions {
  const known = protocol !== null && /^version=[0-2]$/.test(protocol);
  return {
    repository: openRepository(services.data, target).path,
    hooks: services.hooks.hooks,
    env: known ? { GIT_PROTOCOL: protocol } : {},
  };
}

/**
 * One push: takes the lock, makes the repository where there is none, and joins the hook to what the push is for.
 * @param run starts git-receive-pack, and resolves with its exit code when it has ended
 * @throws KraftwerkError `receiver.draining`, `target.busy`, `deploy.aborted`
 */
export async function receive(
  { identity, signal, say }: GitClient,
  target: Target,
  services: GitServices,
  run: (options: GitOptions) => Promise<number>,
): Promise<number> {
  const name = targetName(target);
  refuseWhileDraining(services);
  const environment = services.environment(target);
  const lock: Lock = await services.locks.acquire(name, identity.name, 'git push', signal, (holder, waitedMs) =>
    say(describeWait(holder, waitedMs, services.nowMs())),
  );
  try {
    refuseWhileOpen(services.journal, target);
    const created = !(await repositoryExists(services.data, target));
    if (created) await createRepository(services.data, target);
    const repository = openRepository(services.data, target);
    const expected = services.hooks.expect((push) =>
      receivePush(push, { target, environment, identity, objects, signal }, services),
    );
    // Started now, the agents are ready when the objects have arrived.
    if (services.instances.conflict(target) === null) services.deployer.reserve(target);
    const running = run({ repository: repository.path, hooks: services.hooks.hooks, env: expected.env });
    // While git tells the client what there is: whatever the receiver starts stands still for milliseconds.
    const objects = openObjects(repository.path);
    try {
      return await running;
    } finally {
      expected.forget();
      objects.close();
      services.deployer.unreserve(target);
      // A push that was refused for what it is leaves no project behind.
      if (created && services.journal.target(target) === null && !(await repository.hasRefs()))
        await removeRepository(services.data, target);
    }
  } finally {
    services.journal.claims.releaseUnused(target);
    lock.release();
  }
}
