// create-node and destroy-node as real processes: a terminal, Ctrl-C, a real SSH greeting, and the command as it is installed.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FakeProvider } from '../actors/fake-provider-server.ts';
import { PUBLIC_KEY, startFakeProvider } from '../actors/fake-providers.ts';
import { waitFor } from '../actors/processes.ts';

/** As scripts/kraftwerk starts it, without a look whether it is to be built. */
const KRAFTWERK = fileURLToPath(new URL('../../build/receiver.mjs', import.meta.url));
const COMMAND = fileURLToPath(new URL('../actors/fake-create-node.ts', import.meta.url));
const LOCAL = '127.0.0.1 localhost\n';

let folder = '';
let hosts = '';
let fake: FakeProvider;
let env: Record<string, string>;
const running: ChildProcess[] = [];
const servers: net.Server[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-create-'));
  hosts = join(folder, 'hosts');
  writeFileSync(hosts, LOCAL);
  writeFileSync(join(folder, 'key.pub'), `${PUBLIC_KEY}\n`);
  writeFileSync(
    join(folder, '.kraftwerk.yaml'),
    'provider: hetzner\nlocation_id: fsn1\nsize_id: cx22\nimage_id: debian-12\npubkey: key.pub\n',
  );
  fake = await startFakeProvider('hetzner');
  env = { ...fake.env, PATH: process.env.PATH ?? '', HOME: folder, LANG: 'C.UTF-8' };
});

afterEach(async () => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
  for (const server of servers.splice(0)) server.close();
  await fake.close();
  rmSync(folder, { recursive: true });
});

/** Something on a port that greets as sshd does, from the `from`th connection on. @returns the port */
async function startSshd(from = 0): Promise<number> {
  let connections = 0;
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    connections += 1;
    if (connections > from) socket.write('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n');
    else socket.destroy();
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

interface Run {
  child: ChildProcess;
  /** All that came so far: with a terminal both streams are one. */
  output(): string;
  stdout(): string;
  type(line: string): void;
  ended: Promise<number | null>;
}

function watch(child: ChildProcess): Run {
  running.push(child);
  let all = '';
  let out = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
    all += chunk.toString('utf8');
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    all += chunk.toString('utf8');
  });
  return {
    child,
    output: () => all.replaceAll('\r', ''),
    stdout: () => out,
    type: (line) => void child.stdin?.write(line),
    ended: new Promise((resolve) => child.once('close', resolve)),
  };
}

const node = (command: string, port: number, argv: readonly string[]): string[] => [
  ...[process.execPath, '--disable-warning=ExperimentalWarning', COMMAND, command, hosts, String(port), ...argv],
];

