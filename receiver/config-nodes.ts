// The nodes of the admin's configuration: which of the three kinds each is, and what does not go together. Pure.
import type { AbsolutePath } from '../node-agent/protocol.ts';
import type { WrittenConfig } from './config-schema.ts';
import { findHostnameProblem } from './hostname.ts';
import type { Path } from './yaml-source.ts';

/** Everything below one folder, run by the receiver's own user, on this machine. */
export interface RootlessNode {
  name: string;
  kind: 'rootless';
  root: AbsolutePath;
  /** 0: a free one. */
  httpPort: number;
}

/** This machine as a whole. */
export interface LocalNode {
  name: string;
  kind: 'local';
}

/** Another machine. */
export interface SshNode {
  name: string;
  kind: 'ssh';
  /** Where it is reached: a name or an address. */
  host: string;
  user: string;
  port: number;
  /** `SHA256:…`: the only one that is accepted. */
  hostKey: string;
  /** Where a router reaches it, when that is another address: one of a private network. */
  address: string | null;
}

export type NodeConfig = RootlessNode | LocalNode | SshNode;

export const DEFAULT_HTTP_PORT = 8080;

type WrittenNode = WrittenConfig['nodes'][string];
type Report = (path: Path, message: string) => void;

const ROOTLESS_KEYS = ['root', 'http_port'] as const;
const REMOTE_KEYS = ['host', 'user', 'port', 'host_key', 'address'] as const;

/** @param toAbsolute a folder as it is written -> where it is */
export function readNode(name: string, node: WrittenNode, toAbsolute: (folder: string) => AbsolutePath): NodeConfig {
  if (node.local && node.root !== undefined) {
    const httpPort = node.http_port ?? DEFAULT_HTTP_PORT;
    return Object.freeze({ name, kind: 'rootless', root: toAbsolute(node.root), httpPort });
  }
  if (node.local) return Object.freeze({ name, kind: 'local' });
  return Object.freeze({
    name,
    kind: 'ssh',
    host: node.host ?? name,
    user: node.user ?? 'root',
    port: node.port ?? 22,
    hostKey: node.host_key ?? '',
    address: node.address ?? null,
  });
}

/** Every node by itself, and that no two are one machine, or one folder. */
export function checkNodes(
  nodes: WrittenConfig['nodes'],
  toAbsolute: (folder: string) => AbsolutePath,
  report: Report,
): void {
  const taken = new Map<string, string>();
  for (const [name, written] of Object.entries(nodes)) {
    checkNode(name, written, report);
    const node = readNode(name, written, toAbsolute);
    const other = taken.get(placeOf(node));
    if (other !== undefined)
      report(['nodes', name], `nodes.${name}: is the ${nounOf(node)} of the node ${other} already`);
    taken.set(placeOf(node), name);
    for (const [place, outer] of taken)
      if (outer !== name && node.kind === 'rootless' && (inside(node.root, place) || inside(place, node.root)))
        report(['nodes', name, 'root'], `nodes.${name}.root: one of it and the folder of ${outer} is inside the other`);
    // It stands in nginx's configuration, where other characters have a meaning.
    if (node.kind === 'rootless' && !/^[A-Za-z0-9_./@+-]+$/.test(node.root))
      report(
        ['nodes', name, 'root'],
        `nodes.${name}.root: ${node.root}: only letters, digits and _ . / @ + - may be in it`,
      );
  }
}

function checkNode(name: string, node: WrittenNode, report: Report): void {
  const at = `nodes.${name}`;
  const refuse = (key: keyof WrittenNode, why: string): void => {
    if (node[key] !== undefined) report(['nodes', name, key], `${at}.${key}: ${why}`);
  };
  if (node.local) {
    for (const key of REMOTE_KEYS) refuse(key, 'not with local: true, which means this machine');
    if (node.root === undefined) refuse('http_port', 'only with root: a node without it serves on port 80');
    return;
  }
  for (const key of ROOTLESS_KEYS) refuse(key, 'only with local: true, on this machine');
  if (node.host_key === undefined) {
    const remedy = `kraftwerk setup-node ${name} shows and pins it; this machine: {local: true}`;
    report(['nodes', name], `${at}: host_key is missing: ${remedy}`);
  }
  if (node.host === undefined && findHostnameProblem(name) !== null)
    report(['nodes', name], `${at}: is no host name; say where the node is: host: ADDRESS`);
}

/** What two nodes may not share. */
function placeOf(node: NodeConfig): string {
  if (node.kind === 'rootless') return node.root;
  return node.kind === 'local' ? 'this machine' : `${node.host.toLowerCase()} ${node.port}`;
}

/** What one node makes there, the other would take for its own. */
function inside(path: string, folder: string): boolean {
  return folder.startsWith('/') && path.startsWith(`${folder.replace(/\/$/, '')}/`);
}

function nounOf({ kind }: NodeConfig): string {
  return kind === 'rootless' ? 'folder' : 'machine';
}
