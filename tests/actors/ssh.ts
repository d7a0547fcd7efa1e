/** Actors for SSH: keys made by ssh-keygen, a server under test, and the real ssh client with a home of its own. */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ReceiverApi } from '../../receiver/commands/command.ts';
import { reportError, runCommand } from '../../receiver/commands/run-command.ts';
import { parseExecLine } from '../../receiver/exec-line.ts';
import type { KeyStore, StoredKey } from '../../receiver/keys.ts';
import { buildKeyring, parsePublicKey } from '../../receiver/keys.ts';
import { loadHostKey } from '../../receiver/ssh/host-key.ts';
import type { ExecSession, SshServer, SshServerOptions } from '../../receiver/ssh-server.ts';
import { startSshServer } from '../../receiver/ssh-server.ts';

export interface TestKey {
  path: string;
  line: string;
  fingerprint: string;
}

export interface LoggedEvent {
  event: string;
  fields: Record<string, unknown>;
}

export function memoryKeyStore(): KeyStore {
  const keys: StoredKey[] = [];
  const uses = new Map<string, string>();
  const find = (fingerprint: string): StoredKey | undefined => keys.find((key) => key.fingerprint === fingerprint);
  return {
    all: () => [...keys],
    find,
    add: (key) => void keys.push(key),
    remove(name) {
      const at = keys.findIndex((key) => key.name === name);
      if (at >= 0) keys.splice(at, 1);
      return at >= 0;
    },
    touch: (fingerprint) => void uses.set(fingerprint, new Date().toISOString()),
    lastUsed: (fingerprint) => uses.get(fingerprint) ?? null,
  };
}

/** A folder with keys and a known_hosts file. */
export class SshHome {
  readonly folder = mkdtempSync(join(tmpdir(), 'kraftwerk-ssh-'));

  key(name: string, ...options: string[]): TestKey {
    const path = join(this.folder, name);
    const kind = options.length === 0 ? ['-t', 'ed25519'] : options;
    execFileSync('ssh-keygen', ['-q', '-N', '', '-C', name, '-f', path, ...kind]);
    const line = readFileSync(`${path}.pub`, 'utf8');
    return { path, line, fingerprint: parsePublicKey(line).fingerprint };
  }

  /** Where `configure` writes what ssh is to be told with -F. */
  get config(): string {
    return join(this.folder, 'config');
  }

  /** Makes `receiver` the name of the server on that port of this machine, known by its host key. */
  configure(port: number, hostKeyFile: string): void {
    const knownHosts = join(this.folder, 'known_hosts');
    writeFileSync(
      knownHosts,
      `receiver ${execFileSync('ssh-keygen', ['-y', '-f', hostKeyFile], { encoding: 'utf8' })}`,
    );
    const options = {
      HostName: '127.0.0.1',
      Port: port,
      User: 'kraftwerk',
      HostKeyAlias: 'receiver',
      UserKnownHostsFile: knownHosts,
      StrictHostKeyChecking: 'yes',
      BatchMode: 'yes',
      IdentitiesOnly: 'yes',
      IdentityAgent: 'none',
      LogLevel: 'ERROR',
    };
    const lines = Object.entries(options).map(([name, value]) => `  ${name} ${value}\n`);
    writeFileSync(this.config, `Host receiver\n${lines.join('')}`);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface TestServer extends SshServer {
  store: KeyStore;
  events: LoggedEvent[];
  /** The first event of that name, from the past or the future. */
  event(name: string): Promise<LoggedEvent>;
  /** ssh's arguments for this server and key. */
  args(key: TestKey, ...options: string[]): string[];
  ssh(key: TestKey, words: string[], options?: { input?: Buffer | string; options?: string[] }): Promise<Outcome>;
}

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A session without its line is answered by the command table, others by `handle`, if given. */
export async function startTestServer(
  home: SshHome,
  admins: readonly TestKey[],
  options: Partial<Pick<SshServerOptions, 'limits'>> & { handle?(session: ExecSession): Promise<number> } = {},
): Promise<TestServer> {
  const hostKey = loadHostKey(join(home.folder, 'host_key'));
  const store = memoryKeyStore();
  const ring = buildKeyring(
    admins.map(({ line }) => line),
    store,
  );
  const events: LoggedEvent[] = [];
  const waiting = new Set<(event: LoggedEvent) => void>();
  const onEvent = (event: string, fields: Record<string, unknown>): void => {
    const logged = { event, fields };
    events.push(logged);
    for (const tell of waiting) tell(logged);
  };
  const receiver = {
    version: '0.0.0-test',
    keys: store,
    adminKeys: ring.adminKeys,
    config: { environments: new Map() },
    resolveTarget: () => null,
  } as unknown as ReceiverApi;
  const commands = async (session: ExecSession): Promise<number> => {
    try {
      const asked = parseExecLine(session.line ?? '');
      if (asked.kind === 'git') throw new Error('no git here');
      return await runCommand(
        session,
        asked.kind === 'help' ? ['help'] : [asked.name, ...asked.args],
        receiver,
        onEvent,
      );
    } catch (error) {
      return reportError(session.stderr, error, onEvent, {});
    }
  };
  const server = await startSshServer({
    host: '127.0.0.1',
    port: 0,
    hostKey: hostKey.privateKey,
    authenticate: ring.identify,
    loggedIn: (fingerprint) => store.touch(fingerprint),
    handle: options.handle ?? commands,
    onEvent,
    ...(options.limits && { limits: options.limits }),
  });
  const knownHosts = join(home.folder, `known_hosts.${server.port}`);
  writeFileSync(knownHosts, `[127.0.0.1]:${server.port} ${hostKey.publicKey}\n`);
  const args = (key: TestKey, ...more: string[]): string[] => [
    ...['-F', '/dev/null', '-p', String(server.port), '-i', key.path],
    ...['BatchMode=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none', 'StrictHostKeyChecking=yes', 'LogLevel=INFO']
      .concat(`UserKnownHostsFile=${knownHosts}`)
      .flatMap((option) => ['-o', option]),
    ...more,
    'kraftwerk@127.0.0.1',
  ];
  return {
    ...server,
    store,
    events,
    args,
    event: (name) =>
      new Promise((resolve) => {
        const past = events.find(({ event }) => event === name);
        if (past !== undefined) return resolve(past);
        const tell = (logged: LoggedEvent): void => {
          if (logged.event !== name) return;
          waiting.delete(tell);
          resolve(logged);
        };
        waiting.add(tell);
      }),
    ssh(key, words, { input, options: more = [] } = {}) {
      const child = spawn('ssh', [...args(key, ...more), ...words]);
      return outcome(child, input);
    },
  };
}

export async function outcome(child: ChildProcessWithoutNullStreams, input: Buffer | string = ''): Promise<Outcome> {
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const code = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, stdout, stderr };
}
