/** Who owns what of a site on a system node. docs/isolation.md says who may do what, and why; `sealed-tree.ts`: of trees. */
import { type Account, readAccounts, readBuilder } from './accounts.ts';
import type { SiteLayout, Slot } from './layout.ts';
import { type BootName, KraftwerkError, LOG_USER, NGINX_USER } from './protocol.ts';
import type { System } from './system.ts';

/** What is made in such a folder is of the folder's group. */
export const SET_GROUP = 0o2000;

/** A folder with just this owner and mode; where they are right already, nothing is written. */
export function makeOwned(system: System, path: string, { uid, gid }: Account, mode: number): void {
  if (system.stat(path) === null) system.makeFolder(path);
  const stat = system.stat(path);
  if (stat === null || !stat.isDirectory())
    throw new KraftwerkError('node.folder', `${path} on the node is not a folder`, {
      hint: 'move it away, then push again',
    });
  if (stat.uid !== uid || stat.gid !== gid) system.setOwner(path, uid, gid);
  if ((stat.mode & 0o7777) !== mode || stat.uid !== uid || stat.gid !== gid) system.setMode(path, mode);
}

/** The folder of a boot's socket. On a system node root makes the socket there, and nginx may connect; the site gets it open. */
export function makeSocketFolder(system: System, site: SiteLayout, boot: BootName): void {
  if (site.owner === null) system.makeFolder(site.boot(boot), 0o750);
  else makeOwned(system, site.boot(boot), nginxOnly(system), 0o750);
}

/** Root's, and what nginx may enter. */
export function nginxOnly(system: System): Account {
  return { uid: 0, gid: readAccounts(system).users.get(NGINX_USER)?.gid ?? 0 };
}

/** The folder of a slot's log: the logger's alone. */
export function makeLogFolder(system: System, site: SiteLayout, slot: Slot): void {
  if (site.owner === null) {
    system.makeFolder(site.slotLog(slot));
    return;
  }
  const logger = readAccounts(system).users.get(LOG_USER);
  if (logger !== undefined) makeOwned(system, site.slotLog(slot), logger, 0o700);
}

/** A folder that builds may write to; where it was another's, nothing in it is believed. */
export function makeLentFolder(system: System, site: SiteLayout, path: string): void {
  const builder = readBuilder(system, site);
  if (builder === null) {
    system.makeFolder(path);
    return;
  }
  const there = system.stat(path);
  if (there !== null && (!there.isDirectory() || there.uid !== builder.uid)) system.remove(path);
  makeOwned(system, path, builder, 0o700);
}
