/** Python's compiler as a program of its own, as a user who reaches nothing of any site: sources go in, byte code comes out. */
import type { Readable } from 'node:stream';
import { asCompiler } from './accounts.ts';
import COMPILE from './compile.py';
import type { SiteLayout } from './layout.ts';
import type { Limits } from './protocol.ts';
import { DEFAULT_PATH, type PipedProgram, type System } from './system.ts';

/** What a site may take at most for it, and what it may take where it has no limit. */
const MEMORY_BYTES = 512 * 1024 * 1024;
const MAX_CODE_BYTES = 64 * 1024 * 1024;
const ANSWER_LIMIT_MS = 60_000;

export type Compiler = ReturnType<typeof startCompiler>;

/** @param python an interpreter of the version that will run the byte code */
export function startCompiler(system: System, site: SiteLayout, python: string, limits: Limits | null) {
  const memory = Math.min(limits?.memoryBytes ?? MEMORY_BYTES, MEMORY_BYTES);
  const argv = asCompiler(site, [python, '-I', '-S', '-W', 'ignore', '-c', COMPILE, String(memory)]);
  const starting = open(system, argv);
  starting.catch(() => undefined);
  return {
    /** How the interpreter names its byte code, as `cpython-311`. @throws Error where it does not start, or has ended */
    async tag(): Promise<string> {
      return (await (await starting).tag).toString('latin1');
    },
    /** @returns null where a source does not compile @throws Error where the compiler has ended, or does not answer */
    async compile(source: Buffer): Promise<Buffer | null> {
      const { program, tag, answer } = await starting;
      await tag;
      const length = Buffer.alloc(4);
      length.writeUInt32BE(source.length);
      program.stdin.write(length);
      program.stdin.write(source);
      const code = await answer();
      return code.length === 0 ? null : code;
    },
    end(): void {
      starting.then(({ program }) => program.kill()).catch(() => undefined);
    },
  };
}

async function open(system: System, argv: readonly string[]) {
  const program = await system.startPiped(argv, { cwd: '/', env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' } });
  program.stderr.resume();
  program.control.resume();
  const read = readExactly(program.stdout);
  const answer = async (): Promise<Buffer> => {
    const length = (await inTime(system, program, read(4))).readUInt32BE();
    if (length > MAX_CODE_BYTES) throw new Error('the compiler answers more than can be');
    return await inTime(system, program, read(length));
  };
  const tag = answer();
  tag.catch(() => undefined);
  return { program, tag, answer };
}

async function inTime<T>(system: System, program: PipedProgram, reading: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = system.sleep(ANSWER_LIMIT_MS, over.signal).then(() => {
    if (!over.signal.aborted) program.kill();
  });
  try {
    return await reading;
  } finally {
    over.abort();
    await late;
  }
}

/** The next so many bytes of a stream. The promise is rejected where it ends before. */
function readExactly(stream: Readable): (bytes: number) => Promise<Buffer> {
  const pieces = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let rest: Buffer = Buffer.alloc(0);
  return async (bytes) => {
    const got = [rest];
    for (let have = rest.length; have < bytes; ) {
      const { value, done } = await pieces.next();
      if (done) throw new Error('the compiler has ended');
      got.push(value);
      have += value.length;
    }
    const all = got.length === 1 ? rest : Buffer.concat(got);
    rest = all.subarray(bytes);
    return all.subarray(0, bytes);
  };
}
