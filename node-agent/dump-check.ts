/** Whether a dump is what it was when it was made: every file, with its checksum. */
import { checkList, type Entry, type File, readList } from './dump-list.ts';
import type { Manifest } from './dump-manifest.ts';
import { diskPath, showPath } from './dump-names.ts';
import { hashFile } from './dump-record.ts';
import { breather, describeSizes, formatAmount, stopped } from './dump-store.ts';
import { KraftwerkError, type ServiceName } from './protocol.ts';
import type { System } from './system.ts';
import type { Work } from './work.ts';

const SHOWN = 3;
const AT_A_TIME = 4;

/** @returns what was looked at, for people @throws KraftwerkError `dump.damaged` */
export async function checkDump(
  work: Work,
  folder: string,
  manifest: Manifest,
  names: readonly ServiceName[],
  progress: (what: string) => void,
): Promise<string> {
  const { system } = work;
  const breathe = breather(work, () => stopped('Check'));
  await checkList(system, folder, manifest.list);
  const changed: string[] = [];
  let changes = 0;
  let bytes = 0;
  const entries = new Map<string, number>();
  const waiting: Promise<void>[] = [];
  const settle = async (left: number): Promise<void> => {
    while (waiting.length > left) await waiting.shift();
  };
  for await (const entry of readList(system, folder)) {
    const pause = breathe();
    if (pause !== undefined) {
      progress(`checking ${manifest.name}, ${formatAmount(bytes)} of ${formatAmount(manifest.bytes)}`);
      await pause;
    }
    const service = entry.path.split('/', 1)[0] ?? '';
    if (!names.includes(service as ServiceName)) continue;
    entries.set(service, (entries.get(service) ?? 0) + 1);
    if (checkEntry(system, folder, entry) === 'changed') {
      changes++;
      if (changed.length < SHOWN) changed.push(showPath(entry.path));
    }
    if (entry.kind !== 'file' || entry.sha256 === null) continue;
    const checked = checkContent(system, folder, entry, (more) => {
      bytes += more;
    });
    // Whoever awaits the ones before it may never come to it.
    checked.catch(() => undefined);
    waiting.push(checked);
    await settle(AT_A_TIME - 1);
  }
  await settle(0);
  for (const name of names) await countEntries(system, folder, name, entries.get(name) ?? 0, breathe);
  if (changes > 0) {
    const others = changes > SHOWN ? ` and ${changes - SHOWN} more` : '';
    work.emit({
      event: 'warning',
      message: `${changed.join(', ')}${others}: written to since the dump, which is linked to them, and so has their new content`,
    });
  }
  return `${describeSizes(manifest.services.filter(({ name }) => names.includes(name)))}: checksums are right`;
}

function checkEntry(system: System, folder: string, entry: Entry): 'same' | 'changed' {
  const path = diskPath(folder, entry.path);
  const stat = system.bytes.stat(path);
  if (stat === null) throw damaged(entry, 'is missing');
  if (entry.kind === 'folder' ? !stat.isDirectory() : entry.kind === 'link' ? !stat.isSymbolicLink() : !stat.isFile())
    throw damaged(entry, `is no ${entry.kind} any more`);
  if (entry.kind === 'link' && system.bytes.readLink(path).toString('latin1') !== entry.to)
    throw damaged(entry, 'leads elsewhere than it did');
  if (entry.kind !== 'file') return 'same';
  // A link is the same file as the live one: who writes into that writes here.
  if (entry.sha256 === null && Math.trunc(stat.mtimeMs) !== entry.mtime) return 'changed';
  if (stat.size !== entry.size) throw damaged(entry, `has ${stat.size} bytes, not ${entry.size}`);
  return 'same';
}

async function checkContent(
  system: System,
  folder: string,
  entry: File,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const sha256 = await hashFile(system, diskPath(folder, entry.path), entry.size, onBytes);
  if (sha256 !== entry.sha256) throw damaged(entry, 'its checksum is wrong');
}

/** All that the list names is there; so there is more if there is another number of it. */
async function countEntries(
  system: System,
  folder: string,
  service: ServiceName,
  wanted: number,
  breathe: () => Promise<void> | undefined,
): Promise<void> {
  const queue = [diskPath(folder, service)];
  let found = 0;
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    found++;
    await breathe();
    if (!system.bytes.stat(path)?.isDirectory()) continue;
    for (const name of system.bytes.names(path)) queue.push(Buffer.concat([path, Buffer.from('/'), name]));
  }
  if (found !== wanted)
    throw new KraftwerkError(
      'dump.damaged',
      `${service}: ${found} files and folders are there, ${wanted} in the list`,
      {
        step: 'Check',
        hint: HINT,
        reason: 'the dump is damaged',
      },
    );
}

const HINT = 'nothing has changed; take another dump: dumps TARGET lists them';

function damaged(entry: Entry, what: string): KraftwerkError {
  return new KraftwerkError('dump.damaged', `${showPath(entry.path)}: ${what}`, {
    step: 'Check',
    hint: HINT,
    reason: 'the dump is damaged',
  });
}
