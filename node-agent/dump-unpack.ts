/** An archive of a dump -> a dump. It comes from anywhere: only what is plain, in its place, and of the right checksum is kept. */

import { once } from 'node:events';
import { type Extract, extract, type Header } from 'tar-stream';
import { createFolders } from './dump-copy.ts';
import { type Entry, openListWriter, readLines, readList } from './dump-list.ts';
import { MANIFEST_FILE, type Manifest, parseManifest, type ServiceSize } from './dump-manifest.ts';
import { diskPath, showPath } from './dump-names.ts';
import { createUnwritten, writeManifest } from './dump-record.ts';
import { formatAmount, stopped } from './dump-store.ts';
import { createHeaderSum, fromHeader, hostile, SUMS_FILE, sumsLine } from './dump-tar.ts';
import { KraftwerkError } from './protocol.ts';
import type { DumpSummary } from './protocol-data.ts';
import { createSha256 } from './sha256.ts';
import type { Work } from './work.ts';

/** An entry of the tar: its content, in pieces. */
type TarEntry = AsyncIterable<Uint8Array> & { header: Header };

const MANIFEST_BYTES = 64 * 1024;
/** A tar ends with so many zeros. */
const END_BYTES = 1024;

/** @throws KraftwerkError `dump.cut`, `dump.damaged`, `dump.hostile`, `dump.version`, `node.disk-full` */
export async function takeArchive(
  work: Work,
  part: string,
  about: Pick<DumpSummary, 'name' | 'target' | 'reason'>,
): Promise<DumpSummary> {
  const tar = extract();
  // Told to whoever reads the entries.
  tar.on('error', () => undefined);
  const state = { over: false };
  let broken: unknown;
  const pumped = pump(work, tar, state).catch((error: unknown) => {
    broken ??= error;
    tar.destroy(error as Error);
  });
  try {
    return await takeEntries(work, tar, part, about);
  } catch (error) {
    if (broken instanceof KraftwerkError) throw broken;
    if (error instanceof KraftwerkError || (error as { code?: unknown }).code !== undefined) throw error;
    throw damaged(`no tar, or one that is damaged: ${error instanceof Error ? error.message : String(error)}`, error);
  } finally {
    state.over = true;
    tar.destroy();
    // Nobody else may read the input meanwhile.
    await pumped;
  }
}

async function pump(work: Work, tar: Extract, state: { over: boolean }): Promise<void> {
  let total = 0;
  let zeros = 0;
  const closed = new Promise<void>((resolve) => tar.once('close', () => resolve()));
  for (;;) {
    const frame = await work.readFrame();
    if (state.over) return;
    if (frame === null) throw cut(`the input ended after ${formatAmount(total)}`);
    if ('end' in frame) break;
    if (!('data' in frame)) throw new KraftwerkError('protocol.invalid', 'frame: expected data or end');
    const piece = Buffer.from(frame.data, 'base64');
    if (total === 0 && piece[0] === 0x1f && piece[1] === 0x8b)
      throw damaged('is packed by gzip', undefined, 'gunzip FILE, then send it again');
    total += piece.length;
    const last = piece.findLastIndex((byte) => byte !== 0);
    zeros = last === -1 ? zeros + piece.length : piece.length - 1 - last;
    if (!tar.write(piece)) await Promise.race([once(tar, 'drain'), closed]);
    if (state.over) return;
  }
  if (total === 0)
    throw new KraftwerkError('dump.cut', 'the archive is empty: nothing came on stdin', {
      step: 'Copy',
      hint: 'load TARGET --upload <FILE',
      reason: 'the archive is refused',
    });
  if (total % 512 !== 0 || zeros < END_BYTES) throw cut(`it ends after ${formatAmount(total)}, within what it holds`);
  tar.end(null);
}

