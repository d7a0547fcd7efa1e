/** The folders that a request works in: made where they are missing, and mended where their owner or mode is wrong. */
import { ensureAccounts, readAccount, readAccounts } from './accounts.ts';
import type { NodeLayout, SiteLayout } from './layout.ts';
import { denyJobs } from './open-folders.ts';
import { makeOwned, nginxOnly, SET_GROUP } from './ownership.ts';
import { reloadNginx } from './site.ts';
import type { System } from './system.ts';

const ROOT = { uid: 0, gid: 0 };
const UMASK = 0o027;

/** What every request begins with: a folder for locks; and on a system node what is made from now on is nobody else's. */
export function openNode(system: System, node: NodeLayout): void {
  if (node.profile.profile === 'rootless') {
    system.makeFolder(node.runtime);
    return;
  }
  system.setUmask(UMASK);
  makeOwned(system, node.runtime, ROOT, 0o711);
}

/** The folders of a site, and on a system node its user. @throws KraftwerkError `node.user`, `node.folder` */
export async function openSite(system: System, site: SiteLayout): Promise<void> {
  if (site.owner === null) {
    for (const path of [site.site, site.notes, site.log, site.runtime]) system.makeFolder(path);
    return;
  }
  const made = await ensureAccounts(system, site);
  denyJobs(system, [site.owner.user, site.owner.builder]);
  // nginx's workers learn of their groups when they start.
  if (made && system.exists(site.current)) reloadNginx(system, site.node);
  const gate = { uid: 0, gid: readAccounts(system).groups.get(site.owner.gate)?.gid ?? 0 };
  const readable = { uid: 0, gid: readAccount(system, site)?.gid ?? 0 };
  makeOwned(system, site.node.web, ROOT, 0o755);
  makeOwned(system, site.site, gate, 0o750);
  makeOwned(system, site.notes, ROOT, 0o700);
  makeOwned(system, site.log, ROOT, 0o700);
  makeOwned(system, site.runtime, nginxOnly(system), 0o750);
  // Whatever is made in these is of the site's own group. nginx passes through the first on its way to static files.
  makeOwned(system, site.releases, readable, SET_GROUP | 0o751);
  makeOwned(system, site.virtualenvs, readable, SET_GROUP | 0o750);
  // Read by their other names, in releases.
  makeOwned(system, site.byteCode, readable, SET_GROUP | 0o700);
}
