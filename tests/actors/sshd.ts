/** Actor: OpenSSH's own sshd on this machine, as a node has it: the receiver's key may run agent-login and nothing else. */
// Long because: sshd, the cable to it and the agent behind it are what one scenario needs.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { loadAgentKey } from '../../receiver/nodes/agent-key.ts';
import type { AgentChannel, AgentConnector } from '../../receiver/nodes/connector.ts';
import { createSshConnector, type SshConnectorOptions } from '../../receiver/nodes/ssh.ts';
import { isAlive, listProcesses, waitFor } from './processes.ts';

const SSHD = '/usr/sbin/sshd';
const AGENT_LOGIN = fileURLToPath(new URL('../../templates/node/agent-login', import.meta.url));

/** Why tests with sshd cannot run here; null where they can. */
export function lacksSshd(): string | null {
  if (!existsSync(SSHD)) return `${SSHD} is missing (apt-get install --no-install-recommends openssh-server)`;
  if (!existsSync('/usr/bin/node') && !existsSync('/usr/local/bin/node'))
    return 'there is no node in /usr/bin or /usr/local/bin, where agent-login looks for it';
  return null;
}

export type TestSshd = Awaited<ReturnType<typeof startSshd>>;

export interface SshdOptions {
  /** What the login says before agent-login has its turn: words of a shell script. */
  greeting?: string;
}

/** `cleanUp` it in afterAll. */
export async function startSshd({ greeting = '' }: SshdOptions = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-sshd-'));
  const lib = join(folder, 'lib');
  mkdirSync(lib);
  copyFileSync(AGENT_LOGIN, join(lib, 'agent-login'));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'host_key')]);
  const key = loadAgentKey(folder);
  const { username } = userInfo();
  const command = `${greeting === '' ? '' : `${greeting}; `}exec ${join(lib, 'agent-login')}`;
  writeFileSync(join(folder, 'authorized_keys'), `restrict,command=${JSON.stringify(command)} ${key.publicKey}\n`);
  const port = await freePort();
  const config = join(folder, 'sshd_config');
  writeFileSync(
    config,
    `Port ${port}
ListenAddress 127.0.0.1
HostKey ${folder}/host_key
AuthorizedKeysFile ${folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
# The deeper a shell is, the less it reads: bash would run the .bashrc of whoever starts the tests.
SetEnv SHLVL=2
`,
  );
  // Where Debian's sshd locks its unprivileged half in, made by its service at each boot.
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });

  // A newer sshd shuts out for a while whose sessions have crashed, as `cut` makes them.
  const lenient = ['-o', 'PerSourcePenalties=no'];
  if (spawnSync(SSHD, ['-t', '-f', config, ...lenient]).status !== 0) lenient.length = 0;

  let listener: ChildProcess | null = null;
  const log: string[] = [];

  async function start(): Promise<void> {
    const child = spawn(SSHD, ['-D', '-e', '-f', config, ...lenient], { stdio: ['ignore', 'ignore', 'pipe'] });
    listener = child;
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        log.push(line);
        if (line.startsWith('Server listening')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`sshd ended with ${code}:\n${log.slice(-8).join('\n')}`)));
    });
  }

  /** The processes that serve its connections, one each. */
  function sessions(): number[] {
    return listProcesses()
      .filter(({ parent }) => parent === listener?.pid)
      .map(({ pid }) => pid);
  }

  /** Ends all connections as the kernel does when a machine goes down, without a word of SSH. */
  function cut(): void {
    for (const pid of sessions()) end(pid);
  }

  async function stop(): Promise<void> {
    const child = listener;
    if (child?.pid === undefined) return;
    cut();
    listener = null;
    child.removeAllListeners('exit');
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  function agents(): number[] {
    return listProcesses()
      .filter(({ argv }) => argv.includes(join(lib, 'agent.mjs')))
      .map(({ pid }) => pid);
  }

  /** The test run is being ended from outside. */
  const lastResort = (): void => void listener?.kill('SIGKILL');
  process.on('exit', lastResort);

  async function cleanUp(): Promise<void> {
    await stop();
    process.off('exit', lastResort);
    const left = listProcesses().filter(({ argv }) => argv.some((word) => word.startsWith(lib)));
    for (const { pid } of left) end(pid);
    await waitFor('the agents to end', () => left.every(({ pid }) => !isAlive(pid)));
    rmSync(folder, { recursive: true, force: true });
  }

  const hostKey = fingerprint(join(folder, 'host_key.pub'));
  await start();
  return {
    folder,
    lib,
    host: '127.0.0.1',
    port,
    user: username,
    key,
    hostKey,
    log,
    start,
    stop,
    sessions,
    cut,
    agents,
    cleanUp,
    /** A connector to it. `events` collects what it logs. */
    connector(agentFile: string, more: Partial<SshConnectorOptions> = {}, events: LoggedFields[] = []): AgentConnector {
      return createSshConnector({
        name: 'web1',
        host: '127.0.0.1',
        port,
        user: username,
        hostKey,
        privateKey: key.privateKey,
        agentFile,
        version: '0.2.0',
        log: (event, fields) => void events.push({ event, ...fields }),
        ...more,
      });
    },
  };
}

