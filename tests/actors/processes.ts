/** What runs on this machine, as /proc tells it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface RunningProcess {
  pid: number;
  parent: number;
  argv: readonly string[];
}

export function listProcesses(): RunningProcess[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        if (state === 'Z') return [];
        const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
        return [{ pid: Number(name), parent: Number(parent), argv }];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
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
  return listProcesses().some((process) => process.pid === pid);
}

/** Looks again and again, closely, until `look` finds something. @throws after `limitMs`, with what was waited for */
export async function waitFor<T>(
  what: string,
  look: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  limitMs = 30_000,
): Promise<T> {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (performance.now() > end) throw new Error(`waited ${limitMs / 1000} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
