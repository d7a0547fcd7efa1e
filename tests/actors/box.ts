/** Actor: throw-away servers, each with a systemd, an sshd, an address and a disk of its own. @see docs/boxes.md */
import { spawn, spawnSync } from 'node:child_process';
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';
import { quoteForShell } from '../../receiver/templates.ts';
import { type Outcome, outcome, SshHome, type TestKey } from './ssh.ts';
import { SUITE, type Suite } from './suite.ts';

const BOX = fileURLToPath(new URL('../../scripts/box', import.meta.url));
/** Downloads what a base or an image needs. */
const MAKE_LIMIT_MS = 900_000;
const LIMIT_MS = 180_000;

/** The end of all names, so that no two test files and no two runs take each other's boxes. */
const RUN = randomBytes(3).toString('hex');

export interface BoxOptions {
  /** What its host name begins with, `[a-z][a-z0-9-]{0,30}`; the next in this process must have another. */
  name?: string;
  /** Of a bare server; what is made `from` something has that one's. */
  suite?: Suite;
  /** An image's name, or a stopped box to copy; else a bare server. */
  from?: string | Box;
  /** Of its disk, as `200M`; 4G if not said. A copy of a box has that box's. */
  disk?: string;
  /** Limit of what all its processes take, as `256M`. */
  memory?: string;
}

export interface Box {
  /** Its host name. */
  readonly name: string;
  readonly address: string;
  /** `ssh-ed25519 AAAA…`, as it stands in known_hosts. */
  readonly hostKey: string;
  /** The private key that root's authorized_keys has; `.pub` beside it. */
  readonly keyFile: string;
  /** For `ssh -F`: knows all boxes of this process, by name and by address. */
  readonly sshConfig: string;

  /** Runs a program as root, over ssh. */
  ssh(argv: readonly string[], input?: string | Buffer): Promise<Outcome>;
  /** Like `ssh`. @returns stdout @throws with all that it said, when it exits with anything but 0 */
  run(argv: readonly string[], input?: string | Buffer): Promise<string>;
  /** Runs a program without the box's network, so that it can be looked at when it is cut; not in its memory limit. */
  exec(argv: readonly string[], input?: string | Buffer): Promise<Outcome>;
  /** A file or folder of this machine, by scp: a folder lands in `to` if that is there, else it becomes `to`. */
  copyIn(from: string, to: string): Promise<void>;

  /** Pulls the cable, or drops whatever goes between it and these boxes or addresses. */
  cut(...peers: (Box | string)[]): Promise<void>;
  /** Drops so many per cent of the packets, in and out. */
  loss(percent: number): Promise<void>;
  /** Caps what it sends and gets, in tc's words: `1mbit`. */
  rate(limit: string): Promise<void>;
  /** Freezes its processes: connections are accepted, and nobody answers. */
  hang(): Promise<void>;
  /** Undoes cut, loss, rate and hang. */
  restore(): Promise<void>;

  /** The power is gone; `up` brings it back. What was written stays, also what was not synced. */
  kill(): Promise<void>;
  /** An orderly shutdown. */
  stop(): Promise<void>;
  /** After `kill` or `stop`: boots it with the disk and the address that it had. */
  up(change?: { memory?: string }): Promise<void>;
  /** An orderly reboot, until sshd answers again. */
  reboot(): Promise<void>;
  /** Shuts it down and keeps its disk as an image of that name; it stays down. */
  image(image: string): Promise<void>;
  /** Shuts it down, copies it, and boots both; the copy has a name, keys and an address of its own. */
  clone(twin: Pick<BoxOptions, 'name' | 'memory'>): Promise<Box>;
  /** Ends it and removes its disk. */
  down(): Promise<void>;
}

let checked: string | null | undefined;

