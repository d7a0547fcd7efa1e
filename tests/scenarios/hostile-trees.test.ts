// Trees that no git client makes by itself: built with plumbing, pushed as they are.
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { createVictim, type Refusal, type Victim } from '../actors/refusal.ts';
import { get } from '../actors/site.ts';

let receiver: TestReceiver;
let mallory: Victim;
beforeAll(async () => {
  receiver = await startReceiver();
  mallory = await createVictim(receiver, 'blog');
});
afterAll(async () => {
  mallory.cleanUp();
  await receiver.cleanUp();
});

type Entry = [mode: string, name: string, content: string];

const blob = (content: string): string => mallory.git(['hash-object', '-w', '--stdin'], content);
/** A tree object of raw entries, which git's own commands would not make. */
function rawTree(entries: readonly [mode: string, name: string, id: string][]): string {
  const parts = entries.flatMap(([mode, name, id]) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(id, 'hex')]);
  return mallory.git(['hash-object', '-t', 'tree', '-w', '--stdin', '--literally'], Buffer.concat(parts));
}

/** Commits the current tree with raw entries added, sorted as git wants them. */
function commitWith(entries: readonly [mode: string, name: string, id: string][]): void {
  const present = mallory
    .git(['ls-tree', 'HEAD'])
    .split('\n')
    .map((line) => {
      const [, mode = '', id = '', name = ''] = /^(\d+) \w+ (\w+)\t(.*)$/.exec(line) ?? [];
      return [mode.replace(/^0/, ''), name, id] as [string, string, string];
    });
  const key = ([mode, name]: readonly [string, string, string]): string => (mode === '40000' ? `${name}/` : name);
  const all = [...present, ...entries].sort((a, b) => Buffer.compare(Buffer.from(key(a)), Buffer.from(key(b))));
  const commit = mallory.git(['commit-tree', rawTree(all), '-p', 'HEAD', '-m', 'Hostile']);
  mallory.git(['update-ref', 'refs/heads/hostile', commit]);
}

/** Pushes the hostile commit, sees it refused, and goes on. */
async function refused(expected: Refusal): Promise<void> {
  await mallory
    .refuses(() => mallory.push('stage', 'hostile:master'), expected)
    .finally(() => {
      // Where it was taken, only the test that shows it shall fail.
      mallory.git(['fetch', '-q', 'stage', 'master']);
      mallory.git(['reset', '-q', '--soft', 'FETCH_HEAD']);
    });
  await mallory.goesOn();
  const releases = readdirSync(join(receiver.node, 'web', 'blog-stage', 'releases'));
  expect(releases.filter((name) => name.startsWith('.') && !name.endsWith('.removed'))).toEqual([]);
}

const TREE = 'the pushed tree is refused';

describe('git itself refuses', () => {
  it.each([
    ['..', /hasDotdot/],
    ['.', /hasDot/],
    ['.git', /hasDotgit/],
    ['.GIT', /hasDotgit/],
    ['git~1', /hasDotgit/],
    ['', /fullPathname|emptyName|error/],
    ['a/b', /fullPathname/],
  ])('an entry called %j', async (name, why) => {
    const before = readdirSync(receiver.folder).sort();
    commitWith([['100644', name, blob('evil')]]);
    const result = await mallory
      .refuses(() => mallory.push('stage', 'hostile:master'), { rejected: 'unpacker error', error: /./ })
      .catch(async () => mallory.push('stage', 'hostile:master'));
    expect(result.code).not.toBe(0);
    expect(result.output).toMatch(why);
    expect(readdirSync(receiver.folder).sort()).toEqual(before);
    await mallory.goesOn();
  });

  it('one name twice', async () => {
    commitWith([
      ['100644', 'twice', blob('one')],
      ['100644', 'twice', blob('two')],
    ]);
    const result = await mallory.push('stage', 'hostile:master');
    expect(result.code).not.toBe(0);
    expect(result.output).toContain('duplicateEntries');
    await mallory.goesOn();
  });
});

