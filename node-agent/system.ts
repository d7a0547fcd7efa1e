/** The agent's hands: the only file that writes to disk, starts programs, reads the clock and the environment. */
// Long because: it is the only file that touches the disk and starts programs.
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { basename, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex, Readable, Writable } from 'node:stream';
import { KraftwerkError } from './protocol.ts';
import { removeByDescriptor } from './remove-by-descriptor.ts';

export interface RunOptions {
  cwd: string;
  /** The whole environment of the program: nothing is inherited. */
  env: Readonly<Record<string, string>>;
  timeoutMs: number;
  signal?: AbortSignal;
  /** A promise: the program starts at once and waits for it. */
  input?: string | Promise<string>;
  onLine?: (line: string, stream: 'out' | 'err') => void;
  /** Where the process group is noted, so that a later agent can end it if this one is killed. */
  jobFile?: string;
}

export interface RunResult {
  /** Exit code; 128 + n for signal n is not folded in: then `code` is null. */
  code: number | null;
  timedOut: boolean;
  /** The last lines of stdout and stderr, at most 200. */
  tail: string[];
}

export interface PipedProgram {
  stdin: Writable;
  stdout: Readable;
  stderr: Readable;
  /** Its descriptor 3. */
  control: Duplex;
  ended: Promise<void>;
  /** Ends it, and what it has started. */
  kill(): void;
}

const TAIL_LINES = 200;
const LINE_BYTES = 4000;

export type System = ReturnType<typeof createSystem>;

/**
 * @param environment `KRAFTWERK_FAILPOINT=op:name:n:effect` makes the n-th operation `name` of an agent that runs `op`
 *   fail with the errno `effect`, or with `kill` end the agent as kill -9 would, with `kill-both` the receiver, too.
 *   `stop` halts it until it is continued. `@FILE` reads that from a file. For tests of crash safety.
 */
