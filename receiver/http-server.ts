/** The HTTP server: strict routes, and nobody gets further than /healthz without a token. */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Identity } from './access.ts';
import type { GitRequest } from './git-over-http.ts';
import { clientAddress, type HttpLogin, isLoopback } from './http/login.ts';
import { parseRoute } from './http/route.ts';
import { escapeForTerminal } from './print-table.ts';
import { ConnectionCounter, DEFAULT_LIMITS } from './ssh/limits.ts';

export interface HttpServerOptions {
  host: string;
  /** 0: a free one. */
  port: number;
  /** Asked for every request but /healthz. @param address the client's */
  login(address: string, authorization: string | undefined): HttpLogin;
  /** Whatever it throws before it has answered is answered here. */
  git(request: GitRequest): Promise<void>;
  draining(): boolean;
  onEvent(event: string, fields: Record<string, unknown>): void;
}

export interface HttpServer {
  /** `127.0.0.1:8022` */
  address: string;
  /** Ends all connections. */
  close(): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 20_000;
const CLOSE_WAIT_MS = 500;
/** For the rest of a body that nobody wants. */
const REST_OF_BODY_MS = 1_000;

/** @throws KraftwerkError `http.listen` */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { onEvent } = options;
  const counter = new ConnectionCounter(DEFAULT_LIMITS);
  const server = createServer(
    // A push may take as long as it takes; what is silent in the middle is ended where it is read.
    { requestTimeout: 0, headersTimeout: HEADERS_TIMEOUT_MS, keepAliveTimeout: 5_000, noDelay: true },
    (request, response) => {
      request.on('error', () => undefined);
      response.on('error', () => undefined);
      serve(request, response, options).catch((error: unknown) => fail(request, response, error, onEvent));
    },
  );
  server.maxConnections = DEFAULT_LIMITS.connections;
  server.on('connection', (socket) => {
    socket.on('error', () => undefined);
    const remote = socket.remoteAddress ?? '';
    // All that a proxy on this machine brings has one address: only the sum counts there.
    if (isLoopback(remote)) return;
    const place = counter.enter(remote);
    if (typeof place === 'string') {
      onEvent('http.refused', { remote, limit: place });
      return void socket.destroy();
    }
    // Each request is asked who it is, so a connection is nobody's for long.
    place.promote();
    socket.once('close', () => place.release());
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new KraftwerkError('http.listen', `http: cannot listen on ${options.host}:${options.port}: ${cause.code}`, {
          ...(cause.code === 'EADDRINUSE' && { hint: 'another server has the port: set http.port' }),
          ...(cause.code === 'EACCES' && { hint: 'ports below 1024 need root: set http.port' }),
          exit: 'config',
          cause,
        }),
      ),
    );
    server.listen(options.port, options.host, resolve);
  });
  server.on('error', (error) => onEvent('http.error', { error: error.message }));
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new KraftwerkError('http.listen', 'http: no address');
  if (!isLoopback(bound.address))
    onEvent('http.without_tls', {
      host: bound.address,
      hint: 'tokens go over the network in clear: listen on 127.0.0.1, with a TLS proxy in front',
    });

  return {
    address: `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const force = setTimeout(() => server.closeAllConnections(), CLOSE_WAIT_MS);
      await closed;
      clearTimeout(force);
    },
  };
}

async function serve(request: IncomingMessage, response: ServerResponse, options: HttpServerOptions): Promise<void> {
  const route = parseRoute(request.method ?? '', request.url ?? '');
  if (route === null) {
    return reply(request, response, 404, [
      'error: nothing is here',
      'hint: a git remote is http://HOST/PROJECT/ENVIRONMENT.git',
    ]);
  }
  if (route.kind === 'health') {
    return options.draining() ? reply(request, response, 503, ['draining']) : reply(request, response, 200, ['ok']);
  }
  const identity = logIn(request, response, options);
  if (identity !== null) await options.git({ request, response, route, identity });
}

const REFUSALS = {
  missing: 'error: who are you? user: the name of your key, password: a token',
  malformed: 'error: not HTTP Basic: user: the name of your key, password: a token',
  wrong: 'error: no such token for that name',
  expired: 'error: your token has expired',
  limited: 'error: too many failed attempts from your address',
};

/** Null: it has been answered. */
function logIn(request: IncomingMessage, response: ServerResponse, options: HttpServerOptions): Identity | null {
  const remote = clientAddress(request.socket.remoteAddress ?? '', request.headers);
  const login = options.login(remote, request.headers.authorization);
  if ('identity' in login) {
    options.onEvent('http.accepted', { remote, key: login.identity.name, method: request.method, url: request.url });
    return login.identity;
  }
  const { refused } = login;
  // Neither name nor password: people paste a token into either.
  if (refused !== 'missing') options.onEvent('http.denied', { remote, reason: refused });
  if (refused === 'limited') {
    response.setHeader('Retry-After', String(login.retryAfterS));
    reply(request, response, 429, [REFUSALS.limited, `hint: try again in ${login.retryAfterS} s`]);
  } else {
    response.setHeader('WWW-Authenticate', 'Basic realm="kraftwerk", charset="UTF-8"');
    reply(request, response, 401, [REFUSALS[refused], 'hint: a token for 30 days: ssh kraftwerk@HOST tokens:add']);
  }
  return null;
}

/** git shows lines of plain text as `remote: …`. */
function reply(request: IncomingMessage, response: ServerResponse, status: number, lines: readonly string[]): void {
  if (response.headersSent) return void response.destroy();
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Cache-Control', 'no-store');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  // Hung up on while it sends, a client would not see the answer; but nobody may send for ever.
  request.resume();
  if (!request.complete) setTimeout(() => request.complete || request.destroy(), REST_OF_BODY_MS).unref();
  response.end(request.method === 'HEAD' ? '' : `${lines.join('\n')}\n`);
}

function fail(
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  onEvent: HttpServerOptions['onEvent'],
): void {
  if (error instanceof KraftwerkError) {
    const hints = error.hints.map((hint) => `hint: ${escapeForTerminal(hint)}`);
    reply(request, response, statusOf(error), [`error: ${escapeForTerminal(error.message)}`, ...hints]);
    return;
  }
  const id = randomBytes(4).toString('hex');
  onEvent('http.failed', { id, stack: error instanceof Error ? error.stack : String(error) });
  reply(request, response, 500, [`error: internal error ${id}`, "hint: the receiver's log tells more under this id"]);
}

function statusOf({ code, exit }: KraftwerkError): number {
  if (code === 'target.unknown' || code === 'environment.unknown') return 404;
  if (exit === 'denied') return 403;
  if (exit === 'busy') return 503;
  return exit === 'usage' ? 400 : 500;
}
