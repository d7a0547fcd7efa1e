/** The logs of a site's processes: written by svlogd, one folder per slot, read back as one stream. */
import type { SiteLayout, Slot } from './layout.ts';
import { SLOTS } from './layout.ts';
import type { LogLine } from './protocol.ts';
import type { System } from './system.ts';

/** How the slots' scripts mark a start and an end in the log; see templates/project/slot-run. */
const MARK = /^==> v([0-9]+) web (starts|ended)/;
const LINE = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+) ?(.*)$/;
const READ_BYTES = 4 * 1024 * 1024;
const NEWLINE = 10;

export interface LogQuery {
  lines: number;
  process: string | null;
  release: number | null;
}

interface Cursor {
  slot: Slot;
  offset: number;
  inode: number;
  release: number | null;
}

/** Where a slot's log ends now, so that what the next start writes can be read with `linesSince`. */
export function logEnd(system: System, site: SiteLayout, slot: Slot): number {
  return system.stat(`${site.slotLog(slot)}/current`)?.size ?? 0;
}

/**
 * What the first start behind `offset` has written, from its start mark on. What comes before that is the end of the process
 * before, which the logger may write late: taken for the new one's, it would end a deploy.
 */
function linesOfStart(system: System, site: SiteLayout, slot: Slot, offset: number): string[] {
  const path = `${site.slotLog(slot)}/current`;
  const start = (system.stat(path)?.size ?? 0) < offset ? 0 : offset;
  const lines = system
    .readFrom(path, start)
    .toString('utf8')
    .split('\n')
    .flatMap((line) => LINE.exec(line)?.[2] ?? []);
  const begin = lines.findIndex((text) => MARK.exec(text)?.[2] === 'starts');
  return begin < 0 ? [] : lines.slice(begin);
}

/** The last `count` lines of the first start since `offset`, without times and marks. */
export function linesSince(system: System, site: SiteLayout, slot: Slot, offset: number, count: number): string[] {
  return linesOfStart(system, site, slot, offset)
    .filter((text) => !MARK.test(text) && text.trim() !== '')
    .slice(-count);
}

/**
 * The last `count` lines that say why a process ended. gunicorn's own tracebacks over workers that did not boot are left out:
 * where two fail at once there are several, and they would push the cause out of sight.
 */
export function lastWords(lines: readonly string[], count: number): string[] {
  const kept: string[] = [];
  for (const line of lines) {
    kept.push(line);
    if (!line.startsWith('gunicorn.errors.HaltServer')) continue;
    const begin = kept.findLastIndex((one) => one.startsWith('Traceback (most recent call last):'));
    // After the traceback before, gunicorn's follows in the same chain.
    if (begin !== -1)
      kept.splice(/^(?:During handling|The above exception)/.test(kept[begin - 1] ?? '') ? begin - 1 : begin);
  }
  return kept.slice(-count);
}

/** Whether the first start since `offset` has ended: then everything that it has written is there, too. */
export function hasEndMark(system: System, site: SiteLayout, slot: Slot, offset: number): boolean {
  return linesOfStart(system, site, slot, offset).some((text) => MARK.exec(text)?.[2] === 'ended');
}

/** Whether it has ended by itself and in order, as a process does that goes to the background. */
export function hasEndedWell(system: System, site: SiteLayout, slot: Slot, offset: number): boolean {
  return linesOfStart(system, site, slot, offset).some((text) => /^==> v[0-9]+ web ended with exit code 0$/.test(text));
}

/** The newest lines that fit the query, oldest first, and cursors from which to follow. */
export function readLogs(system: System, site: SiteLayout, query: LogQuery): { lines: LogLine[]; cursors: Cursor[] } {
  if (query.process !== null && query.process !== 'web') return { lines: [], cursors: [] };
  const slots = SLOTS.map((slot) => readSlot(system, site, slot));
  const lines = slots.flatMap((slot) => slot.lines).sort(byTime);
  const wanted = lines.filter((line) => fits(line, query));
  return {
    lines: query.lines === 0 ? [] : wanted.slice(-query.lines),
    cursors: slots.map(({ cursor }) => cursor),
  };
}

