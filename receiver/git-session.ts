/** git over a client's streams: access, the target's lock, then git itself, with the hook joined to the push. */
import { KraftwerkError } from '../node-agent/protocol.ts';
import { decide, type Identity, requireAccess, targetNotFound } from './access.ts';
import type { EnvironmentConfig } from './config.ts';
import { type GitService, parseTargetPath, type TargetName } from './exec-line.ts';
import { pktError } from './git/pkt-line.ts';
import type { HookServer } from './git/proc-receive.ts';
import { createRepository, openRepository, removeRepository, repositoryExists } from './git/repository.ts';
import { startGit } from './git/run-git.ts';
import { escapeForTerminal } from './print-table.ts';
import { type PushServices, receivePush } from './push.ts';
import type { ExecSession } from './ssh-server.ts';
import { type Target, targetName } from './target.ts';
import { describeHolder, type Lock, type TargetLocks } from './target-locks.ts';

export interface GitServices extends PushServices {
  locks: TargetLocks;
  hooks: HookServer;
  /** `blog` alone, or with its environment. @throws KraftwerkError `target.ambiguous`, `environment.unknown` */
  resolve(name: TargetName, visible: (target: Target) => boolean, forPush: boolean): Target | null;
  environment(target: Target): EnvironmentConfig;
  /** No new pushes: the receiver is about to end. */
  draining(): boolean;
}

/** @throws KraftwerkError `receiver.draining` */
export function refuseWhileDraining({ draining }: Pick<GitServices, 'draining'>): void {
  if (!draining()) return;
  throw new KraftwerkError('receiver.draining', 'the receiver is about to end and begins nothing new', {
    hint: 'try again in a minute',
    exit: 'busy',
  });
}

type Streams = Pick<ExecSession, 'identity' | 'stdin' | 'stdout' | 'stderr' | 'signal' | 'gitProtocol'>;

/** @returns the exit code for the client */
export async function serveGit(
  session: Streams,
  service: GitService,
  path: string,
  services: GitServices,
): Promise<number> {
  try {
    const target = findTarget(session.identity, service, path, services);
    if (service === 'upload-pack') return await runGit(session, service, target, services, {});
    return await receive(session, target, services);
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    for (const hint of error.hints) session.stderr.write(`hint: ${escapeForTerminal(hint)}\n`);
    // Before git has spoken, an ERR line is what its client shows as `fatal: remote error: …`.
    session.stdout.write(pktError(error.message));
    return 1;
  }
}

function findTarget(identity: Identity, service: GitService, path: string, services: GitServices): Target {
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

async function receive(session: Streams, target: Target, services: GitServices): Promise<number> {
  const { identity, stderr, signal } = session;
  const name = targetName(target);
  refuseWhileDraining(services);
  const environment = services.environment(target);
  const lock: Lock = await services.locks.acquire(name, identity.name, 'git push', signal, (holder, waitedMs) => {
    const waited = waitedMs > 0 ? ` … ${Math.round(waitedMs / 1000)}s` : '';
    stderr.write(`waiting for ${escapeForTerminal(describeHolder(holder, services.nowMs()))}${waited}\n`);
  });
  try {
    const created = !(await repositoryExists(services.data, target));
    if (created) await createRepository(services.data, target);
    const nodes = services.deployer.nodesOf(target);
    // Started now, they are ready when the objects have arrived.
    for (const node of nodes) node.warm();
    const expected = services.hooks.expect((push) =>
      receivePush(push, { target, environment, by: identity.name, signal }, services),
    );
    try {
      return await runGit(session, 'receive-pack', target, services, expected.env);
    } finally {
      expected.forget();
      for (const node of nodes) node.cool();
      // A push that was refused for what it is leaves no project behind.
      if (
        created &&
        services.journal.target(target) === null &&
        !(await openRepository(services.data, target).hasRefs())
      )
        await removeRepository(services.data, target);
    }
  } finally {
    lock.release();
  }
}

function runGit(
  session: Streams,
  service: GitService,
  target: Target,
  services: GitServices,
  env: Record<string, string>,
): Promise<number> {
  const { stdin, stdout, stderr, gitProtocol, signal } = session;
  const repository = openRepository(services.data, target).path;
  const protocol =
    service === 'upload-pack' && gitProtocol !== null && /^version=[0-2]$/.test(gitProtocol)
      ? { GIT_PROTOCOL: gitProtocol }
      : {};
  const child = startGit([service, '.'], { repository, hooks: services.hooks.hooks, env: { ...env, ...protocol } });
  return new Promise((resolve, reject) => {
    let shallow = false;
    child.on('error', reject);
    child.stdin?.on('error', () => undefined);
    if (service === 'receive-pack') {
      stdin.once('data', (chunk: Buffer) => {
        shallow = chunk.subarray(4, 12).toString('latin1') === 'shallow ';
      });
    }
    if (child.stdin !== null) stdin.pipe(child.stdin);
    stdin.on('error', () => child.stdin?.end());
    child.stdout?.pipe(stdout, { end: false });
    child.stderr?.pipe(stderr, { end: false });
    // A fetch is nothing to finish; what a push has begun ends by its own rules.
    const stop = (): void => void (service === 'upload-pack' ? child.kill('SIGKILL') : child.stdin?.end());
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    child.on('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (shallow)
        stderr.write(
          'hint: this clone is shallow. If it was rejected:\nhint: git fetch --unshallow, or in CI fetch-depth: 0\n',
        );
      resolve(code ?? 1);
    });
  });
}