export function createSystem(environment: Readonly<Record<string, string | undefined>>) {
  const setting = environment.KRAFTWERK_FAILPOINT ?? '';
  // A file can be changed while the receiver runs.
  const readSetting = (): string[] =>
    (setting.startsWith('@') ? (orMissing(() => fs.readFileSync(setting.slice(1), 'utf8')) ?? '') : setting)
      .trim()
      .split(':');
  let [failOp, failName, failAt, failEffect] = readSetting();
  const counts = new Map<string, number>();
  let operation = '';

  /** Counts the operation `name`; here a test makes it fail. */
  function failpoint(name: string): void {
    if (failOp !== operation || failName !== name) return;
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    if (count !== Number(failAt)) return;
    if (failEffect === 'stop') {
      process.kill(process.pid, 'SIGSTOP');
      return;
    }
    if (failEffect === 'kill-both') process.kill(process.ppid, 'SIGKILL');
    if (failEffect?.startsWith('kill')) process.kill(process.pid, 'SIGKILL');
    throw Object.assign(new Error(`${failEffect}: failpoint ${name} ${count}`), { code: failEffect });
  }

  function fsyncPath(path: string): void {
    const handle = fs.openSync(path, 'r');
    try {
      fs.fsyncSync(handle);
    } finally {
      fs.closeSync(handle);
    }
  }

  /** Renames `from` to `to`, both durable afterwards. The only way anything is published. */
  function publish(from: string, to: string): void {
    failpoint('publish');
    fs.renameSync(from, to);
    fsyncPath(dirname(to));
  }

  function writeFile(path: string, text: string, mode = 0o644): void {
    failpoint('write');
    const temporary = beside(path);
    writeNew(temporary, text, mode, (handle) => {
      fs.fchmodSync(handle, mode);
      fs.fsyncSync(handle);
    });
    publish(temporary, path);
  }

  /** Whole or not there, but not durable: for what means nothing after a reboot, or is brought to disk with what is around it. */
  function writeVolatile(path: string, text: string, mode = 0o644): void {
    failpoint('write');
    const temporary = beside(path);
    writeNew(temporary, text, mode);
    fs.renameSync(temporary, path);
  }

  function hasFile(path: string, text: string, mode: number): boolean {
    return orMissing(() => fs.readFileSync(path, 'utf8')) === text && (fs.statSync(path).mode & 0o777) === mode;
  }

  return {
    failpoint,
    publish,
    writeFile,
    writeVolatile,
    environment,
    pid: process.pid,
    nowMs: (): number => performance.now(),
    wallClock: (): Date => new Date(),
    /** Names the request in work, for failpoints. */
    begin: (op: string): void => {
      operation = op;
    },
    /** Between two conversations: what the next is to fail at may be something else. */
    forget(): void {
      [failOp, failName, failAt, failEffect] = readSetting();
      counts.clear();
    },

    /** Text of a file, or null where there is none. */
    readText(path: string): string | null {
      return orMissing(() => fs.readFileSync(path, 'utf8'));
    },
    readBytes: (path: string): Buffer | null => orMissing(() => fs.readFileSync(path)),
    readLink: (path: string): string | null => orMissing(() => fs.readlinkSync(path)),
    list: (path: string): string[] => orMissing(() => fs.readdirSync(path)) ?? [],
    listEntries: (path: string): fs.Dirent[] => orMissing(() => fs.readdirSync(path, { withFileTypes: true })) ?? [],
    stat: (path: string): fs.Stats | null => orMissing(() => fs.lstatSync(path)),
    exists: (path: string): boolean => fs.existsSync(path),
    /** Of the disk that holds `path`: what there is, and what a user may still write. */
    diskSpace(path: string): { bytes: number; freeBytes: number } {
      const { bsize, blocks, bavail } = fs.statfsSync(path);
      return { bytes: bsize * blocks, freeBytes: bsize * bavail };
    },
    /** Native: Node's own resolves `..` in a link's target by its letters, and so takes `a/..` of a link `a` for harmless. */
    realPath: (path: string): string | null => orMissing(() => fs.realpathSync.native(path)),

    /** Makes a file or folder durable, beside other work. */
    async sync(path: string): Promise<void> {
      const handle = await fs.promises.open(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    },

    makeFolder(path: string, mode = 0o755): void {
      failpoint('mkdir');
      fs.mkdirSync(path, { recursive: true, mode });
    },

    /** A folder that is not there yet, whatever the umask. */
    makeNewFolder(path: string, mode: number): void {
      failpoint('mkdir');
      fs.mkdirSync(path);
      fs.chmodSync(path, mode);
    },

    /** Adds to a file of root's, whole; makes it where it is not there. */
    append(path: string, text: string): void {
      failpoint('write');
      fs.appendFileSync(path, text, { mode: 0o644 });
    },

    /** Writes only what differs; true when it did. */
    writeIfChanged(path: string, text: string, mode = 0o644): boolean {
      if (hasFile(path, text, mode)) return false;
      writeFile(path, text, mode);
      return true;
    },
    /** The same, whole or not there at once, but durable only when `syncTrees` has been there. */
    stageIfChanged(path: string, text: string, mode = 0o644): void {
      if (!hasFile(path, text, mode)) writeVolatile(path, text, mode);
    },

    /** Points the symlink `path` at `target` in one step, durably. */
    pointLink(path: string, target: string): void {
      failpoint('symlink');
      const temporary = beside(path);
      fs.rmSync(temporary, { force: true });
      fs.symlinkSync(target, temporary);
      publish(temporary, path);
    },

    /** A new file of an unpacked tree; never follows or replaces anything. */
    createFile(path: string, chunks: readonly Uint8Array[], mode: number): void {
      failpoint('unpack');
      const handle = fs.openSync(path, NEW_FILE, mode);
      try {
        for (const chunk of chunks) writeFully(handle, chunk);
      } finally {
        fs.closeSync(handle);
      }
    },
    readStream: (path: string): fs.ReadStream => fs.createReadStream(path, { highWaterMark: 256 * 1024 }),
    /** Renames what may be gone after a power cut, or is brought to disk with what is around it. */
    rename: (from: string, to: string): void => fs.renameSync(from, to),
    /** A copy that may be had or not: where the disk is full, there is none. `close` tells whether it is whole. */
    openCopy(path: string): { write(chunk: Uint8Array): void; close(): boolean } {
      let handle: number | null = null;
      const attempt = (body: () => void): void => {
        try {
          body();
        } catch {
          if (handle !== null) fs.closeSync(handle);
          handle = null;
        }
      };
      attempt(() => {
        handle = openNew(path, 0o600);
      });
      return {
        write: (chunk) => attempt(() => handle !== null && writeFully(handle, chunk)),
        close() {
          const whole = handle !== null;
          if (handle !== null) fs.closeSync(handle);
          handle = null;
          return whole;
        },
      };
    },
    setModified: (path: string, date: Date): void => fs.utimesSync(path, date, date),
    createLink(path: string, target: string): void {
      failpoint('unpack');
      fs.symlinkSync(target, path);
    },
    setMode: (path: string, mode: number): void => fs.chmodSync(path, mode),
    /** Of the thing itself, never of what a link leads to. */
    setOwner: (path: string, uid: number, gid: number): void => fs.lchownSync(path, uid, gid),
    setUmask: (mask: number): void => void process.umask(mask),
    runsAsRoot: process.getuid?.() === 0,
    uid: process.getuid?.() ?? -1,
    /** `NAME=value` as a process was started with; none where it is gone, or another's. */
    readProcessEnvironment(pid: number): string[] {
      try {
        return fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      } catch {
        return [];
      }
    },

    /** Removes a tree, read-only folders included, also one that others can still change. */
    remove(path: string): void {
      failpoint('remove');
      removeByDescriptor(dirname(path), basename(path));
    },

    /** Reads what a file has grown by since `offset`, at most `maxBytes`. A link is not followed: others write there. */
    readFrom(path: string, offset: number, maxBytes = 1024 * 1024): Buffer {
      return (
        orMissing(() => {
          const handle = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
          try {
            const size = fs.fstatSync(handle).size;
            const buffer = Buffer.alloc(Math.max(0, Math.min(size - offset, maxBytes)));
            fs.readSync(handle, buffer, 0, buffer.length, offset);
            return buffer;
          } finally {
            fs.closeSync(handle);
          }
        }) ?? Buffer.alloc(0)
      );
    },

    /** Writes to a fifo without waiting for a reader; false where nobody reads. */
    writeFifo(path: string, text: string): boolean {
      try {
        const handle = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
        try {
          fs.writeSync(handle, text);
        } finally {
          fs.closeSync(handle);
        }
        return true;
      } catch (error) {
        if (['ENXIO', 'ENOENT', 'EAGAIN'].includes(errno(error))) return false;
        throw error;
      }
    },

    /** Signals a process or, with a negative number, a group; false when it is gone. */
    signal(pid: number, name: NodeJS.Signals | 0): boolean {
      try {
        process.kill(pid, name);
        return true;
      } catch {
        return false;
      }
    },

    async sleep(ms: number, signal?: AbortSignal): Promise<void> {
      if (signal?.aborted) return;
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, ms);
        signal?.addEventListener('abort', done);
      });
    },

    /** Starts a program in a session of its own that outlives the agent. */
    startDaemon(
      argv: readonly string[],
      options: { cwd: string; env: Readonly<Record<string, string>>; log: string },
    ): number {
      failpoint('spawn');
      const log = fs.openSync(options.log, 'a', 0o640);
      try {
        const [command = '', ...args] = argv;
        const child = spawn(command, args, {
          cwd: options.cwd,
          env: options.env,
          detached: true,
          stdio: ['ignore', log, log],
        });
        child.on('error', () => undefined);
        child.unref();
        return child.pid ?? 0;
      } finally {
        fs.closeSync(log);
      }
    },

    /** Keeps `argv` running as long as the agent lives: its stdin is ours. Resolves with its first line, null if it ends before. */
    holdOpen(argv: readonly string[], word: string): Promise<{ line: string | null; release(): void }> {
      failpoint('spawn');
      const [command = '', ...args] = argv;
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'], env: { PATH: DEFAULT_PATH } });
      return new Promise((resolve) => {
        const release = (): void => void child.stdin.end();
        child.stdin.on('error', () => undefined);
        child.stdin.write(`${word}\n`);
        child.on('error', () => resolve({ line: null, release }));
        child.stdout.once('data', (data: Buffer) => resolve({ line: data.toString().trim(), release }));
        child.on('close', () => resolve({ line: null, release }));
      });
    },

    /** Starts a program that speaks on four pipes: its own three, and a fourth both ways. @throws KraftwerkError `node.program` */
    async startPiped(
      argv: readonly string[],
      options: { cwd: string; env: Readonly<Record<string, string>> },
    ): Promise<PipedProgram> {
      failpoint('spawn');
      const [command = '', ...args] = argv;
      const stdio: ['pipe', 'pipe', 'pipe', 'pipe'] = ['pipe', 'pipe', 'pipe', 'pipe'];
      const child = spawn(command, args, { ...options, detached: true, stdio }) as ChildProcessWithoutNullStreams;
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (cause) =>
          reject(
            new KraftwerkError('node.program', `cannot start ${command}: ${errno(cause) || cause.message}`, { cause }),
          ),
        );
      });
      const { stdin, stdout, stderr } = child;
      const control = child.stdio[3] as Duplex;
      for (const stream of [stdin, stdout, stderr, control]) stream.on('error', () => undefined);
      const kill = (): void => {
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
        try {
          process.kill(-child.pid, 'SIGKILL');
        } catch {
          // It has ended by itself.
        }
      };
      return { stdin, stdout, stderr, control, ended, kill };
    },

    bytes: createByteHands(failpoint),

    run: (argv: readonly string[], options: RunOptions): Promise<RunResult> => {
      failpoint('spawn');
      return runProgram(argv, options, (pid) => {
        if (options.jobFile !== undefined) fs.writeFileSync(options.jobFile, `${pid} ${processStart(pid) ?? ''}\n`);
      });
    },
  };
}

