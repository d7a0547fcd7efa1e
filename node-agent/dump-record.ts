/** Makes a dump out of what scripts have written: checksums, durable, a list and a manifest, published by a rename. */
import { type Entry, openListWriter, walkTree } from './dump-list.ts';
import { encodeManifest, MANIFEST_FILE, parseManifest, type ServiceSize, summarise } from './dump-manifest.ts';
import { type DumpPath, diskPath } from './dump-names.ts';
import { breather, formatAmount, stopped } from './dump-store.ts';
import type { ServiceName } from './protocol.ts';
import type { DumpSummary } from './protocol-data.ts';
import { createSha256 } from './sha256.ts';
import { syncFolder } from './sync-tree.ts';
import type { System } from './system.ts';
import type { Work } from './work.ts';

/** Smaller ones are read at once: a stream costs more than they do. */
export const SMALL_BYTES = 256 * 1024;
/** So many large files are read at a time. */
const AT_A_TIME = 4;
/** Up to so many files and folders, one by one is less work than all of the disk. */
const FEW = 200;
/** The kernel has written what is older by itself. */
const UNWRITTEN_MS = 120_000;
const SYNC_LIMIT_MS = 3_600_000;

type About = Pick<DumpSummary, 'name' | 'target' | 'reason' | 'release' | 'before'>;

export async function hashFile(
  system: System,
  path: Buffer,
  size: number,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const hash = createSha256();
  if (size <= SMALL_BYTES) hash.update(system.bytes.read(path));
  else
    for await (const piece of system.bytes.readPieces(path)) {
      hash.update(piece);
      onBytes(piece.length);
    }
  return hash.digest('hex');
}

/** What has to be brought to disk: each by itself while it is little. */
export function createUnwritten(system: System, folder: string) {
  const paths: Buffer[] = [];
  return {
    add(path: DumpPath): void {
      if (paths.length <= FEW) paths.push(diskPath(folder, path));
    },
    async sync(): Promise<void> {
      if (paths.length > FEW) {
        system.failpoint('sync');
        await syncFolder(system, folder, SYNC_LIMIT_MS);
      } else for (const path of [...paths, diskPath(folder, '.')]) await system.bytes.sync(path);
    },
  };
}

/** Lists and checksums what is in `part`, and brings it to disk. */
export async function recordDump(
  work: Work,
  part: string,
  about: About,
  names: readonly ServiceName[],
  progress: (what: string) => void,
): Promise<DumpSummary> {
  const { system } = work;
  const breathe = breather(work, () => stopped('Dump'));
  const unwritten = createUnwritten(system, part);
  const young = system.wallClock().getTime() - UNWRITTEN_MS;
  const list = openListWriter(system, part);
  const services: ServiceSize[] = [];
  let done = 0;
  const count = (bytes: number): void => {
    done += bytes;
  };
  try {
    for (const name of names) {
      const size = { name, files: 0, bytes: 0 };
      services.push(size);
      const waiting: Promise<Entry>[] = [];
      const settle = async (left: number): Promise<void> => {
        while (waiting.length > left) list.add((await waiting.shift()) as Entry);
      };
      for (const { entry } of walkTree(system, part, name as string as DumpPath)) {
        const pause = breathe();
        if (pause !== undefined) {
          progress(`checksums of ${name}, ${formatAmount(done)} so far`);
          await pause;
        }
        if (entry.kind === 'folder') unwritten.add(entry.path);
        if (entry.kind !== 'file') {
          await settle(0);
          list.add(entry);
          continue;
        }
        const { links, bornMs, ...file } = entry;
        size.files++;
        size.bytes += file.size;
        if (links === 1 || bornMs > young || file.mtime > young) unwritten.add(file.path);
        if (links > 1) {
          await settle(0);
          list.add(file);
          continue;
        }
        const hashed = hashFile(system, diskPath(part, file.path), file.size, count).then((sha256) => {
          if (file.size <= SMALL_BYTES) count(file.size);
          return { ...file, sha256 };
        });
        // Whoever awaits the ones before it may never come to it.
        hashed.catch(() => undefined);
        waiting.push(hashed);
        await settle(file.size <= SMALL_BYTES && waiting.length === 1 ? 0 : AT_A_TIME - 1);
      }
      await settle(0);
    }
    progress(`writing ${formatAmount(services.reduce((all, one) => all + one.bytes, 0))} to the disk`);
    const sum = list.end();
    await unwritten.sync();
    return writeManifest(system, part, about, services, sum);
  } finally {
    list.close();
  }
}

/** The dump is whole when this is written; then it may be published. */
export function writeManifest(
  system: System,
  part: string,
  about: About,
  services: readonly ServiceSize[],
  sum: { sha256: string; entries: number },
): DumpSummary {
  const text = encodeManifest(about, services, sum, system.wallClock().toISOString());
  system.writeFile(`${part}/${MANIFEST_FILE}`, text, 0o600);
  return summarise(system, part, parseManifest(text, MANIFEST_FILE));
}