/** @returns null, or why boxes cannot run here; that is also printed, once, so that no test is skipped silently */
export function boxesAvailable(): string | null {
  if (checked !== undefined) return checked;
  const env = { ...process.env, BOX_SUITE: SUITE };
  const { status, stdout } = spawnSync(BOX, ['check'], { encoding: 'utf8', env });
  checked = status === 0 ? null : stdout?.trim() || 'scripts/box cannot be started';
  if (checked !== null) console.warn(`skipped: boxes cannot run here: ${checked} (docs/boxes.md)`);
  return checked;
}

/** For a file or a describe: makes the base before its tests, and takes down after them every box that they started. */
export function useBoxes(): void {
  const before = new Set<string>();
  beforeAll(async () => {
    for (const name of boxes.keys()) before.add(name);
    await control(['base', '--suite', SUITE], MAKE_LIMIT_MS);
  }, MAKE_LIMIT_MS);
  afterAll(async () => {
    const started = [...boxes.values()].filter((box) => box !== null && !before.has(box.name));
    const ended = await Promise.allSettled(started.map((box) => box?.down()));
    for (const end of ended) if (end.status === 'rejected') throw end.reason;
  }, LIMIT_MS);
}

/** Boots a new box and waits for its sshd. It ends with `down`, `useBoxes`, or this process. */
export function startBox(options: BoxOptions = {}): Promise<Box> {
  return bootBox(`${options.name ?? 'box'}-${RUN}`, options);
}

/**
 * An image to start boxes `from`: made by `setUp` out of a bare box, and kept for later runs until something differs.
 *
 * @param inputs what `setUp` depends on, beside its own text: files and folders that count with their content, or texts
 */
export async function makeImage(
  name: string,
  inputs: readonly string[],
  setUp: (box: Box) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256').update(await control(['base', '--suite', SUITE], MAKE_LIMIT_MS));
  hash.update(setUp.toString());
  for (const input of inputs) digest(hash, input);
  const image = `${name}-${hash.digest('hex').slice(0, 12)}`;
  const end = performance.now() + MAKE_LIMIT_MS;
  for (;;) {
    const images = await control(['images']);
    if (images.split('\n').some((line) => line.startsWith(`${image} `))) return image;
    // The name decides: whoever gets it makes the image, the others wait for it.
    const maker = await bootBox(image, {}).catch((error: Error) => {
      if (isTaken(error, image) && performance.now() < end) return null;
      throw error;
    });
    if (maker === null) await sleep(200);
    else
      try {
        await setUp(maker);
        await maker.image(image);
      } finally {
        await maker.down();
      }
  }
}

async function bootBox(name: string, { suite = SUITE, from, disk, memory }: BoxOptions): Promise<Box> {
  if (boxes.has(name)) throw new Error(`box: ${name} exists`);
  boxes.set(name, null);
  const { key } = access();
  const options = {
    '--suite': from === undefined ? suite : undefined,
    '--from': typeof from === 'string' ? from : from?.name,
    '--disk': disk,
    '--memory': memory,
    '--authorize': `${key.path}.pub`,
    '--owner': String(process.pid),
  };
  const given = Object.entries(options).flatMap(([option, value]) => (value === undefined ? [] : [option, value]));
  await control(['up', name, ...given], from === undefined ? MAKE_LIMIT_MS : LIMIT_MS).catch(async (error: Error) => {
    // It may stand there half made; but where it `exists`, it is another's.
    if (!isTaken(error, name)) await control(['down', name]).catch(() => undefined);
    forget(name);
    throw error;
  });
  const [address = '', hostKey = ''] = (await control(['show', name])).split('\n');
  const box = asBox(name, address, hostKey);
  boxes.set(name, box);
  writeSshFiles();
  return box;
}

function isTaken(error: Error, name: string): boolean {
  return error.message.includes(`box: ${name} exists`);
}

