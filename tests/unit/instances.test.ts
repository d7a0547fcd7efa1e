// A target's name on a node has one owner: claimed before it is used, refused to all others, free again when it is destroyed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CommitId, KraftwerkError } from '../../node-agent/protocol.ts';
import { type Identity, seesTarget } from '../../receiver/access.ts';
import { createInstances } from '../../receiver/instances.ts';
import { type Journal, openJournal } from '../../receiver/journal.ts';
import { nameOwner, TakenError } from '../../receiver/taken.ts';
import type { Target } from '../../receiver/target.ts';

type Environment = { nodes: string[]; router: string | null; suffix: string };

let folder: string;
let journal: Journal;
let time = 0;
const now = () => new Date(Date.UTC(2026, 10, 29, 0, 0, time++));
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-claims-'));
  journal = openJournal(join(folder, 'journal.db'), now);
});
afterEach(() => {
  journal.close();
  rmSync(folder, { recursive: true });
});

function target(text: string): Target {
  const [project, environment] = text.split('/');
  return { project, environment } as Target;
}

function open(environments: Record<string, Partial<Environment>>) {
  return createInstances({
    journal,
    environment: ({ environment }) => {
      const written = environments[environment];
      if (written === undefined) throw new KraftwerkError('environment.unknown', `no environment ${environment}`);
      return { nodes: ['here'], router: null, suffix: '', ...written };
    },
  });
}

/** As README.md has them. */
const README = { stage: { suffix: '-stage' }, live: {} };

/** It has had a deploy: so it is in the journal. */
function deployed(name: string): Target {
  const one = target(name);
  const from = { ref: null, refFrom: null, release: 1, previous: null, by: 'alice', kind: 'push' } as const;
  journal.beginDeploy({ target: one, commit: 'a'.repeat(40) as CommitId, ...from });
  return one;
}

