/** Which releases have a command running in them: they stay until it ends, though a deploy would remove them. */
import type { SiteLayout } from './layout.ts';
import { processStart, type System } from './system.ts';

/** `run.v42.4711` */
const NOTE = /^run\.v([1-9][0-9]{0,6})\.([0-9]+)$/;
const TRIES = 50;
const TRY_MS = 20;

/**
 * Writes down that this agent needs a release. Without the site's lock, which a deploy may hold for an hour: so it looks
 * whether the tree is there only after the note, and `prune` looks for notes once more after it has moved a tree away.
 * @returns what takes the note back; null where there is no such release
 */
export async function holdRelease(system: System, site: SiteLayout, release: number): Promise<(() => void) | null> {
  // Where agents were killed, their notes are still there.
  heldReleases(system, site);
  const note = `${notesFolder(site)}.run.v${release}.${system.pid}`;
  system.writeVolatile(note, `${processStart(system.pid) ?? ''}\n`, 0o600);
  for (let turn = 0; turn < TRIES; turn++) {
    if (system.exists(site.release(release))) return () => system.remove(note);
    // Where it is being removed just now, it comes back.
    if (!system.exists(`${site.releases}/.v${release}.removed`)) break;
    await system.sleep(TRY_MS);
  }
  system.remove(note);
  return null;
}

/** The releases that commands run in. Takes away the notes of agents that have ended. */
export function heldReleases(system: System, site: SiteLayout): Set<number> {
  const prefix = `${site.instance}.`;
  const held = new Set<number>();
  for (const name of system.list(site.node.runtime)) {
    const [, release, pid] = (name.startsWith(prefix) ? NOTE.exec(name.slice(prefix.length)) : null) ?? [];
    if (release === undefined) continue;
    const file = `${site.node.runtime}/${name}`;
    const start = system.readText(file)?.trim();
    if (start && processStart(Number(pid)) === start) held.add(Number(release));
    else if (start !== undefined) system.remove(file);
  }
  return held;
}

/** Ends the commands that run in the site: an agent that ends takes its command with it. */
export async function endCommands(system: System, site: SiteLayout): Promise<void> {
  const prefix = `${site.instance}.run.`;
  for (const name of system.list(site.node.runtime).filter((one) => one.startsWith(prefix))) {
    const file = `${site.node.runtime}/${name}`;
    const pid = Number(name.split('.').at(-1));
    const start = system.readText(file)?.trim();
    const runs = (): boolean => start !== undefined && processStart(pid) === start;
    if (start && runs()) system.signal(pid, 'SIGTERM');
    for (let turn = 0; turn < 10 * TRIES && start && runs(); turn++) await system.sleep(TRY_MS);
    system.remove(file);
  }
}

/** Beside the folder that a reboot and `destroy` remove; no instance has a dot in its name. */
function notesFolder(site: SiteLayout): string {
  return `${site.node.runtime}/${site.instance}`;
}
