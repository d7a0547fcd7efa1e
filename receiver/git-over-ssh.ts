/** git over an SSH client's streams. */
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { GitService } from './exec-line.ts';
import { pktError } from './git/pkt-line.ts';
import { type GitOptions, startGit } from './git/run-git.ts';
import { findTarget, type GitServices, receive, SHALLOW_HINT, uploadOptions } from './git-session.ts';
import { escapeForTerminal } from './print-table.ts';
import type { ExecSession } from './ssh-server.ts';

type Streams = Pick<ExecSession, 'identity' | 'stdin' | 'stdout' | 'stderr' | 'signal' | 'gitProtocol'>;

/** @returns the exit code for the client */
export async function serveGit(
  session: Streams,
  service: GitService,
  path: string,
  services: GitServices,
): Promise<number> {
  const { identity, stderr, signal } = session;
  try {
    const target = findTarget(identity, service, path, services);
    if (service === 'upload-pack')
      return await runGit(session, service, uploadOptions(target, session.gitProtocol, services));
    const say = (line: string): void => void stderr.write(`${line}\n`);
    return await receive({ identity, signal, say }, target, services, (options) => runGit(session, service, options));
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    for (const hint of error.hints) stderr.write(`hint: ${escapeForTerminal(hint)}\n`);
    // Before git has spoken, an ERR line is what its client shows as `fatal: remote error: …`.
    session.stdout.write(pktError(error.message));
    return 1;
  }
}

function runGit(session: Streams, service: GitService, options: GitOptions): Promise<number> {
  const { stdin, stdout, stderr, signal } = session;
  const child = startGit([service, '.'], options);
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
      if (shallow) stderr.write(`${SHALLOW_HINT}\n`);
      resolve(code ?? 1);
    });
  });
}