function refusal(body: () => unknown): TakenError {
  try {
    body();
  } catch (error) {
    if (error instanceof TakenError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

function reopen(): void {
  journal.close();
  journal = openJournal(join(folder, 'journal.db'), now);
}

describe('a name', () => {
  it("is the first target's that uses it, also after a restart, and nobody else's on that node", () => {
    expect(open(README).of(target('blog-stage/live'))).toBe('blog-stage');
    deployed('blog-stage/live');
    reopen();
    const instances = open(README);
    const error = refusal(() => instances.of(target('blog/stage')));
    expect(error).toMatchObject({
      code: 'name.taken',
      message: 'the name blog-stage on node here belongs to another project',
      reason: 'the name blog-stage belongs to another project',
      exit: 'config',
      hints: [
        'push it as another project, as in:',
        'git remote set-url stage kraftwerk@HOST:NAME/stage',
        "or an admin gives stage another suffix in the receiver's configuration",
      ],
    });
    expect(instances.of(target('blog/live'))).toBe('blog');
    expect(instances.of(target('blog-stage/live'))).toBe('blog-stage');
  });

  it.each<[string, Record<string, Partial<Environment>>, string, string]>([
    ['the same way round', README, 'blog/stage', 'blog-stage/live'],
    ['with _', { stage: { suffix: '_x' }, live: {} }, 'a_x/live', 'a/stage'],
    ['of two suffixes', { stage: { suffix: '-b' }, live: { suffix: '-a-b' } }, 'x-a/stage', 'x/live'],
    [
      'a router has a file of each',
      { stage: { suffix: '-s', nodes: ['a'], router: 'door' }, live: { nodes: ['door'] } },
      'blog/stage',
      'blog-s/live',
    ],
    [
      'the other way, too',
      { stage: { suffix: '-s', nodes: ['a'], router: 'door' }, live: { nodes: ['door'] } },
      'blog-s/live',
      'blog/stage',
    ],
    [
      'two routers',
      { stage: { suffix: '-s', nodes: ['a'], router: 'door' }, live: { nodes: ['b'], router: 'door' } },
      'blog/stage',
      'blog-s/live',
    ],
    [
      'one node of several',
      { stage: { suffix: '-s', nodes: ['a', 'b'] }, live: { nodes: ['b', 'c'] } },
      'blog/stage',
      'blog-s/live',
    ],
    [
      '28 letters',
      { stage: { suffix: '-abcdefghij' }, live: {} },
      'abcdefghijklmnopq-abcdefghij/live',
      'abcdefghijklmnopq/stage',
    ],
  ])('is refused: %s', (_, environments, first, second) => {
    const instances = open(environments);
    instances.of(target(first));
    expect(refusal(() => instances.of(target(second))).code).toBe('name.taken');
    // All or none: what was refused has no part of it on other nodes.
    expect(instances.held(target(second))).toEqual([]);
    expect(instances.find(target(second))).toBeNull();
  });

  it('may be the same where there is no common node', () => {
    const instances = open({ stage: { suffix: '-s', nodes: ['a'] }, live: { nodes: ['b'] } });
    expect([instances.of(target('blog/stage')), instances.of(target('blog-s/live'))]).toEqual(['blog-s', 'blog-s']);
    expect(refusal(() => instances.of(target('blog-s/live'), 'a')).code).toBe('name.taken');
  });

  it('stays with its target when the configuration gives it another, until it is destroyed', () => {
    open({ live: {} }).of(deployed('blog/live'));
    const instances = open({ live: { suffix: '-live', nodes: ['here', 'there'] }, other: {} });
    expect(instances.adoptAll()).toEqual([]);
    expect(instances.held(target('blog/live'))).toEqual([
      { node: 'here', name: 'blog' },
      { node: 'here', name: 'blog-live' },
      { node: 'there', name: 'blog-live' },
    ]);
    expect(refusal(() => instances.of(target('blog/other'))).order.owner).toEqual(target('blog/live'));
    journal.forget(target('blog/live'));
    expect(instances.of(target('blog/other'))).toBe('blog');
  });

  it("stays where a node was not asked when its target was destroyed, and is the target's again", () => {
    open({ live: { nodes: ['here', 'away'] } }).of(deployed('blog/live'));
    journal.forget(target('blog/live'), ['away']);
    reopen();
    const instances = open({
      live: { nodes: ['here', 'away'] },
      other: { nodes: ['here'] },
      third: { nodes: ['away'] },
    });
    instances.adoptAll();
    expect(refusal(() => instances.of(target('blog/third'))).order.owner).toEqual(target('blog/live'));
    // A push that is refused does not lose it.
    instances.of(target('blog/live'));
    journal.claims.releaseUnused(target('blog/live'));
    expect(instances.held(target('blog/live'))).toEqual([{ node: 'away', name: 'blog' }]);
    expect(instances.of(target('blog/other'))).toBe('blog');
  });

  it('is free again after a push that never became a deploy, also one that a receiver was killed in', () => {
    const instances = open(README);
    instances.of(target('blog-stage/live'));
    journal.claims.releaseUnused(target('blog-stage/live'));
    expect(instances.of(target('blog/stage'))).toBe('blog-stage');
    reopen();
    const after = open(README);
    after.adoptAll();
    expect(after.of(target('blog-stage/live'))).toBe('blog-stage');
    deployed('blog-stage/live');
    journal.claims.releaseUnused(target('blog-stage/live'));
    expect(refusal(() => after.of(target('blog/stage'))).code).toBe('name.taken');
  });
});

describe('targets that are older than claims', () => {
  it('get their names at the start, the older first; a conflict is told, and refused', () => {
    deployed('blog/stage');
    deployed('blog-stage/live');
    deployed('shop/live');
    journal.close();
    const db = new DatabaseSync(join(folder, 'journal.db'));
    db.exec('DROP TABLE claims; PRAGMA user_version = 3');
    db.close();
    journal = openJournal(join(folder, 'journal.db'), now);
    const instances = open(README);
    const conflict = {
      target: target('blog-stage/live'),
      owner: target('blog/stage'),
      name: 'blog-stage',
      node: 'here',
    };
    expect(instances.adoptAll()).toEqual([conflict]);
    expect(instances.adoptAll()).toEqual([conflict]);
    expect(instances.conflict(target('blog-stage/live'))).toEqual(conflict);
    expect(instances.conflict(target('blog/stage'))).toBeNull();
    expect(instances.of(target('shop/live'))).toBe('shop');
    const error = refusal(() => instances.of(target('blog-stage/live')));
    expect(error.hints).toEqual([
      'docs/troubleshooting.md, "the name … on node … belongs to …"',
      'to give it up, which touches no node: ssh kraftwerk@HOST destroy blog-stage/live',
    ]);
    // The way out: it is forgotten, and the other keeps all it has.
    journal.forget(target('blog-stage/live'));
    expect(instances.adoptAll()).toEqual([]);
    expect(instances.of(target('blog/stage'))).toBe('blog-stage');
  });

  it('keep what is free on other nodes, and where they have been', () => {
    deployed('blog-s/live');
    deployed('blog/stage');
    journal.data.setLinkedNodes(target('blog/stage'), ['old']);
    const instances = open({ stage: { suffix: '-s', nodes: ['a', 'b'] }, live: { nodes: ['b'] } });
    expect(instances.adoptAll()).toMatchObject([{ target: target('blog/stage'), node: 'b' }]);
    expect(instances.held(target('blog/stage')).map(({ node }) => node)).toEqual(['a', 'old']);
  });
});

describe('an owner', () => {
  const key = (targets: Identity['targets']): Identity => ({ name: 'k', role: 'deploy', targets });
  const taken = (): TakenError => {
    const instances = open(README);
    instances.of(target('blog-stage/live'));
    return refusal(() => instances.of(target('blog/stage')));
  };
  const see = (targets: string[]): Identity =>
    key(targets.map((text) => target(text)) as unknown as Identity['targets']);
  it.each<[string, Identity, string]>([
    ['all', key('all'), 'blog-stage/live'],
    ['the owner', see(['blog/stage', 'blog-stage/live']), 'blog-stage/live'],
    ['its own project alone', see(['blog/stage']), 'another project'],
    ['another environment of the owner', see(['blog/stage', 'blog-stage/stage']), 'another project'],
  ])('is named to who may see %s: %j', (_, identity, owner) => {
    const told = nameOwner(taken(), seesTarget(identity));
    expect(told).toMatchObject({
      message: `the name blog-stage on node here belongs to ${owner}`,
      reason: `the name blog-stage belongs to ${owner}`,
    });
  });
  it('is in nothing of the error that is kept or copied', () => {
    const error = taken();
    const { code, exit, hints, lines, message, reason } = error;
    expect(JSON.stringify({ code, exit, hints, lines, message, reason, text: String(error) })).not.toContain(
      'blog-stage/live',
    );
  });
});

describe('an environment that has another name in the configuration', () => {
  it("goes on with the sites of its projects, and with nobody else's", () => {
    open(README).of(deployed('blog/live'));
    open(README).of(deployed('shop/live'));
    const renamed = open({ stage: { suffix: '-stage' }, production: {} });
    expect(renamed.adoptAll()).toEqual([]);
    expect(renamed.conflict(target('blog/production'))).toBe(null);
    expect(renamed.of(target('blog/production'))).toBe('blog');
    expect(renamed.held(target('blog/production'))).toEqual([{ node: 'here', name: 'blog' }]);
    expect(renamed.held(target('blog/live'))).toEqual([]);
    expect(renamed.held(target('shop/live'))).toEqual([{ node: 'here', name: 'shop' }]);
    // The environment is back: the name is its follower's.
    expect(refusal(() => open({ ...README, production: { nodes: ['there'] } }).of(target('blog/live')))).toMatchObject({
      code: 'name.taken',
    });
  });

  it('is none that is still there', () => {
    open(README).of(deployed('blog/live'));
    expect(refusal(() => open({ ...README, production: {} }).of(target('blog/production')))).toMatchObject({
      code: 'name.taken',
    });
  });
});
