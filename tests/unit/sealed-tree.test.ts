// Long because: many forms, and the few lines that make each.
// The one check that makes a sealed tree, and what takes a tree back before it: many forms of each.
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import { type InstanceName, KraftwerkError } from '../../node-agent/protocol.ts';
import { removeByDescriptor } from '../../node-agent/remove-by-descriptor.ts';
import {
  addFolder,
  below,
  PUBLISHED_RULES,
  RELEASE_RULES,
  resolveServed,
  sealTree,
  takeTree,
} from '../../node-agent/sealed-tree.ts';
import { createSystem } from '../../node-agent/system.ts';

const system = createSystem({});
let folder: string;
let tree: string;
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'kraftwerk-sealed-'));
  tree = join(folder, 'tree');
  fs.mkdirSync(join(tree, 'a/b'), { recursive: true });
  fs.writeFileSync(join(tree, 'a/b/file.py'), 'X = 1\n');
  fs.mkdirSync(join(folder, 'prey'));
  fs.writeFileSync(join(folder, 'prey/file'), 'prey');
});
afterEach(() => execFileSync('rm', ['-rf', folder]));

const link = (target: string, name: string): void => fs.symlinkSync(target, join(tree, name));
function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof KraftwerkError && error.code === 'artifact.hostile') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('a tree', () => {
  it.each<[what: string, links: [target: string, name: string][], said: string]>([
    ['a link inside', [['b/file.py', 'a/l']], 'accepted'],
    ['a link to the tree itself', [['..', 'a/l']], 'accepted'],
    [
      'a chain inside',
      [
        ['a', 'x'],
        ['x/b', 'y'],
        ['y/file.py', 'z'],
      ],
      'accepted',
    ],
    ['a link to what is not there', [['a/none/../none', 'l']], 'accepted'],
    ['an absolute link', [['/etc', 'l']], 'l: is a symlink to /etc, which leads outside the project'],
    ['a link out', [['../prey', 'l']], 'l: is a symlink to ../prey, which leads outside the project'],
    ['a link out and in again', [['../tree/a', 'l']], 'l: is a symlink to ../tree/a, which leads outside the project'],
    [
      'a chain out',
      [
        ['.', 'x'],
        ['x/..', 'l'],
      ],
      'l: is a symlink to x/.., which leads outside the project',
    ],
    [
      'a deep chain out',
      [
        ['..', 'a/b/up'],
        ['b/up/../..', 'a/l'],
      ],
      'a/l: is a symlink to b/up/../.., which leads outside the project',
    ],
    [
      'a link to an absolute link',
      [
        ['/etc', 'x'],
        ['x/passwd', 'y'],
      ],
      /^[xy]: .*which leads outside the project$/.source,
    ],
    [
      'a circle',
      [
        ['y', 'x'],
        ['x', 'y'],
      ],
      /^[xy]: .*which leads in circles$/.source,
    ],
    ['the name of the socket', [['a/b', '.run']], '.run: the name is the one of a link that every deploy makes'],
    ['the name of the virtualenv', [['a/b', 'venv']], 'venv: the name is the one of a link that every deploy makes'],
    [
      'a link through .run',
      [['.run/..', 'l']],
      'l: is a symlink to .run/.., which leads through .run, which every deploy makes anew',
    ],
    [
      'a link through .run, by a detour',
      [
        ['.', 'x'],
        ['x/a/../x/.run', 'l'],
      ],
      'l: is a symlink to x/a/../x/.run, which leads through .run, which every deploy makes anew',
    ],
    ['a name that ends like ours', [['a', 'a/.run']], 'accepted'],
  ])('with %s', (_, links, said) => {
    for (const [target, name] of links) link(target, name);
    expect(refusal(() => sealTree(system, tree, RELEASE_RULES))).toMatch(
      said === 'accepted'
        ? said
        : new RegExp(said.startsWith('^') ? said : `^${said.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`),
    );
  });

  it('with what is neither file nor folder nor link', () => {
    execFileSync('mkfifo', [join(tree, 'a/pipe')]);
    expect(refusal(() => sealTree(system, tree, RELEASE_RULES))).toBe('a/pipe: is neither file nor folder nor link');
  });

  it('of links that lead through each other without end is looked at in time', () => {
    link('a', 'l0');
    link('.', 'x');
    for (let number = 1; number < 38; number++) link(`${'a/../'.repeat(150)}l${number - 1}`, `l${number}`);
    for (let number = 0; number < 2_000; number++) link('l37/b', `to${number}`);
    expect(() => sealTree(system, tree, RELEASE_RULES)).toThrow('the links of the tree lead through too many others');
    fs.symlinkSync('x'.repeat(2_000), join(tree, '0'));
    expect(() => sealTree(system, tree, RELEASE_RULES)).toThrow('is a symlink to too long a path');
  });

  it('deeper than it may be', () => {
    fs.mkdirSync(join(tree, ...Array.from({ length: 70 }, () => 'd')), { recursive: true });
    expect(refusal(() => sealTree(system, tree, RELEASE_RULES))).toMatch(/folders are nested deeper than 64$/);
  });

  it('that was published has its own names, and nothing leads through them', () => {
    link('/run/kraftwerk/blog/a.1', '.run');
    link('../../venvs/x', 'venv');
    expect(sealTree(system, tree, PUBLISHED_RULES).folders).toEqual(new Set(['', 'a', 'a/b']));
    link('venv/lib', 'l');
    expect(refusal(() => sealTree(system, tree, PUBLISHED_RULES))).toContain('leads through venv');
  });

  it('is worked in below its real folders only', () => {
    link('a', 'x');
    const sealed = sealTree(system, tree, RELEASE_RULES);
    expect(below(sealed, 'a/b/new')).toBe(join(tree, 'a/b/new'));
    for (const path of ['x/new', 'x/b/new', 'none/new', 'a/../a/new', 'a/b/file.py/new'])
      expect(() => below(sealed, path), path).toThrow('no folder of the tree');
    expect(() => addFolder(system, sealed, 'x/__pycache__', 0o755)).toThrow('no folder of the tree');
  });

  it('is served where nginx will find it', () => {
    link('a/b', 'st');
    const sealed = sealTree(system, tree, RELEASE_RULES);
    expect(resolveServed(system, sealed, 'st')).toBe(fs.realpathSync(join(tree, 'a/b')));
    expect(resolveServed(system, sealed, 'none')).toBe(null);
    for (const served of ['.run', '.run/x', 'venv/lib'])
      expect(
        refusal(() => resolveServed(system, sealed, served)),
        served,
      ).toContain('which every deploy makes anew');
  });
});

