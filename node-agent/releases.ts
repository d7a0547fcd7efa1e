/** The releases of a site on disk: which serve, which are kept, what goes. */
import type { SiteLayout, Slot } from './layout.ts';
import { type BootName, parseBootName, type Serving } from './protocol.ts';
import { heldReleases } from './run-notes.ts';
import type { System } from './system.ts';

/** The agent's notes about a release, beside its tree and written before it. */
export interface ReleaseNotes {
  artifact: string;
  virtualenv: string;
  interpreter: string;
}

/** Numbers of the releases whose trees are whole, ascending. */
export function listReleases(system: System, site: SiteLayout): number[] {
  return system
    .list(site.releases)
    .flatMap((name) => /^v([1-9][0-9]{0,6})$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** What `current` and the release's run link say; null before the first deploy. */
export function readCurrent(system: System, site: SiteLayout): Serving | null {
  const release = /(?:^|\/)v([1-9][0-9]*)$/.exec(system.readLink(site.current) ?? '')?.[1];
  if (release === undefined) return null;
  const boot = readBoot(system, site, Number(release));
  return boot === null ? null : { release: Number(release), boot };
}

/** The boot that a release's run link names. */
export function readBoot(system: System, site: SiteLayout, release: number): BootName | null {
  const name = system.readLink(site.runLink(release))?.split('/').pop();
  return name === undefined ? null : parseBootName(name, 'run link');
}

/** The newest boot whose folder stands in a slot: what runs there, or ran last. */
export function newestBoot(system: System, site: SiteLayout, slot: Slot): BootName | null {
  const numbers = system
    .list(site.runtime)
    .flatMap((name) => (name.startsWith(`${slot}.`) ? Number(name.slice(2)) : []));
  return numbers.length === 0 ? null : parseBootName(`${slot}.${Math.max(...numbers)}`, 'boot');
}

/** Points nginx, static files and what starts after a reboot at `serving`: first the release's socket, then the one symlink. */
export function pointCurrent(system: System, site: SiteLayout, serving: Serving): void {
  const target = `../../../../run/kraftwerk/${site.instance}/${serving.boot}`;
  if (system.readLink(site.runLink(serving.release)) !== target)
    system.pointLink(site.runLink(serving.release), target);
  system.failpoint('activate.run-link');
  const release = `releases/v${serving.release}`;
  if (system.readLink(site.current) !== release) system.pointLink(site.current, release);
}

export function readNotes(system: System, site: SiteLayout, release: number): ReleaseNotes | null {
  const text = system.readText(`${site.releaseNotes(release)}/release.json`);
  return text === null ? null : (JSON.parse(text) as ReleaseNotes);
}

/**
 * Removes trees, notes and virtualenvs that nothing needs any more, and whatever an interrupted deploy has left.
 * @param which `older`: only releases before the newest of those that stay; a later one may be on its way
 */
export function prune(system: System, site: SiteLayout, keep: readonly number[], which: 'older' | 'all'): void {
  const current = readCurrent(system, site)?.release;
  const wanted = new Set([...keep, ...(current === undefined ? [] : [current]), ...heldReleases(system, site)]);
  const newest = Math.max(...wanted);
  for (const number of listReleases(system, site)) {
    if (wanted.has(number) || (which === 'older' && number > newest)) continue;
    // A tree that is half removed must not look like a release.
    const doomed = `${site.releases}/.v${number}.removed`;
    system.publish(site.release(number), doomed);
    // A command may have begun meanwhile: it waits for the tree to come back, see run-notes.ts.
    if (heldReleases(system, site).has(number)) system.publish(doomed, site.release(number));
    else system.remove(doomed);
  }
  const trees = new Set(listReleases(system, site));
  for (const name of system.list(site.releases)) {
    if (name.startsWith('.')) system.remove(`${site.releases}/${name}`);
  }
  for (const name of system.list(site.notes)) {
    const number = /^\.?v([0-9]+)/.exec(name)?.[1];
    if (number !== undefined && !trees.has(Number(number))) system.remove(`${site.notes}/${name}`);
  }
  const used = new Set([...trees].map((number) => readNotes(system, site, number)?.virtualenv));
  for (const name of system.list(site.virtualenvs)) {
    if (!used.has(name)) system.remove(`${site.virtualenvs}/${name}`);
  }
}
