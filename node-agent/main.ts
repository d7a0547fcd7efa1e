/** The agent's entry: reads a request from stdin, validates it again, runs it, streams events; then the next, until its input ends. */

import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { handleData, handleReading, isReading } from './data-requests.ts';
import { abandon, activate, prepare, retire } from './deploy.ts';
import { isDestroyed } from './destroy.ts';
import { listDumps } from './dumps.ts';
import { openNode, openSite } from './folders.ts';
import { type Input, openInput } from './input.ts';
import { nodeLayout, siteLayout } from './layout.ts';
import { followLogs, readLogs } from './logs.ts';
import { type AgentEvent, KraftwerkError, type RestResult, toWireError } from './protocol.ts';
import { parseFrame } from './protocol-data.ts';
import { type AgentRequest, parseRequest } from './requests.ts';
import { route } from './route.ts';
import { setRunning } from './running.ts';
import { createSha256, loadSha256 } from './sha256.ts';
import { ensureNode, readNodePort } from './site.ts';
import { describeNode, readInstances } from './status.ts';
import { stopNode } from './stop-node.ts';
import { createSystem, errno, type System } from './system.ts';
import type { Work } from './work.ts';

const LOCK_WAIT_S = 3_700;
/** What needs no nginx: a deploy is settled though the machine's own is down. */
const TAKING_BACK: readonly AgentRequest['op'][] = ['abandon', 'retire', 'stop'];
/** Nor do these: data and commands come before the pages that show them. */
const WITHOUT_NGINX: readonly AgentRequest['op'][] = [
  ...['logs', 'export', 'run', 'variables', 'health', 'dump', 'drop-dumps', 'prove', 'import', 'load', 'destroy'],
  ...['set-up', 'link-key', 'link-accept', 'link'],
] as AgentRequest['op'][];

async function main(): Promise<void> {
  const system = createSystem(process.env);
  // A receiver that is gone must not end the agent in the middle of a write.
  process.stdout.on('error', () => undefined);
  const input = openInput(process.stdin);
  const lock = createSiteLock(system);
  const version = fileIdentity(system);
  // What waits for a reader stays small: whoever sends much awaits it.
  const send = async (event: AgentEvent): Promise<void> => {
    if (process.stdout.write(`${JSON.stringify(event)}\n`) || input.gone.aborted) return;
    await once(process.stdout, 'drain', { signal: input.gone }).catch(() => undefined);
  };
  for (;;) {
    try {
      const line = await input.readLine();
      if (line === null) break;
      const request = parseRequest(line);
      system.begin(request.op);
      void send({ event: 'result', ok: true, value: await handle(request, { system, lock, input, send, version }) });
    } catch (error) {
      void send({ event: 'result', ok: false, error: toWireError(asKraftwerkError(error)) });
    }
  }
  process.stdout.write('', () => process.exit(0));
}

interface Session {
  /** Of the file that this agent was started from. */
  version: string;
  system: System;
  lock: SiteLock;
  input: Input;
  send(event: AgentEvent): Promise<void>;
}