/** Where something is made that will replace `path`. Hidden: nginx and runsvdir must not take it, not even if we die before. */
function beside(path: string): string {
  return `${dirname(path)}/.${basename(path)}.${process.pid}.tmp`;
}

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** When a process started, in clock ticks since boot, so that a pid used anew is not taken for the old one; null when gone. */
export function processStart(pid: number): string | null {
  const stat = orMissing(() => fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' ? null : (fields[19] ?? null);
}

export function errno(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

function orMissing<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EINVAL', 'ESRCH'].includes(errno(error))) return null;
    throw error;
  }
}

const NEW_FILE = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW;

/** A new file in the place of what a killed agent has left; never one that is there, never what a link leads to. */
function openNew(path: string, mode: number): number {
  fs.rmSync(path, { force: true });
  return fs.openSync(path, NEW_FILE, mode);
}

function writeNew(path: string, text: string, mode: number, finish?: (handle: number) => void): void {
  const handle = openNew(path, mode);
  try {
    writeFully(handle, Buffer.from(text));
    finish?.(handle);
  } finally {
    fs.closeSync(handle);
  }
}

function writeFully(handle: number, chunk: Uint8Array): void {
  for (let offset = 0; offset < chunk.length; ) offset += fs.writeSync(handle, chunk, offset);
}

