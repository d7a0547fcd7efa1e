/** Where everything is on a node. Pure: profile and instance in, paths out. */
import type { BootName, InstanceName, NodeProfile } from './protocol.ts';

export type Slot = 'a' | 'b';
export const SLOTS: readonly Slot[] = ['a', 'b'];

export type NodeLayout = ReturnType<typeof nodeLayout>;
export type SiteLayout = ReturnType<typeof siteLayout>;

export function nodeLayout(profile: NodeProfile) {
  const root = profile.root;
  return {
    profile,
    root,
    web: `${root}/web`,
    /** What runsvdir watches. */
    services: `${root}/etc/service`,
    /** Where the watched folders really are. */
    serviceFolders: `${root}/etc/sv`,
    nginx: `${root}/etc/nginx`,
    sitesEnabled: `${root}/etc/nginx/sites-enabled`,
    nginxLog: `${root}/var/log/nginx`,
    run: `${root}/run`,
    runtime: `${root}/run/kraftwerk`,
    httpPortFile: `${root}/etc/kraftwerk-http-port`,
    runsvdirPid: `${root}/run/runsvdir.pid`,
    log: `${root}/var/log`,
  };
}

export function siteLayout(node: NodeLayout, instance: InstanceName) {
  const site = `${node.web}/${instance}`;
  return {
    node,
    instance,
    site,
    current: `${site}/current`,
    releases: `${site}/releases`,
    virtualenvs: `${site}/venvs`,
    uploads: `${site}/uploads`,
    log: `${site}/log`,
    /** The agent's own notes about the site. */
    notes: `${site}/.kraftwerk`,
    stopped: `${site}/.kraftwerk/stopped`,
    /** Sockets and other things that do not survive a reboot. */
    runtime: `${node.runtime}/${instance}`,
    lock: `${node.runtime}/${instance}.lock`,
    job: `${node.runtime}/${instance}.job`,
    nginxSite: `${node.sitesEnabled}/${instance}`,
    release: (number: number): string => `${site}/releases/v${number}`,
    releaseNotes: (number: number): string => `${site}/.kraftwerk/v${number}`,
    /** Modules whose byte code is made when the release serves. */
    uncompiled: (number: number): string => `${site}/.kraftwerk/v${number}/uncompiled`,
    /** The one thing in a release that changes: the link to the folder with its socket. */
    runLink: (number: number): string => `${site}/releases/v${number}/.run`,
    trial: (slot: Slot): string => `${node.runtime}/${instance}/trial.${slot}`,
    boot: (boot: BootName): string => `${node.runtime}/${instance}/${boot}`,
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
