// The journal keeps what it is told, alone, across restarts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CommitId, Sha256 } from '../../node-agent/protocol.ts';
import type { ReleaseSpec } from '../../receiver/deploy/plan.ts';
import { type Journal, openJournal } from '../../receiver/journal.ts';
import type { StoredKey } from '../../receiver/keys.ts';
import type { Target } from '../../receiver/target.ts';

const TARGET = { project: 'blog', environment: 'live' } as Target;
const COMMIT = 'a'.repeat(40) as CommitId;
const now = () => new Date('2026-11-22T10:20:30Z');
let folder: string;
let journal: Journal;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-journal-'));
  journal = openJournal(join(folder, 'journal.db'), now);
});
afterEach(() => {
  journal.close();
  rmSync(folder, { recursive: true });
});

function begin(kind: 'push' | 'rollback', release: number): number {
  const from = { ref: 'refs/heads/master', refFrom: null };
  return journal.beginDeploy({ target: TARGET, kind, release, previous: null, commit: COMMIT, ...from, by: 'alice' });
}

function finish(release: number): void {
  const id = begin('push', release);
  const artifact = { sha256: 'f'.repeat(64) as Sha256, bytes: 1 };
  journal.saveRelease({
    target: TARGET,
    release,
    commit: COMMIT,
    subject: 's',
    artifact,
    spec: { services: [] } as unknown as ReleaseSpec,
    createdAt: '',
    createdBy: 'alice',
    durationMs: 1.6,
  });
  journal.finishDeploy({ id, target: TARGET, release, ref: 'refs/heads/master' }, 'here');
}

it('when a key was used last is kept to the hour, whoever let the key in, and carried over from schema 2', () => {
  let at = '2026-11-22T10:20:30.000Z';
  const reopen = (change = ''): Journal => {
    journal.close();
    const db = new DatabaseSync(join(folder, 'journal.db'));
    db.exec(change);
    db.close();
    return openJournal(join(folder, 'journal.db'), () => new Date(at));
  };
  journal = reopen();
  expect(journal.keys.lastUsed('SHA256:a')).toBeNull();
  const used = ['2026-11-22T10:20:30.000Z', '2026-11-22T11:20:29.000Z', '2026-11-22T11:20:31.000Z'].map((time) => {
    at = time;
    journal.keys.touch('SHA256:a');
    return journal.keys.lastUsed('SHA256:a');
  });
  expect(used).toEqual(['2026-11-22T10:20:30.000Z', '2026-11-22T10:20:30.000Z', '2026-11-22T11:20:31.000Z']);

  journal = reopen(`
    DROP TABLE key_uses; ALTER TABLE keys ADD COLUMN last_used_at TEXT; PRAGMA user_version = 2;
    INSERT INTO keys VALUES ('bob', 'read', '"all"', 'l', 'SHA256:b', '', '', '2026-11-01'), ('eve', 'read', '"all"', 'l', 'SHA256:e', '', '', NULL);
  `);
  expect(['SHA256:a', 'SHA256:b', 'SHA256:e'].map(journal.keys.lastUsed)).toEqual([null, '2026-11-01', null]);
  const { line, name } = journal.keys.all()[0] as StoredKey;
  journal.keys.add({ ...(journal.keys.find('SHA256:b') as StoredKey), name: 'new', fingerprint: 'SHA256:n' });
  expect({ line, name, all: journal.keys.all().length }).toEqual({ line: 'l', name: 'bob', all: 3 });
});

it('numbers only rise, and a failed deploy uses its own up', () => {
  expect(journal.nextRelease(TARGET)).toBe(1);
  finish(1);
  const id = begin('push', 2);
  journal.failDeploy({ id, target: TARGET, release: 2, kind: 'push' }, 'no');
  expect(journal.nextRelease(TARGET)).toBe(3);
  begin('rollback', 1);
  expect(journal.nextRelease(TARGET)).toBe(3);
  expect(journal.release(TARGET, 2)).toBeNull();
});

it('a failed rollback leaves the release that it went for', () => {
  finish(1);
  const id = begin('rollback', 1);
  journal.failDeploy({ id, target: TARGET, release: 1, kind: 'rollback' }, 'no');
  expect(journal.release(TARGET, 1)).toMatchObject({ release: 1, durationMs: 2 });
});

it('knows after a restart which deploys have not ended', () => {
  finish(1);
  const id = begin('push', 2);
  const switches = {
    here: { next: { release: 2, boot: 'b.2' as never }, previous: { release: 1, boot: 'a.1' as never } },
  };
  journal.setPhase(id, 'activating', switches);
  journal.close();
  journal = openJournal(join(folder, 'journal.db'), now);
  expect(journal.openDeploys()).toEqual([
    {
      id,
      target: TARGET,
      kind: 'push',
      release: 2,
      previous: null,
      commit: COMMIT,
      ref: 'refs/heads/master',
      refFrom: null,
      phase: 'activating',
      by: 'alice',
      startedAt: '2026-11-22T10:20:30.000Z',
      endedAt: null,
      error: null,
      transcript: '',
      switches,
    },
  ]);
  expect(journal.target(TARGET)).toMatchObject({ current: 1, branch: 'refs/heads/master', stopped: false });
});

it('is held by one process', () => {
  const script = `import { openJournal } from '${new URL('../../receiver/journal.ts', import.meta.url).pathname}';
    try { openJournal(process.argv[1], () => new Date()); console.log('open'); } catch (error) { console.log(error.code); }`;
  const run = () =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script, join(folder, 'journal.db')], {
      encoding: 'utf8',
    });
  expect(run().stdout.trim()).toBe('receiver.running');
  journal.close();
  expect(run().stdout.trim()).toBe('open');
  journal = openJournal(join(folder, 'journal.db'), now);
});
