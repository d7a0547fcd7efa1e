/** Where everything is on a node. Pure: profile and instance in, paths out. */
import { type BootName, type InstanceName, type NodeProfile, nodePlace, siteOwner } from './protocol.ts';

export type Slot = 'a' | 'b';
export const SLOTS: readonly Slot[] = ['a', 'b'];

export type NodeLayout = ReturnType<typeof nodeLayout>;
export type SiteLayout = ReturnType<typeof siteLayout>;

export function nodeLayout(profile: NodeProfile) {
  const { root, httpPort } = nodePlace(profile);
  const base = root === '/' ? '' : root;
  return {
    profile,
    /** The agent's working folder: sockets are named relative to it. */
    root,
    /** 0: written in `httpPortFile`. */
    httpPort,
    web: `${base}/web`,
    /** What runsvdir watches. */
    services: `${base}/etc/service`,
    /** Where the watched folders really are. */
    serviceFolders: `${base}/etc/sv`,
    nginx: `${base}/etc/nginx`,
    sitesEnabled: `${base}/etc/nginx/sites-enabled`,
    nginxLog: `${base}/var/log/nginx`,
    run: `${base}/run`,
    runtime: `${base}/run/kraftwerk`,
    httpPortFile: `${base}/etc/kraftwerk-http-port`,
    runsvdirPid: `${base}/run/runsvdir.pid`,
    log: `${base}/var/log`,
  };
}

export function siteLayout(node: NodeLayout, instance: InstanceName) {
  const site = `${node.web}/${instance}`;
  const notes = `${site}/.kraftwerk`;
  const owner = siteOwner(node.profile, instance);
  const cache = owner === null ? `${notes}/cache` : `${site}/.cache`;
  return {
    node,
    instance,
    /** Null where everything belongs to the user who runs the agent. */
    owner,
    site,
    current: `${site}/current`,
    releases: `${site}/releases`,
    virtualenvs: `${site}/venvs`,
    uploads: `${site}/uploads`,
    log: `${site}/log`,
    /** The agent's own notes about the site. */
    notes,
    stopped: `${notes}/stopped`,
    /** The page that all visitors get while it is there: nginx looks. */
    maintenance: `${site}/maintenance.html`,
    /** Our compiler's byte code, by interpreter and source: a site's own, since what it has is never shown to another. */
    byteCode: `${site}/bytecode`,
    /** Of pip and other tools of a build. A site's own: one project's setup.py must not reach another's wheels. */
    cache,
    /** Home and TMPDIR of a build, while one runs. */
    buildFolder: owner === null ? `${notes}/build` : `${site}/.build`,
    /** Sockets and other things that do not survive a reboot. */
    runtime: `${node.runtime}/${instance}`,
    lock: `${node.runtime}/${instance}.lock`,
    job: `${node.runtime}/${instance}.job`,
    nginxSite: `${node.sitesEnabled}/${instance}`,
    release: (number: number): string => `${site}/releases/v${number}`,
    releaseNotes: (number: number): string => `${notes}/v${number}`,
    /** Modules whose byte code is made when the release serves. */
    uncompiled: (number: number): string => `${notes}/v${number}/uncompiled`,
    /** The one thing in a release that changes: the link to the folder with its socket. */
    runLink: (number: number): string => `${site}/releases/v${number}/.run`,
    trial: (slot: Slot): string => `${node.runtime}/${instance}/trial.${slot}`,
    boot: (boot: BootName): string => `${node.runtime}/${instance}/${boot}`,
    /** What a slot's run script has started last: `v42`. */
    running: (slot: Slot): string => `${node.runtime}/${instance}/release.${slot}`,
    slot: (slot: Slot): string => `${node.serviceFolders}/${instance}.web.${slot}`,
    slotLink: (slot: Slot): string => `${node.services}/${instance}.web.${slot}`,
    slotLog: (slot: Slot): string => `${site}/log/web.${slot}`,
  };
}

/** A socket's path as seen from a release's folder: short enough for the 107 bytes of `sun_path` wherever the root is. */
export function socketFromRelease(site: SiteLayout, boot: BootName): string {
  return `../../../../run/kraftwerk/${site.instance}/${boot}/web.sock`;
}

/** The same as seen from the node's root. */
export function socketFromRoot(site: SiteLayout, boot: BootName): string {
  return `run/kraftwerk/${site.instance}/${boot}/web.sock`;
}

export function slotOf(boot: BootName): Slot {
  return boot.startsWith('a') ? 'a' : 'b';
}