describe.runIf(process.getuid?.() === 0)('what a builder has had', () => {
  const BUILDER = 54_321;
  const SITE_GROUP = 54_322;
  const site = siteLayout(nodeLayout({ profile: 'system' }), 'sealed-test' as InstanceName);
  /** A machine whose users are these, and that runs nothing of theirs. */
  const machine = {
    ...system,
    readText: (path: string) =>
      path === '/etc/passwd'
        ? `root:x:0:0::/root:/bin/sh\nweb-sealed-test:x:54320:${SITE_GROUP}::/web/sealed-test:\nbld-sealed-test:x:${BUILDER}:${BUILDER}::/web/sealed-test/.cache:\n`
        : path === '/etc/group'
          ? `web-sealed-test:x:${SITE_GROUP}:\nbld-sealed-test:x:${BUILDER}:\n`
          : system.readText(path),
  };
  const take = (byteCode: 'keep' | 'drop' = 'drop') =>
    takeTree(machine, site, tree, { byteCode, step: 'Build', reason: 'refused' }).then(
      (answer) => answer,
      (error: KraftwerkError) => ({ code: error.code, message: error.message }),
    );
  const lend = (): void => void execFileSync('chown', ['-hR', String(BUILDER), tree]);
  const find = (): string =>
    execFileSync('find', ['.', '-printf', '%p %U:%G %m\\n'], { cwd: tree })
      .toString()
      .trim()
      .split('\n')
      .sort()
      .join('\n');

  it("is root's and the site's group's, without what must not be in it", async () => {
    fs.mkdirSync(join(tree, 'a/__pycache__/x'), { recursive: true });
    fs.writeFileSync(join(tree, 'a/__pycache__/file.cpython-311.pyc'), 'evil');
    link('/etc', '__pycache__');
    execFileSync('mkfifo', [join(tree, 'a/pipe')]);
    fs.writeFileSync(join(tree, 'tool'), '');
    fs.mkdirSync(join(tree, 'closed'));
    lend();
    fs.chmodSync(join(tree, 'tool'), 0o6777);
    fs.chmodSync(join(tree, 'closed'), 0);
    fs.chmodSync(join(tree, 'a'), 0o777);
    expect(await take()).toEqual({ copied: 0 });
    expect(find()).toBe(
      [
        '. 0:54322 2750',
        './a 0:54322 2750',
        './a/b 0:54322 2750',
        './a/b/file.py 0:54322 640',
        './closed 0:54322 2750',
        './tool 0:54322 750',
      ].join('\n'),
    );
  });

  it('stays what it was when it was taken, whoever still writes to it', async () => {
    const path = join(tree, 'a/b/file.py');
    const mapped = join(tree, 'a/mapped');
    fs.writeFileSync(mapped, 'as it was');
    lend();
    const handle = fs.openSync(path, 'a');
    const mapper = `import mmap, sys
file = open(sys.argv[1], "r+b"); memory = mmap.mmap(file.fileno(), 0); file.close()
print("mapped", flush=True); sys.stdin.readline(); memory[0:2] = b"no"; memory.flush(); print("written", flush=True)`;
    const child = spawn('python3', ['-c', mapper, mapped]);
    const said = (): Promise<string> =>
      new Promise((resolve) => child.stdout.once('data', (data: Buffer) => resolve(data.toString().trim())));
    expect(await said()).toBe('mapped');
    expect(await take()).toEqual({ copied: 2 });
    fs.writeSync(handle, 'evil');
    fs.closeSync(handle);
    child.stdin.write('\n');
    expect(await said()).toBe('written');
    child.kill();
    expect(fs.readFileSync(path, 'utf8')).toBe('X = 1\n');
    expect(fs.readFileSync(mapped, 'utf8')).toBe('as it was');
  });

  it('shares no file with what is outside, whose other name goes with its owner', async () => {
    lend();
    fs.linkSync(join(tree, 'a/b/file.py'), join(folder, 'outside'));
    expect(await take()).toEqual({ copied: 1 });
    expect([fs.statSync(join(folder, 'outside')).uid, fs.statSync(join(tree, 'a/b/file.py')).uid]).toEqual([
      BUILDER,
      0,
    ]);
    expect(fs.readFileSync(join(tree, 'a/b/file.py'), 'utf8')).toBe('X = 1\n');
  });

  it('takes no more room for the many names of one file', async () => {
    for (let number = 0; number < 40; number++) fs.linkSync(join(tree, 'a/b/file.py'), join(tree, `a/${number}`));
    lend();
    expect(await take()).toEqual({ copied: 1 });
    const names = [...Array.from({ length: 40 }, (_, number) => `a/${number}`), 'a/b/file.py'];
    const stats = names.map((name) => fs.statSync(join(tree, name)));
    // The last name has had the file for itself by then.
    expect([new Set(stats.map(({ ino }) => ino)).size, new Set(stats.map(({ uid }) => uid))]).toEqual([
      2,
      new Set([0]),
    ]);
  });

  it('is taken in time, however many folders a cache of byte code has, and whatever copies are called', async () => {
    for (let number = 0; number < 3_000; number++)
      fs.mkdirSync(join(tree, `a/__pycache__/${number}/x`), { recursive: true });
    fs.writeFileSync(join(tree, 'a/b/.kraftwerk-copy'), '');
    lend();
    const handle = fs.openSync(join(tree, 'a/b/file.py'), 'a');
    expect(await take()).toEqual({ copied: 1 });
    fs.closeSync(handle);
    expect(fs.existsSync(join(tree, 'a/__pycache__'))).toBe(false);
  });

  it.each<[what: string, make: () => void, said: { code: string; message: RegExp }]>([
    [
      'long names of control characters',
      () =>
        void fs.mkdirSync(join(tree, ...Array.from({ length: 5 }, () => '\u0001'.repeat(250))), { recursive: true }),
      { code: 'artifact.limit', message: /: the path is longer than 1024 bytes$/ },
    ],
    [
      "root's file",
      () => fs.chownSync(join(tree, 'a/b/file.py'), 0, 0),
      { code: 'artifact.hostile', message: /^a\/b\/file\.py: belongs to another user$/ },
    ],
    [
      "another user's file",
      () => fs.chownSync(join(tree, 'a/b/file.py'), 54_399, 54_399),
      { code: 'artifact.hostile', message: /^a\/b\/file\.py: belongs to another user$/ },
    ],
    [
      'a name that is not text',
      () => fs.writeFileSync(Buffer.concat([Buffer.from(join(tree, 'a/x')), Buffer.from([0xff])]), ''),
      { code: 'artifact.hostile', message: /^a\/x\\udcff: the name is not UTF-8$/ },
    ],
    [
      '300 levels of 40 letters',
      () =>
        void execFileSync('python3', [
          '-c',
          `import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(300): os.mkdir("x" * 40); os.chdir("x" * 40)`,
          tree,
        ]),
      { code: 'artifact.limit', message: /: the path is longer than 1024 bytes$/ },
    ],
    [
      '70 levels',
      () => void fs.mkdirSync(join(tree, ...Array.from({ length: 70 }, () => 'd')), { recursive: true }),
      { code: 'artifact.limit', message: /: folders are nested deeper than 64$/ },
    ],
  ])('is refused with %s, and can be removed', async (what, make, said) => {
    if (!what.includes("'s file")) make();
    lend();
    if (what.includes("'s file")) make();
    expect(await take()).toMatchObject({ code: said.code, message: expect.stringMatching(said.message) as string });
    removeByDescriptor(folder, 'tree');
    expect(fs.existsSync(tree)).toBe(false);
  });
});
