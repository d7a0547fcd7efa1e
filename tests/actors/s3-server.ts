/** Actor: a store that speaks S3, OpenStack Swift from Debian's packages, and a way to it that breaks when it is told to. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('s3-server.py', import.meta.url));

/** Swift names the account and the user in the access key. The second one may do nothing in the account of the first. */
export const WRITER = { accessKeyId: 'test:writer', secretAccessKey: 'secret-of-writer', sessionToken: null };
export const VISITOR = { accessKeyId: 'test:visitor', secretAccessKey: 'secret-of-visitor', sessionToken: null };

export interface S3Server {
  port: number;
  endpoint: string;
  pid: number;
  stop(): Promise<void>;
}

/** @param bucketPage how many objects one page of a listing has */
export async function startS3Server({ bucketPage }: { bucketPage: number }): Promise<S3Server> {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-s3-'));
  const child = spawn('/usr/bin/python3', ['-I', SCRIPT, folder], { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-4000);
  });
  const ended = once(child, 'close');
  const users = {
    [WRITER.accessKeyId]: `${WRITER.secretAccessKey} .admin`,
    [VISITOR.accessKeyId]: VISITOR.secretAccessKey,
  };
  child.stdin.on('error', () => {});
  child.stdin.write(`${JSON.stringify({ users, bucket_page: bucketPage })}\n`);
  const line = await Promise.race([
    once(createInterface(child.stdout), 'line').then(([text]) => String(text)),
    ended.then(() => null),
  ]);
  if (line === null) {
    rmSync(folder, { recursive: true, force: true });
    throw new Error(`the S3 server ended at once; scripts/bootstrap --for test installs it\n${complaints}`);
  }
  const { port } = JSON.parse(line) as { port: number };
  return {
    port,
    endpoint: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    async stop() {
      child.stdin.end();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

type Direction = 'to store' | 'to client';

export interface Way {
  endpoint: string;
  /** How many have gone through since the way was told to fail, or since it was opened. */
  passed: Record<Direction, number>;
  /** The connection that carries this byte, counted from now on, breaks; so do those after it, `times` of them in all. */
  breakAfter(bytes: number, direction: Direction, times: number): void;
  /** From this byte on nothing goes through any more, and nothing is closed. */
  stallAfter(bytes: number, direction: Direction): void;
  close(): Promise<void>;
}

/** Carries bytes to `port` of this machine and back. */
export async function openWay(port: number): Promise<Way> {
  const sockets = new Set<Socket>();
  let fault = { kind: 'none', bytes: 0, direction: 'to store' as Direction, times: 0 };
  const passed = { 'to store': 0, 'to client': 0 };

  const carry = (from: Socket, to: Socket, direction: Direction): void => {
    from.on('data', (chunk) => {
      passed[direction] += chunk.length;
      const isHit = fault.times > 0 && fault.direction === direction && passed[direction] > fault.bytes;
      if (isHit && fault.kind === 'stall') return;
      if (isHit && fault.kind === 'break') {
        fault.times -= 1;
        from.destroy();
        return;
      }
      if (to.write(chunk)) return;
      from.pause();
      to.once('drain', () => from.resume());
    });
    // Whatever ends on one side ends on the other, in the same way.
    from.on('error', () => {}).on('close', () => to.destroy());
  };
  const server = createServer((client) => {
    const store = connect(port, '127.0.0.1');
    for (const socket of [client, store]) {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    }
    carry(client, store, 'to store');
    carry(store, client, 'to client');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const setFault = (kind: string, bytes: number, direction: Direction, times: number): void => {
    fault = { kind, bytes, direction, times };
    Object.assign(passed, { 'to store': 0, 'to client': 0 });
  };
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    passed,
    breakAfter: (bytes, direction, times) => setFault('break', bytes, direction, times),
    stallAfter: (bytes, direction) => setFault('stall', bytes, direction, 1),
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** So many bytes that no two parts are alike, made while they are read, in chunks of a size that divides no part. */
export function* makeBytes(bytes: number): Generator<Buffer> {
  const size = 60_000;
  for (let at = 0; at < bytes; at += size) {
    const chunk = Buffer.alloc(Math.min(size, bytes - at), (at / size) % 251);
    if (chunk.length >= 4) chunk.writeUInt32BE(at);
    yield chunk;
  }
}
