/** A dump as one tar: out through the receiver, and in again, with checksums at its end. */
import { once } from 'node:events';
import { type Pack, pack } from 'tar-stream';
import { linkDump } from './dump-copy.ts';
import { checkList, type Entry, type File, readList } from './dump-list.ts';
import { MANIFEST_FILE, type Manifest, type ServiceSize } from './dump-manifest.ts';
import { diskPath, showPath } from './dump-names.ts';
import { SMALL_BYTES } from './dump-record.ts';
import { findDump, makingPart, openDumps, openPart, removeOld, stopped } from './dump-store.ts';
import { createHeaderSum, headerLine, type NewHeader, NO_SUM, SUMS_FILE, sumsLine, toHeader } from './dump-tar.ts';
import { takeArchive } from './dump-unpack.ts';
import { KraftwerkError } from './protocol.ts';
import {
  type DumpSummary,
  type ExportRequest,
  type ExportResult,
  FRAME_BYTES,
  type ImportRequest,
} from './protocol-data.ts';
import { createSha256 } from './sha256.ts';
import type { Work } from './work.ts';

/** @throws KraftwerkError `dump.missing`, `dump.damaged`, `dump.changed`: then the archive has no end */
export async function exportDump(request: ExportRequest, work: Work): Promise<ExportResult> {
  const { system, site } = work;
  const { folder, manifest } = findDump(system, site.node, request);
  await checkList(system, folder, manifest.list);
  const tar = pack();
  const produced = writeTar(work, folder, manifest, tar).catch((error: unknown) => {
    tar.destroy(error as Error);
    throw error;
  });
  produced.catch(() => undefined);
  let bytes = 0;
  let waiting: Buffer = Buffer.alloc(0);
  const flush = async (all: boolean): Promise<void> => {
    while (waiting.length >= FRAME_BYTES || (all && waiting.length > 0)) {
      if (work.signal.aborted) throw stopped('Copy');
      await work.sendData('out', waiting.subarray(0, FRAME_BYTES));
      waiting = waiting.subarray(FRAME_BYTES);
    }
  };
  try {
    for await (const piece of tar as AsyncIterable<Buffer>) {
      bytes += piece.length;
      waiting = waiting.length === 0 ? piece : Buffer.concat([waiting, piece]);
      await flush(false);
    }
    await produced;
    await flush(true);
  } catch (error) {
    tar.destroy();
    // What has stopped it says more than what it has done to the stream.
    await produced;
    throw error;
  }
  return { bytes };
}

async function writeTar(work: Work, folder: string, manifest: Manifest, tar: Pack): Promise<void> {
  const { system } = work;
  const { sizes, sumsBytes, linked } = await measureDump(work, folder, manifest);
  const text = `${JSON.stringify({ ...manifest, services: sizes, bytes: sizes.reduce((all, one) => all + one.bytes, 0) }, null, 2)}\n`;
  await addPiece(tar, { name: MANIFEST_FILE, mode: 0o600, mtime: new Date(manifest.endedAt) }, Buffer.from(text));
  const headers = createHeaderSum();
  // 32 bytes for each file of which the list has no checksum.
  const found = Buffer.alloc(32 * linked);
  let at = 0;
  for await (const entry of readList(system, folder)) {
    const size = entry.kind === 'file' ? sizeNow(work, folder, entry) : 0;
    headers.add(entry, size);
    if (entry.kind !== 'file') {
      await addEntry(tar, toHeader(entry, 0));
      continue;
    }
    const sha256 = await addFile(work, folder, entry, size, tar);
    if (entry.sha256 === null) {
      found.write(sha256, at, 'hex');
      at += 32;
    } else if (entry.sha256 !== sha256) throw damaged(entry, 'its checksum is wrong');
  }
  const sink = tar.entry({ name: SUMS_FILE, mode: 0o600, mtime: new Date(manifest.endedAt), size: sumsBytes });
  const failed = new Promise<never>((_, reject) => sink.once('error', reject));
  failed.catch(() => undefined);
  at = 0;
  const write = async (line: Buffer): Promise<void> => {
    if (!sink.write(line)) await Promise.race([once(sink, 'drain'), failed]);
  };
  await write(sumsLine(MANIFEST_FILE, createSha256().update(text).digest('hex')));
  await write(headers.line());
  for await (const entry of readList(system, folder)) {
    if (entry.kind !== 'file') continue;
    if (entry.sha256 === null) at += 32;
    await write(sumsLine(entry.path, entry.sha256 ?? found.toString('hex', at - 32, at)));
  }
  const ended = once(sink, 'finish');
  sink.end(null);
  await Promise.race([ended, failed]);
  tar.finalize();
}

