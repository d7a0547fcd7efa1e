// A dump belongs to the target that its manifest names: another one that has the instance's name later neither sees nor gets it, whether
// it is among the site's own dumps or among those that are left of a destroyed site.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDumpNode, type DumpNode } from '../actors/dump-node.ts';

const FIRST = '2026-11-25T10:00:00';
const SECOND = '2026-11-25T11:00:00';
const OURS = 'blog/live';
/** Whose site had the name `blog` before: `blog` in an environment with another suffix, or of a project that is a prefix. */
const OTHERS = ['blo/g', 'blog/stage', 'blog/liv', 'other/live'];

let node: DumpNode;
beforeEach(() => {
  node = createDumpNode();
  node.write({ 'uploads/a.txt': 'a', 'ledger/book': 'one\n' });
});
afterEach(() => node.cleanUp());

const FOLDERS = [
  ['its own folder', false],
  ['what is left of a destroyed site', true],
] as const;

test.each(FOLDERS)('in %s a dump of another target is not there, whatever is asked for', async (_, destroyed) => {
  await node.dump(FIRST);
  const folder = destroyed ? join(node.root, 'web/.destroyed/blog') : node.site('blog', 'dump');
  if (destroyed) {
    mkdirSync(dirname(folder), { recursive: true });
    renameSync(node.site('blog', 'dump'), folder);
  }
  const missing = { code: 'dump.missing' };
  for (const target of OTHERS) {
    expect(await node.list('blog', target)).toEqual({ dumps: [], destroyed: [] });
    const before = node.data();
    for (const step of ['check', 'new'] as const)
      await expect(node.load(step, FIRST, { target })).rejects.toMatchObject(missing);
    expect(node.data()).toEqual(before);
    await expect(node.export(FIRST, undefined, target)).rejects.toMatchObject(missing);
    await expect(node.import(SECOND, { instance: 'blog', target, name: FIRST })).rejects.toMatchObject(missing);
    await expect(node.prove(FIRST, target)).rejects.toMatchObject(missing);
    await node.drop([FIRST], destroyed, target);
    expect(existsSync(join(folder, FIRST, 'manifest.json'))).toBe(true);
  }
  const { dumps, destroyed: left } = await node.list('blog', OURS);
  expect([...dumps, ...left]).toMatchObject([{ name: FIRST, target: OURS }]);
  expect(await node.load('check', FIRST)).toMatchObject({ target: OURS });
  expect((await node.list(null)).destroyed).toHaveLength(destroyed ? 1 : 0);
  await node.drop([FIRST], destroyed);
  expect(existsSync(join(folder, FIRST))).toBe(false);
});

test('one of the same second in the other folder does not hide it', async () => {
  await node.dump(FIRST, { target: 'blog/stage' });
  const destroyed = join(node.root, 'web/.destroyed/blog');
  mkdirSync(dirname(destroyed), { recursive: true });
  renameSync(node.site('blog', 'dump'), destroyed);
  await node.dump(FIRST);
  expect(await node.load('check', FIRST)).toMatchObject({ target: OURS });
  expect(await node.load('check', FIRST, { target: 'blog/stage' })).toMatchObject({ target: 'blog/stage' });
  // Nor does one that nobody can read.
  rmSync(join(node.site('blog', 'dump'), FIRST, 'manifest.json'));
  expect(await node.load('check', FIRST, { target: 'blog/stage' })).toMatchObject({ target: 'blog/stage' });
  await expect(node.load('check', FIRST)).rejects.toMatchObject({ code: 'dump.damaged' });
});

test('new ones push out no dumps of another target', async () => {
  for (const [index, target] of ['blog/stage', 'blog/live', 'blog/stage', 'blog/live', 'blog/live'].entries())
    await node.dump(`2026-11-25T10:00:0${index}`, { target, keep: 2 });
  const names = readdirSync(node.site('blog', 'dump')).filter((name) => !name.startsWith('.'));
  expect(names.map((name) => name.slice(-1)).sort()).toEqual(['0', '2', '3', '4']);
});

test.each(['blog', 'blog/', '/live', 'blog/live/x', '../live', 'Blog/live', 'blog/live\n', `${'a'.repeat(29)}/live`])(
  '%j is no target to ask for',
  async (target) => {
    await expect(node.list('blog', target)).rejects.toMatchObject({ code: 'protocol.invalid' });
  },
);
