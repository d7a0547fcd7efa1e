/**
 * The one door to a target's name on a node: nobody gets an `InstanceName` for whom the journal has no claim to it there. Two targets
 * of one name would be one user, one database and one folder, since all of a site's names on a node are made of its instance's.
 */
import { type InstanceName, KraftwerkError } from '../node-agent/protocol.ts';
import type { EnvironmentConfig } from './config.ts';
import { instanceName } from './instance-name.ts';
import type { Journal, TargetRecord } from './journal.ts';
import type { NameClaim } from './journal-claims.ts';
import { TakenError } from './taken.ts';
import { type Target, targetName } from './target.ts';

export interface InstancesOptions {
  journal: Pick<Journal, 'claims' | 'data' | 'switchedNodes' | 'target' | 'targets'>;
  /** @throws KraftwerkError `environment.unknown` */
  environment(target: Target): Pick<EnvironmentConfig, 'nodes' | 'router' | 'suffix'>;
}

/** A target whose name on a node belongs to another one. */
export interface NameConflict {
  target: Target;
  owner: Target;
  name: string;
  node: string;
}

export type Instances = ReturnType<typeof createInstances>;

export function createInstances({ journal, environment }: InstancesOptions) {
  const nameOf = (target: Target): InstanceName => instanceName(target, environment(target).suffix);

  /** Those of its environment. A router has a file of each site that it routes to. */
  function nodesOf(target: Target): string[] {
    const { nodes, router } = environment(target);
    return router === null ? [...nodes] : [...nodes, router];
  }

  /** Null for a target of an environment that the configuration no longer has. */
  function conflictOf(target: Target): NameConflict | null {
    try {
      const name = nameOf(target);
      const claim = journal.claims.inTheWay(target, name, nodesOf(target)).find((one) => !goesOn(target, one.target));
      return claim === undefined ? null : { target, owner: claim.target, name, node: claim.node };
    } catch (error) {
      if (isUnusable(error)) return null;
      throw error;
    }
  }

  /** Nodes that have been of its environment, as far as the journal tells. */
  function formerNodes(target: Target): string[] {
    return [
      ...journal.switchedNodes(target),
      ...[...journal.data.services(target), ...journal.data.oldCopies(target)].map(({ node }) => node),
      ...journal.data.linkedNodes(target),
    ];
  }

  /** Its environment has another name in the configuration now: the target goes on with the project's own site of before. */
  function goesOn(target: Target, owner: Target): boolean {
    return owner.project === target.project && !isConfigured(owner);
  }

  function takeOver(target: Target, name: string, nodes: readonly string[]): void {
    for (const { target: owner } of journal.claims.inTheWay(target, name, nodes))
      if (goesOn(target, owner)) journal.claims.handOn(owner, target, name, nodes);
  }

  function isConfigured(target: Target): boolean {
    try {
      environment(target);
      return true;
    } catch (error) {
      if (error instanceof KraftwerkError && error.code === 'environment.unknown') return false;
      throw error;
    }
  }

  return {
    /**
     * The target's name on the nodes of its environment, claimed for it on all of them.
     * @param node another one that it is used on, where something of the target may be left
     * @throws KraftwerkError `name.taken`: on one of them it is another target's; `target.name`, `environment.unknown`
     */
    of(target: Target, node?: string): InstanceName {
      const name = nameOf(target);
      const nodes = new Set([...nodesOf(target), ...(node === undefined ? [] : [node])]);
      takeOver(target, name, [...nodes]);
      const [claim] = journal.claims.claim(target, name, [...nodes]);
      if (claim !== undefined) throw nameTaken(target, claim, journal.target(target) !== null);
      return name;
    },
    /** Why the target may not use its name, without claiming it; null: it may. */
    conflict: conflictOf,
    /** The same as what its commands are refused with. */
    refusal(target: Target): TakenError | null {
      const found = conflictOf(target);
      return found === null ? null : nameTaken(target, { ...found, target: found.owner, left: false }, true);
    },
    /** Its name where it may be asked how it does; null: there is none, or it is another target's. Claims nothing. */
    find(target: Target): InstanceName | null {
      try {
        return conflictOf(target) === null ? nameOf(target) : null;
      } catch (error) {
        if (isUnusable(error)) return null;
        throw error;
      }
    },
    /** Where the target has a name, and which: also those of other suffixes and nodes that it has had. */
    held: (target: Target): { node: string; name: InstanceName }[] =>
      journal.claims.of(target).map(({ name, node }) => ({ node, name: name as InstanceName })),
    owns(target: Target, node: string): boolean {
      const name = nameOf(target);
      return journal.claims.of(target).some((claim) => claim.node === node && claim.name === name);
    },
    /**
     * At the receiver's start, before any node is asked for a target: those that the journal knows get their names, the older target
     * first. Another configuration may have given them others, and a journal may be older than claims.
     * @returns those that could not
     */
    adoptAll(): NameConflict[] {
      journal.claims.releaseAllUnused();
      const older = (a: TargetRecord, b: TargetRecord): number =>
        a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0;
      const known = [...journal.targets()].sort(older).flatMap(({ target }) => {
        try {
          return [{ target, name: nameOf(target) }];
        } catch {
          // Its environment is gone, or its suffix is too long now: nothing can be done with it.
          return [];
        }
      });
      const conflicts = known.flatMap(({ name, target }): NameConflict[] => {
        const others = journal.claims.adopt(target, name, nodesOf(target));
        return others.map((claim) => ({ target, owner: claim.target, name, node: claim.node }));
      });
      // After those who use them now.
      for (const { name, target } of known) journal.claims.adopt(target, name, formerNodes(target));
      return conflicts;
    },
  };
}

/** Its environment is gone, or its name is too long with the suffix that this has now. */
function isUnusable(error: unknown): boolean {
  return error instanceof KraftwerkError && ['environment.unknown', 'target.name'].includes(error.code);
}

function nameTaken(target: Target, { name, node, target: owner }: NameClaim, exists: boolean): TakenError {
  const away = `ssh kraftwerk@HOST destroy ${targetName(target)}`;
  return new TakenError({
    code: 'name.taken',
    what: `the name ${name} on node ${node} belongs to`,
    owner,
    reason: `the name ${name} belongs to`,
    hint: exists
      ? [
          'docs/troubleshooting.md, "the name … on node … belongs to …"',
          `to give it up, which touches no node: ${away}`,
        ]
      : [
          'push it as another project, as in:',
          `git remote set-url ${target.environment} kraftwerk@HOST:NAME/${target.environment}`,
          `or an admin gives ${target.environment} another suffix in the receiver's configuration`,
        ],
  });
}
