/** Programs that a request has started: noted on disk, so that a later agent can end them where this one was killed. */
import type { SiteLayout } from './layout.ts';
import { processStart, type System } from './system.ts';

/** Where the process group of one of several at a time is noted. */
export function jobFile(site: SiteLayout, name: string): string {
  return `${site.job}.${name}`;
}

/** Ends what a killed agent has left running for the site. The pid alone may by now be another's. */
export function endJobs(system: System, site: SiteLayout): void {
  const prefix = `${site.instance}.job`;
  // No instance has a dot in its name.
  const names = system.list(site.node.runtime).filter((name) => name === prefix || name.startsWith(`${prefix}.`));
  for (const name of names) {
    const file = `${site.node.runtime}/${name}`;
    const [pid, start] = (system.readText(file) ?? '').trim().split(' ');
    if (pid !== undefined && start && processStart(Number(pid)) === start) system.signal(-Number(pid), 'SIGKILL');
  }
}
