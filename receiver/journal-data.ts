/** The journal's part about data: services of targets, operations that were begun, when schedules ran last. SQL as in journal.ts. */
import type { ServiceName } from '../node-agent/protocol.ts';
import type { Options } from './service-schema.ts';
import { type Target, targetName } from './target.ts';

type Value = string | number | null;
type Row = Record<string, unknown>;

export interface DataJournalHands {
  all(sql: string, ...values: Value[]): Row[];
  one(sql: string, ...values: Value[]): Row | undefined;
  run(sql: string, ...values: Value[]): number;
  transaction<T>(body: () => T): T;
  time(): string;
}

/** What was begun with a target's data, and has to come to an end whatever happens. */
export type OperationKind = 'load' | 'destroy' | 'move';

export interface Operation {
  id: number;
  target: Target;
  kind: OperationKind;
  /** How far it has come; each kind has its own words. */
  phase: string;
  by: string;
  startedAt: string;
  endedAt: string | null;
  error: string | null;
  /** What is needed to finish it or to take it back. */
  detail: unknown;
}

/** A service that a target has, or has had: its data is still there. */
export interface ServiceRecord {
  target: Target;
  name: ServiceName;
  options: Options;
  /** The one node that has its data, where an environment has several. */
  node: string;
  addedAt: string;
  /** Whether the current release asks for it. */
  asked: boolean;
}

/** As kraftwerk.yaml asks for it; `node`: where its data is to be, if it says so. */
export interface AskedService {
  name: ServiceName;
  options: Options;
  node?: string;
}

/** Data of a service on a node that is not the service's any more: left by a move, until somebody says that it may go. */
export interface OldCopy {
  service: ServiceName;
  node: string;
  since: string;
}

export const DATA_SCHEMA = `
CREATE TABLE IF NOT EXISTS services (
  project TEXT, environment TEXT, service TEXT, options TEXT NOT NULL, node TEXT NOT NULL, added_at TEXT NOT NULL, asked INTEGER NOT NULL,
  PRIMARY KEY (project, environment, service)
) STRICT;
CREATE TABLE IF NOT EXISTS operations (
  id INTEGER PRIMARY KEY, project TEXT NOT NULL, environment TEXT NOT NULL, kind TEXT NOT NULL, phase TEXT NOT NULL, started_by TEXT NOT NULL,
  started_at TEXT NOT NULL, ended_at TEXT, error TEXT, detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operations_open ON operations (id) WHERE ended_at IS NULL;
CREATE TABLE IF NOT EXISTS maintenance (
  project TEXT, environment TEXT, since TEXT NOT NULL, put_by TEXT NOT NULL, PRIMARY KEY (project, environment)
) STRICT;
CREATE TABLE IF NOT EXISTS old_copies (
  project TEXT, environment TEXT, service TEXT, node TEXT, since TEXT NOT NULL, PRIMARY KEY (project, environment, service, node)
) STRICT;
CREATE TABLE IF NOT EXISTS linked_nodes (project TEXT, environment TEXT, node TEXT, PRIMARY KEY (project, environment, node)) STRICT;
CREATE TABLE IF NOT EXISTS schedules (key TEXT PRIMARY KEY, ran_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS scheduled (
  project TEXT, environment TEXT, kind TEXT, at TEXT NOT NULL, error TEXT, PRIMARY KEY (project, environment, kind)
) STRICT;
`;

const KEPT_OPERATIONS = 1_000;

export type DataJournal = ReturnType<typeof openDataJournal>;