export interface LoggedFields {
  event: string;
  [field: string]: unknown;
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** As ssh-keygen tells it, not we. */
export function fingerprint(publicKeyFile: string): string {
  const [, print = ''] = execFileSync('ssh-keygen', ['-l', '-f', publicKeyFile], { encoding: 'utf8' }).split(' ');
  return print;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A cable to a port of this machine, which can be pulled: then nothing comes through, and nobody is told. */
export async function layCable(port: number) {
  const ends = new Set<Socket>();
  let pulled = false;
  let pulls = 0;
  const server = createServer((here) => {
    const laid = pulls;
    const dead = (): boolean => pulled || laid !== pulls;
    const there = connect(port, '127.0.0.1');
    ends.add(here).add(there);
    for (const [from, to] of [
      [here, there],
      [there, here],
    ] as const) {
      from.on('data', (chunk) => {
        if (dead()) return;
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('end', () => dead() || to.end());
      from.on('error', () => undefined);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    pull(): void {
      pulled = true;
      pulls += 1;
    },
    /** What goes through from now on; what was there stays dead. */
    heal(): void {
      pulled = false;
    },
    close(): void {
      for (const end of ends) end.destroy();
      server.close();
    },
  };
}

/** An agent that does as it is told, one line of JSON each: for tests of the way to it. `name` makes it another file. */
export function writeTestAgent(folder: string, name: string): string {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(
    path,
    `// ${name}
import { createHash } from 'node:crypto';
import { once } from 'node:events';
let rest = Buffer.alloc(0);
let wake = () => {};
let ended = false;
process.stdin.on('data', (chunk) => { rest = Buffer.concat([rest, chunk]); process.stdin.pause(); wake(); });
process.stdin.on('end', () => { ended = true; wake(); });
const more = () => { process.stdin.resume(); return new Promise((resolve) => { wake = resolve; }); };
const say = (value) => process.stdout.write(JSON.stringify({ name: '${name}', pid: process.pid, ...value }) + '\\n');
for (;;) {
  while (!rest.includes(10) && !ended) await more();
  const at = rest.indexOf(10);
  if (at === -1) break;
  const order = JSON.parse(rest.subarray(0, at));
  rest = rest.subarray(at + 1);
  if (order.op === 'echo') say({ text: order.text });
  if (order.op === 'environment') say({ environment: process.env, cwd: process.cwd() });
  if (order.op === 'complain') process.stderr.write(order.text);
  if (order.op === 'spin') { say({}); for (;;); }
  if (order.op === 'exit') process.exit(order.code);
  if (order.op === 'print') {
    const line = 'x'.repeat(999) + '\\n';
    for (let sent = 0; sent < order.lines; sent++) if (!process.stdout.write(line)) await once(process.stdout, 'drain');
    say({ printed: order.lines });
  }
  if (order.op === 'count') {
    const hash = createHash('sha256');
    let missing = order.bytes;
    while (missing > 0 && !(ended && rest.length === 0)) {
      const piece = rest.subarray(0, missing);
      rest = rest.subarray(piece.length);
      missing -= piece.length;
      hash.update(piece);
      if (missing > 0 && rest.length === 0) await more();
    }
    say({ counted: order.bytes - missing, sha256: hash.digest('hex') });
  }
}
`,
  );
  return path;
}

export interface Talk {
  channel: AgentChannel;
  order(order: Record<string, unknown>): void;
  /** The next line that is JSON. @throws when there is none any more */
  answer(): Promise<Record<string, unknown>>;
}

/** A conversation with a test agent. */
export async function talk(connector: AgentConnector): Promise<Talk> {
  const channel = await connector.open();
  channel.stdin.on('error', () => undefined);
  const lines: string[] = [];
  let wake = (): void => undefined;
  let over = false;
  createInterface({ input: channel.stdout })
    .on('line', (line) => {
      lines.push(line);
      wake();
    })
    .on('close', () => {
      over = true;
      wake();
    });
  return {
    channel,
    order: (order) => void channel.stdin.write(`${JSON.stringify(order)}\n`),
    async answer() {
      for (;;) {
        const line = lines.shift();
        if (line?.startsWith('{')) return JSON.parse(line) as Record<string, unknown>;
        if (line !== undefined) continue;
        if (over) throw new Error(`the agent ended ${await channel.ended}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
