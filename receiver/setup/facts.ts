// What a server is, as templates/node/probe.sh tells it. Pure.
import { KraftwerkError } from '../../node-agent/protocol.ts';

export interface ServerFacts {
  uid: number;
  user: string;
  /** Whether it may become root without a password. */
  sudo: boolean;
  kernel: string;
  machine: string;
  hostname: string;
  fqdn: string;
  clockMs: number;
  osId: string;
  osVersion: string;
  osName: string;
  systemd: boolean;
  apt: boolean;
  cpus: number;
  memoryBytes: number;
  /** Null: unknown. */
  freeBytes: number | null;
  /** `Python 3.11.2`; empty: none. */
  python: string;
  /** `v18.20.4`; empty: none. */
  node: string;
  nodePath: string;
  /** What apt would install. */
  nodeCandidate: string;
  /** TCP ports that are listened on. */
  ports: readonly number[];
  /** The program that listens on port 80; empty: unknown. */
  port80By: string;
  ipv6: boolean;
  firewall: boolean;
  /** Required packages that are not installed. */
  missing: readonly string[];
  agentSha256: string;
  agentVersion: string;
  /** The lines of authorized_keys that let a receiver in. */
  receivers: readonly string[];
}

/**
 * @param lines what the probe printed; a greeting of the login shell may stand around it
 * @throws KraftwerkError `setup.no-server`, `setup.root`
 */
export function parseFacts(lines: readonly string[], host: string): ServerFacts {
  const start = lines.indexOf('kraftwerk-probe=1');
  const end = lines.indexOf('end=1', start);
  if (start < 0 || end < 0) throw notAServer(lines, host);
  const facts = new Map<string, string>();
  const receivers: string[] = [];
  for (const line of lines.slice(start + 1, end)) {
    const at = line.indexOf('=');
    const name = line.slice(0, at);
    const value = line.slice(at + 1).trim();
    if (name === 'receiver') receivers.push(value);
    else facts.set(name, value);
  }
  const text = (name: string): string => facts.get(name) ?? '';
  const number = (name: string): number => (/^[0-9]+$/.test(text(name)) ? Number(text(name)) : 0);
  const words = (name: string): string[] =>
    text(name)
      .split(' ')
      .filter((word) => word !== '');
  return {
    uid: text('uid') === '' ? -1 : number('uid'),
    user: text('user'),
    sudo: text('sudo') === 'yes',
    kernel: text('kernel'),
    machine: text('machine'),
    hostname: text('hostname'),
    fqdn: text('fqdn'),
    clockMs: number('clock') * 1000,
    osId: text('os_id'),
    osVersion: text('os_version'),
    osName: text('os_name'),
    systemd: text('systemd') === 'yes',
    apt: text('apt') !== '',
    cpus: number('cpus'),
    memoryBytes: number('memory_kb') * 1024,
    freeBytes: text('free_kb') === '' ? null : number('free_kb') * 1024,
    python: text('python'),
    node: text('node'),
    nodePath: text('node_path'),
    nodeCandidate: text('node_candidate'),
    ports: words('ports').map((port) => Number.parseInt(port, 16)),
    port80By: text('port_80_by'),
    ipv6: text('ipv6') === 'yes',
    firewall: text('firewall') === 'yes',
    missing: words('missing'),
    agentSha256: text('agent_sha256'),
    agentVersion: text('agent_version'),
    receivers,
  };
}

function notAServer(lines: readonly string[], host: string): KraftwerkError {
  const text = lines.join('\n');
  // What images of clouds answer root.
  const user = /login as the user "([a-z][a-z0-9_-]*)"/.exec(text)?.[1];
  if (user !== undefined) {
    return new KraftwerkError('setup.root', `${host} lets only ${user} in, and kraftwerk needs root`, {
      hint: [
        `let root in with ${user}'s keys: ssh ${user}@${host} 'sudo cp ~${user}/.ssh/authorized_keys /root/.ssh/'`,
        'then run this again',
      ],
    });
  }
  return new KraftwerkError('setup.no-server', `${host} did not answer as a server with a shell`, {
    lines: lines.slice(0, 8),
    hint: `does this work? ssh root@${host} id`,
  });
}
