/** A domain belongs to one target per node: first come keeps it. nginx itself would take both and serve the first file. */
import type { EnvironmentConfig } from '../config.ts';
import { TakenError } from '../taken.ts';
import { type Target, targetName } from '../target.ts';
import type { OwnNames } from './own-names.ts';
import type { ReleaseSpec } from './plan.ts';

interface Claim {
  target: Target;
  names: readonly string[];
  nodes: readonly string[];
}

export type DomainClaims = ReturnType<typeof createDomainClaims>;

/**
 * @param serving what the journal says serves now, with the nodes it serves on
 * @param ownNames of the machines themselves
 */
export function createDomainClaims(serving: () => readonly Claim[], ownNames: OwnNames) {
  const underWay = new Set<Claim>();
  return {
    /**
     * Claims a release's names until its deploy has ended; from then on the journal speaks for it.
     * @param serves it serves already and is only started anew: then the names are what they were
     * @throws TakenError `domain.taken`; KraftwerkError `domain.own`, `domain.invalid`
     */
    take(
      target: Target,
      spec: Pick<ReleaseSpec, 'domains' | 'aliases'>,
      nodes: readonly string[],
      serves = false,
    ): { release(): void } {
      const own = serving().filter((one) => targetName(one.target) === targetName(target));
      if (!serves)
        ownNames.refuse(
          spec,
          undefined,
          own.flatMap(({ names }) => names),
        );
      const claim: Claim = { target, names: [...spec.domains, ...spec.aliases], nodes };
      const owner = findOwner(claim, [...serving(), ...underWay]);
      if (owner !== null) throw taken(owner.name, owner.claim.target, target);
      underWay.add(claim);
      return { release: () => void underWay.delete(claim) };
    },
  };
}

/** The first of `others` that has one of the names on one of the nodes. Pure. */
export function findOwner(claim: Claim, others: readonly Claim[]): { claim: Claim; name: string } | null {
  for (const other of others) {
    if (targetName(other.target) === targetName(claim.target)) continue;
    if (!other.nodes.some((node) => claim.nodes.includes(node))) continue;
    const name = claim.names.find((candidate) => other.names.includes(candidate));
    if (name !== undefined) return { claim: other, name };
  }
  return null;
}

/** Where a domain is one target's alone: a router answers for it, too. */
export function nodesWithDomain({ nodes, router }: Pick<EnvironmentConfig, 'nodes' | 'router'>): string[] {
  return router === null ? [...nodes] : [...nodes, router];
}

function taken(domain: string, owner: Target, target: Target): TakenError {
  return new TakenError({
    code: 'domain.taken',
    what: `the domain ${domain} belongs to`,
    owner,
    reason: `${domain} belongs to`,
    hint: [
      'give this one another in kraftwerk.yaml:',
      'environments:',
      `  ${target.environment}:`,
      `    domain: ${target.environment}.${domain}`,
    ],
  });
}