export function openDataJournal({ all, one, run, transaction, time }: DataJournalHands) {
  const key = ({ project, environment }: Target): [string, string] => [project, environment];
  return {
    /** Those that are asked for, and those whose data has stayed. */
    services: (target: Target): ServiceRecord[] =>
      all('SELECT * FROM services WHERE project = ? AND environment = ? ORDER BY rowid', ...key(target)).map(
        readService,
      ),
    /** What a release asks for; `node` is kept where one is known. In the transaction of whoever calls. */
    noteServices(target: Target, services: readonly AskedService[], node: string): void {
      run('UPDATE services SET asked = 0 WHERE project = ? AND environment = ?', ...key(target));
      for (const { name, options, node: wanted } of services) {
        run(
          `INSERT INTO services (project, environment, service, options, node, added_at, asked) VALUES (?, ?, ?, ?, ?, ?, 1)
           ON CONFLICT DO UPDATE SET options = excluded.options, asked = 1`,
          ...[...key(target), name, JSON.stringify(options), wanted ?? node, time()],
        );
      }
    },
    /** They are about to be set up: whatever becomes of the release, they may be there. */
    announceServices(target: Target, services: readonly AskedService[], node: string): void {
      for (const { name, options, node: wanted } of services) {
        if (one('SELECT 1 FROM services WHERE project = ? AND environment = ? AND service = ?', ...key(target), name))
          continue;
        run(
          'INSERT INTO services (project, environment, service, options, node, added_at, asked) VALUES (?, ?, ?, ?, ?, ?, 0)',
          ...[...key(target), name, JSON.stringify(options), wanted ?? node, time()],
        );
      }
    },
    moveService(target: Target, name: ServiceName, node: string): void {
      run(
        'UPDATE services SET node = ? WHERE project = ? AND environment = ? AND service = ?',
        node,
        ...key(target),
        name,
      );
    },
    /** Newest first. */
    oldCopies: (target: Target): OldCopy[] =>
      all(
        'SELECT * FROM old_copies WHERE project = ? AND environment = ? ORDER BY since DESC, rowid DESC',
        ...key(target),
      ).map((row) => ({
        service: String(row.service) as ServiceName,
        node: String(row.node),
        since: String(row.since),
      })),
    noteOldCopy(target: Target, name: ServiceName, node: string): void {
      run(
        'INSERT OR REPLACE INTO old_copies (project, environment, service, node, since) VALUES (?, ?, ?, ?, ?)',
        ...[...key(target), name, node, time()],
      );
    },
    forgetOldCopy(target: Target, name: ServiceName, node: string): void {
      run(
        'DELETE FROM old_copies WHERE project = ? AND environment = ? AND service = ? AND node = ?',
        ...[...key(target), name, node],
      );
    },
    /** Nodes that have links of the target, or keys of others for it. */
    linkedNodes: (target: Target): string[] =>
      all('SELECT node FROM linked_nodes WHERE project = ? AND environment = ?', ...key(target)).map(({ node }) =>
        String(node),
      ),
    setLinkedNodes(target: Target, nodes: readonly string[]): void {
      transaction(() => {
        run('DELETE FROM linked_nodes WHERE project = ? AND environment = ?', ...key(target));
        for (const node of nodes)
          run('INSERT INTO linked_nodes (project, environment, node) VALUES (?, ?, ?)', ...key(target), node);
      });
    },
    /** In the transaction of whoever calls. What was begun with it stays, until that has come to its end. */
    forget(target: Target): void {
      for (const table of ['services', 'maintenance', 'old_copies', 'linked_nodes', 'scheduled'])
        run(`DELETE FROM ${table} WHERE project = ? AND environment = ?`, ...key(target));
    },
    forgetService(target: Target, name: ServiceName): void {
      run('DELETE FROM services WHERE project = ? AND environment = ? AND service = ?', ...key(target), name);
    },

    /** Somebody has put it there; a load that goes on does so by itself. */
    maintenance(target: Target): { since: string; by: string } | null {
      const row = one('SELECT * FROM maintenance WHERE project = ? AND environment = ?', ...key(target));
      return row === undefined ? null : { since: String(row.since), by: String(row.put_by) };
    },
    setMaintenance(target: Target, on: boolean, by: string): void {
      if (on)
        run(
          'INSERT OR IGNORE INTO maintenance (project, environment, since, put_by) VALUES (?, ?, ?, ?)',
          ...key(target),
          time(),
          by,
        );
      else run('DELETE FROM maintenance WHERE project = ? AND environment = ?', ...key(target));
    },

    /** @returns its id */
    beginOperation(target: Target, kind: OperationKind, phase: string, by: string, detail: unknown): number {
      return transaction(() => {
        run(
          'INSERT INTO operations (project, environment, kind, phase, started_by, started_at, detail) VALUES (?, ?, ?, ?, ?, ?, ?)',
          ...[...key(target), kind, phase, by, time(), JSON.stringify(detail)],
        );
        const id = Number(one('SELECT last_insert_rowid() AS id')?.id);
        run('DELETE FROM operations WHERE ended_at IS NOT NULL AND id <= ?', id - KEPT_OPERATIONS);
        return id;
      });
    },
    setOperationPhase(id: number, phase: string, detail?: unknown): void {
      if (detail === undefined) run('UPDATE operations SET phase = ? WHERE id = ?', phase, id);
      else run('UPDATE operations SET phase = ?, detail = ? WHERE id = ?', phase, JSON.stringify(detail), id);
    },
    /** Where a service's data is changes in the same moment as the phase of the move. */
    moveInOperation(
      id: number,
      phase: string,
      { target, name, node }: Pick<ServiceRecord, 'target' | 'name' | 'node'>,
    ): void {
      transaction(() => {
        this.moveService(target, name, node);
        this.setOperationPhase(id, phase);
      });
    },
    endOperation(id: number, error: string | null): void {
      run('UPDATE operations SET ended_at = ?, error = ? WHERE id = ?', time(), error, id);
    },
    /** Of one target or of all, in the order in which they were begun. */
    openOperations: (target?: Target): Operation[] =>
      all('SELECT * FROM operations WHERE ended_at IS NULL ORDER BY id')
        .map(readOperation)
        .filter((operation) => target === undefined || targetName(operation.target) === targetName(target)),

    lastRun(schedule: string): Date | null {
      const row = one('SELECT ran_at FROM schedules WHERE key = ?', schedule);
      return row === undefined ? null : new Date(String(row.ran_at));
    },
    /** How the last backup, or drill, of a target has ended. */
    noteSchedule(target: Target, kind: 'backup' | 'drill', error: string | null): void {
      run(
        'INSERT OR REPLACE INTO scheduled (project, environment, kind, at, error) VALUES (?, ?, ?, ?, ?)',
        ...[...key(target), kind, time(), error],
      );
    },
    scheduled: (target: Target): { kind: string; at: string; error: string | null }[] =>
      all('SELECT * FROM scheduled WHERE project = ? AND environment = ? ORDER BY kind', ...key(target)).map((row) => ({
        kind: String(row.kind),
        at: String(row.at),
        error: row.error === null ? null : String(row.error),
      })),
    setLastRun(schedule: string, at: Date): void {
      run('INSERT OR REPLACE INTO schedules (key, ran_at) VALUES (?, ?)', schedule, at.toISOString());
    },
  };
}

const targetOf = (row: Row): Target =>
  ({ project: String(row.project), environment: String(row.environment) }) as Target;

function readService(row: Row): ServiceRecord {
  return {
    target: targetOf(row),
    name: String(row.service) as ServiceName,
    options: JSON.parse(String(row.options)) as Options,
    node: String(row.node),
    addedAt: String(row.added_at),
    asked: row.asked === 1,
  };
}

function readOperation(row: Row): Operation {
  return {
    id: Number(row.id),
    target: targetOf(row),
    kind: String(row.kind) as OperationKind,
    phase: String(row.phase),
    by: String(row.started_by),
    startedAt: String(row.started_at),
    endedAt: row.ended_at === null ? null : String(row.ended_at),
    error: row.error === null ? null : String(row.error),
    detail: JSON.parse(String(row.detail)) as unknown,
  };
}