function start(command: string, port: number, ...argv: string[]): Run {
  const [program = '', ...args] = node(command, port, argv);
  return watch(spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** In a terminal of its own, by script(1). */
function startInTerminal(command: string, port: number, ...argv: string[]): Run {
  const line = node(command, port, argv)
    .map((word) => `'${word}'`)
    .join(' ');
  return watch(
    spawn('script', ['-qec', `exec ${line}`, '/dev/null'], { cwd: folder, env, stdio: ['pipe', 'pipe', 'pipe'] }),
  );
}

async function says(run: Run, text: string): Promise<void> {
  await waitFor(`${text} in ${run.output()}`, () => run.output().includes(text), 20_000);
}

test('somebody at a terminal orders a server, writes its name down, and destroys it', async () => {
  const port = await startSshd(1);
  const create = startInTerminal('create-node', port, 'web1');
  await says(create, 'price     5.11 EUR a month');
  await says(create, 'Order it? [y/N] ');
  expect(fake.servers).toEqual([]);
  create.type('y\n');
  await says(create, 'Write it there? [y/N] ');
  expect(create.output()).toContain('web1 is up: 127.0.0.1, SSH answers');
  create.type('y\n');
  await says(create, 'Set it up as a node now? [y/N] ');
  create.type('\n');
  expect(await create.ended).toBe(0);
  expect(create.output()).toMatch(/next: kraftwerk setup-node web1 *\n$/);
  expect(readFileSync(hosts, 'utf8')).toBe(`${LOCAL}127.0.0.1 web1 # kraftwerk: web1\n`);
  expect(fake.servers).toMatchObject([{ name: 'web1', isGone: false, order: { key: PUBLIC_KEY } }]);

  const hesitate = startInTerminal('destroy-node', port, 'web1');
  await says(hesitate, 'Type web1 to go on: ');
  hesitate.type('web\n');
  expect(await hesitate.ended).toBe(2);
  expect(hesitate.output()).toContain('error: destroy-node: nothing deleted: expected web1, got "web"');
  expect(fake.servers[0]?.isGone).toBe(false);

  const destroy = startInTerminal('destroy-node', port, 'web1');
  await says(destroy, 'Type web1 to go on: ');
  destroy.type('web1\n');
  expect(await destroy.ended).toBe(0);
  expect([fake.servers[0]?.isGone, readFileSync(hosts, 'utf8')]).toEqual([true, LOCAL]);
});

test('Ctrl-C at a question: nothing is ordered; while it waits: the server stays, and the next run goes on', async () => {
  const closed = await startSshd(Number.POSITIVE_INFINITY);
  const first = startInTerminal('create-node', closed, 'web1');
  await says(first, 'Order it? [y/N] ');
  first.type('\x03');
  expect(await first.ended).toBe(1);
  expect(first.output()).toContain('error: interrupted\n');
  expect(fake.servers).toEqual([]);

  const second = startInTerminal('create-node', closed, 'web1', '--yes');
  await says(second, 'ordered: id 4711');
  await says(second, 'still waiting: running at 127.0.0.1, SSH does not answer yet … ');
  second.type('\x03');
  expect(await second.ended).toBe(1);
  expect(second.output()).toContain('error: interrupted: the server is there, and costs\n');

  const third = start('create-node', await startSshd(), 'web1', '--hosts');
  expect(await third.ended).toBe(0);
  expect(third.output()).toContain(
    'Hetzner Cloud has web1 already (id 4711, cx22, fsn1, running): nothing is ordered\n',
  );
  expect(fake.servers).toHaveLength(1);
});

test('killed between the order and its answer: the next run finds the server', async () => {
  const port = await startSshd();
  // The order is carried out; what comes back is never read to its end.
  const killed = start('create-node', port, 'web1', '--yes');
  await waitFor('the order', () => fake.servers.length > 0);
  killed.child.kill('SIGKILL');
  await killed.ended;
  const again = start('create-node', port, 'web1', '--yes');
  expect(await again.ended).toBe(0);
  expect(fake.servers).toHaveLength(1);
  expect(again.stdout()).toBe(
    'nodes:\n  web1: {host: 127.0.0.1, host_key: "SHA256:…"}\nenvironments:\n  live: {nodes: [web1]}\n',
  );
});

describe('as it is installed', () => {
  const kraftwerk = (...argv: string[]): Run =>
    watch(spawn(process.execPath, [KRAFTWERK, ...argv], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] }));

  test('lists go to stdout, as tables and as JSON', async () => {
    const table = kraftwerk('create-node', '--list-plans');
    expect(await table.ended).toBe(0);
    expect(table.stdout().split('\n')[0]).toBe('SIZE-ID  CPU  CORES  MEMORY   DISK  EUR/MONTH  EUR/HOUR');
    const json = kraftwerk('create-node', '--list-locations', '--json');
    expect(await json.ended).toBe(0);
    expect(JSON.parse(json.stdout())).toContainEqual({ id: 'fsn1', description: 'Falkenstein, DE' });
  });

  test('refuses in words, with its exit code, and never with the token', async () => {
    const unconfirmed = kraftwerk('create-node', 'web1');
    expect([await unconfirmed.ended, unconfirmed.stdout()]).toEqual([2, '']);
    expect(unconfirmed.output()).toMatch(
      /error: create-node: nothing ordered: not confirmed\nhint: without a terminal, --yes /,
    );
    const missing = kraftwerk('destroy-node', 'web1', '--confirm', 'web1');
    expect([await missing.ended, missing.output().split('\n')[0]]).toEqual([
      4,
      'error: Hetzner Cloud has no server web1',
    ]);
    const choices = kraftwerk('create-node', 'web1', '--size-id', 'cx1');
    expect(await choices.ended).toBe(2);
    expect(choices.output()).toMatch(/^error: Hetzner Cloud has no size in fsn1 "cx1".*\nSIZE-ID /);
    env.HCLOUD_TOKEN = 'a-secret';
    const stranger = kraftwerk('create-node', 'web1');
    expect(await stranger.ended).toBe(1);
    expect(stranger.output()).toMatch(
      /^error: Hetzner Cloud does not accept the token: unable to authenticate\nhint: a token with /,
    );
    expect(stranger.output()).not.toContain('a-secret');
    env.HCLOUD_TOKEN = '';
    const anonymous = kraftwerk('create-node', 'web1');
    expect([await anonymous.ended, anonymous.output().split('\n')[0]]).toEqual([
      2,
      'error: Hetzner Cloud: the environment variable HCLOUD_TOKEN is not set',
    ]);
    expect(fake.servers).toEqual([]);
  });
});
