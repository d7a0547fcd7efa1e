/** On which node of its environment a service's data is, what the other nodes have of it, and what cannot be. */
import { KraftwerkError, type ServiceName } from '../../node-agent/protocol.ts';
import type { AskedService, ServiceRecord } from '../journal-data.ts';
import type { ServiceDefinition } from '../service-schema.ts';
import { type Target, targetName } from '../target.ts';

/** `here`: the node has it itself. `linked`: it reaches it on the node that has its data. `absent`: it cannot. */
export type ServicePlace = 'here' | 'linked' | 'absent';

/** The node that has a service's data, or is to have it. */
export type Homes = ReadonlyMap<ServiceName, string>;

/** @param nodes the environment's: the first has what nobody has said anything about */
export function homesOf(
  records: readonly Pick<ServiceRecord, 'name' | 'node'>[],
  asked: readonly AskedService[],
  nodes: readonly string[],
): Homes {
  const first = nodes[0] ?? '';
  return new Map([
    ...asked.map(({ name, node }): [ServiceName, string] => [name, node ?? first]),
    ...records.map(({ name, node }): [ServiceName, string] => [name, node]),
  ]);
}

/** Without data each node has a service of its own. */
export function placeOn(
  node: string,
  homes: Homes,
  { name, data, link }: Pick<ServiceDefinition, 'name' | 'data' | 'link'>,
): ServicePlace {
  const home = homes.get(name);
  if (!data || home === undefined || home === node) return 'here';
  return link === null ? 'absent' : 'linked';
}

export interface PlacementOrder {
  target: Target;
  /** The environment's. */
  nodes: readonly string[];
  asked: readonly AskedService[];
  records: readonly Pick<ServiceRecord, 'name' | 'node'>[];
  /** Of a release that is made now: an older one is taken as it was. */
  fresh: boolean;
  /** Asked only where it matters. @throws KraftwerkError `service.*` */
  definitionOf(name: ServiceName): Pick<ServiceDefinition, 'name' | 'data' | 'link'>;
}

export interface PlacementWarning {
  message: string;
  hint: string;
}

/**
 * Data moves only when somebody says so.
 * @throws KraftwerkError `service.node`: its data is outside of the environment; `service.one-node`: the others could not have it
 */
export function checkPlacement(order: PlacementOrder): PlacementWarning[] {
  const { target, nodes, asked, records, fresh, definitionOf } = order;
  const name = targetName(target);
  const homes = homesOf(records, asked, nodes);
  const away = asked.flatMap((service) => {
    const home = homes.get(service.name) ?? '';
    return nodes.includes(home) || !definitionOf(service.name).data ? [] : [{ service: service.name, home }];
  });
  if (away.length > 0) throw outside(name, target.environment, away, nodes[0] ?? '');
  return asked.flatMap((service): PlacementWarning[] => {
    const home = homes.get(service.name) ?? '';
    const wanted = service.node ?? home;
    if (nodes.length === 1 && wanted === home) return [];
    const definition = definitionOf(service.name);
    if (!definition.data) return [];
    if (fresh && nodes.length > 1 && definition.link === null && service.node === undefined)
      throw oneNode(service.name, home, target.environment, nodes);
    if (wanted === home) return [];
    return [
      {
        message: `${service.name} stays on ${home}, though kraftwerk.yaml says ${wanted}: a push moves no data`,
        hint: `ssh kraftwerk@HOST services:move ${name} ${service.name} ${wanted}`,
      },
    ];
  });
}

function outside(
  target: string,
  environment: string,
  away: readonly { service: string; home: string }[],
  first: string,
): KraftwerkError {
  const names = away.map(({ service }) => service);
  const homes = [...new Set(away.map(({ home }) => home))].join(', ');
  const [whose, each] = names.length === 1 ? ['its', ''] : ['their', ' for each'];
  return new KraftwerkError(
    'service.node',
    `${names.join(', ')}: ${whose} data is on ${homes}, which is not among the nodes of ${environment}`,
    {
      hint: [
        ...names.map((service) => `ssh kraftwerk@HOST services:move ${target} ${service} ${first}`),
        `or put ${homes} back into the environment's nodes`,
        `where ${homes} is lost: services:move with --without-data${each}, then load a copy`,
      ],
      exit: 'config',
      step: 'Services',
      reason: `${names.join(', ')} on another node`,
    },
  );
}

function oneNode(service: string, home: string, environment: string, nodes: readonly string[]): KraftwerkError {
  return new KraftwerkError(
    'service.one-node',
    `${service}: its data is on one node, and ${environment} has ${nodes.join(', ')}, which cannot reach it there`,
    {
      hint: [
        `if one is enough, say which: services: {${service}: {node: ${home}}}; the others then have no ${service}`,
        'what all of them need: a database, or an object store',
      ],
      exit: 'config',
      step: 'Services',
      reason: `${service} on several nodes`,
    },
  );
}
