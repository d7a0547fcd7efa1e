/** git over HTTP, for a client that is known: the same access, lock and hook as over SSH. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Identity } from './access.ts';
import { pktRejection, sideband } from './git/pkt-line.ts';
import { repositoryExists } from './git/repository.ts';
import type { GitOptions } from './git/run-git.ts';
import { advertise, exchange } from './git/smart-http.ts';
import {
  findTarget,
  type GitServices,
  receive,
  refuseWhileDraining,
  SHALLOW_HINT,
  uploadOptions,
} from './git-session.ts';
import { openBody, readHead, readPushHead } from './http/body.ts';
import type { Route } from './http/route.ts';
import { escapeForTerminal } from './print-table.ts';
import type { Target } from './target.ts';

/** A list of refs and what to leave out of a pack. */
const MAX_FETCH_BYTES = 32 * 1024 * 1024;
/** The pack has git's own limit; this is a little more. */
const MAX_PUSH_BYTES = 1100 * 1024 * 1024;
/** Silence in the middle of a body. A push holds its target's lock meanwhile. */
const BODY_IDLE_MS = 120_000;

export interface GitRequest {
  request: IncomingMessage;
  response: ServerResponse;
  route: Extract<Route, { kind: 'git' }>;
  identity: Identity;
}

export interface GitHttpServices extends GitServices {
  /** What is shown to whoever is about to push a new project. */
  emptyRepository: string;
}

/** @throws KraftwerkError as long as nothing has been answered */
export async function serveGitOverHttp(asked: GitRequest, services: GitHttpServices): Promise<void> {
  const { request, response, route, identity } = asked;
  const { service, step } = route;
  const target = findTarget(identity, service, route.path, services);
  const gitProtocol = request.headers['git-protocol'];
  const options = uploadOptions(target, typeof gitProtocol === 'string' ? gitProtocol : null, services);
  response.setHeader('Cache-Control', 'no-cache, max-age=0, must-revalidate');
  // A proxy that collects the answer would show the deploy only when it is over.
  response.setHeader('X-Accel-Buffering', 'no');

  if (step === 'advertise') {
    if (service === 'receive-pack') refuseWhileDraining(services);
    const known = await repositoryExists(services.data, target);
    const shown: GitOptions =
      service === 'upload-pack' ? options : { repository: known ? options.repository : services.emptyRepository };
    response.setHeader('Content-Type', `application/x-git-${service}-advertisement`);
    const output = advertise(service, shown, (error) => services.log('http.git_failed', { message: error.message }));
    await answer(output, response);
    return void response.end();
  }

  const type = `application/x-git-${service}`;
  // No form of a web page can send this type: a browser that knows a token cannot be made to push.
  if (request.headers['content-type'] !== `${type}-request`)
    throw new KraftwerkError('http.type', `request: expected content-type ${type}-request`, { exit: 'usage' });
  const body = openBody(request, service === 'receive-pack' ? MAX_PUSH_BYTES : MAX_FETCH_BYTES);
  limitSilence(request, body);
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  response.setHeader('Content-Type', `${type}-result`);
  if (service === 'receive-pack') return await push(asked, target, body, gone.signal, services);
  const head = await readHead(body, (bytes) => bytes.length > 4);
  // What git sends before a long request, to learn whether it may: there is nothing to answer.
  if (head.equals(Buffer.from('0000'))) return void response.end();
  const { output, ended } = exchange(service, options, { head, body }, gone.signal);
  await Promise.all([answer(output, response), ended]);
  response.end();
}

async function push(
  { response, identity }: GitRequest,
  target: Target,
  body: Readable,
  signal: AbortSignal,
  services: GitHttpServices,
): Promise<void> {
  const head = await readPushHead(body);
  if (head.empty) return void response.end();
  const say = (line: string): void => {
    if (head.sideband) response.write(sideband(2, Buffer.from(`${line}\n`)));
  };
  try {
    await receive({ identity, signal, say }, target, services, async (options) => {
      if (head.shallow) say(SHALLOW_HINT);
      const { output, ended } = exchange('receive-pack', options, { head: head.bytes, body }, signal);
      const answered = answer(output, response);
      const code = await ended;
      await answered;
      return code;
    });
    // Not before the lock is free and all is tidy: what the client does next finds it so.
    response.end();
  } catch (error) {
    if (!(error instanceof KraftwerkError) || !head.sideband) throw error;
    // Where git can still be told in its own words, the reason stands in its own line.
    say(`error: ${escapeForTerminal(error.message)}`);
    for (const hint of error.hints) say(`hint: ${escapeForTerminal(hint)}`);
    response.end(pktRejection(head.refs, error.reason ?? 'see above'));
  }
}

/** Sends it all but the end, and reads on when the client has gone: git must be able to end. Resolves when git has said all. */
function answer(output: Readable, response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    output.once('end', resolve);
    output.pipe(response, { end: false });
    const drop = (): void => {
      output.unpipe(response);
      output.resume();
    };
    if (response.destroyed) drop();
    else response.once('close', drop);
  });
}

function limitSilence(request: IncomingMessage, body: Readable): void {
  const timer = setTimeout(() => {
    // Not the client's silence where it is we who do not read: while the push waits for its turn.
    if (body.readableFlowing === true) request.destroy();
    else timer.refresh();
  }, BODY_IDLE_MS).unref();
  const refresh = (): void => void timer.refresh();
  const stop = (): void => {
    // Before the timer goes: a refresh would bring it back.
    request.off('data', refresh);
    clearTimeout(timer);
  };
  request.on('data', refresh);
  body.once('end', stop);
  body.once('close', stop);
}
