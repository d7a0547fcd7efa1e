/** What the stories about data work with, and which node has which data. */
import {
  type DeployEvent,
  type InstanceName,
  isDeployEvent,
  KraftwerkError,
  type ServiceName,
} from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import type { EnvironmentConfig } from '../config.ts';
import type { Deployer } from '../deploy/deploy.ts';
import { nameNode } from '../deploy/node-names.ts';
import type { Failpoint } from '../failpoint.ts';
import type { Instances } from '../instances.ts';
import type { Journal, ReleaseRecord } from '../journal.ts';
import type { Node, NodeOrder } from '../nodes/node.ts';
import type { Routes } from '../router/routes.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import type { PlanLinks } from './links.ts';
import type { ServicesOnNode, SiteOnNode } from './site-services.ts';

export interface DataServices {
  /** The receiver's folder. */
  data: string;
  journal: Journal;
  routes: Routes;
  deployer: Deployer;
  links: PlanLinks;
  instances: Instances;
  nodes: ReadonlyMap<string, Node>;
  environment(target: Target): EnvironmentConfig;
  templatesOf(node: string): Templates;
  /** What a target is on a node. @throws KraftwerkError `target.empty`, `service.*` */
  describeSite(target: Target, node: Node, chosen?: ReleaseRecord | null): Promise<SiteOnNode>;
  /**
   * Its services alone, also where it has never come to serve.
   * @param instance another name that it has had on the node
   * @throws KraftwerkError `name.taken`, `service.*`
   */
  describeServices(target: Target, node: Node, instance?: InstanceName): ServicesOnNode;
  nowMs(): number;
  log(event: string, fields: Record<string, unknown>): void;
  failpoint: Failpoint;
}

/** Who is told, and who may break it off. */
export interface Audience {
  signal: AbortSignal;
  emit(event: DeployEvent): void;
}

/** Dumps and loads have limits of their own on the node; this is the last resort. */
export const DATA_LIMIT_MS = 24 * 3_600_000;

/** A node, and the services whose data it has. */
export interface Place {
  node: Node;
  services: readonly ServiceName[];
}

export interface Choice {
  /** Null: all. */
  only: readonly ServiceName[] | null;
  exclude: readonly ServiceName[];
}
export const ALL: Choice = { only: null, exclude: [] };

/** The target's services with data, those that are chosen, by the node that has them. @throws KraftwerkError `service.unknown`, `service.node` */
export function findPlaces(services: DataServices, target: Target, choice: Choice): Place[] {
  const records = services.journal.data.services(target);
  const name = targetName(target);
  const places = new Map<string, ServiceName[]>();
  const withData: ServiceName[] = [];
  for (const record of records) {
    const node = services.nodes.get(record.node);
    if (node === undefined) {
      throw new KraftwerkError(
        'service.node',
        `${name}: ${record.name} is on the node ${record.node}, which is not configured`,
        {
          hint: [`put ${record.node} back into the configuration`, `or leave it out: --exclude ${record.name}`],
        },
      );
    }
    if (services.describeServices(target, node).scripts('dump', [record.name]).length === 0) continue;
    withData.push(record.name);
    const wanted = (choice.only?.includes(record.name) ?? true) && !choice.exclude.includes(record.name);
    if (wanted) places.set(record.node, [...(places.get(record.node) ?? []), record.name]);
  }
  for (const chosen of [...(choice.only ?? []), ...choice.exclude]) {
    if (withData.includes(chosen)) continue;
    throw new KraftwerkError('service.unknown', `${name} has no service ${chosen} with data`, {
      hint: withData.length === 0 ? `${name} has none at all` : `it has: ${withData.join(', ')}`,
      exit: 'denied',
    });
  }
  if (places.size === 0 && withData.length > 0)
    throw new KraftwerkError('dump.excluded', `${name}: all that it has is excluded: ${withData.join(', ')}`, {
      exit: 'usage',
    });
  return [...places].map(([node, names]) => ({ node: services.nodes.get(node) as Node, services: names }));
}

/** The same asked of several nodes; all are waited for. @throws what the first of them that failed says, with its name where there are several */
export async function askAll<T>(
  items: readonly { node: Node }[],
  ask: (item: { node: Node }, index: number) => Promise<T>,
): Promise<T[]> {
  const outcomes = await allBounded(items, ask);
  const failed = outcomes.findIndex(({ status }) => status === 'rejected');
  const outcome = outcomes[failed];
  if (outcome?.status === 'rejected')
    throw items.length === 1 ? outcome.reason : nameNode(outcome.reason, items[failed]?.node.name ?? '');
  return outcomes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** One request whose events are told. */
export function tellRequest(
  node: Pick<Node, 'request'>,
  order: NodeOrder,
  { emit, signal }: { emit: Audience['emit']; signal?: AbortSignal },
): Promise<unknown> {
  return node.request(order, {
    timeoutMs: DATA_LIMIT_MS,
    ...(signal && { signal }),
    onEvent: (event) => {
      if (isDeployEvent(event)) emit(event);
    },
  });
}
