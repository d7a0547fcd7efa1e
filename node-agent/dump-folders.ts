/** Where dumps are: of a site, and of sites that were destroyed. */
import type { NodeLayout, SiteLayout } from './layout.ts';
import type { InstanceName } from './protocol.ts';

/** Root's alone on a system node: what is in it belongs to databases. */
export function dumpFolder(site: SiteLayout): string {
  return `${site.site}/dump`;
}

/** Where the dumps of all destroyed sites are. No instance has a dot in its name. */
export function destroyedRoot(node: NodeLayout): string {
  return `${node.web}/.destroyed`;
}

/** The dumps that are left of a destroyed site. */
export function destroyedFolder(node: NodeLayout, instance: InstanceName): string {
  return `${destroyedRoot(node)}/${instance}`;
}
