// When a process is healthy: real sockets, short limits.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ask, waitForHealth } from '../../node-agent/health.ts';
import type { HealthcheckRequest } from '../../node-agent/protocol.ts';
import { createSystem } from '../../node-agent/system.ts';

const system = createSystem({});
const never = new AbortController().signal;
const check: HealthcheckRequest = {
  path: '/up',
  host: 'blog.example',
  statusMin: 200,
  statusMax: 399,
  timeoutMs: 100,
  intervalMs: 5,
  retries: 3,
  settleMs: 0,
  bootMs: 150,
};
let folder: string;
let path: string;
let server: Server | null;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-health-'));
  path = join(folder, 'web.sock');
  server = null;
});
afterEach(async () => {
  server?.closeAllConnections();
  if (server !== null) await new Promise((resolve) => server?.close(resolve));
  rmSync(folder, { recursive: true });
});

function serve(listener: RequestListener): Promise<void> {
  server = createServer(listener);
  return new Promise((resolve) => server?.listen(path, resolve));
}

const wait = (health: Partial<HealthcheckRequest> = {}, alive = () => true, signal = never) =>
  waitForHealth(system, path, { ...check, ...health }, alive, signal);

it('is healthy at its first good answer, asked with the canonical host', async () => {
  const seen: unknown[] = [];
  await serve((request, response) => {
    seen.push([request.url, request.headers.host, request.headers['x-forwarded-proto']]);
    response.writeHead(204).end();
  });
  expect(await wait()).toMatchObject({ healthy: true, status: 204 });
  expect(seen).toEqual([['/up', 'blog.example', 'http']]);
});

it('counts bad answers, and gives up after so many', async () => {
  let count = 0;
  await serve((_, response) => {
    count++;
    response.writeHead(500).end();
  });
  expect(await wait()).toEqual({ healthy: false, why: 'status', status: 500, tries: 3 });
  expect(count).toBe(3);
});

it('forgives bad answers that become good', async () => {
  let count = 0;
  await serve((_, response) => void response.writeHead(++count < 3 ? 503 : 200).end());
  expect(await wait()).toMatchObject({ healthy: true, status: 200 });
});

it('judges by the status that was asked for', async () => {
  await serve((_, response) => void response.writeHead(200).end());
  expect(await wait({ statusMin: 204, statusMax: 204 })).toMatchObject({ why: 'status', status: 200 });
});

it('waits for a boot, but not for ever', async () => {
  expect(await wait()).toEqual({ healthy: false, why: 'boot', status: null, tries: 0 });
  await serve(() => undefined);
  expect(await wait({ timeoutMs: 30 })).toMatchObject({ healthy: false, why: 'boot' });
});

it('sees at once that the process has ended', async () => {
  expect(await wait({ bootMs: 60_000 }, () => false)).toMatchObject({ healthy: false, why: 'died' });
});

it('stops when nobody waits any more', async () => {
  const gone = new AbortController();
  gone.abort();
  expect(await wait({ bootMs: 60_000 }, () => true, gone.signal)).toMatchObject({ why: 'aborted' });
});

it('tells silence, refusal and garbage apart', async () => {
  const request = { path: '/', host: 'x', timeoutMs: 50 };
  const now = (): number => performance.now();
  expect(await ask(path, request, now)).toEqual({ status: null, reason: 'refused' });
  await serve((incoming) => void incoming.socket.end('hello'));
  expect(await ask(path, request, now)).toEqual({ status: null, reason: 'garbage' });
});