async function takeEntries(
  work: Work,
  tar: Extract,
  part: string,
  about: Pick<DumpSummary, 'name' | 'target' | 'reason'>,
): Promise<DumpSummary> {
  const { system } = work;
  const folders = createFolders(system, part);
  const unwritten = createUnwritten(system, part);
  const headers = createHeaderSum();
  const list = openListWriter(system, part);
  const sizes = new Map<string, ServiceSize>();
  let manifest: { value: Manifest; sha256: string } | null = null;
  let checked = false;
  let [bytes, entries] = [0, 0];
  try {
    for await (const item of tar as AsyncIterable<TarEntry & { resume(): void }>) {
      if (work.signal.aborted) throw stopped('Copy');
      if (checked) throw damaged(`has more after ${SUMS_FILE}`);
      if (manifest === null) {
        manifest = await takeManifest(item);
        for (const { name } of manifest.value.services) sizes.set(name, { name, files: 0, bytes: 0 });
        needRoom(work, part, manifest.value.bytes);
        continue;
      }
      if (item.header.name === SUMS_FILE) {
        folders.end();
        list.flush();
        await checkSums(work, part, item, manifest.sha256, headers.line());
        checked = true;
        continue;
      }
      const entry = fromHeader(item.header);
      const size = sizes.get(entry.path.split('/', 1)[0] ?? '');
      if (size === undefined) throw hostile(entry.path, 'belongs to none of the services of the manifest');
      if (!folders.enter(entry.path)) throw hostile(entry.path, 'does not stand in its folder');
      entries++;
      headers.add(entry, entry.kind === 'file' ? entry.size : 0);
      if (entry.kind === 'folder') {
        takeNew(entry, () => folders.add(entry.path, entry.mode | 0o700, entry.mtime));
        unwritten.add(entry.path);
        list.add({ ...entry, mode: entry.mode | 0o700 });
      } else if (entry.kind === 'link') {
        takeNew(entry, () => system.bytes.symlink(diskPath(part, entry.path), Buffer.from(entry.to, 'latin1')));
        list.add(entry);
      } else {
        bytes += entry.size;
        size.files++;
        size.bytes += entry.size;
        if (bytes > manifest.value.bytes) throw hostile(entry.path, 'is more than the manifest says there is');
        const sha256 = await takeFile(work, part, entry, item);
        unwritten.add(entry.path);
        list.add({ ...entry, sha256 });
      }
      if (entry.kind !== 'file') item.resume();
    }
    if (manifest === null) throw damaged('is empty');
    if (!checked) throw cut(`${SUMS_FILE} is missing, which is its last file`);
    for (const { name, files, bytes: wanted } of manifest.value.services) {
      const found = sizes.get(name);
      if (found?.files !== files || found.bytes !== wanted)
        throw damaged(
          `${name} is ${found?.files} files of ${found?.bytes} bytes, the manifest says ${files} of ${wanted}`,
        );
    }
    if (entries !== manifest.value.list.entries)
      throw damaged(`holds ${entries} files and folders, the manifest says ${manifest.value.list.entries}`);
    const sum = list.end();
    await unwritten.sync();
    const { release, before } = manifest.value;
    return writeManifest(system, part, { ...about, release, before }, [...sizes.values()], sum);
  } finally {
    list.close();
  }
}

async function takeManifest(item: TarEntry): Promise<{ value: Manifest; sha256: string }> {
  const { name, type, size } = item.header;
  if (name !== MANIFEST_FILE || type !== 'file' || size > MANIFEST_BYTES)
    throw damaged(
      `not an archive of a dump: it begins with ${showPath(Buffer.from(name).toString('latin1').slice(0, 200))}, not with ${MANIFEST_FILE}`,
    );
  const pieces: Uint8Array[] = [];
  for await (const piece of item) pieces.push(piece);
  const text = Buffer.concat(pieces);
  return {
    value: parseManifest(text.toString('utf8'), MANIFEST_FILE),
    sha256: createSha256().update(text).digest('hex'),
  };
}

/** Better now than after hours. */
function needRoom({ system }: Work, part: string, bytes: number): void {
  const { freeBytes } = system.diskSpace(part);
  if (bytes <= freeBytes) return;
  throw new KraftwerkError(
    'node.disk-full',
    `the dump is ${formatAmount(bytes)}, and ${formatAmount(freeBytes)} are free on the disk of the node`,
    { step: 'Copy', hint: 'make room on the node (df -h), then try again', reason: 'disk full' },
  );
}

/** Two of the same name are one too many. */
function takeNew<T>(entry: Entry, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') throw hostile(entry.path, 'stands twice in it');
    throw error;
  }
}

async function takeFile({ system }: Work, part: string, entry: Entry, item: TarEntry): Promise<string> {
  const path = diskPath(part, entry.path);
  const hash = createSha256();
  const writer = takeNew(entry, () => system.bytes.openWriter(path));
  try {
    for await (const piece of item) {
      hash.update(piece);
      writer.write(piece);
    }
  } finally {
    writer.close();
  }
  system.bytes.setMode(path, entry.mode);
  system.bytes.setModified(path, entry.mtime);
  return hash.digest('hex');
}

/** Line by line beside the list of what has come. */
async function checkSums(
  { system }: Work,
  part: string,
  item: TarEntry,
  manifest: string,
  headerSum: Buffer,
): Promise<void> {
  const lines = readLines(item);
  const expect = async (wanted: Buffer, what: string): Promise<void> => {
    const { value, done } = await lines.next();
    if (done) throw damaged(`${SUMS_FILE} ends before ${what}`);
    if (!wanted.equals(Buffer.concat([value, Buffer.from('\n')]))) throw damaged(`${what}: the checksum is wrong`);
  };
  await expect(sumsLine(MANIFEST_FILE, manifest), MANIFEST_FILE);
  await expect(headerSum, 'names, modes and times');
  for await (const entry of readList(system, part))
    if (entry.kind === 'file') await expect(sumsLine(entry.path, entry.sha256 ?? ''), showPath(entry.path));
  if (!(await lines.next()).done) throw damaged(`${SUMS_FILE} names more than there is`);
}

const AGAIN = 'nothing has been kept of it; make the archive again: dump TARGET --download FILE';

function damaged(what: string, cause?: unknown, hint = AGAIN): KraftwerkError {
  return new KraftwerkError('dump.damaged', `the archive: ${what}`, {
    step: 'Copy',
    hint,
    reason: 'the archive is damaged',
    cause,
  });
}

function cut(what: string): KraftwerkError {
  return new KraftwerkError('dump.cut', `the archive is cut off: ${what}`, {
    step: 'Copy',
    hint: 'nothing has been kept of it; send it again, or make it again: dump TARGET --download FILE',
    reason: 'the archive is cut off',
  });
}
