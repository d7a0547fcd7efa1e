/** A root shell over the admin's own OpenSSH client, with its agent, keys and configuration, but with known hosts of our own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { exitOf, feed, interrupted, type RootShell } from './root-shell.ts';

export interface SshDestination {
  /** As it was typed: the admin's own ssh configuration knows what it means. */
  host: string;
  /** Null: as the ssh configuration says. */
  port: number | null;
  user: string;
  /** The file of a private key; null: whatever ssh finds. */
  identity: string | null;
}

export interface SshSurroundings {
  env: Readonly<Record<string, string | undefined>>;
  /** A terminal: ssh may ask for a passphrase there. */
  interactive: boolean;
  signal: AbortSignal;
}

/** What ssh makes of a destination. */
export interface ResolvedDestination {
  hostname: string;
  port: number;
  /** What its line in known_hosts begins with. */
  knownAs: string;
  knownHostsFiles: readonly string[];
}

/** In the order in which the receiver's own client asks for them, so that both are shown the same key. */
const HOST_KEY_TYPES = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
].join(',');

const OPTIONS: Readonly<Record<string, string>> = {
  ConnectTimeout: '15',
  // A server that has lost power would be waited for for ever.
  ServerAliveInterval: '5',
  ServerAliveCountMax: '3',
  TCPKeepAlive: 'yes',
  GlobalKnownHostsFile: '/dev/null',
  HostKeyAlgorithms: HOST_KEY_TYPES,
  CheckHostIP: 'no',
  UpdateHostKeys: 'no',
  HashKnownHosts: 'no',
  VerifyHostKeyDNS: 'no',
  ForwardAgent: 'no',
  ForwardX11: 'no',
  ClearAllForwardings: 'yes',
  PermitLocalCommand: 'no',
  RemoteCommand: 'none',
  RequestTTY: 'no',
  EscapeChar: 'none',
  ControlPersist: 'no',
  LogLevel: 'ERROR',
};

const SOCKET_POLL_MS = 20;
const RESOLVE_LIMIT_MS = 10_000;
const STDERR_BYTES = 8_000;

export interface SshClient {
  resolve(): Promise<ResolvedDestination>;
  /** The server's host key, `ssh-ed25519 AAAA…`, asked for without logging in. @throws KraftwerkError `setup.unreachable` */
  readHostKey(): Promise<string>;
  /** The keys that the admin's own known_hosts files have for it, `TYPE BASE64` each. */
  knownKeys(): Promise<string[]>;
  /** Logs in; only `hostKey` is believed. @throws KraftwerkError `setup.login`, `setup.unreachable` */
  connect(hostKey: string): Promise<RootShell>;
  /** Removes what was kept for the connection. */
  close(): void;
}

