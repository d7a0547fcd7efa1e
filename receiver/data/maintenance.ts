/** Puts a target in maintenance on all of its nodes, and out of it: visitors see the admin's page. */
import type { AgentOf } from '../deploy/fan-out.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { askAll, type DataServices } from './data-services.ts';

const LIMIT_MS = 60_000;

/** Not given: all of the environment. */
type Nodes = readonly { node: Node }[];

/** What is asked again does no harm. @throws KraftwerkError what a node says, with its name where there are several */
export function putInMaintenance(services: DataServices, target: Target, nodes?: Nodes): Promise<void> {
  return change(services, target, true, nodes);
}

export function leaveMaintenance(services: DataServices, target: Target, nodes?: Nodes): Promise<void> {
  return change(services, target, false, nodes);
}

async function change(
  services: DataServices,
  target: Target,
  on: boolean,
  nodes: Nodes = allNodes(services, target),
): Promise<void> {
  await askAll(nodes, async ({ node }) => {
    const { instance, siteFile } = await services.describeSite(target, node);
    const page = on ? renderPage(services, target, node) : null;
    await node.request({ op: 'maintenance', instance, page, siteFile: on ? siteFile : null }, { timeoutMs: LIMIT_MS });
  });
}

function allNodes({ deployer }: DataServices, target: Target): Nodes {
  return deployer.nodesOf(target).map((node) => ({ node }));
}

/** Whether the page can be made, before anything depends on it. @throws KraftwerkError `template.*` */
export function checkPage(services: DataServices, target: Target): void {
  for (const { node } of allNodes(services, target)) renderPage(services, target, node);
}

/** @throws KraftwerkError `template.*` */
function renderPage({ templatesOf }: DataServices, target: Target, node: Node): string {
  const values = { project: target.project, environment: target.environment, target: targetName(target) };
  return templatesOf(node.name).render('text', 'project/maintenance.html', values);
}

/**
 * For a deploy, before it switches: where somebody has put the target in maintenance, a node that has come to the environment
 * since is closed, too. The deploy's agents hold the site's lock, and it brings nginx's file by itself.
 * @returns what the pusher is told; null: it is not in maintenance
 */
export type KeepInMaintenance = (target: Target, agents: AgentOf) => Promise<{ message: string; hint: string } | null>;

export function createKeepInMaintenance(later: () => DataServices): KeepInMaintenance {
  return async (target, agents) => {
    const services = later();
    if (services.journal.data.maintenance(target) === null) return null;
    const instance = services.instances.of(target);
    await askAll(allNodes(services, target), ({ node }) => {
      const order = { op: 'maintenance', instance, page: renderPage(services, target, node), siteFile: null } as const;
      return agents(node).request(order, { timeoutMs: LIMIT_MS });
    });
    const name = targetName(target);
    return {
      message: `${name} is in maintenance: visitors see its page`,
      hint: `ssh kraftwerk@HOST maintenance ${name} off`,
    };
  };
}
