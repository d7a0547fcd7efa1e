import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommitId, LIMITS } from '../../node-agent/protocol.ts';
import { openObjects } from '../../receiver/git/object-reader.ts';
import { openRefTransaction } from '../../receiver/git/ref-transaction.ts';
import { describeCommit, listTree, readTree } from '../../receiver/git/tree.ts';

let folder: string;
const git = (...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: folder, encoding: 'utf8' }).trim();
const ref = (name: string): string => git('for-each-ref', '--format=%(objectname)', name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-git-'));
  git('init', '-q', '-b', 'master');
  writeFileSync(join(folder, 'a'), 'eins\n');
  writeFileSync(join(folder, 'large'), Buffer.alloc(3 * 1024 * 1024, 'x'));
  git('add', '.');
  git('commit', '-qm', 'First line\nand its second\n\nBody');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the reader of objects', () => {
  it('answers many questions in their order; what is missing is null, what is too large comes without content', async () => {
    const objects = openObjects(folder);
    const large = await objects.read('HEAD:large');
    const answers = await Promise.all(
      ['HEAD:a', 'HEAD:none', 'HEAD:large', 'HEAD:a', 'refs/heads/none^{commit}', 'HEAD:a\nHEAD:large'].map(
        async (name) => (await objects.read(name))?.content?.toString() ?? null,
      ),
    );
    expect({ answers, large: { type: large?.type, content: large?.content } }).toEqual({
      answers: ['eins\n', null, null, 'eins\n', null, null],
      large: { type: 'blob', content: null },
    });
    objects.close();
  });

  it('sees what has come since it was opened', async () => {
    const objects = openObjects(folder);
    expect(await objects.read('refs/heads/later^{commit}')).toBe(null);
    git('update-ref', 'refs/heads/later', 'HEAD');
    expect((await objects.read('refs/heads/later^{commit}'))?.id).toBe(ref('refs/heads/master'));
    objects.close();
  });

  it("gives a commit's subject as git does, in any encoding", async () => {
    const latin = execFileSync('git', ['hash-object', '-t', 'commit', '-w', '--stdin'], {
      cwd: folder,
      encoding: 'utf8',
      input: Buffer.from(
        `tree ${git('rev-parse', 'HEAD^{tree}')}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\nencoding ISO-8859-1\n\nGr\u00fcn\n`,
        'latin1',
      ),
    }).trim();
    const objects = openObjects(folder);
    expect(await describeCommit(objects, latin)).toEqual({ commit: latin, subject: 'Grün' });
    expect((await describeCommit(objects, 'refs/heads/later')).subject).toBe('First line and its second');
    await expect(describeCommit(objects, '1234567')).rejects.toMatchObject({ code: 'git.failed' });
    objects.close();
  });

  it('says so when its git has ended', async () => {
    const objects = openObjects(join(folder, 'nowhere'));
    await expect(objects.read('HEAD')).rejects.toMatchObject({ code: 'git.missing' });
  });
});

describe('a tree', () => {
  /** A commit of what `git update-index --index-info` takes: anything, nothing of it has to exist. */
  const commitOf = (lines: string[]): CommitId => {
    const env = { ...process.env, GIT_INDEX_FILE: join(folder, 'an-index') };
    rmSync(env.GIT_INDEX_FILE, { force: true });
    const run = (args: string[], input = '') =>
      execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], {
        cwd: folder,
        encoding: 'utf8',
        env,
        input,
      }).trim();
    run(['update-index', '-z', '--index-info'], lines.map((line) => `${line}\0`).join(''));
    return run(['commit-tree', '-m', 'x', run(['write-tree', '--missing-ok'])]) as CommitId;
  };
  const blob = (): string => git('rev-parse', 'HEAD:a');

  it('is read as git lists it, but for the sizes', async () => {
    const commit = commitOf([
      `100644 ${blob()}\ta/b/deep.py`,
      `100755 ${blob()}\ta-b`,
      `120000 ${blob()}\ta.link`,
      `160000 ${'1'.repeat(40)}\tmodule`,
      `100644 ${blob()}\tgrün \n\t"x"`,
      `100644 ${blob()}\ta/z`,
    ]);
    const objects = openObjects(folder);
    const listed = await listTree(folder, commit);
    expect(listed.map(({ mode, path, size }) => `${mode} ${path} ${size}`)).toEqual([
      '100755 a-b 5',
      '120000 a.link 5',
      '100644 a/b/deep.py 5',
      '100644 a/z 5',
      '100644 grün \n\t"x" 5',
      '160000 module 0',
    ]);
    expect(await readTree(objects, commit)).toEqual(listed.map((entry) => ({ ...entry, size: null })));
    expect(await readTree(objects, commitOf([]))).toEqual([]);
    objects.close();
  });

  it('is left to git when it is too deep, or too large', async () => {
    const objects = openObjects(folder);
    const id = blob();
    const many = (count: number, name: (at: number) => string) =>
      // In the index's own order: else git takes a minute.
      commitOf(
        Array.from({ length: count }, (_, at) => name(at))
          .sort()
          .map((path) => `100644 ${id}\t${path}`),
      );
    const deep = (levels: number) => many(1, () => `${'d/'.repeat(levels - 1)}f`);
    expect(await readTree(objects, deep(LIMITS.depth))).toHaveLength(1);
    expect(await readTree(objects, deep(LIMITS.depth + 1))).toBeNull();
    expect(
      await readTree(
        objects,
        many(LIMITS.files - 5, (at) => `d${at % 5}/${at}`),
      ),
    ).toHaveLength(LIMITS.files - 5);
    expect(
      await readTree(
        objects,
        many(LIMITS.files + 1, (at) => `d${at % 5}/${at}`),
      ),
    ).toBeNull();
    // One folder of more than the reader keeps.
    expect(
      await readTree(
        objects,
        many(20_000, (at) => `${at}${'x'.repeat(40)}`),
      ),
    ).toBeNull();
    objects.close();
  });
});

describe('a transaction of refs', () => {
  it('locks at prepare and moves at commit', async () => {
    const to = ref('refs/heads/master');
    const transaction = openRefTransaction(folder);
    await transaction.prepare([
      { ref: 'refs/heads/new', to, from: null },
      { ref: 'refs/x/v1', to },
    ]);
    expect([ref('refs/heads/new'), existsSync(join(folder, '.git/refs/heads/new.lock'))]).toEqual(['', true]);
    await transaction.commit();
    expect([ref('refs/heads/new'), ref('refs/x/v1')]).toEqual([to, to]);
  });

  it('leaves everything as it was when it is aborted, or when one ref has moved', async () => {
    const to = ref('refs/heads/master');
    const aborted = openRefTransaction(folder);
    await aborted.prepare([{ ref: 'refs/heads/b', to }]);
    await aborted.abort();
    await openRefTransaction(folder).abort();
    const moved = openRefTransaction(folder);
    await expect(
      moved.prepare([
        { ref: 'refs/heads/b', to },
        { ref: 'refs/heads/master', to, from: '1'.repeat(40) },
      ]),
    ).rejects.toMatchObject({ code: 'git.failed', reason: 'the ref could not be moved' });
    await moved.abort();
    expect([ref('refs/heads/b'), existsSync(join(folder, '.git/refs/heads/b.lock'))]).toEqual(['', false]);
  });
});