async function handle(request: AgentRequest, { system, lock, input, send, version }: Session): Promise<unknown> {
  if (request.op === 'rest') {
    lock.release();
    system.forget();
    process.chdir('/');
    return { current: version === fileIdentity(system) } satisfies RestResult;
  }
  const node = nodeLayout(request.node);
  if (request.op === 'status' && !system.exists(node.runtime)) return { instances: [] };
  openNode(system, node);
  // Sockets are named relative to the root: their paths must fit into 107 bytes.
  process.chdir(node.root);
  if (request.op === 'status') return { instances: readInstances(system, node, request.instances, request.memory) };
  if (request.op === 'dumps') return listDumps(system, node, request.of);
  if (request.op === 'shutdown')
    return withLock(system, `${node.runtime}/.node.lock`, () => stopNode(system, node, 15_000));
  const httpPort =
    WITHOUT_NGINX.includes(request.op) || (node.profile.profile === 'system' && TAKING_BACK.includes(request.op))
      ? node.httpPort
      : (readNodePort(system, node, request.files) ??
        (await withLock(system, `${node.runtime}/.node.lock`, () => ensureNode(system, node, request.files))));
  if (!('instance' in request)) return describeNode(system, node, agentVersion(system), httpPort);
  if (request.op === 'route')
    return withLock(system, `${node.runtime}/.router.lock`, () => route(system, node, request, httpPort));

  const site = siteLayout(node, request.instance);
  if (request.op === 'logs') {
    const { lines, cursors } = readLogs(system, site, request);
    for (const line of lines) await send(line);
    if (request.follow) await followLogs(system, site, cursors, request, send, input.gone);
    return null;
  }
  const work: Work = {
    system,
    site,
    httpPort,
    emit: (event) => void send(event),
    // Only what serves nobody yet is given up when the other side goes; what has begun to change what serves is finished.
    signal: input.gone,
    locked: (body) => withLock(system, site.lock, body),
    lockedAt: (path, body) => withLock(system, path, body),
    readFrame: async () => {
      const line = await input.readLine();
      return line === null ? null : parseFrame(line);
    },
    sendData: (stream, bytes) => send({ event: 'data', stream, data: Buffer.from(bytes).toString('base64') }),
    taken: (bytes) => void send({ event: 'taken', bytes }),
    receiveArtifact: (bytes) => {
      void send({ event: 'send' });
      return input.readBytes(bytes);
    },
  };
  if (isReading(request)) return handleReading(request, work);
  if (request.op === 'retire') {
    lock.release();
    return retire(request, work);
  }
  // Kept for the requests that follow in this session; it goes when the agent ends.
  await lock.take(site.lock);
  if (request.op === 'ready') return null;
  // What is left of a destroyed site is dropped without making it again.
  if (request.op === 'destroy' && isDestroyed(system, site)) {
    system.remove(site.lock);
    return null;
  }
  if (request.op !== 'drop-dumps') await openSite(system, site);
  switch (request.op) {
    case 'prepare':
      return prepare(request, work);
    case 'activate':
      return activate(request, work);
    case 'abandon':
      return abandon(request, work);
    case 'stop':
    case 'start':
      return setRunning(request, work);
    default:
      return handleData(request, work);
  }
}

/** The kernel's own lock, held by a child that ends when we do, however we end. @throws KraftwerkError `node.lock` */
async function takeLock(system: System, path: string): Promise<() => void> {
  // cat starts when the lock is had, and says the word back.
  const argv = ['flock', '--no-fork', '-w', String(LOCK_WAIT_S), path, 'cat'];
  const holder = await system.holdOpen(argv, 'locked');
  if (holder.line === 'locked') return holder.release;
  holder.release();
  throw new KraftwerkError('node.lock', `cannot lock ${path} on the node`, {
    exit: 'busy',
    hint: 'another deploy goes on there; try again when it has ended',
  });
}

async function withLock<T>(system: System, path: string, body: () => Promise<T>): Promise<T> {
  const release = await takeLock(system, path);
  try {
    return await body();
  } finally {
    release();
  }
}

type SiteLock = ReturnType<typeof createSiteLock>;

/** The lock of the one site that a session is about, from the first request that needs it to the session's end. */
function createSiteLock(system: System) {
  let held: { path: string; release: () => void } | null = null;
  const release = (): void => {
    held?.release();
    held = null;
  };
  return {
    release,
    async take(path: string): Promise<void> {
      if (held?.path === path) return;
      release();
      const taking = takeLock(system, path);
      taking.catch(() => undefined);
      // Whoever takes it will want that.
      loadSha256();
      held = { path, release: await taking };
    },
  };
}

/** The hash of this very file: the receiver compares it with its own copy. */
function agentVersion(system: System): string {
  return createSha256()
    .update(system.readBytes(fileURLToPath(import.meta.url)) ?? '')
    .digest('hex');
}

/** Another one when the receiver has put another agent in its place: it renames the new file there. */
function fileIdentity(system: System): string {
  const stat = system.stat(fileURLToPath(import.meta.url));
  return `${stat?.ino} ${stat?.mtimeMs}`;
}

function asKraftwerkError(error: unknown): KraftwerkError {
  if (error instanceof KraftwerkError) return error;
  const code = errno(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new KraftwerkError('node.disk-full', 'the disk of the node is full', {
      hint: 'make room on the node (df -h), or lower keep_releases, then push again',
      reason: 'disk full',
      cause: error,
    });
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new KraftwerkError(
    'agent.bug',
    `the agent failed: ${error instanceof Error ? error.message : String(error)}`,
    { lines: text.split('\n').slice(1, 6), cause: error },
  );
}

await main();