export type ByteHands = ReturnType<typeof createByteHands>;
export type ByteWriter = ReturnType<ByteHands['openWriter']>;

/** For trees that others have made: their names need not be text, so paths are bytes. No link is ever followed at a path's end. */
function createByteHands(failpoint: (name: string) => void) {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
  const reading = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
  return {
    stat: (path: Buffer): fs.Stats | null => orMissing(() => fs.lstatSync(path)),
    /** What is in a folder, in no order, however much it is. */
    *names(path: Buffer): Generator<Buffer> {
      const folder = fs.opendirSync(path as unknown as string, {
        encoding: 'buffer' as BufferEncoding,
        bufferSize: 256,
      });
      try {
        for (let entry = folder.readSync(); entry !== null; entry = folder.readSync())
          yield entry.name as unknown as Buffer;
      } finally {
        folder.closeSync();
      }
    },
    readLink: (path: Buffer): Buffer => fs.readlinkSync(path, { encoding: 'buffer' }),
    /** `remove`, of what is in a folder under a name that need not be text. */
    remove(folder: string, name: Buffer): void {
      failpoint('remove');
      removeByDescriptor(folder, name);
    },
    /** All of a small file. */
    read(path: Buffer): Buffer {
      const handle = fs.openSync(path, reading);
      try {
        return fs.readFileSync(handle);
      } finally {
        fs.closeSync(handle);
      }
    },
    /** Its first `bytes` bytes, in pieces. */
    async *readPieces(path: Buffer, bytes = Number.POSITIVE_INFINITY): AsyncGenerator<Buffer> {
      const handle = await fs.promises.open(path, reading);
      try {
        for (let left = bytes; left > 0; ) {
          const piece = Buffer.allocUnsafe(Math.min(left, 256 * 1024));
          const { bytesRead } = await handle.read(piece, 0, piece.length, null);
          if (bytesRead === 0) return;
          left -= bytesRead;
          yield piece.subarray(0, bytesRead);
        }
      } finally {
        await handle.close();
      }
    },
    makeFolder(path: Buffer, mode: number): void {
      failpoint('mkdir');
      fs.mkdirSync(path, { mode });
    },
    /** A new file, written in pieces. */
    openWriter(path: Buffer | string, mode = 0o600) {
      failpoint('unpack');
      const handle = fs.openSync(path, NEW_FILE, mode);
      return {
        write(chunk: Uint8Array): void {
          failpoint('append');
          writeFully(handle, chunk);
        },
        sync: (): void => fs.fsyncSync(handle),
        close: (): void => fs.closeSync(handle),
      };
    },
    symlink(path: Buffer, target: Buffer): void {
      failpoint('unpack');
      fs.symlinkSync(target, path);
    },
    /** False where a file can have no other name there: another disk, or too many names. */
    link(from: Buffer, to: Buffer): boolean {
      failpoint('link');
      try {
        fs.linkSync(from, to);
        return true;
      } catch (error) {
        if (['EXDEV', 'EMLINK', 'EPERM', 'EOPNOTSUPP'].includes(errno(error))) return false;
        throw error;
      }
    },
    copy(from: Buffer, to: Buffer): void {
      failpoint('unpack');
      fs.copyFileSync(from, to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE);
    },
    setMode: (path: Buffer, mode: number): void => fs.chmodSync(path, mode),
    setModified: (path: Buffer, ms: number): void => fs.lutimesSync(path, ms / 1000, ms / 1000),
    async sync(path: Buffer): Promise<void> {
      failpoint('sync');
      const handle = await fs.promises.open(path, reading);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    },
    /** Lets timers and input have their turn. */
    pause: (): Promise<void> => new Promise((resolve) => void setImmediate(resolve)),
  };
}

