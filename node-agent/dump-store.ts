/** The folder of a site's dumps: what is half made goes, what is whole is published, what is old goes. */
import { destroyedFolder, dumpFolder } from './dump-folders.ts';
import { type Manifest, readManifest } from './dump-manifest.ts';
import { diskPath } from './dump-names.ts';
import { endJobs } from './jobs.ts';
import type { NodeLayout } from './layout.ts';
import { makeOwned } from './ownership.ts';
import { type InstanceName, KraftwerkError, type StepName } from './protocol.ts';
import { DUMP_NAME_PATTERN, type DumpName, type DumpReason } from './protocol-data.ts';
import { errno, type System } from './system.ts';
import type { Work } from './work.ts';

const ROOT = { uid: 0, gid: 0 };
/** So many entries are looked at to say how much there is so far. */
const GLANCE = 5_000;
/** Nobody notices a pause of so many milliseconds. */
const SLICE_MS = 15;
/** A disk with less is full: what failed has failed of that. */
const FULL_BYTES = 64 * 1024;

/** What a killed agent has left of dumps goes. The site's lock is held. @returns the folder of the site's dumps */
export function openDumps({ system, site }: Work): string {
  endJobs(system, site);
  const folder = dumpFolder(site);
  if (site.owner === null) {
    if (!system.exists(folder)) system.makeFolder(folder, 0o700);
  } else makeOwned(system, folder, ROOT, 0o700);
  for (const name of system.list(folder)) if (name.startsWith('.')) system.remove(`${folder}/${name}`);
  return folder;
}

/** Where a dump grows. @throws KraftwerkError `dump.exists` */
export function openPart(system: System, folder: string, name: DumpName): string {
  if (system.exists(`${folder}/${name}`))
    throw new KraftwerkError('dump.exists', `there is a dump of ${name} already`, {
      exit: 'busy',
      hint: 'try again in a second',
    });
  const part = `${folder}/.${name}.part`;
  system.makeFolder(part, 0o700);
  return part;
}

/** Names of dumps in a folder, the newest first. */
export function dumpNames(system: System, folder: string): DumpName[] {
  return system
    .list(folder)
    .filter((name): name is DumpName => DUMP_NAME_PATTERN.test(name))
    .sort()
    .reverse();
}

/** Which dump is meant: its name, that of the site whose folders it is in, and whose it must be. */
export interface WantedDump {
  instance: InstanceName;
  target: string;
  name: DumpName;
}

/**
 * The target's dump that is there, or was left of a destroyed site of the name. One of another target is not there: it may have had
 * the instance's name before.
 * @throws KraftwerkError `dump.missing`, `dump.damaged`, `dump.version`
 */
export function findDump(
  system: System,
  node: NodeLayout,
  { instance, target, name }: WantedDump,
): { folder: string; manifest: Manifest } {
  const places = [`${node.web}/${instance}/dump`, destroyedFolder(node, instance)];
  let damage: unknown;
  for (const folder of places.map((place) => `${place}/${name}`).filter((path) => system.exists(path))) {
    try {
      const manifest = readManifest(system, folder);
      if (manifest?.target === target) return { folder, manifest };
      if (manifest === null)
        damage ??= new KraftwerkError('dump.damaged', `${name}: its manifest.json is missing`, {
          reason: 'the dump is damaged',
        });
    } catch (error) {
      damage ??= error;
    }
  }
  throw damage ?? noDump(name, target);
}

export function noDump(name: DumpName, target: string): KraftwerkError {
  return new KraftwerkError('dump.missing', `the node has no dump ${name} of ${target}`, {
    exit: 'denied',
    hint: 'dumps TARGET lists those that there are',
  });
}

/** Renamed first: what is half removed must not be taken for a dump. */
export function removeDump(system: System, folder: string, name: DumpName): void {
  const gone = `${folder}/.${name}.gone`;
  system.publish(`${folder}/${name}`, gone);
  system.remove(gone);
}

/**
 * Of each target's dumps of a reason, so many stay: those that are spared, however old, then the newest. Another target that has had
 * the instance's name does not lose its own by that. What cannot be removed now is no reason to fail.
 */
