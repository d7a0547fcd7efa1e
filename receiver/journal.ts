/** The journal: targets, releases, deploys, keys, audit. With journal-data.ts and journal-claims.ts the only database code. */
// Long because: all that is kept, and all SQL about code, is on one page.
import { DatabaseSync } from 'node:sqlite';
import { type CommitId, KraftwerkError, type Serving, type Sha256 } from '../node-agent/protocol.ts';
import type { ReleaseSpec } from './deploy/plan.ts';
import { CLAIMS_SCHEMA, openClaimJournal } from './journal-claims.ts';
import { DATA_SCHEMA, openDataJournal } from './journal-data.ts';
import type { KeyStore, StoredKey } from './keys.ts';
import { type Target, targetName } from './target.ts';
import type { StoredToken, TokenStore } from './tokens.ts';

/** By node: what is to serve, and what served while it was prepared. */
export type Switches = Readonly<Record<string, { next: Serving; previous: Serving | null }>>;

export type DeployKind = 'push' | 'deploy' | 'rollback' | 'restart';
/**
 * How far a deploy has come; written before the next phase begins.
 * preparing: nothing that serves has been touched. activating: nodes are being switched. activated: all are; the ref is to move.
 * abandoning: nodes are being put back, and whoever finds it so goes on with that.
 */
export type Phase = 'preparing' | 'activating' | 'activated' | 'abandoning' | 'done' | 'failed';

export interface DeployRecord {
  id: number;
  target: Target;
  kind: DeployKind;
  /** The release that is made, or gone back to. */
  release: number;
  /** What served before. */
  previous: number | null;
  commit: CommitId;
  /** The ref that moves in the end, and where from; null: none does. */
  ref: string | null;
  refFrom: CommitId | null;
  phase: Phase;
  by: string;
  startedAt: string;
  endedAt: string | null;
  error: string | null;
  transcript: string;
  /** What each node is switched to, and from; known when all are prepared. */
  switches: Switches | null;
}

export interface ReleaseRecord {
  target: Target;
  release: number;
  commit: CommitId;
  subject: string;
  artifact: { sha256: Sha256; bytes: number };
  spec: ReleaseSpec;
  createdAt: string;
  createdBy: string;
  durationMs: number;
}

export interface TargetRecord {
  target: Target;
  current: number | null;
  branch: string | null;
  generation: number;
  stopped: boolean;
  createdAt: string;
  createdBy: string;
}

const SCHEMA = `
CREATE TABLE IF NOT EXISTS targets (
  project TEXT, environment TEXT, current INTEGER, branch TEXT, generation INTEGER NOT NULL DEFAULT 0,
  stopped INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (project, environment)
) STRICT;
CREATE TABLE IF NOT EXISTS releases (
  project TEXT, environment TEXT, release INTEGER, commit_id TEXT NOT NULL, subject TEXT NOT NULL, sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL, spec TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL, duration_ms INTEGER NOT NULL,
  PRIMARY KEY (project, environment, release)
) STRICT;
CREATE INDEX IF NOT EXISTS releases_by_artifact ON releases (sha256);
CREATE TABLE IF NOT EXISTS deploys (
  id INTEGER PRIMARY KEY, project TEXT NOT NULL, environment TEXT NOT NULL, kind TEXT NOT NULL, release INTEGER NOT NULL, previous INTEGER,
  commit_id TEXT NOT NULL, ref TEXT, ref_from TEXT, phase TEXT NOT NULL, started_by TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
  error TEXT, transcript TEXT NOT NULL DEFAULT '', steps TEXT NOT NULL DEFAULT '[]', switches TEXT,
  retired INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS deploys_by_target ON deploys (project, environment, release);
CREATE INDEX IF NOT EXISTS deploys_open ON deploys (phase) WHERE phase NOT IN ('done', 'failed');
CREATE TABLE IF NOT EXISTS keys (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, targets TEXT NOT NULL, line TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE,
  added_at TEXT NOT NULL, added_by TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS key_uses (fingerprint TEXT PRIMARY KEY, last_used_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
  id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, fingerprint TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT NOT NULL, last_used_at TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, at TEXT NOT NULL, key TEXT NOT NULL, action TEXT NOT NULL, target TEXT, detail TEXT) STRICT;
`;
const SCHEMA_VERSION = 4;
/** Schema 2 had the last use beside the key, and none for the configuration's keys. */
const FROM_2 =
  'INSERT OR IGNORE INTO key_uses SELECT fingerprint, last_used_at FROM keys WHERE last_used_at IS NOT NULL;';
