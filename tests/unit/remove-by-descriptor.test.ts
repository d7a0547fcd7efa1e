// What removes a tree, whatever is in it: many forms, and nothing outside is touched.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeByDescriptor } from '../../node-agent/remove-by-descriptor.ts';

const remove = (path: string): void => removeByDescriptor(dirname(path), basename(path));

let folder: string;
let tree: string;
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'kraftwerk-remove-'));
  tree = join(folder, 'tree');
  fs.mkdirSync(join(tree, 'a/b'), { recursive: true });
  fs.writeFileSync(join(tree, 'a/b/file.py'), 'X = 1\n');
  fs.mkdirSync(join(folder, 'prey'));
  fs.writeFileSync(join(folder, 'prey/file'), 'prey');
});
afterEach(() => execFileSync('rm', ['-rf', folder]));
const link = (target: string, name: string): void => fs.symlinkSync(target, join(tree, name));

describe('what is removed', () => {
  const gone = (path: string): void => {
    remove(path);
    expect(fs.existsSync(path)).toBe(false);
    expect(fs.readFileSync(join(folder, 'prey/file'), 'utf8')).toBe('prey');
  };
  const forms: Readonly<Record<string, () => void>> = {
    'a link to a folder': () => link('../prey', 'l'),
    'a link in the place of a folder': () => {
      fs.rmSync(join(tree, 'a'), { recursive: true });
      link('../prey', 'a');
    },
    'folders nobody may read': () => fs.chmodSync(join(tree, 'a'), 0),
    'read-only folders': () => {
      fs.chmodSync(join(tree, 'a/b'), 0o500);
      fs.chmodSync(join(tree, 'a'), 0o500);
    },
    'a fifo': () => execFileSync('mkfifo', [join(tree, 'a/pipe')]),
    'a name with a line end': () => fs.writeFileSync(join(tree, 'a/x\ny'), ''),
    'a name that is not text': () =>
      fs.writeFileSync(Buffer.concat([Buffer.from(join(tree, 'a/x')), Buffer.from([0xff])]), ''),
    'a name of 255 bytes': () => fs.writeFileSync(join(tree, 'a', 'x'.repeat(255)), ''),
    'a sparse file': () => fs.truncateSync(join(tree, 'a/b/file.py'), 2 ** 40),
    '300 levels of 40 letters': () => deepen(300, 'x'.repeat(40)),
    '3,000 levels': () => deepen(3_000, 'y'),
    '64 levels, and many folders below them': () => {
      deepen(64, 'w');
      const made = spawnSync('python3', [
        '-c',
        'import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(64): os.chdir("w")\nfor i in range(5000): os.mkdir(str(i))',
        tree,
      ]);
      expect(made.status).toBe(0);
    },
    'names like those that it uses itself': () => {
      deepen(100, 'z');
      fs.mkdirSync(join(tree, '.deeper-0/.deeper-1'), { recursive: true });
    },
  };
  const deepen = (levels: number, name: string): void => {
    const made = spawnSync('python3', [
      '-c',
      `import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(${levels}): os.mkdir("${name}"); os.chdir("${name}"); open("f", "w").close()`,
      tree,
    ]);
    expect(made.status).toBe(0);
  };
  it.each(Object.keys(forms))('with %s', (form) => {
    forms[form]?.();
    gone(tree);
  });
  it('goes, though another removes it at the same time', async () => {
    for (let turn = 0; turn < 10; turn++) {
      for (let number = 0; number < 300; number++) fs.mkdirSync(join(tree, `many/${number}/x`), { recursive: true });
      const other = spawn('rm', ['-rf', join(tree, 'many')]);
      const ended = new Promise((resolve) => other.once('close', resolve));
      await new Promise((resolve) => other.once('spawn', resolve));
      gone(tree);
      await ended;
    }
  });
  it('is not there at all, nor what it would be in', () => {
    gone(join(folder, 'none'));
    gone(join(folder, 'none/of/it'));
  });
  it.runIf(process.getuid?.() === 0)('is not what somebody else has linked to', () => {
    const user = 54321;
    fs.mkdirSync(join(folder, 'theirs'));
    fs.symlinkSync('../prey', join(folder, 'theirs/way'));
    for (const path of ['theirs', 'theirs/way']) fs.lchownSync(join(folder, path), user, user);
    expect(() => remove(join(folder, 'theirs/way/file'))).toThrow();
    expect(fs.readFileSync(join(folder, 'prey/file'), 'utf8')).toBe('prey');
  });
});
