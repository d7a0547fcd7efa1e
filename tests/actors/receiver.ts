/** Actor: a receiver as a real process, with a rootless node, both below one temporary folder. */
// Long because: it starts, asks, kills and ends the real receiver in every way that a scenario needs.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { listProcesses, processesIn, waitFor } from './processes.ts';
import { type Outcome, outcome, SshHome, type TestKey } from './ssh.ts';
import { pipEnvironment } from './wheels.ts';

const KRAFTWERK = fileURLToPath(new URL('../../scripts/kraftwerk', import.meta.url));
const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 90_000;

export interface LogLine {
  event: string;
  [field: string]: unknown;
}

export interface ReceiverOptions {
  /** Beside PATH, HOME and pip's: `KRAFTWERK_FAILPOINT` and the like. */
  env?: Record<string, string>;
  /** Lines added to receiver.yaml. */
  config?: string;
  /** The `environments:` of receiver.yaml, instead of stage and live. */
  environments?: string;
  /** Made below the receiver's folder before it starts. */
  folders?: readonly string[];
  /** 0: a free one. */
  nodePort?: number;
  /** Further rootless nodes beside `try`, each in the folder of its name. */
  nodes?: readonly string[];
  /** Lines of `nodes:`, for nodes of other kinds. */
  otherNodes?: string;
}

export type TestReceiver = Awaited<ReturnType<typeof startReceiver>>;

const ENVIRONMENTS = `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [try], domain: "{project}.localhost"}
`;

