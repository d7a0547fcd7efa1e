/** A dump of another site of the same node: the same files by other names, so that gigabytes take no time. */
import { checkList, openListWriter, readList } from './dump-list.ts';
import type { Manifest } from './dump-manifest.ts';
import { type DumpPath, diskPath, showPath } from './dump-names.ts';
import { createUnwritten, hashFile, writeManifest } from './dump-record.ts';
import { breather, describeSizes, stopped } from './dump-store.ts';
import { KraftwerkError } from './protocol.ts';
import type { DumpSummary } from './protocol-data.ts';
import type { System } from './system.ts';
import { step, type Work } from './work.ts';

/** What the folders of an unfinished tree are to become, once nothing is made in them any more. */
export function createFolders(system: System, part: string) {
  const open: { path: DumpPath; mode: number; mtime: number }[] = [];
  const close = (left: number): void => {
    while (open.length > left) {
      const { path, mode, mtime } = open.pop() as { path: DumpPath; mode: number; mtime: number };
      system.bytes.setMode(diskPath(part, path), mode);
      system.bytes.setModified(diskPath(part, path), mtime);
    }
  };
  return {
    /** Entries come folder by folder: whatever is in none of the open ones is out of its place. @returns whether it is in one */
    enter(path: DumpPath): boolean {
      while (open.length > 0 && !path.startsWith(`${open.at(-1)?.path}/`)) close(open.length - 1);
      const rest = open.length === 0 ? path : path.slice((open.at(-1)?.path.length ?? 0) + 1);
      return !rest.includes('/');
    },
    add(path: DumpPath, mode: number, mtime: number): void {
      system.bytes.makeFolder(diskPath(part, path), 0o700);
      open.push({ path, mode, mtime });
    },
    end: (): void => close(0),
  };
}

/**
 * Where all sites are one user, files are copied: a load would make them the site's own again, and they are the other's still.
 * @throws KraftwerkError `dump.damaged`
 */
export async function linkDump(
  work: Work,
  { folder, manifest }: { folder: string; manifest: Manifest },
  part: string,
  about: Pick<DumpSummary, 'name' | 'target' | 'reason'>,
): Promise<DumpSummary> {
  const { system } = work;
  const { summary } = await step(work, 'Copy', async (progress) => {
    await checkList(system, folder, manifest.list);
    const breathe = breather(work, () => stopped('Copy'));
    const folders = createFolders(system, part);
    const unwritten = createUnwritten(system, part);
    const list = openListWriter(system, part);
    let done = 0;
    try {
      for await (const entry of readList(system, folder)) {
        const pause = breathe();
        if (pause !== undefined) {
          progress(`linking ${manifest.name}, ${done.toLocaleString('en-US')} files so far`);
          await pause;
        }
        const [source, target] = [diskPath(folder, entry.path), diskPath(part, entry.path)];
        if (!folders.enter(entry.path) || system.bytes.stat(source) === null)
          throw new KraftwerkError('dump.damaged', `${showPath(entry.path)}: is missing`, {
            step: 'Copy',
            reason: 'the dump is damaged',
          });
        if (entry.kind === 'folder') {
          folders.add(entry.path, entry.mode, entry.mtime);
          unwritten.add(entry.path);
          list.add(entry);
        } else if (entry.kind === 'link') {
          system.bytes.symlink(target, Buffer.from(entry.to, 'latin1'));
          list.add(entry);
        } else if (work.site.owner !== null && system.bytes.link(source, target)) {
          done++;
          list.add(entry);
        } else {
          system.bytes.copy(source, target);
          system.bytes.setMode(target, entry.mode);
          system.bytes.setModified(target, entry.mtime);
          const { size } = system.bytes.stat(target) ?? { size: 0 };
          done++;
          unwritten.add(entry.path);
          // A copy is a file of its own, whatever it is a copy of.
          list.add({ ...entry, size, sha256: entry.sha256 ?? (await hashFile(system, target, size, () => undefined)) });
        }
      }
      folders.end();
      progress(`writing ${manifest.name} to the disk`);
      const sum = list.end();
      await unwritten.sync();
      const { release, before, services } = manifest;
      const made = writeManifest(system, part, { ...about, release, before }, services, sum);
      return { detail: describeSizes(services), summary: made };
    } finally {
      list.close();
    }
  });
  return summary;
}
