/** Names that no project may have as a domain because they are a node's: its site would get what is meant for the machine. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { NodeConfig } from '../config-nodes.ts';
import { findDomainProblem } from '../hostname.ts';
import type { Node } from '../nodes/node.ts';
import type { ReleaseSpec } from './plan.ts';

export interface OwnNamesOptions {
  configured: ReadonlyMap<string, NodeConfig>;
  nodes: ReadonlyMap<string, Pick<Node, 'facts'>>;
  /** Of the receiver's machine. */
  hostname: string;
}

type Named = Pick<ReleaseSpec, 'domains' | 'aliases'>;
export type OwnNames = ReturnType<typeof createOwnNames>;

export function createOwnNames({ configured, hostname, nodes }: OwnNamesOptions) {
  /** By name, whose it is. A node that has not answered yet is known by its configuration alone. */
  function ownNames(): Map<string, string> {
    const own = new Map<string, string>();
    for (const config of configured.values()) {
      const facts = nodes.get(config.name)?.facts() ?? null;
      const names = [
        ...[config.name, ...(config.kind === 'ssh' ? [config.host, config.address] : [hostname])],
        ...(facts === null ? [] : [facts.hostname, ...facts.addresses]),
      ];
      for (const name of names) if (name !== null && name !== '') own.set(normalise(name), config.name);
    }
    return own;
  }

  return {
    /**
     * The only place that says so, for a push, a plan, and a release that is gone back to.
     * @param where of a key of kraftwerk.yaml, `kraftwerk.yaml:3:1`; absent: the release is there already
     * @param served names that the target has already: a site of before the rule keeps its own
     * @throws KraftwerkError `domain.own`, `domain.invalid`
     */
    refuse(
      { aliases, domains }: Named,
      where: (key: 'domain' | 'aliases') => string | null = () => null,
      served: readonly string[] = [],
    ): void {
      const own = ownNames();
      const all = [
        ...domains.map((name) => ({ name, key: 'domain' as const })),
        ...aliases.map((name) => ({ name, key: 'aliases' as const })),
      ];
      for (const { key, name } of all) {
        const place = where(key);
        const at = place === null ? '' : `${place} `;
        // Of a release that is older than the rule.
        const problem = findDomainProblem(name);
        if (problem !== null) throw refused('domain.invalid', `${at}${key}: ${problem}`, `${name} is no domain name`);
        const node = own.get(normalise(name));
        if (node === undefined || served.includes(name)) continue;
        const whose = normalise(name) === node ? `the name of the node ${node}` : `a name of the node ${node} itself`;
        throw refused(
          'domain.own',
          `${at}${key}: ${name} is ${whose}, and no project's`,
          `${name} is a node's own name`,
        );
      }
    },
  };
}

const normalise = (name: string): string => name.toLowerCase().replace(/\.+$/, '');

function refused(code: string, message: string, reason: string): KraftwerkError {
  return new KraftwerkError(code, message, {
    step: 'Config',
    hint: 'give the site a domain of its own in kraftwerk.yaml: domain: www.example.com',
    exit: 'config',
    reason,
  });
}
