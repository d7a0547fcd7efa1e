/** What runs on this machine, as /proc tells it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface RunningProcess {
  pid: number;
  parent: number;
  argv: readonly string[];
}

/** @param parent of its children alone, which costs half as much */
export function listProcesses(parent?: number): RunningProcess[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .flatMap((name) => {
      const pid = Number(name);
      const found = parentOf(pid);
      if (found === null || (parent !== undefined && found !== parent)) return [];
      try {
        const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
        return [{ pid, parent: found, argv }];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
}

/** Null where it has ended, though nobody has taken note of it yet. */
function parentOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? null : Number(parent);
  } catch {
    return null;
  }
}

/** Processes that have `text` in their command line. */
export function processesWith(text: string): RunningProcess[] {
  return listProcesses().filter(({ argv }) => argv.some((word) => word.includes(text)));
}

/** Processes that have `folder` in their command line, or work in it. */
export function processesIn(folder: string): RunningProcess[] {
  return listProcesses().filter(
    ({ pid, argv }) => argv.some((word) => word.includes(folder)) || workingFolder(pid).startsWith(folder),
  );
}

function workingFolder(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

export function isAlive(pid: number): boolean {
  return parentOf(pid) !== null;
}

/** The pauses grow with the time it takes: the machine has better things to do. */
const PAUSE_MS = { first: 10, last: 100, share: 0.05 };

/** Looks again and again until `look` finds something. @throws after `limitMs`, with what was waited for */
export async function waitFor<T>(
  what: string,
  look: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  limitMs = 30_000,
): Promise<T> {
  const begin = performance.now();
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    const waitedMs = performance.now() - begin;
    if (waitedMs > limitMs) throw new Error(`waited ${limitMs / 1000} s in vain for ${what}`);
    const pauseMs = Math.min(PAUSE_MS.last, Math.max(PAUSE_MS.first, waitedMs * PAUSE_MS.share));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
