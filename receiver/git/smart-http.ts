/**
 * git's smart protocol over HTTP, by node-git-server. It decides nothing, and gets nothing to decide by: no request
 * as it came, only a body that has been unpacked, and streams that never fail.
 * @see node_modules/node-git-server/src/service.ts
 */
import type { ChildProcess } from 'node:child_process';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough, type Readable } from 'node:stream';
import { Git, Service, serviceRespond } from 'node-git-server';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { GitService } from '../exec-line.ts';
import { type GitOptions, gitEnvironment } from './run-git.ts';

/** What a client asks first: the refs, and what the server can do. */
export function advertise(service: GitService, options: GitOptions, onError: (error: Error) => void): Readable {
  const output = new PassThrough();
  // Of the library's server only the place for errors is used.
  const errors = new Git(options.repository, { autoCreate: false });
  errors.on('error', (error: Error) => {
    onError(error);
    output.end();
  });
  const giveBack = lendEnvironment(gitEnvironment(options));
  try {
    serviceRespond(errors, service, options.repository, output as unknown as ServerResponse);
  } finally {
    giveBack();
  }
  return output;
}

export interface Exchange {
  /** What git answers. To be read to its end, or git would wait for ever. */
  output: Readable;
  /** git's exit code, when it has ended. */
  ended: Promise<number>;
}

/**
 * One push or fetch.
 * @param head what has been read of `body` already
 * @param signal aborted when the client is gone
 */
export function exchange(
  service: GitService,
  options: GitOptions,
  { head, body }: { head: Buffer; body: Readable },
  signal: AbortSignal,
): Exchange {
  const output = new PassThrough();
  // No headers: what the library makes of `Authorization` and `Content-Encoding` can end the process.
  const input = Object.assign(new PassThrough(), { headers: {} });
  const action = new Service(
    { repo: options.repository, cwd: options.repository, service },
    input as unknown as IncomingMessage,
    output as unknown as ServerResponse,
  );
  const ended = new Promise<number>((resolve, reject) => {
    action.on('error', (cause: Error) =>
      reject(
        new KraftwerkError('git.missing', `cannot start git: ${cause.message}`, { cause, hint: 'apt install git' }),
      ),
    );
    action.on('service', (child: ChildProcess) => {
      // Out of file descriptors there are no pipes, and the library does not look; `error` comes right after.
      child.stdin ??= new PassThrough();
      child.stdout ??= new PassThrough();
      child.stdin?.on('error', () => undefined);
      child.stdout?.on('error', () => undefined);
      // What git says to people goes through the sideband; here is only what nobody would read.
      child.stderr?.resume();
      // A fetch is nothing to finish; what a push has begun ends by its own rules.
      const stop = (): void => void (service === 'upload-pack' ? child.kill('SIGKILL') : input.end());
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
      child.on('close', (code) => {
        signal.removeEventListener('abort', stop);
        resolve(code ?? 1);
      });
    });
  });

  const environment = gitEnvironment(options);
  let giveBack = (): void => undefined;
  // `accept` starts git in the tick after it: these three follow each other with nothing between them.
  process.nextTick(() => {
    giveBack = lendEnvironment(environment);
  });
  action.accept();
  process.nextTick(() => giveBack());

  // The library searches the first chunk with an expression that takes seconds for some; so that one has four bytes.
  input.write(head.subarray(0, 4));
  input.write(head.subarray(4));
  body.on('error', () => input.end());
  if (body.destroyed) input.end();
  else body.pipe(input);
  return { output, ended };
}

/** The library starts git with the environment of this process: for that one call it is git's own. */
function lendEnvironment(environment: Record<string, string>): () => void {
  const own = process.env;
  process.env = environment;
  return () => {
    process.env = own;
  };
}