describe('a symlink', () => {
  const link = (name: string, target: string): Entry => ['120000', name, target];
  it.each<[string, Entry[]]>([
    ['to an absolute path', [link('static-link', '/etc/passwd')]],
    ['out of the tree', [link('out', '../../../../../../etc/passwd')]],
    ['out of the tree, to what does not exist', [link('out', '../../nothing/there')]],
    ['chained out of the tree', [link('a', '.'), link('b', 'a/..'), link('c', 'b/..')]],
    ['in a circle', [link('ring', 'gnir'), link('gnir', 'ring')]],
    ['to itself', [link('me', 'me')]],
    ['into the notes of the agent', [link('notes', '../../.kraftwerk')]],
  ])('%s is refused', async (_, entries) => {
    commitWith(entries.map(([mode, name, content]) => [mode, name, blob(content)]));
    await refused({ rejected: TREE, error: /is a symlink to/ });
  });

  it('inside the tree is taken, in a folder, across folders, and to what build makes', async () => {
    commitWith([
      ['120000', 'inside', blob('static/style.css')],
      ['120000', 'later', blob('static/made-by-build.css')],
    ]);
    expect(await mallory.push('stage', 'hostile:master')).toMatchObject({ code: 0 });
    expect((await get(receiver, mallory.host)).status).toBe(200);
    mallory.git(['reset', '-q', '--hard', 'hostile']);
    mallory.git(['clean', '-qfdx']);
    await mallory.recovers();
  });

  it('as a parent of a file cannot be: nothing is written through it', async () => {
    commitWith([
      ['120000', 'd', blob('/tmp')],
      ['40000', 'D', rawTree([['100644', 'kraftwerk-was-here', blob('evil')]])],
    ]);
    await refused({ rejected: TREE, error: /./ });
    expect(existsSync('/tmp/kraftwerk-was-here')).toBe(false);
  });
});

describe('a tree', () => {
  it('with names that differ only by case is refused', async () => {
    commitWith([
      ['100644', 'readme', blob('a')],
      ['100644', 'README', blob('b')],
    ]);
    await refused({ rejected: TREE, error: /readme|README/ });
  });

  it('with control characters in a name is refused, and they do not reach the terminal', async () => {
    commitWith([['100644', 'a\u001b[2Jb', blob('a')]]);
    const result = await mallory.push('stage', 'hostile:master');
    expect(result).toMatchObject({ code: 1, rejected: expect.stringContaining(TREE) as string });
    expect(result.lines.join('\n')).not.toContain('\u001b');
    await mallory.goesOn();
  });

  it('of 50,001 files is refused', async () => {
    const id = blob('x');
    const folder = rawTree(
      Array.from(
        { length: 50_001 },
        (_, index) => ['100644', `f${String(index).padStart(6, '0')}`, id] as [string, string, string],
      ),
    );
    commitWith([['40000', 'many', folder]]);
    await refused({ rejected: TREE, error: /50,?001|50,?00[0-9]|50,?000/ });
  });

  it('with a file over the limit is refused', async () => {
    const big = join(mallory.folder, 'big');
    writeFileSync(big, Buffer.alloc(101 * 1024 * 1024));
    const id = mallory.git(['hash-object', '-w', big]);
    commitWith([['100644', 'big.bin', id]]);
    await refused({ rejected: TREE, error: 'big.bin: 101 MiB, larger than 100 MiB' });
  });

  it('that is nested too deep is refused', async () => {
    let tree = rawTree([['100644', 'leaf', blob('x')]]);
    for (let depth = 0; depth < 70; depth++) tree = rawTree([['40000', 'd', tree]]);
    commitWith([['40000', 'deep', tree]]);
    await refused({ rejected: TREE, error: /^deep\/d\/d/ });
  });

  it('with everything wrong is told everything, but not without end', async () => {
    commitWith(
      Array.from(
        { length: 60 },
        (_, index) => ['120000', `l${index}`, blob('/etc/passwd')] as [string, string, string],
      ),
    );
    const result = await mallory.push('stage', 'hostile:master');
    expect(result.code).toBe(1);
    expect(result.lines.length).toBeLessThan(40);
    await mallory.goesOn();
  });

  it('with odd file modes is unpacked with plain ones', async () => {
    commitWith([
      ['100755', 'run.sh', blob('#!/bin/sh\n')],
      ['100664', 'odd', blob('odd')],
    ]);
    expect(await mallory.push('stage', 'hostile:master')).toMatchObject({ code: 0 });
    const current = join(receiver.node, 'web', 'blog-stage', 'current');
    const modes = ['run.sh', 'odd'].map((name) => (statSync(join(current, name)).mode & 0o7777).toString(8));
    expect(modes).toEqual(['755', '644']);
    mallory.git(['reset', '-q', '--hard', 'hostile']);
    await mallory.recovers();
  });
});
