/** Where a router reaches a node, and which addresses its requests come from there. Pure. */
import { isIP } from 'node:net';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { NodeConfig } from '../config-nodes.ts';
import { BEHIND_ROUTER } from '../deploy/plan.ts';

/** A node, as far as addresses go. */
export interface Place {
  config: NodeConfig;
  /** Of its network interfaces. */
  addresses: readonly string[];
  httpPort: number;
  /** Of `config.host`, where it is another machine. */
  resolved: string | null;
}

const HERE = '127.0.0.1';

/** `10.0.0.2:80`, as nginx writes it. @throws KraftwerkError `router.unreachable` */
export function serverOf(node: Place, router: Place): string {
  return `${bracket(addressOf(node, router))}:${node.httpPort}`;
}

function addressOf(node: Place, router: Place): string {
  if (node.config.name === router.config.name) return BEHIND_ROUTER;
  if (isHere(node) && isHere(router)) return HERE;
  const own = 'address' in node.config ? node.config.address : null;
  const address = own ?? node.resolved ?? node.addresses[0];
  if (address !== undefined && node.config.kind !== 'rootless') return address;
  throw new KraftwerkError(
    'router.unreachable',
    `router ${router.config.name}: cannot reach the node ${node.config.name}`,
    {
      hint: `nodes.${node.config.name}.address in the receiver's configuration says where it is reached`,
      exit: 'config',
    },
  );
}

/** Only what comes from these is believed what it says of a visitor. */
export function trustedBy(node: Place, router: Place): string[] {
  if (node.config.name === router.config.name || (isHere(node) && isHere(router))) return [HERE];
  const own = 'address' in router.config ? router.config.address : null;
  const all = [...router.addresses, own, router.resolved].filter((address) => address !== null && isIP(address) !== 0);
  return [...new Set(all as string[])].sort();
}

function isHere({ config }: Place): boolean {
  return config.kind !== 'ssh';
}

function bracket(address: string): string {
  return isIP(address) === 6 ? `[${address}]` : address;
}
