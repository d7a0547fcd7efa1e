/** The agent's entry: reads one request from stdin, validates it again, runs it, streams events, ends. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { abandon, activate, prepare, retire, type Work } from './deploy.ts';
import { waitForHealth } from './health.ts';
import { nodeLayout, SLOTS, siteLayout, slotOf, socketFromRoot } from './layout.ts';
import { followLogs, readLogs } from './logs.ts';
import { control, stopRunsvdir, stopSlot } from './processes.ts';
import {
  type AgentEvent,
  type AgentRequest,
  KraftwerkError,
  LIMITS,
  type ProcessRequest,
  parseRequest,
  toWireError,
} from './protocol.ts';
import { readCurrent } from './releases.ts';
import { ensureNode } from './site.ts';
import { describeNode, readInstance } from './status.ts';
import { createSystem, errno, type System } from './system.ts';

const LOCK_WAIT_S = 3_700;

async function main(): Promise<void> {
  const system = createSystem(process.env);
  // A receiver that is gone must not end the agent in the middle of a write.
  process.stdout.on('error', () => undefined);
  const send = (event: AgentEvent): void => void process.stdout.write(`${JSON.stringify(event)}\n`);
  const gone = new AbortController();
  try {
    const request = parseRequest(await readLine(process.stdin));
    // Only these are given up when the other side goes; what has begun to change what serves is finished.
    process.stdin.on('end', () => gone.abort());
    process.stdin.on('close', () => gone.abort());
    process.stdin.on('error', () => gone.abort());
    if (request.op !== 'prepare') process.stdin.resume();
    system.begin(request.op);
    send({ event: 'result', ok: true, value: await handle(system, request, send, gone.signal) });
  } catch (error) {
    send({ event: 'result', ok: false, error: toWireError(asKraftwerkError(error)) });
  }
  process.stdout.write('', () => process.exit(0));
}

async function handle(
  system: System,
  request: AgentRequest,
  send: (event: AgentEvent) => void,
  signal: AbortSignal,
): Promise<unknown> {
  const node = nodeLayout(request.node);
  if (request.op === 'status' && !system.exists(node.runtime)) return { instances: [] };
  system.makeFolder(node.runtime);
  // Sockets are named relative to the root: their paths must fit into 107 bytes.
  process.chdir(node.root);
  if (request.op === 'status')
    return { instances: request.instances.map((instance) => readInstance(system, node, instance)) };
  if (request.op === 'shutdown')
    return withLock(system, `${node.runtime}/.node.lock`, () => stopRunsvdir(system, node, 15_000));
  const httpPort =
    request.op === 'logs'
      ? 0
      : await withLock(system, `${node.runtime}/.node.lock`, () => ensureNode(system, node, request.files));
  if (!('instance' in request)) return describeNode(agentVersion(), httpPort);

  const site = siteLayout(node, request.instance);
  if (request.op === 'logs') {
    const { lines, cursors } = readLogs(system, site, request);
    for (const line of lines) send(line);
    if (request.follow) await followLogs(system, site, cursors, request, send, signal);
    return null;
  }
  const work: Work = {
    system,
    site,
    httpPort,
    emit: send,
    signal,
    receiveArtifact: (): Readable => {
      send({ event: 'send' });
      return process.stdin;
    },
  };
  return withLock(system, site.lock, async () => {
    for (const path of [site.site, site.notes, site.log, site.runtime]) system.makeFolder(path);
    switch (request.op) {
      case 'prepare':
        return prepare(request, work);
      case 'activate':
        return activate(request, work);
      case 'retire':
        return retire(request, work);
      case 'abandon':
        return abandon(request, work);
      case 'stop':
      case 'start':
        return setRunning(request, work);
    }
  });
}

/** `stop` holds across reboots: the slots' run script looks for the file. */
async function setRunning(request: ProcessRequest, work: Work): Promise<null> {
  const { system, site } = work;
  const serving = readCurrent(system, site);
  if (serving === null)
    throw new KraftwerkError('process.nothing', `${request.instance} has no release on this node`, { exit: 'denied' });
  const folder = site.slot(slotOf(serving.boot));
  if (request.op === 'stop') {
    system.writeFile(site.stopped, `${system.wallClock().toISOString()}\n`);
    for (const slot of SLOTS) await stopSlot(system, site, slot, request.timeoutMs);
    return null;
  }
  system.remove(site.stopped);
  system.makeFolder(site.boot(serving.boot), 0o750);
  control(system, folder, 'u');
  if (request.health === null) return null;
  const alive = (): boolean => true;
  const verdict = await waitForHealth(system, socketFromRoot(site, serving.boot), request.health, alive, work.signal);
  if (!verdict.healthy)
    throw new KraftwerkError('health.start', `v${serving.release} was started but is not healthy`, {
      exit: 'unhealthy',
      hint: 'look at its log',
    });
  return null;
}

/** The kernel's own lock, held by a child that ends when we do, however we end. */
async function withLock<T>(system: System, path: string, body: () => Promise<T>): Promise<T> {
  const holder = await system.holdOpen(['flock', '-w', String(LOCK_WAIT_S), path, 'sh', '-c', 'echo locked; exec cat']);
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
function agentVersion(): string {
  return createHash('sha256')
    .update(readFileSync(fileURLToPath(import.meta.url)))
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