/** Deploys whose transcripts are kept per target. */
export const KEPT_DEPLOYS = 200;
const KEPT_AUDIT = 100_000;

type Row = Record<string, unknown>;
export type Journal = ReturnType<typeof openJournal>;

/**
 * Opens or makes the journal in the data folder and holds it alone.
 * @throws KraftwerkError `receiver.running` when another receiver has it, `journal.newer` when a newer kraftwerk wrote it
 */
export function openJournal(file: string, now: () => Date) {
  const db = new DatabaseSync(file, { timeout: 2_000 });
  try {
    // FULL: a phase that was written has survived a power cut. EXCLUSIVE: two receivers cannot share a data folder.
    db.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; BEGIN EXCLUSIVE; COMMIT;',
    );
  } catch (cause) {
    throw new KraftwerkError('receiver.running', `${file}: another receiver uses this data folder`, {
      hint: 'stop it first, or give this one a data folder of its own',
      exit: 'busy',
      cause,
    });
  }
  const version = Number((db.prepare('PRAGMA user_version').get() as Row).user_version);
  if (version > SCHEMA_VERSION) {
    throw new KraftwerkError(
      'journal.newer',
      `${file}: written by a newer kraftwerk (schema ${version}, this one knows ${SCHEMA_VERSION})`,
      { hint: 'install the newer version again' },
    );
  }
  db.exec(SCHEMA);
  db.exec(DATA_SCHEMA);
  // Schema 3 had no claims: the receiver's start makes them, which knows nodes and suffixes.
  db.exec(CLAIMS_SCHEMA);
  if (version === 2) db.exec(FROM_2);
  db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);

  const time = (): string => now().toISOString();
  const key = ({ project, environment }: Target): [string, string] => [project, environment];
  const statements = new Map<string, ReturnType<DatabaseSync['prepare']>>();
  const prepare = (sql: string) => {
    const known = statements.get(sql) ?? db.prepare(sql);
    statements.set(sql, known);
    return known;
  };
  const all = (sql: string, ...values: (string | number | null)[]): Row[] => prepare(sql).all(...values) as Row[];
  const one = (sql: string, ...values: (string | number | null)[]): Row | undefined =>
    prepare(sql).get(...values) as Row | undefined;
  const run = (sql: string, ...values: (string | number | null)[]): number =>
    Number(prepare(sql).run(...values).changes);

  function transaction<T>(body: () => T): T {
    db.exec('BEGIN IMMEDIATE');
    try {
      const result = body();
      db.exec('COMMIT');
      return result;
    } catch (error) {
      db.exec('ROLLBACK');
      throw error;
    }
  }

  // Once an hour is enough to tell what is used from what is not: a login shall not cost an fsync.
  const hourAgo = (): string => new Date(now().getTime() - 3_600_000).toISOString();

  const hands = { all, one, run, transaction, time };
  const data = openDataJournal(hands);
  const claims = openClaimJournal(hands);

  const keys: KeyStore = {
    all: () => all('SELECT * FROM keys ORDER BY name').map(readKey),
    find: (fingerprint) => {
      const row = one('SELECT * FROM keys WHERE fingerprint = ?', fingerprint);
      return row === undefined ? undefined : readKey(row);
    },
    add: (entry) => {
      run(
        'INSERT INTO keys (name, role, targets, line, fingerprint, added_at, added_by) VALUES (?, ?, ?, ?, ?, ?, ?)',
        entry.name,
        entry.role,
        JSON.stringify(entry.targets),
        entry.line,
        entry.fingerprint,
        entry.addedAt,
        entry.addedBy,
      );
    },
    remove: (name) =>
      transaction(() => {
        // With its tokens, so that they do not come back with the key.
        run('DELETE FROM tokens WHERE fingerprint = (SELECT fingerprint FROM keys WHERE name = ?)', name);
        return run('DELETE FROM keys WHERE name = ?', name) > 0;
      }),
    touch: (fingerprint) => {
      run(
        `INSERT INTO key_uses VALUES (?, ?)
          ON CONFLICT DO UPDATE SET last_used_at = excluded.last_used_at WHERE last_used_at < ?`,
        fingerprint,
        time(),
        hourAgo(),
      );
    },
    lastUsed: (fingerprint) =>
      maybe(one('SELECT last_used_at FROM key_uses WHERE fingerprint = ?', fingerprint)?.last_used_at),
  };

  const tokens: TokenStore = {
    all: () => all('SELECT * FROM tokens ORDER BY created_at, id').map(readToken),
    find: (id) => {
      const row = one('SELECT * FROM tokens WHERE id = ?', id);
      return row === undefined ? undefined : readToken(row);
    },
    add: ({ id, sha256, fingerprint, createdAt, expiresAt }) => {
      run(
        'INSERT INTO tokens (id, sha256, fingerprint, created_at, expires_at) VALUES (?, ?, ?, ?, ?)',
        ...[id, sha256, fingerprint, createdAt, expiresAt],
      );
    },
    remove: (id) => run('DELETE FROM tokens WHERE id = ?', id) > 0,
    touch: (id) => {
      run(
        'UPDATE tokens SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)',
        time(),
        id,
        hourAgo(),
      );
    },
  };

  return {
    keys,
    tokens,
    data,
    claims,
    close: (): void => db.close(),

    targets: (): TargetRecord[] => all('SELECT * FROM targets ORDER BY project, environment').map(readTarget),
    target(target: Target): TargetRecord | null {
      const row = one('SELECT * FROM targets WHERE project = ? AND environment = ?', ...key(target));
      return row === undefined ? null : readTarget(row);
    },
    /**
     * All but what was done to it, and by whom: the next push of its name is the first. What was begun with its data ends.
     * @param left nodes that may still have something of it: its names there stay taken
     */
    forget(target: Target, left: readonly string[] = []): void {
      transaction(() => {
        for (const table of ['targets', 'releases', 'deploys'])
          run(`DELETE FROM ${table} WHERE project = ? AND environment = ?`, ...key(target));
        data.forget(target);
        claims.release(target, left);
        for (const { id } of data.openOperations(target)) data.endOperation(id, null);
      });
    },
    raiseGeneration(target: Target): void {
      run('UPDATE targets SET generation = generation + 1 WHERE project = ? AND environment = ?', ...key(target));
    },
    setStopped(target: Target, stopped: boolean): void {
      run('UPDATE targets SET stopped = ? WHERE project = ? AND environment = ?', stopped ? 1 : 0, ...key(target));
    },

    releases: (target: Target): ReleaseRecord[] =>
      all('SELECT * FROM releases WHERE project = ? AND environment = ? ORDER BY release DESC', ...key(target)).map(
        readRelease,
      ),
    release(target: Target, release: number): ReleaseRecord | null {
      const row = one(
        'SELECT * FROM releases WHERE project = ? AND environment = ? AND release = ?',
        ...key(target),
        release,
      );
      return row === undefined ? null : readRelease(row);
    },
    /** The current release of every target that has one. */
    currentReleases: (): ReleaseRecord[] =>
      all(
        'SELECT r.* FROM releases r JOIN targets t ON t.project = r.project AND t.environment = r.environment AND t.current = r.release',
      ).map(readRelease),
    artifactNeeded: (sha256: string): boolean =>
      one('SELECT 1 FROM releases WHERE sha256 = ? LIMIT 1', sha256) !== undefined,
    dropReleases(target: Target, releases: readonly number[]): void {
      transaction(() => {
        for (const release of releases)
          run('DELETE FROM releases WHERE project = ? AND environment = ? AND release = ?', ...key(target), release);
      });
    },

    deploys: (target: Target, limit: number): DeployRecord[] =>
      all(
        'SELECT * FROM deploys WHERE project = ? AND environment = ? ORDER BY id DESC LIMIT ?',
        ...key(target),
        limit,
      ).map(readDeploy),
    /** The deploy that put the current release in its place; a restart does not count. */
    deployOfCurrent(target: Target): DeployRecord | null {
      const row = one(
        "SELECT * FROM deploys WHERE id = (SELECT max(id) FROM deploys WHERE project = ? AND environment = ? AND phase = 'done' AND kind <> 'restart')",
        ...key(target),
      );
      return row === undefined ? null : readDeploy(row);
    },
    /** The deploy that made a release, or tried to; where that one is not kept, the last that went back to it. */
    deployOf(target: Target, release: number): DeployRecord | null {
      const row = one(
        "SELECT * FROM deploys WHERE project = ? AND environment = ? AND release = ? ORDER BY kind IN ('push', 'deploy') DESC, kind = 'restart', id DESC LIMIT 1",
        ...key(target),
        release,
      );
      return row === undefined ? null : readDeploy(row);
    },
    /** Deploys that have not come to an end, of one target or of all. */
    openDeploys: (target?: Target): DeployRecord[] =>
      all("SELECT * FROM deploys WHERE phase NOT IN ('done', 'failed') ORDER BY id")
        .map(readDeploy)
        .filter((deploy) => target === undefined || targetName(deploy.target) === targetName(target)),

    /** Numbers only rise: a failed deploy uses its own up. */
    nextRelease(target: Target): number {
      return Number(
        one(
          "SELECT coalesce(max(release), 0) + 1 AS next FROM deploys WHERE project = ? AND environment = ? AND kind IN ('push', 'deploy')",
          ...key(target),
        )?.next,
      );
    },

    /** @returns the deploy's id */
    beginDeploy(
      deploy: Pick<DeployRecord, 'target' | 'kind' | 'release' | 'previous' | 'commit' | 'ref' | 'refFrom' | 'by'>,
    ): number {
      return transaction(() => {
        const { target, kind, release, previous, commit, ref, refFrom, by } = deploy;
        run(
          'INSERT OR IGNORE INTO targets (project, environment, created_at, created_by) VALUES (?, ?, ?, ?)',
          ...key(target),
          time(),
          by,
        );
        prepare(
          'INSERT INTO deploys (project, environment, kind, release, previous, commit_id, ref, ref_from, phase, started_by, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        ).run(...key(target), kind, release, previous, commit, ref, refFrom, 'preparing', by, time());
        run(
          'DELETE FROM deploys WHERE project = ? AND environment = ? AND id < (SELECT id FROM deploys WHERE project = ? AND environment = ? ORDER BY id DESC LIMIT 1 OFFSET ?)',
          ...key(target),
          ...key(target),
          KEPT_DEPLOYS,
        );
        return Number(one('SELECT last_insert_rowid() AS id')?.id);
      });
    },
    setPhase(id: number, phase: 'activating' | 'activated', switches?: Switches): void {
      if (switches === undefined) run('UPDATE deploys SET phase = ? WHERE id = ?', phase, id);
      else run('UPDATE deploys SET phase = ?, switches = ? WHERE id = ?', phase, JSON.stringify(switches), id);
    },
    /** From here on it is only taken back. */
    abandonDeploy(id: number, reason: string): void {
      run("UPDATE deploys SET phase = 'abandoning', error = ? WHERE id = ?", reason, id);
    },
    /** The release that a deploy is making; it becomes a fact only with `finishDeploy`. */
    saveRelease(release: ReleaseRecord): void {
      const { target, commit, subject, artifact, spec, createdAt, createdBy, durationMs } = release;
      run(
        'INSERT OR REPLACE INTO releases (project, environment, release, commit_id, subject, sha256, bytes, spec, created_at, created_by, duration_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        ...key(target),
        release.release,
        commit,
        subject,
        artifact.sha256,
        artifact.bytes,
        JSON.stringify(spec),
        createdAt,
        createdBy,
        Math.round(durationMs),
      );
    },
    /** @param node the first of its environment's nodes, which gets the data of services that are new */
    finishDeploy(deploy: Pick<DeployRecord, 'id' | 'target' | 'release' | 'ref'>, node: string): void {
      transaction(() => {
        const release = one(
          'SELECT spec FROM releases WHERE project = ? AND environment = ? AND release = ?',
          ...key(deploy.target),
          deploy.release,
        );
        if (release !== undefined)
          data.noteServices(deploy.target, (JSON.parse(text(release.spec)) as ReleaseSpec).services, node);
        run('UPDATE deploys SET phase = ?, ended_at = ? WHERE id = ?', 'done', time(), deploy.id);
        run(
          'UPDATE targets SET current = ?, branch = coalesce(?, branch), stopped = 0 WHERE project = ? AND environment = ?',
          deploy.release,
          deploy.ref,
          ...key(deploy.target),
        );
      });
    },
    failDeploy(deploy: Pick<DeployRecord, 'id' | 'target' | 'release' | 'kind'>, error: string): void {
      transaction(() => {
        run('UPDATE deploys SET phase = ?, ended_at = ?, error = ? WHERE id = ?', 'failed', time(), error, deploy.id);
        if (deploy.kind === 'push' || deploy.kind === 'deploy')
          run(
            'DELETE FROM releases WHERE project = ? AND environment = ? AND release = ?',
            ...key(deploy.target),
            deploy.release,
          );
      });
    },
    /** Up to this deploy of the target, nothing is left of what served before. */
    setRetired(target: Target, id: number): void {
      run('UPDATE deploys SET retired = 1 WHERE project = ? AND environment = ? AND id <= ?', ...key(target), id);
    },
    /** What the last deploy that was finished has switched, and from what. */
    lastSwitches(target: Target): Switches | null {
      const row = one(
        "SELECT switches FROM deploys WHERE project = ? AND environment = ? AND phase = 'done' ORDER BY id DESC LIMIT 1",
        ...key(target),
      );
      return row === undefined || row.switches === null ? null : (JSON.parse(text(row.switches)) as Switches);
    },
    /** All nodes that deploys of the target have switched, as far back as they are kept. */
    switchedNodes: (target: Target): string[] => [
      ...new Set(
        all(
          'SELECT DISTINCT switches FROM deploys WHERE project = ? AND environment = ? AND switches IS NOT NULL',
          ...key(target),
        ).flatMap((row) => Object.keys(JSON.parse(text(row.switches)) as Switches)),
      ),
    ],
    lastDeploy: (target: Target): number =>
      Number(
        one('SELECT coalesce(max(id), 0) AS id FROM deploys WHERE project = ? AND environment = ?', ...key(target))?.id,
      ),
    /** Targets whose last switch may have left an old process, or old releases. */
    unretired: (): Target[] =>
      all("SELECT DISTINCT project, environment FROM deploys WHERE phase = 'done' AND retired = 0").map(targetOf),
    saveSteps(id: number, steps: readonly { step: string; ms: number }[]): void {
      run('UPDATE deploys SET steps = ? WHERE id = ?', JSON.stringify(steps), id);
    },
    /** What the pusher saw, kept for `logs --deploy`. */
    saveTranscript(id: number, transcript: string): void {
      run('UPDATE deploys SET transcript = ? WHERE id = ?', transcript, id);
    },
    steps(id: number): { step: string; ms: number }[] {
      return JSON.parse(String(one('SELECT steps FROM deploys WHERE id = ?', id)?.steps ?? '[]')) as {
        step: string;
        ms: number;
      }[];
    },

    audit(by: string, action: string, target: Target | null, detail: string): void {
      run(
        'INSERT INTO audit (at, key, action, target, detail) VALUES (?, ?, ?, ?, ?)',
        time(),
        by,
        action,
        target === null ? null : targetName(target),
        detail,
      );
      run('DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?', KEPT_AUDIT);
    },
  };
}

