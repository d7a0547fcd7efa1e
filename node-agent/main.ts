/** The agent's entry: reads one request from stdin, validates it again, runs it, streams events, ends. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { abandon, activate, prepare, retire } from './deploy.ts';
import { nodeLayout, siteLayout } from './layout.ts';
import { followLogs, readLogs } from './logs.ts';
import { stopRunsvdir } from './processes.ts';
import { type AgentEvent, type AgentRequest, KraftwerkError, LIMITS, parseRequest, toWireError } from './protocol.ts';
import { setRunning } from './running.ts';
import { ensureNode, readNodePort } from './site.ts';
import { describeNode, readInstances } from './status.ts';
import { createSystem, errno, type System } from './system.ts';
import type { Work } from './work.ts';

const LOCK_WAIT_S = 3_700;

async function main(): Promise<void> {
  const system = createSystem(process.env);
  // A receiver that is gone must not end the agent in the middle of a write.
  process.stdout.on('error', () => undefined);
  // What waits for a reader stays small: whoever sends much awaits it.
  const send = async (event: AgentEvent): Promise<void> => {
    if (process.stdout.write(`${JSON.stringify(event)}\n`) || gone.signal.aborted) return;
    await once(process.stdout, 'drain', { signal: gone.signal }).catch(() => undefined);
  };
  const gone = new AbortController();
  try {
    const request = parseRequest(await readLine(process.stdin));
    // Only these are given up when the other side goes; what has begun to change what serves is finished.
    process.stdin.on('end', () => gone.abort());
    process.stdin.on('close', () => gone.abort());
    process.stdin.on('error', () => gone.abort());
    if (request.op !== 'prepare') process.stdin.resume();
    system.begin(request.op);
    void send({ event: 'result', ok: true, value: await handle(system, request, send, gone.signal) });
  } catch (error) {
    void send({ event: 'result', ok: false, error: toWireError(asKraftwerkError(error)) });
  }
  process.stdout.write('', () => process.exit(0));
}

async function handle(
  system: System,
  request: AgentRequest,
  send: (event: AgentEvent) => Promise<void>,
  signal: AbortSignal,
): Promise<unknown> {
  const node = nodeLayout(request.node);
  if (request.op === 'status' && !system.exists(node.runtime)) return { instances: [] };
  system.makeFolder(node.runtime);
  // Sockets are named relative to the root: their paths must fit into 107 bytes.
  process.chdir(node.root);
  if (request.op === 'status') return { instances: readInstances(system, node, request.instances, request.memory) };
  if (request.op === 'shutdown')
    return withLock(system, `${node.runtime}/.node.lock`, () => stopRunsvdir(system, node, 15_000));
  const httpPort =
    request.op === 'logs'
      ? 0
      : (readNodePort(system, node, request.files) ??
        (await withLock(system, `${node.runtime}/.node.lock`, () => ensureNode(system, node, request.files))));
  if (!('instance' in request)) return describeNode(agentVersion(system), httpPort);

  const site = siteLayout(node, request.instance);
  if (request.op === 'logs') {
    const { lines, cursors } = readLogs(system, site, request);
    for (const line of lines) await send(line);
    if (request.follow) await followLogs(system, site, cursors, request, send, signal);
    return null;
  }
  const work: Work = {
    system,
    site,
    httpPort,
    emit: (event) => void send(event),
    signal,
    locked: (body) => withLock(system, site.lock, body),
    receiveArtifact: (): Readable => {
      void send({ event: 'send' });
      return process.stdin;
    },
  };
  if (request.op === 'retire') return retire(request, work);
  return work.locked(async () => {
    for (const path of [site.site, site.notes, site.log, site.runtime]) system.makeFolder(path);
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
    }
  });
}

/** The kernel's own lock, held by a child that ends when we do, however we end. */
async function withLock<T>(system: System, path: string, body: () => Promise<T>): Promise<T> {
  // cat starts when the lock is had, and says the word back.
  const argv = ['flock', '--no-fork', '-w', String(LOCK_WAIT_S), path, 'cat'];
  const holder = await system.holdOpen(argv, 'locked');
  if (holder.line !== 'locked') {
    holder.release();
    throw new KraftwerkError('node.lock', `cannot lock ${path} on the node`, {
      exit: 'busy',
      hint: 'another deploy goes on there; try again when it has ended',
    });
  }
  try {
    return await body();
  } finally {
    holder.release();
  }
}

/** The hash of this very file: the receiver compares it with its own copy. */
function agentVersion(system: System): string {
  return createHash('sha256')
    .update(system.readBytes(fileURLToPath(import.meta.url)) ?? '')
    .digest('hex');
}

async function readLine(stream: Readable): Promise<string> {
  let text = Buffer.alloc(0);
  for (;;) {
    const chunk = stream.read() as Buffer | null;
    if (chunk === null) {
      if (stream.readableEnded)
        throw new KraftwerkError('protocol.invalid', 'request: the input ended before a whole line');
      await new Promise<void>((resolve) => {
        stream.once('readable', resolve);
        stream.once('end', resolve);
      });
      continue;
    }
    const end = chunk.indexOf(10);
    if (end === -1) {
      text = Buffer.concat([text, chunk]);
      if (text.length > LIMITS.requestBytes)
        throw new KraftwerkError('protocol.invalid', `request: longer than ${LIMITS.requestBytes} bytes`);
      continue;
    }
    // What follows the line is the artifact; it stays in the stream.
    if (end + 1 < chunk.length) stream.unshift(chunk.subarray(end + 1));
    return Buffer.concat([text, chunk.subarray(0, end)]).toString('utf8');
  }
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