/** Starts a receiver and waits until it says that it is ready. `cleanUp` it in afterAll. */
export async function startReceiver(options: ReceiverOptions = {}) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'kraftwerk-receiver-')));
  const home = new SshHome();
  const admin = home.key('alice');
  const wheels = join(folder, 'wheels');
  const config = join(folder, 'receiver.yaml');
  mkdirSync(wheels);
  for (const name of ['home', ...(options.folders ?? [])]) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(
    config,
    `data: ./data
ssh: {host: 127.0.0.1, port: 0}
admins: [${admin.path}.pub]
default_environment: stage
nodes:
  try: {local: true, root: ./node, http_port: ${options.nodePort ?? 0}}
${(options.nodes ?? []).map((name) => `  ${name}: {local: true, root: ./${name}, http_port: 0}\n`).join('')}${options.otherNodes ?? ''}environments:${options.environments ?? ENVIRONMENTS}
${options.config ?? ''}
`,
  );
  const environment = {
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    HOME: join(folder, 'home'),
    LANG: 'C.UTF-8',
    ...pipEnvironment(wheels),
  };

  let child: ChildProcess | null = null;
  let ended: Promise<number | null> = Promise.resolve(null);
  let sshPort = 0;
  let httpPort = 0;
  const nodePorts = new Map<string, number>();
  let cleaned = false;
  const nodeNames = ['try', ...(options.nodes ?? [])];
  const cleanUps: (() => void)[] = [];
  const log: LogLine[] = [];
  const stderr: string[] = [];
  const listeners = new Set<() => void>();

  async function launch(env: Record<string, string>): Promise<void> {
    const start = log.length;
    const started = spawn(KRAFTWERK, ['receiver', '--config', config], {
      cwd: folder,
      env: { ...environment, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: some tests kill all of it.
      detached: true,
    });
    child = started;
    createInterface({ input: started.stdout }).on('line', (line) => {
      log.push(parseLogLine(line));
      for (const tell of listeners) tell();
    });
    createInterface({ input: started.stderr }).on('line', (line) => stderr.push(line));
    ended = new Promise((resolve) =>
      started.once('close', (code) => {
        child = null;
        resolve(code);
        for (const tell of listeners) tell();
      }),
    );
    const ready = await logged('receiver.ready', () => true, start, READY_LIMIT_MS);
    sshPort = Number(/:([0-9]+)$/.exec(String(ready.ssh))?.[1]);
    for (const line of log.slice(start))
      if (line.event === 'node.ready') nodePorts.set(String(line.node), Number(line.httpPort));
    httpPort = nodePorts.get('try') ?? httpPort;
    home.configure(sshPort, join(folder, 'data', 'host_key'));
  }

  /** The first line of that event, from `from` (an earlier `receiver.log.length`) on, or the next to come. */
  function logged(
    event: string,
    matches: (line: LogLine) => boolean = () => true,
    from = 0,
    limitMs = 60_000,
  ): Promise<LogLine> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        listeners.delete(look);
        act();
      };
      const look = (): void => {
        const found = log.slice(from).find((line) => line.event === event && matches(line));
        if (found !== undefined) settle(() => resolve(found));
        else if (child === null) settle(() => reject(new Error(`the receiver ended before ${event}:\n${tail()}`)));
      };
      const timer = setTimeout(
        () => settle(() => reject(new Error(`no ${event} within ${limitMs / 1000} s:\n${tail()}`))),
        limitMs,
      );
      listeners.add(look);
      look();
    });
  }

  function tail(): string {
    return [...log.slice(-15).map((line) => JSON.stringify(line)), ...stderr.slice(-15)].join('\n');
  }

  async function stop(): Promise<number | null> {
    child?.kill('SIGTERM');
    const timer = setTimeout(() => child?.kill('SIGKILL'), STOP_LIMIT_MS);
    const code = await ended;
    clearTimeout(timer);
    return code;
  }

  /** The agents that the receiver has started and that still run. */
  function agents(): number[] {
    if (child?.pid === undefined) return [];
    return listProcesses(child.pid)
      .filter(({ argv }) => argv.some((word) => word.endsWith('/agent.mjs')))
      .map((process) => process.pid);
  }

  /** As a power cut would: `agents` too, with what they have started; `group`: whatever else is in the receiver's group. */
  async function kill9({ agents: withAgents = false, group = false } = {}): Promise<void> {
    const pid = child?.pid;
    if (pid === undefined) return;
    const more = withAgents ? agents() : [];
    process.kill(group ? -pid : pid, 'SIGKILL');
    for (const agent of more) {
      try {
        process.kill(-agent, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    await ended;
  }

  /** kraftwerk on this machine, with the receiver's configuration. */
  function kraftwerk(...args: string[]): Promise<Outcome> {
    return kraftwerkWith({}, ...args);
  }

  /** The same with more, or other, variables. */
  function kraftwerkWith(env: Record<string, string>, ...args: string[]): Promise<Outcome> {
    return outcome(spawn(KRAFTWERK, args, { cwd: folder, env: { ...environment, KRAFTWERK_CONFIG: config, ...env } }));
  }

  const sshCommand = (key: TestKey): string[] => ['ssh', '-F', home.config, '-i', key.path];

  function ssh(...words: string[]): Promise<Outcome> {
    return sshAs(admin, words);
  }

  function sshAs(key: TestKey, words: readonly string[], input: Buffer | string = ''): Promise<Outcome> {
    const [command = 'ssh', ...args] = sshCommand(key);
    return outcome(spawn(command, [...args, 'receiver', ...words]), input);
  }

  /** Admits a key; `alice` is there from the start, as admin. */
  async function addKey(name: string, role: 'admin' | 'deploy' | 'read', ...targets: string[]): Promise<TestKey> {
    const key = home.key(name);
    const added = await sshAs(admin, ['keys:add', name, '--role', role, ...targets], key.line);
    if (added.code !== 0) throw new Error(`keys:add ${name}: ${added.stderr}`);
    return key;
  }

  /** The folder of the receiver's hook socket, which a killed one leaves behind until its next start. */
  function removeHookFolder(): void {
    const file = join(folder, 'data', 'hook-folder');
    const path = existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
    if (/^\/tmp\/kraftwerk-[\w-]+$/.test(path)) rmSync(path, { recursive: true, force: true });
  }

  /** Ends receiver and node and removes all that they have made, whatever has happened before. */
  async function cleanUp(): Promise<void> {
    if (cleaned) return;
    for (const clean of cleanUps) clean();
    await stop();
    const stopped = await Promise.all(nodeNames.map((name) => kraftwerk('stop-node', name)));
    removeAll();
    for (const { code, stderr: words } of stopped) if (code !== 0) throw new Error(`stop-node: ${words}`);
    await waitFor('the processes of the test to end', () => processesIn(folder).length === 0, 10_000).catch(
      () => undefined,
    );
    const left = processesIn(folder);
    if (left.length > 0) throw new Error(`still running: ${left.map(({ argv }) => argv.join(' ')).join('; ')}`);
  }

  function removeAll(): void {
    cleaned = true;
    process.off('exit', lastResort);
    removeHookFolder();
    home.remove();
    rmSync(folder, { recursive: true, force: true });
  }

  /** The test run is being ended from outside: nothing may stay behind. */
  function lastResort(): void {
    child?.kill('SIGKILL');
    for (const name of nodeNames)
      spawnSync(KRAFTWERK, ['stop-node', name], { env: { ...environment, KRAFTWERK_CONFIG: config } });
    removeAll();
  }
  process.on('exit', lastResort);

  const receiver = {
    folder,
    home,
    admin,
    wheels,
    config,
    log,
    stderr,
    data: join(folder, 'data'),
    node: join(folder, 'node'),
    /** The folder of a node, and the port of its nginx. */
    nodeAt: (name: string): { node: string; httpPort: number } => ({
      node: join(folder, name === 'try' ? 'node' : name),
      httpPort: nodePorts.get(name) ?? 0,
    }),
    get sshPort() {
      return sshPort;
    },
    get httpPort() {
      return httpPort;
    },
    get pid() {
      return child?.pid ?? null;
    },
    agents,
    logged,
    tail,
    ssh,
    sshAs,
    sshCommand,
    addKey,
    kraftwerk,
    kraftwerkWith,
    /** SIGTERM, as an admin would. @returns the exit code */
    stop,
    kill9,
    /** Starts it again, after `stop` or `kill9` where it still runs. */
    async restart(env: Record<string, string> = {}): Promise<void> {
      await stop();
      await launch({ ...options.env, ...env });
    },
    cleanUp,
    /** What goes with the receiver, though a test failed before it tidied up itself. */
    onCleanUp: (clean: () => void): void => void cleanUps.push(clean),
  };
  try {
    await launch(options.env ?? {});
  } catch (error) {
    await cleanUp().catch(() => undefined);
    throw error;
  }
  return receiver;
}

function parseLogLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { event: 'not json', line };
  }
}
