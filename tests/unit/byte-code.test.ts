// Byte code of a release: made by our own compiler alone, kept by source and interpreter, never what was pushed or left there.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compileLater, createByteCode, pruneByteCode } from '../../node-agent/byte-code.ts';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import type { AbsolutePath, InstanceName, Limits } from '../../node-agent/protocol.ts';
import { RELEASE_RULES, type SealedTree, sealTree } from '../../node-agent/sealed-tree.ts';
import { createSystem } from '../../node-agent/system.ts';

const PYTHON = '/usr/bin/python3';
const TAG = execFileSync(PYTHON, ['-c', 'import sys; print(sys.implementation.cache_tag)']).toString().trim();
const system = createSystem({});
let root: string;
let site: ReturnType<typeof siteLayout>;
beforeEach(() => {
  root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'kraftwerk-byte-code-')));
  site = siteLayout(
    nodeLayout({ profile: 'rootless', root: root as AbsolutePath, httpPort: 0 }),
    'blog' as InstanceName,
  );
});
afterEach(() => execFileSync('rm', ['-rf', root]));

/** A tree with these files, as a deploy unpacks it, and its byte code as far as it is not for later. */
async function release(number: number, files: Readonly<Record<string, string>>, limits: Limits | null = null) {
  const path = site.release(number);
  const order = { system, site, python: PYTHON, limits };
  const byteCode = createByteCode(order);
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(join(path, name, '..'), { recursive: true });
    fs.writeFileSync(join(path, name), text);
    byteCode.onFile(name, [Buffer.from(text)]);
  }
  const tree: SealedTree = sealTree(system, path, RELEASE_RULES);
  const later = await byteCode.place(tree);
  byteCode.cancel();
  return { path, tree, later, order };
}
const pyc = (path: string, module: string): string => {
  const at = module.lastIndexOf('/');
  return join(path, module.slice(0, at + 1), '__pycache__', `${module.slice(at + 1)}.${TAG}.pyc`);
};
const big = (text: string): string => `${text}\nX = """${'x'.repeat(200_000)}"""\n`;
const run = (path: string, code: string): string =>
  execFileSync(PYTHON, ['-B', '-c', code], { cwd: path }).toString().trim();

describe('byte code', () => {
  it('is made at once where it is much, and is what Python loads, with the right file in tracebacks', async () => {
    const { path, later } = await release(1, {
      'pkg/__init__.py': '',
      'pkg/m.py': big('def f(): return f.__code__.co_filename'),
    });
    expect(later).toEqual([]);
    expect(fs.existsSync(pyc(path, 'pkg/m'))).toBe(true);
    // Were it not loaded from there, the change would show.
    fs.writeFileSync(join(path, 'pkg/m.py'), 'def f(): return "from source"');
    expect(run(path, 'import pkg.m; print(pkg.m.f())')).toBe(join(path, 'pkg/m.py'));
  });

  it('is made later where it is little, in folders that are there by then', async () => {
    const { path, later, order } = await release(1, { 'm.py': 'X = 1\n' });
    expect(later).toMatchObject([{ path: 'm.py', bytes: 6 }]);
    fs.chmodSync(path, 0o555);
    fs.chmodSync(join(path, '__pycache__'), 0o555);
    await compileLater(order, path, later);
    expect(fs.existsSync(pyc(path, 'm'))).toBe(true);
    expect(fs.statSync(join(path, '__pycache__')).mode & 0o777).toBe(0o555);
  });

  it('is taken from the store where the source is the same, whatever its path, and by its bytes alone', async () => {
    const first = await release(1, { 'm.py': big('Y = 1'), 'n.py': big('Y = 2') });
    const second = await release(2, { 'other/name.py': big('Y = 1'), 'n.py': big('Y = 3') });
    const inode = (path: string): number => fs.statSync(path).ino;
    expect(inode(pyc(second.path, 'other/name'))).toBe(inode(pyc(first.path, 'm')));
    expect(inode(pyc(second.path, 'n'))).not.toBe(inode(pyc(first.path, 'n')));
    expect(run(second.path, 'import n; print(n.Y)')).toBe('3');
  });

  it('that somebody has put into a release is not believed by the next', async () => {
    const first = await release(1, { 'm.py': big('Y = 1') });
    const evil = join(root, 'evil.py');
    fs.writeFileSync(evil, 'Y = "evil"\n');
    execFileSync(PYTHON, [
      '-c',
      `import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`,
      evil,
      `${pyc(first.path, 'm')}.new`,
    ]);
    fs.renameSync(`${pyc(first.path, 'm')}.new`, pyc(first.path, 'm'));
    expect(run(first.path, 'import m; print(m.Y)')).toBe('evil');
    const second = await release(2, { 'm.py': big('Y = 1') });
    expect(run(second.path, 'import m; print(m.Y)')).toBe('1');
  });

  it.each<[what: string, text: string]>([
    ['is no Python', big('def')],
    [
      'nests deeper than the compiler can follow',
      `X = ${'('.repeat(50_000)}${')'.repeat(50_000)}\n#${'x'.repeat(100_000)}`,
    ],
    ['needs more memory than the compiler has', `X = [${'{1: "a", 2: [3, (4, 5)]}, '.repeat(70_000)}]`],
    ['is larger than any source', `X = """${'x'.repeat(3 << 20)}"""`],
    ['has a NUL', big('X = 1\0')],
    [
      'is much larger when it is compiled',
      `${Array.from({ length: 14 }, (_, level) => `${' '.repeat(level)}try:\n${' '.repeat(level + 1)}pass\n${' '.repeat(level)}finally:`).join('\n')}\n${' '.repeat(14)}pass\n`,
    ],
  ])('of a file that %s is done without; the others have theirs', async (_, text) => {
    const limits = { memoryBytes: 96 << 20, processes: null };
    const { path } = await release(1, { 'a.py': text, 'good.py': big('Y = 1'), 'z/good.py': big('Y = 2') }, limits);
    expect([pyc(path, 'a'), pyc(path, 'good'), pyc(path, 'z/good')].map((one) => fs.existsSync(one))).toEqual([
      false,
      true,
      true,
    ]);
  });

  it('goes with the last release that has it, and what a killed agent has left goes, too', async () => {
    const first = await release(1, { 'm.py': big('Y = 1') });
    await release(2, { 'm.py': big('Y = 2') });
    const [interpreter = ''] = fs.readdirSync(site.byteCode);
    const store = join(site.byteCode, interpreter);
    fs.mkdirSync(join(store, '.4711'));
    expect(fs.readdirSync(store)).toHaveLength(4);
    execFileSync('rm', ['-rf', first.path]);
    pruneByteCode(system, site);
    expect(fs.readdirSync(store)).toHaveLength(2);
    execFileSync('rm', ['-rf', site.release(2)]);
    pruneByteCode(system, site);
    expect(fs.readdirSync(site.byteCode)).toEqual([]);
  });
});