function readSlot(system: System, site: SiteLayout, slot: Slot): { lines: LogLine[]; cursor: Cursor } {
  const folder = site.slotLog(slot);
  const cursor: Cursor = { slot, offset: 0, inode: 0, release: null };
  const texts: string[] = [];
  let budget = READ_BYTES;
  // The newest are wanted most. `current` comes first: what svlogd puts aside meanwhile is not read twice.
  for (const name of ['current', ...setAside(system, folder).reverse()]) {
    const stat = system.stat(`${folder}/${name}`);
    if (stat === null || budget <= 0 || (name !== 'current' && stat.ino === cursor.inode)) continue;
    const start = Math.max(0, stat.size - budget);
    const data = system.readFrom(`${folder}/${name}`, start, budget);
    const whole = data.subarray(0, data.lastIndexOf(NEWLINE) + 1);
    texts.unshift(whole.toString('utf8'));
    budget -= stat.size;
    if (name === 'current') Object.assign(cursor, { offset: start + whole.length, inode: stat.ino });
  }
  const raw = texts.join('').split('\n');
  // Before the first mark: the release that it ends; where none is in reach, the one that runs here.
  const firstMark = raw.map(findMark).find((mark) => mark !== null) ?? null;
  cursor.release =
    firstMark === null ? slotRelease(system, site, slot) : firstMark.what === 'ended' ? firstMark.release : null;
  return { lines: parseLines(raw, cursor), cursor };
}

/** svlogd's full files, oldest first: their names are their times. */
function setAside(system: System, folder: string): string[] {
  return system
    .list(folder)
    .filter((name) => name.startsWith('@'))
    .sort();
}

/** What the slot's run script has started last. */
export function slotRelease(system: System, site: SiteLayout, slot: Slot): number | null {
  return Number(/^v([0-9]+)/.exec(system.readText(site.running(slot)) ?? '')?.[1] ?? 0) || null;
}

function findMark(raw: string): { release: number; what: string } | null {
  const match = MARK.exec(LINE.exec(raw)?.[2] ?? '');
  return match === null ? null : { release: Number(match[1]), what: match[2] ?? '' };
}

/** Lines of one slot in their order; the cursor's release follows the marks. */
function parseLines(raw: readonly string[], cursor: Cursor): LogLine[] {
  return raw.flatMap((text): LogLine[] => {
    const match = LINE.exec(text);
    if (match === null) return [];
    cursor.release = findMark(text)?.release ?? cursor.release;
    const { slot, release } = cursor;
    return [{ event: 'log', process: 'web', slot, release, at: `${match[1]}Z`, text: match[2] ?? '' }];
  });
}

function fits(line: LogLine, query: LogQuery): boolean {
  return query.release === null || line.release === query.release;
}

function byTime(a: LogLine, b: LogLine): number {
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}

/** Sends every further line, across rotations and deploys, until the signal says that nobody listens. */
export async function followLogs(
  system: System,
  site: SiteLayout,
  cursors: readonly Cursor[],
  query: LogQuery,
  send: (line: LogLine) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    // One piece of each slot at a time, sent before the next is read: a slow reader costs patience, not memory.
    const lines = cursors.flatMap((cursor) => readOn(system, site, cursor)).sort(byTime);
    for (const line of lines) {
      if (signal.aborted) return;
      if (fits(line, query)) await send(line);
    }
    if (lines.length === 0) await system.sleep(100, signal);
  }
}

/** What a slot has written since the cursor, at most one piece; the cursor moves on. */
function readOn(system: System, site: SiteLayout, cursor: Cursor): LogLine[] {
  const folder = site.slotLog(cursor.slot);
  const current = system.stat(`${folder}/current`);
  if (current === null) return [];
  if (cursor.inode === 0) cursor.inode = current.ino;
  const aside = setAside(system, folder);
  const at =
    current.ino === cursor.inode ? -1 : aside.findIndex((name) => inode(system, folder, name) === cursor.inode);
  const name = at < 0 ? 'current' : (aside[at] ?? 'current');
  // Gone altogether, or cut off: what is left is new.
  if (at < 0 && (current.ino !== cursor.inode || current.size < cursor.offset))
    Object.assign(cursor, { inode: current.ino, offset: 0 });
  const data = system.readFrom(`${folder}/${name}`, cursor.offset);
  const whole = data.subarray(0, data.lastIndexOf(NEWLINE) + 1);
  cursor.offset += whole.length;
  if (whole.length > 0) return parseLines(whole.toString('utf8').split('\n'), cursor);
  // A file that was put aside grows no more: on to the one after it.
  if (at >= 0) Object.assign(cursor, { inode: inode(system, folder, aside[at + 1] ?? 'current'), offset: 0 });
  return [];
}

function inode(system: System, folder: string, name: string): number {
  return system.stat(`${folder}/${name}`)?.ino ?? 0;
}
