/** The list of all that is in a dump, a line of JSON each: written and read as it goes, it may have a million. */
import {
  type DumpPath,
  diskPath,
  fromPaper,
  joinName,
  parseDumpPath,
  parseLinkPath,
  showPath,
  toPaper,
} from './dump-names.ts';
import { KraftwerkError } from './protocol.ts';
import { createSha256 } from './sha256.ts';
import type { System } from './system.ts';

export const LIST_FILE = 'list.ndjson';
const PIECE = 64 * 1024;
const LINE_BYTES = 64 * 1024;

interface Common {
  path: DumpPath;
  /** The nine bits. */
  mode: number;
  /** When it was changed, milliseconds. */
  mtime: number;
}
export type Folder = Common & { kind: 'folder' };
/** `sha256` null: it was a link to a live file, and stands here with its size and time only. */
export type File = Common & { kind: 'file'; size: number; sha256: string | null };
export type Link = Common & { kind: 'link'; to: string };
export type Entry = Folder | File | Link;

export interface ListSum {
  sha256: string;
  entries: number;
}

function encodeEntry(entry: Entry): string {
  const { kind, mode, mtime } = entry;
  const rest =
    kind === 'file'
      ? { size: entry.size, ...(entry.sha256 === null ? { linked: true } : { sha256: entry.sha256 }) }
      : kind === 'link'
        ? { to: toPaper(entry.to) }
        : {};
  return `${JSON.stringify({ path: toPaper(entry.path), kind, mode, mtime, ...rest })}\n`;
}

function parseEntry(line: string, where: string): Entry {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(line) as Record<string, unknown>;
  } catch {
    throw damaged(where, 'not a line of JSON');
  }
  const path = parseDumpPath(fromPaper(value?.path) ?? '', where);
  const { kind, mode, mtime, size, sha256, linked } = value;
  if (!Number.isInteger(mode) || typeof mtime !== 'number') throw damaged(where, 'has no mode or no time');
  const common = { path, mode: (mode as number) & 0o777, mtime };
  if (kind === 'folder') return { ...common, kind };
  const to = kind === 'link' ? fromPaper(value.to) : null;
  if (kind === 'link' && to !== null) return { ...common, path: parseLinkPath(path, where), kind, to };
  if (kind === 'file' && Number.isSafeInteger(size) && (size as number) >= 0) {
    if (linked === true) return { ...common, kind, size: size as number, sha256: null };
    if (typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256))
      return { ...common, kind, size: size as number, sha256 };
  }
  throw damaged(where, 'says neither file nor folder nor link');
}

function damaged(where: string, what: string): KraftwerkError {
  return new KraftwerkError('dump.damaged', `${where}: ${what}`, { reason: 'the dump is damaged' });
}

export type ListWriter = ReturnType<typeof openListWriter>;

export function openListWriter(system: System, folder: string) {
  const writer = system.bytes.openWriter(`${folder}/${LIST_FILE}`);
  const hash = createSha256();
  let lines: string[] = [];
  let waiting = 0;
  let entries = 0;
  const flush = (): void => {
    const piece = Buffer.from(lines.join(''));
    [lines, waiting] = [[], 0];
    if (piece.length === 0) return;
    hash.update(piece);
    writer.write(piece);
  };
  return {
    add(entry: Entry): void {
      const line = encodeEntry(entry);
      lines.push(line);
      waiting += line.length;
      entries++;
      if (waiting >= PIECE) flush();
    },
    flush,
    /** Whole and durable. */
    end(): ListSum {
      flush();
      writer.sync();
      return { sha256: hash.digest('hex'), entries };
    },
    close: writer.close,
  };
}

/** @throws KraftwerkError `dump.damaged`, `dump.hostile` */
export async function* readList(system: System, folder: string): AsyncGenerator<Entry> {
  let number = 0;
  for await (const line of readLines(system.bytes.readPieces(diskPath(folder, LIST_FILE)))) {
    number++;
    yield parseEntry(line.toString('utf8'), `${LIST_FILE}:${number}`);
  }
}

/** Lines as bytes, without their ends. @throws KraftwerkError `dump.damaged` for one that has none, or is too long */
export async function* readLines(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const piece of pieces) {
    let data = rest.length === 0 ? Buffer.from(piece) : Buffer.concat([rest, piece]);
    for (let at = data.indexOf(10); at !== -1; at = data.indexOf(10)) {
      yield data.subarray(0, at);
      data = data.subarray(at + 1);
    }
    rest = data;
    if (rest.length > LINE_BYTES) throw damaged(LIST_FILE, `a line of more than ${LINE_BYTES} bytes`);
  }
  if (rest.length > 0) throw damaged(LIST_FILE, 'ends within a line');
}

/** @throws KraftwerkError `dump.damaged` where the list is not the one that the manifest was made for */
export async function checkList(system: System, folder: string, wanted: ListSum): Promise<void> {
  const hash = createSha256();
  if (system.stat(`${folder}/${LIST_FILE}`) === null) throw damaged(LIST_FILE, 'is missing');
  for await (const piece of system.bytes.readPieces(diskPath(folder, LIST_FILE))) hash.update(piece);
  if (hash.digest('hex') !== wanted.sha256) throw damaged(LIST_FILE, 'its checksum is wrong');
}

/**
 * What is really there, folders before what is in them.
 * @throws KraftwerkError `dump.kind`; `dump.hostile` for what could be written now and never be read again
 */
export function* walkTree(
  system: System,
  folder: string,
  path: DumpPath,
): Generator<{ entry: Folder | Link | (File & { links: number; bornMs: number }) }> {
  const at = diskPath(folder, path);
  const stat = system.bytes.stat(at);
  if (stat === null) throw damaged(showPath(path), 'is missing');
  const common = { path, mode: stat.mode & 0o777, mtime: Math.trunc(stat.mtimeMs) };
  if (stat.isDirectory()) {
    yield { entry: { ...common, kind: 'folder' } };
    for (const name of system.bytes.names(at))
      yield* walkTree(system, folder, parseDumpPath(joinName(path, name), 'the dump'));
  } else if (stat.isFile()) {
    const { size, nlink: links, birthtimeMs: bornMs } = stat;
    yield { entry: { ...common, kind: 'file', size, sha256: null, links, bornMs } };
  } else if (stat.isSymbolicLink()) {
    parseLinkPath(path, 'the dump');
    yield { entry: { ...common, kind: 'link', to: system.bytes.readLink(at).toString('latin1') } };
  } else
    throw new KraftwerkError('dump.kind', `${showPath(path)}: is neither file nor folder nor link`, {
      hint: 'dump.sh of a service may make nothing else; ask the admin of the node',
    });
}
