/** Actor: a visitor of a site on the node, and the look behind the curtain that the invariants need. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect } from 'vitest';
import { waitFor } from './processes.ts';
import type { TestReceiver } from './receiver.ts';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  bytes: Buffer;
}

export interface GetOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Default: a connection for each request. */
  agent?: Agent;
  /** Of 127.0.0.0/8: where it comes from. */
  from?: string;
}

/** GET over the node's port. `closed`: nginx hung up without an answer. */
export function get(
  receiver: Pick<TestReceiver, 'httpPort'>,
  host: string,
  path = '/',
  options: GetOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port: receiver.httpPort,
        path,
        method: options.method ?? 'GET',
        agent: options.agent ?? false,
        ...(options.from !== undefined && { localAddress: options.from }),
        headers: { Host: host, ...options.headers },
        timeout: 30_000,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes.toString('utf8'), bytes });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer within 30 s')));
    asked.on('error', reject);
    asked.end(options.body ?? '');
  });
}

export interface Load {
  sent: number;
  /** What was not 200, or no answer at all. */
  failures: string[];
  /** Bodies, in the order in which they were first seen, with how often. */
  bodies: Map<string, number>;
}

/**
 * Keeps `perSecond` requests per second coming until `stop`, over new connections and kept ones in turn.
 * @param keep false: only over new ones; nginx closes kept ones when it is reloaded, and browsers ask again then
 */
export function startLoad(
  receiver: Pick<TestReceiver, 'httpPort'>,
  host: string,
  path = '/',
  perSecond = 200,
  { keep = true } = {},
) {
  const load: Load = { sent: 0, failures: [], bodies: new Map() };
  const kept = new Agent({ keepAlive: true, maxSockets: 16 });
  const open = new Set<Promise<void>>();
  const begin = performance.now();
  const ask = (): void => {
    const agent = load.sent++ % 2 === 0 && keep ? { agent: kept } : {};
    const asked = get(receiver, host, path, agent)
      .then(
        ({ status, body }) => {
          if (status !== 200) load.failures.push(`${status}: ${body.slice(0, 200)}`);
          else load.bodies.set(body, (load.bodies.get(body) ?? 0) + 1);
        },
        (error: unknown) => load.failures.push(String(error)),
      )
      .then(() => void open.delete(asked));
    open.add(asked);
  };
  const timer = setInterval(() => {
    const due = ((performance.now() - begin) / 1000) * perSecond;
    while (load.sent < due) ask();
  }, 5);
  return {
    load,
    /** @param least goes on until so many were sent, however quick that was which it was to go beside */
    async stop(least = 0): Promise<Load> {
      await waitFor(`${least} requests`, () => load.sent >= least);
      clearInterval(timer);
      await Promise.all(open);
      kept.destroy();
      return load;
    },
  };
}

interface Agreement {
  release: number | null;
  commit: string | null;
}

/** A consistent copy: the receiver holds the journal alone while it runs. */
export function readJournal<T>(receiver: TestReceiver, read: (db: DatabaseSync) => T): T {
  const copy = mkdtempSync(join(tmpdir(), 'kraftwerk-journal-'));
  const names = ['journal.db', 'journal.db-wal'];
  const stamp = (): string =>
    names.map((name) => JSON.stringify(statSync(join(receiver.data, name), { throwIfNoEntry: false }) ?? null)).join();
  try {
    for (let turn = 0; ; turn++) {
      const before = stamp();
      for (const name of names) {
        if (statSync(join(receiver.data, name), { throwIfNoEntry: false }) !== undefined)
          copyFileSync(join(receiver.data, name), join(copy, name));
        else rmSync(join(copy, name), { force: true });
      }
      if (before === stamp()) break;
      if (turn > 100) throw new Error('the journal does not hold still');
    }
    const db = new DatabaseSync(join(copy, 'journal.db'));
    try {
      return read(db);
    } finally {
      db.close();
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/**
 * Ref, journal and `current` of a target, which must say the same; null when nothing of it is there.
 * @param target `blog/live`
 */
export function agreement(receiver: TestReceiver, target: string): Agreement {
  const [project = '', environment = ''] = target.split('/');
  const row = readJournal(
    receiver,
    (db) =>
      db
        .prepare(
          'SELECT t.current, t.branch, r.commit_id FROM targets t LEFT JOIN releases r ON r.project = t.project AND r.environment = t.environment AND r.release = t.current WHERE t.project = ? AND t.environment = ?',
        )
        .get(project, environment) as
        | { current: number | null; branch: string | null; commit_id: string | null }
        | undefined,
  );
  const repository = join(receiver.data, 'repositories', project, `${environment}.git`);
  const ref = readRef(repository, row?.branch ?? 'refs/heads/master');
  const link = readCurrentLink(receiver, `${project}${environment === 'stage' ? '-stage' : ''}`);
  const journal = { release: row?.current ?? null, commit: row?.commit_id ?? null };
  expect(
    { target, current: link, ref, locks: staleLocks(repository) },
    'current and ref agree with the journal',
  ).toEqual({
    target,
    current: journal.release,
    ref: journal.commit,
    locks: [],
  });
  return journal;
}

/** Locks that stay. What retires an older release takes some for a moment, and nobody is told. */
function staleLocks(repository: string): string[] {
  const end = performance.now() + 10_000;
  for (;;) {
    const locks = refLocks(repository);
    if (locks.length === 0 || performance.now() > end) return locks;
    spawnSync('sleep', ['0.05']);
  }
}

/** The commit that a ref of a repository names. */
export function readRef(repository: string, ref: string): string | null {
  const result = spawnSync('git', ['--git-dir', repository, 'rev-parse', '--verify', '--quiet', `${ref}^{commit}`]);
  return result.status === 0 ? result.stdout.toString().trim() : null;
}

export function repositoryOf(receiver: TestReceiver, target: string): string {
  return join(receiver.data, 'repositories', `${target}.git`);
}

function refLocks(repository: string): string[] {
  const result = spawnSync('find', [repository, '-name', '*.lock']);
  return result.stdout
    .toString()
    .split('\n')
    .filter((line) => line !== '' && result.status === 0);
}

/** The number of the release that `current` of an instance names. */
export function readCurrentLink(receiver: TestReceiver, instance: string): number | null {
  try {
    return Number(/v([0-9]+)$/.exec(readlinkSync(join(receiver.node, 'web', instance, 'current')))?.[1]);
  } catch {
    return null;
  }
}
