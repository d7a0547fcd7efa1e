/** Maintenance: a file that nginx looks for answers 503 for all of the site, without a reload. */
import type { MaintenanceRequest } from './protocol-data.ts';
import { readCurrent } from './releases.ts';
import { fillSite, servingWorkers, swapSite, waitForHost } from './site.ts';
import type { Work } from './work.ts';

const RELOAD_LIMIT_MS = 5_000;

/** @throws KraftwerkError `site.nginx` */
export async function setMaintenance({ page, siteFile }: MaintenanceRequest, work: Work): Promise<null> {
  const { system, site } = work;
  if (page === null) {
    openAgain(work);
    return null;
  }
  if (siteFile !== null) await bringSiteFile(siteFile, work);
  system.failpoint('maintenance.file');
  system.writeIfChanged(site.maintenance, page, 0o644);
  return null;
}

/** A file of an older kraftwerk does not look for the page. Where nothing serves yet, the deploy brings its own. */
async function bringSiteFile(template: string, { system, site, httpPort }: Work): Promise<void> {
  const release = readCurrent(system, site)?.release;
  if (release === undefined) return;
  const text = fillSite(system, site.node, template, httpPort);
  const before = servingWorkers(system, site.node);
  const { changed } = await swapSite(system, site, text);
  // What a deploy that is taken back puts there again.
  system.writeIfChanged(`${site.releaseNotes(release)}/site`, text);
  const host = /^\s*server_name\s+(\S+?);?(?:\s|$)/m.exec(text)?.[1];
  if (changed && host !== undefined)
    await waitForHost(system, site.node, { port: httpPort, host, before, limitMs: RELOAD_LIMIT_MS });
}

function openAgain({ system, site }: Work): void {
  const gone = `${site.site}/.maintenance.html.gone`;
  if (system.exists(site.maintenance)) system.publish(site.maintenance, gone);
  system.failpoint('maintenance.open');
  if (system.exists(gone)) system.remove(gone);
}