const text = (value: unknown): string => String(value);
const maybe = (value: unknown): string | null => (value === null || value === undefined ? null : String(value));
const targetOf = (row: Row): Target => ({ project: text(row.project), environment: text(row.environment) }) as Target;

function readTarget(row: Row): TargetRecord {
  return {
    target: targetOf(row),
    current: row.current === null ? null : Number(row.current),
    branch: maybe(row.branch),
    generation: Number(row.generation),
    stopped: row.stopped === 1,
    createdAt: text(row.created_at),
    createdBy: text(row.created_by),
  };
}

function readRelease(row: Row): ReleaseRecord {
  return {
    target: targetOf(row),
    release: Number(row.release),
    commit: text(row.commit_id) as CommitId,
    subject: text(row.subject),
    artifact: { sha256: text(row.sha256) as Sha256, bytes: Number(row.bytes) },
    spec: JSON.parse(text(row.spec)) as ReleaseSpec,
    createdAt: text(row.created_at),
    createdBy: text(row.created_by),
    durationMs: Number(row.duration_ms),
  };
}

function readDeploy(row: Row): DeployRecord {
  return {
    id: Number(row.id),
    target: targetOf(row),
    kind: text(row.kind) as DeployKind,
    release: Number(row.release),
    previous: row.previous === null ? null : Number(row.previous),
    commit: text(row.commit_id) as CommitId,
    ref: maybe(row.ref),
    refFrom: maybe(row.ref_from) as CommitId | null,
    phase: text(row.phase) as Phase,
    by: text(row.started_by),
    startedAt: text(row.started_at),
    endedAt: maybe(row.ended_at),
    error: maybe(row.error),
    transcript: text(row.transcript),
    switches: row.switches === null ? null : (JSON.parse(text(row.switches)) as Switches),
  };
}

function readKey(row: Row): StoredKey {
  return {
    name: text(row.name),
    role: text(row.role) as StoredKey['role'],
    targets: JSON.parse(text(row.targets)) as StoredKey['targets'],
    line: text(row.line),
    fingerprint: text(row.fingerprint),
    addedAt: text(row.added_at),
    addedBy: text(row.added_by),
  };
}

function readToken(row: Row): StoredToken {
  return {
    id: text(row.id),
    sha256: text(row.sha256),
    fingerprint: text(row.fingerprint),
    createdAt: text(row.created_at),
    expiresAt: text(row.expires_at),
    lastUsedAt: maybe(row.last_used_at),
  };
}
