/** A router's part: nginx's file that balances a domain over other nodes, with the same test and swap as a site's own. */

import { type NodeLayout, siteLayout } from './layout.ts';
import type { InstanceName, RouteRequest, Sha256 } from './protocol.ts';
import { createSha256 } from './sha256.ts';
import { fillSite, reloadAndWait, servingWorkers, swapSite, testSite, waitForHost } from './site.ts';
import type { System } from './system.ts';

/** No instance has a dot in its name. */
const SUFFIX = '.router';
const RELOAD_LIMIT_MS = 2_000;

/** @throws KraftwerkError `site.nginx` */
export async function route(system: System, node: NodeLayout, request: RouteRequest, httpPort: number): Promise<null> {
  const own = siteLayout(node, request.instance);
  const site = { ...own, ...routerSite(node, request.instance) };
  const old = system.readText(site.nginxSite);
  const text = request.file === null ? null : fillSite(system, node, request.file, httpPort);
  if (old === text) return null;
  if (request.testOnly) {
    if (text !== null) await testSite(system, site, text);
    return null;
  }
  if (text === null) {
    system.remove(site.nginxSite);
    await reloadAndWait(system, node, RELOAD_LIMIT_MS);
    return null;
  }
  const before = servingWorkers(system, node);
  await swapSite(system, site, text);
  system.failpoint('route.swapped');
  const host = /^\s*server_name\s+(\S+?);?(?:\s|$)/m.exec(text)?.[1];
  if (host !== undefined) await waitForHost(system, node, { port: httpPort, host, before, limitMs: RELOAD_LIMIT_MS });
  return null;
}

/** nginx's file for an instance on its router, which may have a site of that very name. */
export function routerSite(node: NodeLayout, instance: InstanceName): { instance: InstanceName; nginxSite: string } {
  const name = `${instance}${SUFFIX}` as InstanceName;
  return { instance: name, nginxSite: `${node.sitesEnabled}/${name}` };
}

/** What the node routes: by instance, the sha256 of nginx's file. */
export function listRoutes(system: System, node: NodeLayout): Record<string, Sha256> {
  const names = system.list(node.sitesEnabled).filter((name) => name.endsWith(SUFFIX));
  return Object.fromEntries(
    names.map((name) => {
      const text = system.readText(`${node.sitesEnabled}/${name}`) ?? '';
      return [name.slice(0, -SUFFIX.length), createSha256().update(text).digest('hex') as Sha256];
    }),
  );
}
