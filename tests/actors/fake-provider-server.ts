/** Actor: a provider's API as a real HTTP server on this machine, that remembers its servers and fails when it is told to. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  /** As it came. */
  text: string;
  /** Of JSON; else empty. */
  body: Record<string, unknown>;
}

export interface FakeAnswer {
  status: number;
  headers?: Record<string, string>;
  /** Sent as JSON, text as it is. */
  body?: unknown;
}

/** What goes wrong: an answer instead of the real one, no answer and nothing done, or all done and no answer. */
export type Fault = FakeAnswer | 'cut before' | 'cut after';

export interface FakeServer {
  id: string;
  name: string;
  plan: string;
  image: string;
  location: string;
  isOurs: boolean;
  isGone: boolean;
  /** How often it was asked for; it boots meanwhile. */
  polls: number;
  /** The order, as the provider understands it. */
  order: Record<string, unknown>;
}

export interface FakeState {
  servers: FakeServer[];
  /** Public key lines by their id. */
  keys: Map<string, string>;
  /** A server runs and has an address after it was asked for so often. */
  bootPolls: number;
  /** What servers get. */
  address: string;
  /** The largest page that is given, whatever is asked for. */
  pageSize: number;
}

export interface FakeProvider extends FakeState {
  /** What a command has to find in its environment. */
  env: Record<string, string>;
  requests: FakeRequest[];
  /** For the next `times` requests that `method` and `path` fit. */
  fail(method: string, path: RegExp, fault: Fault, times?: number): void;
  /** Requests of that method and path so far. */
  count(method: string, path: RegExp): number;
  close(): Promise<void>;
}

export interface FakeKind {
  env(url: string): Record<string, string>;
  handle(request: FakeRequest, state: FakeState): FakeAnswer;
}

export async function startFake(kind: FakeKind): Promise<FakeProvider> {
  const requests: FakeRequest[] = [];
  let faults: { method: string; path: RegExp; fault: Fault; left: number }[] = [];
  const state: FakeState = { servers: [], keys: new Map(), bootPolls: 1, address: '127.0.0.1', pageSize: 2 };

  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const url = new URL(incoming.url ?? '/', 'http://fake');
      const text = Buffer.concat(chunks).toString('utf8');
      const request: FakeRequest = {
        method: incoming.method ?? '',
        path: url.pathname,
        query: url.searchParams,
        headers: incoming.headers,
        text,
        body: parseBody(text),
      };
      requests.push(request);
      const due = faults.find(({ method, path }) => method === request.method && path.test(describe(request)));
      if (due !== undefined) due.left -= 1;
      faults = faults.filter(({ left }) => left > 0);
      const fault = due?.fault;
      const answer = fault === undefined || fault === 'cut after' ? kind.handle(request, state) : fault;
      if (fault === 'cut after' || answer === 'cut before') {
        incoming.socket.destroy();
        return;
      }
      const isText = typeof answer.body === 'string';
      response.writeHead(answer.status, {
        'content-type': isText ? 'text/xml;charset=UTF-8' : 'application/json',
        ...answer.headers,
      });
      response.end(answer.body === undefined ? '' : isText ? answer.body : JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  return Object.assign(state, {
    env: kind.env(`http://127.0.0.1:${port}`),
    requests,
    fail: (method: string, path: RegExp, fault: Fault, times = 1) => {
      faults.push({ method, path, fault, left: times });
    },
    count: (method: string, path: RegExp) =>
      requests.filter((request) => request.method === method && path.test(describe(request))).length,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}

/** EC2 has one path: there the action counts. */
function describe({ path, text }: FakeRequest): string {
  return path === '/' ? (/^Action=([A-Za-z]+)/.exec(text)?.[1] ?? '/') : path;
}

function parseBody(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

export interface Page<T> {
  items: T[];
  page: number;
  pages: number;
}

export function pageOf<T>(all: readonly T[], page: number, asked: number, largest: number): Page<T> {
  const size = Math.min(asked, largest);
  return {
    items: all.slice((page - 1) * size, page * size),
    page,
    pages: Math.max(1, Math.ceil(all.length / size)),
  };
}

/** One more look at a server; null: there is none. */
export function poll(state: FakeState, id: string): FakeServer | null {
  const found = state.servers.find((server) => server.id === id && !server.isGone);
  if (found === undefined) return null;
  found.polls += 1;
  return found;
}

export function hasBooted(state: FakeState, server: FakeServer): boolean {
  return server.polls >= state.bootPolls;
}

export function alive(state: FakeState, name: string | null): FakeServer[] {
  return state.servers.filter((server) => !server.isGone && (name === null || server.name === name));
}

export function addServer(
  state: FakeState,
  server: Omit<FakeServer, 'id' | 'isGone' | 'polls'>,
  id?: string,
): FakeServer {
  const added = { ...server, id: id ?? String(4711 + state.servers.length), isGone: false, polls: 0 };
  state.servers.push(added);
  return added;
}
