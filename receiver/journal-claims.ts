/** The journal's part about names on nodes: which target a node's instance belongs to. SQL as in journal.ts. */
import type { DataJournalHands } from './journal-data.ts';
import { type Target, targetName } from './target.ts';

/** A name on a node, and the one target that may use it there. */
export interface NameClaim {
  node: string;
  /** An instance's. */
  name: string;
  target: Target;
  /** The target is destroyed, but the node was not asked: what it has under the name may still be there. */
  left: boolean;
}

export const CLAIMS_SCHEMA = `
CREATE TABLE IF NOT EXISTS claims (
  node TEXT, name TEXT, project TEXT NOT NULL, environment TEXT NOT NULL, claimed_at TEXT NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (node, name)
) STRICT;
CREATE INDEX IF NOT EXISTS claims_by_target ON claims (project, environment);
`;

export type ClaimJournal = ReturnType<typeof openClaimJournal>;

export function openClaimJournal({ all, one, run, transaction, time }: DataJournalHands) {
  const key = ({ project, environment }: Target): [string, string] => [project, environment];

  function find(node: string, name: string): NameClaim | null {
    const row = one('SELECT * FROM claims WHERE node = ? AND name = ?', node, name);
    return row === undefined ? null : readClaim(row);
  }

  function add(target: Target, node: string, name: string): void {
    run(
      'INSERT OR IGNORE INTO claims (node, name, project, environment, claimed_at) VALUES (?, ?, ?, ?, ?)',
      ...[node, name, ...key(target), time()],
    );
  }

  /** The claims of others that are in the way. */
  function inTheWay(target: Target, name: string, nodes: readonly string[]): NameClaim[] {
    return nodes.flatMap((node) => {
      const claim = find(node, name);
      return claim === null || targetName(claim.target) === targetName(target) ? [] : [claim];
    });
  }

  return {
    inTheWay,
    /**
     * The name on all of the nodes, or on none. On disk when this returns.
     * @returns the claims of others that are in the way; none: all are the target's now
     */
    claim(target: Target, name: string, nodes: readonly string[]): NameClaim[] {
      const missing = nodes.filter((node) => {
        const claim = find(node, name);
        return claim === null || targetName(claim.target) !== targetName(target);
      });
      if (missing.length === 0) return [];
      return transaction(() => {
        const others = inTheWay(target, name, missing);
        if (others.length === 0) for (const node of missing) add(target, node, name);
        return others;
      });
    },
    /** The name on those of the nodes where it is free: of a target that is older than claims. @returns the others' claims */
    adopt(target: Target, name: string, nodes: readonly string[]): NameClaim[] {
      return transaction(() => {
        const others = inTheWay(target, name, nodes);
        for (const node of nodes) if (!others.some((claim) => claim.node === node)) add(target, node, name);
        return others;
      });
    },
    /** A target's claims to a name, to another target that goes on with what it has there. */
    handOn(from: Target, to: Target, name: string, nodes: readonly string[]): void {
      for (const node of nodes)
        run(
          'UPDATE claims SET project = ?, environment = ?, destroyed = 0 WHERE node = ? AND name = ? AND project = ? AND environment = ?',
          ...[...key(to), node, name, ...key(from)],
        );
    },
    of: (target: Target): NameClaim[] =>
      all('SELECT * FROM claims WHERE project = ? AND environment = ? ORDER BY node, name', ...key(target)).map(
        readClaim,
      ),
    /** Of a target that is being forgotten. @param left nodes that were not asked: names there stay taken */
    release(target: Target, left: readonly string[]): void {
      for (const { node, name } of this.of(target))
        run(
          left.includes(node)
            ? 'UPDATE claims SET destroyed = 1 WHERE node = ? AND name = ?'
            : 'DELETE FROM claims WHERE node = ? AND name = ?',
          node,
          name,
        );
    },
    /** Of a push that was refused before it became a deploy: nothing of the target is on any node. */
    releaseUnused(target: Target): void {
      if (one('SELECT 1 FROM targets WHERE project = ? AND environment = ?', ...key(target)) === undefined)
        run('DELETE FROM claims WHERE destroyed = 0 AND project = ? AND environment = ?', ...key(target));
    },
    /** The same for all pushes that a receiver was killed in. */
    releaseAllUnused(): void {
      run(
        `DELETE FROM claims WHERE destroyed = 0 AND NOT EXISTS
          (SELECT 1 FROM targets t WHERE t.project = claims.project AND t.environment = claims.environment)`,
      );
    },
  };
}

function readClaim(row: Record<string, unknown>): NameClaim {
  return {
    node: String(row.node),
    name: String(row.name),
    target: { project: String(row.project), environment: String(row.environment) } as Target,
    left: row.destroyed === 1,
  };
}