export function createSshClient(destination: SshDestination, surroundings: SshSurroundings): SshClient {
  const folder = mkdtempSync(join(tmpdir(), 'kw-ssh-'));
  const socket = join(folder, 's');
  const { host, port, user, identity } = destination;
  const { env, interactive, signal } = surroundings;
  const where = [
    ...(port === null ? [] : ['-p', String(port)]),
    ...['-l', user],
    ...(identity === null ? [] : ['-i', identity, '-o', 'IdentitiesOnly=yes']),
  ];
  const options = (more: Readonly<Record<string, string>>): string[] =>
    Object.entries({ ...OPTIONS, ...more }).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  // An older ssh knows no KnownHostsCommand.
  const knownHosts = (file: string): string[] => [
    ...['-o', 'IgnoreUnknown=KnownHostsCommand', '-o', 'KnownHostsCommand=none'],
    ...['-o', `UserKnownHostsFile=${join(folder, file)}`],
  ];

  async function resolve(): Promise<ResolvedDestination> {
    const { code, lines, stderr } = await collect(['-G', ...where, '--', host], RESOLVE_LIMIT_MS);
    if (code !== 0)
      throw new KraftwerkError('setup.ssh', `ssh does not understand ${host}: ${stderr.trim().split('\n')[0] ?? ''}`, {
        exit: 'usage',
      });
    const settings = new Map(lines.map((line) => [line.split(' ', 1)[0] ?? '', line.slice(line.indexOf(' ') + 1)]));
    const hostname = settings.get('hostname') ?? host;
    const resolvedPort = Number(settings.get('port') ?? 22);
    const alias = settings.get('hostkeyalias');
    const files = `${settings.get('userknownhostsfile') ?? ''} ${settings.get('globalknownhostsfile') ?? ''}`;
    return {
      hostname,
      port: resolvedPort,
      knownAs: alias ?? (resolvedPort === 22 ? hostname : `[${hostname}]:${resolvedPort}`),
      knownHostsFiles: files.split(' ').filter((file) => existsSync(file)),
    };
  }

  async function collect(args: readonly string[], limitMs: number) {
    const child = spawn('ssh', args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: limitMs, signal });
    return await readAll(child);
  }

  async function readHostKey(): Promise<string> {
    const { stderr } = await collect(
      [
        ...where,
        ...options({
          ControlPath: 'none',
          StrictHostKeyChecking: 'accept-new',
          PreferredAuthentications: 'none',
          BatchMode: 'yes',
        }),
        ...knownHosts('offered'),
        ...['--', host, 'exit'],
      ],
      120_000,
    );
    const file = join(folder, 'offered');
    const [, type, base64] = existsSync(file) ? readFileSync(file, 'utf8').trim().split(' ') : [];
    if (type === undefined || base64 === undefined) throw unreachable(host, stderr);
    return `${type} ${base64}`;
  }

  async function knownKeys(): Promise<string[]> {
    const { knownAs, knownHostsFiles } = await resolve();
    const keys: string[] = [];
    for (const file of knownHostsFiles) {
      const child = spawn('ssh-keygen', ['-F', knownAs, '-f', file], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: RESOLVE_LIMIT_MS,
      });
      const { lines } = await readAll(child);
      for (const line of lines) {
        // What a line with a mark (@revoked, @cert-authority) means is not taken for trust.
        const [name = '', type, base64] = line.trim().split(/\s+/);
        if (!/^[#@]/.test(name) && type !== undefined && base64 !== undefined) keys.push(`${type} ${base64}`);
      }
    }
    return keys;
  }

  async function connect(hostKey: string): Promise<RootShell> {
    const { knownAs } = await resolve();
    writeFileSync(join(folder, 'pinned'), `${knownAs} ${hostKey}\n`);
    const pinned = [
      ...where,
      ...options({ StrictHostKeyChecking: 'yes', ControlPath: socket }),
      ...knownHosts('pinned'),
      ...(interactive ? [] : ['-o', 'BatchMode=yes']),
    ];
    const master = spawn('ssh', [...pinned, '-M', '-N', '--', host], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    const words = keepTail(master);
    const ended = new Promise<void>((resolveEnd) => {
      master.once('error', () => resolveEnd());
      master.once('exit', () => resolveEnd());
    });
    let over = false;
    void ended.then(() => {
      over = true;
    });
    const end = (): void => void master.kill('SIGTERM');
    signal.addEventListener('abort', end, { once: true });
    while (!existsSync(socket)) {
      if (over) throw signal.aborted ? interrupted(host) : loginFailed(destination, words());
      await new Promise((again) => setTimeout(again, SOCKET_POLL_MS));
    }

    return {
      async run(interpreter, script, onLine) {
        // Where the shared connection is gone, ssh would make one of its own: it gets no way to.
        const child = spawn(
          'ssh',
          [...pinned, '-o', 'ControlMaster=no', '-o', 'ProxyCommand=false', '--', host, interpreter, '-s'],
          { env, stdio: ['pipe', 'pipe', 'pipe'], signal },
        );
        const code = await feed(child, script, onLine);
        // Ctrl-C ends ssh, too: it may be heard of first.
        await new Promise((resolve) => setImmediate(resolve));
        if (signal.aborted) throw interrupted(host);
        // 255 is ssh's own.
        if (code !== 255 && code !== null) return code;
        end();
        await ended;
        throw new KraftwerkError('setup.lost', `${host}: the connection was lost${reasonOf(words())}`, {
          hint: 'run it again: it goes on where it stopped',
        });
      },
      async close() {
        signal.removeEventListener('abort', end);
        end();
        await ended;
      },
    };
  }

  return {
    resolve,
    readHostKey,
    knownKeys,
    connect,
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function readAll(child: ChildProcess): Promise<{ code: number | null; lines: string[]; stderr: string }> {
  const lines: string[] = [];
  const words = keepTail(child);
  if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const code = await exitOf(child);
  return { code, lines, stderr: words() };
}

/** What a program says on stderr, the end of it. */
function keepTail(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString('utf8')).slice(-STDERR_BYTES);
  });
  return () => text.replaceAll('\r', '').trim();
}

function reasonOf(words: string): string {
  const line = words.split('\n').findLast((text) => text.trim() !== '');
  return line === undefined ? '' : ` (${line.trim().replace(/\.$/, '')})`;
}

function unreachable(host: string, stderr: string): KraftwerkError {
  return new KraftwerkError('setup.unreachable', `${host} cannot be reached by ssh${reasonOf(stderr)}`, {
    hint: [`does this work? ssh root@${host}`, 'another port: --port N'],
  });
}

function loginFailed({ host, user, identity }: SshDestination, stderr: string): KraftwerkError {
  if (!/denied|authentication/i.test(stderr)) return unreachable(host, stderr);
  return new KraftwerkError('setup.login', `${host} does not let ${user} in${reasonOf(stderr)}`, {
    hint: [
      identity === null ? `name the key: --identity FILE` : `is ${identity}.pub in ${user}'s authorized_keys there?`,
      `does this work? ssh ${user}@${host}`,
    ],
  });
}