function runProgram(argv: readonly string[], options: RunOptions, onStart: (pid: number) => void): Promise<RunResult> {
  const [command = '', ...args] = argv;
  const tail: string[] = [];
  // A group of its own, so that everything the program started can be ended with it.
  const child: ChildProcess = spawn(command, args, {
    cwd: options.cwd,
    env: options.env,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const onLine = (line: string, stream: 'out' | 'err'): void => {
    const short = line.length > LINE_BYTES ? `${line.slice(0, LINE_BYTES)}…` : line;
    tail.push(short);
    if (tail.length > TAIL_LINES) tail.shift();
    options.onLine?.(short, stream);
  };
  return new Promise<RunResult>((resolve, reject) => {
    let timedOut = false;
    const end = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      end();
    }, options.timeoutMs);
    options.signal?.addEventListener('abort', end, { once: true });
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(
        new KraftwerkError('node.program', `cannot start ${command}: ${errno(cause) || cause.message}`, { cause }),
      );
    });
    if (child.pid === undefined) return;
    onStart(child.pid);
    if (options.signal?.aborted) end();
    child.stdin?.on('error', () => undefined);
    void Promise.resolve(options.input ?? '').then(
      (input) => child.stdin?.end(input),
      () => child.stdin?.end(),
    );
    for (const name of ['out', 'err'] as const) {
      const input = child[`std${name}`];
      if (input) createInterface({ input }).on('line', (line) => onLine(line, name));
    }
    // A program's own background children must not outlive it, nor hold its pipes open.
    child.on('exit', () => end());
    child.on('close', (code) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', end);
      resolve({ code, timedOut, tail });
    });
  });
}