function asBox(name: string, address: string, hostKey: string): Box {
  const { key, config } = access();
  const ask = async (command: string, ...args: string[]): Promise<void> => {
    await control([command, name, ...args]);
  };
  const box: Box = {
    name,
    address,
    hostKey,
    keyFile: key.path,
    sshConfig: config,

    // ssh hands the words, joined by spaces, to root's shell.
    ssh: (argv, input) => start('ssh', ['-F', config, name, argv.map(quoteForShell).join(' ')], input),
    run: async (argv, input) => stdoutOf(`${argv.join(' ')} (in ${name})`, await box.ssh(argv, input)),
    exec: (argv, input) => start(BOX, ['enter', name, ...argv], input),
    async copyIn(from, to) {
      stdoutOf(`scp ${from}`, await start('scp', ['-rpqF', config, from, `${name}:${to}`]));
    },
    cut: (...peers) => ask('cut', ...peers.map((peer) => (typeof peer === 'string' ? peer : peer.name))),
    loss: (percent) => ask('loss', String(percent)),
    rate: (limit) => ask('rate', limit),
    hang: () => ask('hang'),
    restore: () => ask('restore'),

    kill: () => ask('kill'),
    stop: () => ask('stop'),
    up: ({ memory } = {}) => (memory === undefined ? ask('up') : ask('up', '--memory', memory)),
    reboot: () => ask('reboot'),
    async image(image) {
      await ask('stop');
      await ask('image', image);
    },
    async clone(twin) {
      await ask('stop');
      const made = await startBox({ ...twin, from: box });
      await ask('up');
      return made;
    },
    async down() {
      await ask('down');
      forget(name);
    },
  };
  return box;
}

/** Boxes of this process; null while they boot. */
const boxes = new Map<string, Box | null>();
let made: { home: SshHome; key: TestKey; config: string } | null = null;

/** Made for the first box, gone with the last; no other key opens these boxes, but the tool's own. */
function access(): { home: SshHome; key: TestKey; config: string } {
  if (made === null) {
    const home = new SshHome();
    made = { home, key: home.key('root'), config: home.config };
  }
  return made;
}

function forget(name: string): void {
  boxes.delete(name);
  if (boxes.size > 0) {
    writeSshFiles();
  } else {
    made?.home.remove();
    made = null;
  }
}

function writeSshFiles(): void {
  const { home, key, config } = access();
  const knownHosts = join(home.folder, 'known_hosts');
  const booted = [...boxes.values()].filter((box) => box !== null);
  replace(knownHosts, booted.map(({ address, hostKey }) => `${address} ${hostKey}\n`).join(''));
  replace(
    config,
    `${booted.map(({ name, address }) => `Host ${name} ${address}\n  HostName ${address}\n`).join('')}Host *
  User root
  IdentityFile ${key.path}
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile ${knownHosts}
  GlobalKnownHostsFile /dev/null
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 2
  LogLevel ERROR
`,
  );
}

/** In one step: an ssh of another test may be reading it. */
function replace(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

function digest(hash: Hash, input: string): void {
  hash.update(`\0${input}\0`);
  if (!existsSync(input)) return;
  if (!statSync(input).isDirectory()) hash.update(readFileSync(input));
  else for (const name of readdirSync(input).sort()) digest(hash, join(input, name));
}

/** scripts/box. @returns stdout */
async function control(args: readonly string[], limitMs = LIMIT_MS): Promise<string> {
  return stdoutOf(`box ${args.join(' ')}`, await start(BOX, args, '', limitMs));
}

function start(
  program: string,
  args: readonly string[],
  input: string | Buffer = '',
  limitMs = LIMIT_MS,
): Promise<Outcome> {
  return outcome(spawn(program, args, { timeout: limitMs, killSignal: 'SIGKILL' }), input);
}

function stdoutOf(what: string, { code, stdout, stderr }: Outcome): string {
  if (code === 0) return stdout;
  throw new Error(`${what}: ${code === null ? 'took too long' : `exit code ${code}`}\n${stderr}${stdout}`.trim());
}
