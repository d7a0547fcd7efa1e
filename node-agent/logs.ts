/** The logs of a site's processes: written by svlogd, one folder per slot, read back as one stream. */
import type { SiteLayout, Slot } from './layout.ts';
import { SLOTS } from './layout.ts';
import type { LogLine } from './protocol.ts';
import type { System } from './system.ts';

/** How the slots' scripts mark a start and an end in the log; see templates/project/slot-run. */
const MARK = /^==> v([0-9]+) /;
const LINE = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+) ?(.*)$/;
const READ_BYTES = 4 * 1024 * 1024;

export interface LogQuery {
  lines: number;
  process: string | null;
  release: number | null;
}

interface Cursor {
  slot: Slot;
  offset: number;
  inode: number;
  partial: string;
  release: number | null;
}

/** Where a slot's log ends now, so that what comes after can be read with `linesSince`. */
export function logEnd(system: System, site: SiteLayout, slot: Slot): number {
  return system.stat(`${site.slotLog(slot)}/current`)?.size ?? 0;
}

/** The last `count` lines that a slot wrote since `offset`, without times and marks. */
export function linesSince(system: System, site: SiteLayout, slot: Slot, offset: number, count: number): string[] {
  const path = `${site.slotLog(slot)}/current`;
  const start = (system.stat(path)?.size ?? 0) < offset ? 0 : offset;
  return system
    .readFrom(path, start)
    .toString('utf8')
    .split('\n')
    .flatMap((line) => LINE.exec(line)?.[2] ?? [])
    .filter((text) => !MARK.test(text) && text.trim() !== '')
    .slice(-count);
}

/** Whether the slot's end mark has been written since `offset`: then everything before it has been, too. */
export function hasEndMark(system: System, site: SiteLayout, slot: Slot, offset: number): boolean {
  return /==> v[0-9]+ web ended/.test(system.readFrom(`${site.slotLog(slot)}/current`, offset).toString('utf8'));
}

/** The newest lines that fit the query, oldest first, and cursors from which to follow. */
export function readLogs(system: System, site: SiteLayout, query: LogQuery): { lines: LogLine[]; cursors: Cursor[] } {
  const cursors: Cursor[] = [];
  const lines: LogLine[] = [];
  if (query.process !== null && query.process !== 'web') return { lines, cursors };
  for (const slot of SLOTS) {
    const folder = site.slotLog(slot);
    let release: number | null = null;
    let budget = READ_BYTES;
    // svlogd's old files are named by their time (`@…`), so by age; the newest are wanted most.
    const old = system
      .list(folder)
      .filter((name) => name.startsWith('@'))
      .sort();
    const chosen: string[] = [];
    for (const name of [...old, 'current'].reverse()) {
      if (budget <= 0) break;
      chosen.unshift(name);
      budget -= system.stat(`${folder}/${name}`)?.size ?? 0;
    }
    for (const name of chosen) {
      const path = `${folder}/${name}`;
      const stat = system.stat(path);
      if (stat === null) continue;
      const start = Math.max(0, stat.size - READ_BYTES);
      const text = system.readFrom(path, start, READ_BYTES).toString('utf8');
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      for (const raw of whole.split('\n')) {
        release = Number(MARK.exec(LINE.exec(raw)?.[2] ?? '')?.[1] ?? Number.NaN) || release;
        const line = parseLine(raw, slot, release);
        if (line !== null) lines.push(line);
      }
      if (name === 'current')
        cursors.push({ slot, offset: start + Buffer.byteLength(whole), inode: stat.ino, partial: '', release });
    }
    if (!chosen.includes('current') || system.stat(`${folder}/current`) === null)
      cursors.push({ slot, offset: 0, inode: 0, partial: '', release });
  }
  lines.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const wanted = lines.filter((line) => query.release === null || line.release === query.release);
  return { lines: query.lines === 0 ? [] : wanted.slice(-query.lines), cursors };
}

function parseLine(raw: string, slot: Slot, release: number | null): LogLine | null {
  const match = LINE.exec(raw);
  return match === null
    ? null
    : { event: 'log', process: 'web', slot, release, at: `${match[1]}Z`, text: match[2] ?? '' };
}

/** Sends every further line, across rotations and deploys, until the signal says that nobody listens. */
export async function followLogs(
  system: System,
  site: SiteLayout,
  cursors: Cursor[],
  query: LogQuery,
  send: (line: LogLine) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    for (const cursor of cursors) {
      const path = `${site.slotLog(cursor.slot)}/current`;
      const stat = system.stat(path);
      if (stat === null) continue;
      if (cursor.inode !== 0 && (stat.ino !== cursor.inode || stat.size < cursor.offset)) {
        // svlogd has put the file aside: the rest of it first.
        const aside = system
          .list(site.slotLog(cursor.slot))
          .filter((name) => name.startsWith('@'))
          .find((name) => system.stat(`${site.slotLog(cursor.slot)}/${name}`)?.ino === cursor.inode);
        if (aside !== undefined)
          emit(cursor, system.readFrom(`${site.slotLog(cursor.slot)}/${aside}`, cursor.offset).toString('utf8'));
        cursor.offset = 0;
        cursor.partial = '';
      }
      cursor.inode = stat.ino;
      if (stat.size === cursor.offset) continue;
      const data = system.readFrom(path, cursor.offset);
      cursor.offset += data.length;
      emit(cursor, data.toString('utf8'));
    }
    await system.sleep(100, signal);
  }

  function emit(cursor: Cursor, text: string): void {
    const parts = (cursor.partial + text).split('\n');
    cursor.partial = parts.pop() ?? '';
    for (const raw of parts) {
      cursor.release = Number(MARK.exec(LINE.exec(raw)?.[2] ?? '')?.[1] ?? Number.NaN) || cursor.release;
      const line = parseLine(raw, cursor.slot, cursor.release);
      if (line !== null && (query.release === null || line.release === query.release)) send(line);
    }
  }
}