/** Links to live files are as large as these are now. */
async function measureDump({ system }: Work, folder: string, manifest: Manifest) {
  const sizes = new Map<string, ServiceSize>(manifest.services.map(({ name }) => [name, { name, files: 0, bytes: 0 }]));
  let sumsBytes = sumsLine(MANIFEST_FILE, NO_SUM).length + headerLine(NO_SUM).length;
  let linked = 0;
  for await (const entry of readList(system, folder)) {
    if (entry.kind !== 'file') continue;
    sumsBytes += sumsLine(entry.path, NO_SUM).length;
    if (entry.sha256 === null) linked++;
    const size = sizes.get(entry.path.split('/', 1)[0] ?? '');
    if (size === undefined) throw damaged(entry, 'belongs to no service');
    size.files++;
    size.bytes += entry.sha256 === null ? (system.bytes.stat(diskPath(folder, entry.path))?.size ?? 0) : entry.size;
  }
  return { sizes: [...sizes.values()], sumsBytes, linked };
}

function sizeNow({ system }: Work, folder: string, entry: File): number {
  const stat = system.bytes.stat(diskPath(folder, entry.path));
  if (stat === null) throw damaged(entry, 'is missing');
  if (entry.sha256 !== null && stat.size !== entry.size)
    throw damaged(entry, `has ${stat.size} bytes, not ${entry.size}`);
  return stat.size;
}

/** @returns the checksum of what was sent */
async function addFile({ system }: Work, folder: string, entry: File, size: number, tar: Pack): Promise<string> {
  const path = diskPath(folder, entry.path);
  const hash = createSha256();
  const header = toHeader(entry, size);
  if (size <= SMALL_BYTES) {
    const content = system.bytes.read(path);
    if (content.length !== size) throw changed(entry);
    hash.update(content);
    await addPiece(tar, header, content);
    return hash.digest('hex');
  }
  const sink = tar.entry(header);
  const failed = new Promise<never>((_, reject) => sink.once('error', reject));
  failed.catch(() => undefined);
  let left = size;
  for await (const piece of system.bytes.readPieces(path, size)) {
    hash.update(piece);
    left -= piece.length;
    if (!sink.write(piece)) await Promise.race([once(sink, 'drain'), failed]);
  }
  if (left > 0) {
    sink.destroy();
    throw changed(entry);
  }
  const ended = once(sink, 'finish');
  sink.end(null);
  await Promise.race([ended, failed]);
  return hash.digest('hex');
}

function addPiece(tar: Pack, header: NewHeader, content: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const sink = tar.entry({ ...header, size: content.length });
    sink.once('error', reject);
    sink.once('finish', resolve);
    if (content.length > 0) sink.write(content);
    sink.end(null);
  });
}

function addEntry(tar: Pack, header: NewHeader): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}

function damaged(entry: Entry, what: string): KraftwerkError {
  return new KraftwerkError('dump.damaged', `${showPath(entry.path)}: ${what}`, {
    step: 'Copy',
    hint: 'take another dump: dumps TARGET lists them',
    reason: 'the dump is damaged',
  });
}

function changed(entry: Entry): KraftwerkError {
  return new KraftwerkError('dump.changed', `${showPath(entry.path)}: was written to while it was being sent`, {
    step: 'Copy',
    hint: 'it is linked to the live file; try again, or have it copied: files: {dump: copy} in kraftwerk.yaml',
    reason: 'a file changed meanwhile',
  });
}

/** @throws KraftwerkError `dump.cut`, `dump.damaged`, `dump.hostile`, `dump.version`, `dump.missing`, `node.disk-full`: then nothing is kept of it */
export async function importDump(request: ImportRequest, work: Work): Promise<DumpSummary> {
  const { system, site } = work;
  const { name, target, reason, from } = request;
  const folder = openDumps(work);
  const part = openPart(system, folder, name);
  const summary = await makingPart(work, part, { step: 'Copy', what: `taking in ${name}` }, async () => {
    const about = { name, target, reason };
    const made =
      from === null
        ? await takeArchive(work, part, about)
        : await linkDump(work, findDump(system, site.node, from), part, about);
    system.publish(part, `${folder}/${name}`);
    return made;
  });
  removeOld(work, folder, request, [name]);
  return summary;
}