export function removeOld(
  work: Work,
  folder: string,
  { reason, keep }: { reason: DumpReason; keep: number },
  spared: readonly DumpName[],
): void {
  const { system } = work;
  try {
    const byTarget = new Map<string, DumpName[]>();
    for (const name of dumpNames(system, folder)) {
      const about = aboutDump(system, `${folder}/${name}`);
      if (about?.reason === reason) byTarget.set(about.target, [...(byTarget.get(about.target) ?? []), name]);
    }
    for (const same of byTarget.values()) {
      const others = same.filter((name) => !spared.includes(name));
      const left = keep - (same.length - others.length);
      for (const name of others.slice(Math.max(0, left))) removeDump(system, folder, name);
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    work.emit({ event: 'warning', message: `older dumps could not be removed: ${why}` });
  }
}

/** Whose dump it is; null where its manifest is missing or cannot be read. */
export function ownerOfDump(system: System, folder: string): string | null {
  return aboutDump(system, folder)?.target ?? null;
}

function aboutDump(system: System, folder: string): Pick<Manifest, 'reason' | 'target'> | null {
  try {
    return readManifest(system, folder);
  } catch {
    // A damaged one is looked at by whoever asks for it.
    return null;
  }
}

/** Runs what makes a dump in `part`; when it fails nothing is left of it. @throws KraftwerkError `node.disk-full`, and what `body` throws */
export async function makingPart<T>(
  work: Work,
  part: string,
  order: { step: StepName; what: string },
  body: () => Promise<T>,
): Promise<T> {
  const { system } = work;
  try {
    return await body();
  } catch (error) {
    const told = tellFull(system, error, { ...order, folder: part });
    try {
      system.remove(part);
    } catch {
      // The next request about the site's data tries again.
    }
    throw told;
  }
}

/** Where the disk is full, an error that says so, and how full. */
export function tellFull(
  system: System,
  error: unknown,
  { step, what, folder }: { step: StepName; what: string; folder: string },
): unknown {
  const { freeBytes } = system.diskSpace(system.exists(folder) ? folder : '/');
  const said = error instanceof KraftwerkError ? [error.message, ...error.lines].join('\n') : '';
  const full =
    ['ENOSPC', 'EDQUOT'].includes(errno(error)) ||
    /No space left on device|Disk quota exceeded/i.test(said) ||
    (freeBytes < FULL_BYTES && !(error instanceof KraftwerkError && error.code.startsWith('dump.')));
  if (!full) return error;
  const written = system.exists(folder) ? `${formatAmount(glance(system, folder).bytes)} were written, ` : '';
  return new KraftwerkError(
    'node.disk-full',
    `${what}: the disk of the node is full: ${written}${formatAmount(freeBytes)} are free`,
    {
      step,
      lines: said === '' ? [] : said.split('\n'),
      hint: 'make room on the node (df -h), then try again',
      reason: 'disk full',
      cause: error,
    },
  );
}

/** What is below a folder so far, or at least: a look at a few thousand entries. */
export function glance(system: System, folder: string): { files: number; bytes: number; more: boolean } {
  const queue = [diskPath(folder, '.')];
  let [files, bytes, seen] = [0, 0, 0];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (++seen > GLANCE) return { files, bytes, more: true };
    try {
      const stat = system.bytes.stat(path);
      if (stat?.isFile()) [files, bytes] = [files + 1, bytes + stat.size];
      if (!stat?.isDirectory()) continue;
      for (const name of system.bytes.names(path)) {
        queue.push(Buffer.concat([path, Buffer.from('/'), name]));
        if (queue.length > GLANCE) break;
      }
    } catch {
      // It was renamed or removed while we looked.
    }
  }
  return { files, bytes, more: false };
}

/** To be awaited now and then in a long loop: lets heartbeats out and the end of the client in. */
export function breather(work: Work, aborted: () => KraftwerkError): () => Promise<void> | undefined {
  const { system, signal } = work;
  let since = system.nowMs();
  return () => {
    if (signal.aborted) throw aborted();
    if (system.nowMs() - since < SLICE_MS) return undefined;
    return system.bytes.pause().then(() => {
      since = system.nowMs();
    });
  };
}

export function stopped(step: StepName): KraftwerkError {
  return new KraftwerkError('dump.aborted', 'the client went away: nothing has changed', { step, reason: 'cancelled' });
}

/** `12 B`, `3.4 MB`, `1.2 GB` */
export function formatAmount(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `postgres 12.3 MB, files 1,204 files 3.1 GB` */
export function describeSizes(services: readonly { name: string; files: number; bytes: number }[]): string {
  const one = ({ name, files, bytes }: { name: string; files: number; bytes: number }): string =>
    `${name} ${files > 1 ? `${files.toLocaleString('en-US')} files ` : ''}${formatAmount(bytes)}`;
  return services.map(one).join(', ') || 'no data';
}
