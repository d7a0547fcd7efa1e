/**
 * The home of one build, or one run of pip, and its TMPDIR: new each time, so that no build finds what another has left in it as
 * settings or modules; and on the disk of its site, since /tmp may be memory (Debian 13) and a big wheel fills it.
 */
import type { SiteLayout } from './layout.ts';
import { makeLentFolder } from './ownership.ts';
import type { StepName } from './protocol.ts';
import { endBuild } from './site-processes.ts';
import type { System } from './system.ts';

/** The words of programs when the disk, or what they may use of it, is full. */
export const NO_ROOM = /No space left on device|Disk quota exceeded|\b(?:ENOSPC|EDQUOT)\b/;

/**
 * Makes it anew, empty.
 * @returns variables for what is built: where its home, its temporary files, and caches that outlive it are
 */
export async function makeBuildFolder(
  system: System,
  site: SiteLayout,
  step: StepName,
): Promise<Record<string, string>> {
  const folder = site.buildFolder;
  // Processes that another build left would share the builder's rights.
  await endBuild(system, site, step);
  makeLentFolder(system, site, site.cache);
  system.remove(folder);
  makeLentFolder(system, site, folder);
  return {
    TMPDIR: folder,
    ...(site.owner !== null && { HOME: folder, XDG_CACHE_HOME: site.cache, npm_config_cache: `${site.cache}/npm` }),
  };
}

/** After a build, whatever became of it. Where something still writes there, the next build removes what is left. */
export function removeBuildFolder(system: System, site: SiteLayout): void {
  try {
    system.remove(site.buildFolder);
  } catch {}
}

export function roomHint(folder: string): string {
  return `a disk of the node is full; temporary files of builds are in ${folder}: df -h ${folder.slice(0, folder.lastIndexOf('/'))}`;
}
