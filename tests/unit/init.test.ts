// kraftwerk init and the other commands, as they are typed.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const main = fileURLToPath(new URL('../../receiver/main.ts', import.meta.url));
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'kraftwerk-init-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function kraftwerk(argv: readonly string[], cwd = folder): { status: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env.PATH ?? '', HOME: folder };
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...argv], { cwd, env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

function listFiles(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .filter((file) => !file.startsWith('.git/'))
    .sort();
}

test('makes a project in a new folder, and says how to deploy it', () => {
  const { status, stdout, stderr } = kraftwerk(['init', 'my-blog']);
  expect([status, stdout, stderr]).toEqual([
    0,
    '  cd my-blog\n' +
      '  git add . && git commit -m "First version"\n' +
      '  git remote add stage kraftwerk@HOST:my-blog/stage\n' +
      '  git push stage master\n',
    `my-blog is ready in ${folder}/my-blog. To deploy it:\n\n`,
  ]);
  const project = path.join(folder, 'my-blog');
  expect(listFiles(project)).toEqual([
    '.gitignore',
    'README.md',
    'kraftwerk.yaml',
    'my_blog/__init__.py',
    'my_blog/static/style.css',
    'my_blog/templates/index.html',
    'my_blog/wsgi.py',
    'requirements.txt',
    'tests/test_site.py',
  ]);
  expect(readFileSync(path.join(project, 'my_blog/wsgi.py'), 'utf8')).toBe(
    '"""Where gunicorn finds the application."""\nfrom my_blog import create_app\n\napplication = create_app()\n',
  );
  expect(listFiles(project).filter((file) => /<%/.test(readFileSync(path.join(project, file), 'utf8')))).toEqual([]);
  expect(execFileSync('git', ['symbolic-ref', 'HEAD'], { cwd: project, encoding: 'utf8' })).toBe('refs/heads/master\n');
  expect(kraftwerk(['check', 'my-blog']).stdout).toBe(
    "kraftwerk.yaml ok\ndefault: my_blog.wsgi:application at the environment's domain\n",
  );
});

test('the name defaults to that of the current folder; a repository that is there stays', () => {
  const project = path.join(folder, 'shop');
  mkdirSync(path.join(project, '.git'), { recursive: true });
  expect(kraftwerk(['init'], project).stdout).toBe(
    '  git add . && git commit -m "First version"\n' +
      '  git remote add stage kraftwerk@HOST:shop/stage\n' +
      '  git push stage master\n',
  );
  expect(readdirSync(path.join(project, '.git'))).toEqual([]);
});

test('refuses a folder that is not empty, and writes nothing', () => {
  writeFileSync(path.join(folder, 'notes.txt'), '');
  const { status, stderr } = kraftwerk(['init', 'blog', '--directory', '.']);
  expect([status, stderr]).toEqual([
    1,
    `error: init: ${folder} is not empty: notes.txt\nhint: name a new folder: kraftwerk init NAME\n`,
  ]);
  expect(listFiles(folder)).toEqual(['notes.txt']);
});

test.each<[string[], number, string]>([
  [
    ['init', 'My Blog'],
    2,
    'error: init: NAME: expected a lower-case letter, then at most 27 of a-z 0-9 _ -, got "My Blog"\nhint: kraftwerk init blog\n',
  ],
  [
    ['init', 'flask'],
    2,
    'error: init: "flask" has a meaning in Python, a package cannot be called so\nhint: kraftwerk init flask-site\n',
  ],
  [
    ['init', '--foo'],
    2,
    "error: init: Unknown option '--foo'\nhint: kraftwerk init [NAME] [--directory DIR] [--templates DIR] [--config PATH]\n",
  ],
  [
    ['init', 'a', 'b'],
    2,
    'error: init: unexpected argument "b"\nhint: kraftwerk init [NAME] [--directory DIR] [--templates DIR] [--config PATH]\n',
  ],
  [['chek'], 2, 'error: unknown command "chek", did you mean "check"?\nhint: kraftwerk help\n'],
  [['help', 'x\u001b[1m'], 2, expect.stringMatching(/^error: unknown command "x\\u001b\[1m"/)],
])('%j', (argv, status, stderr) => {
  const result = kraftwerk(argv);
  expect([result.status, result.stderr, result.stdout]).toEqual([status, stderr, '']);
  expect(existsSync(path.join(folder, 'flask'))).toBe(false);
});

/** Path -> text, below the test's folder. */
function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
}

test('the skeleton goes through the cascade: --templates, the configured folders, the built-in one', () => {
  write({
    'mine/skeleton/requirements.txt': 'mine\n',
    'admin/skeleton/requirements.txt': 'admin\n',
    'admin/skeleton/kraftwerk.yaml': 'workers: 3\n',
    'admin/skeleton/docs/__package__.md.eta': 'About <%= it.name %>\n',
    'admin/skeleton/manage.py': '#!/usr/bin/env python3\n',
    'other/skeleton/docs/__package__.md': 'not this one\n',
    // Nothing else in it counts for a project.
    '.kraftwerk.yaml': 'templates: [./admin, ~/other]\nadmins: [/root/key.pub]\nnodes: {}\n',
  });
  chmodSync(path.join(folder, 'admin/skeleton/manage.py'), 0o755);
  const { status, stderr } = kraftwerk(['init', 'my-blog', '--templates', 'mine']);
  expect([status, stderr]).toEqual([0, `my-blog is ready in ${folder}/my-blog. To deploy it:\n\n`]);
  const project = path.join(folder, 'my-blog');
  const read = (name: string): string => readFileSync(path.join(project, name), 'utf8');
  expect(listFiles(project)).toEqual([
    '.gitignore',
    'README.md',
    'docs/my_blog.md',
    'kraftwerk.yaml',
    'manage.py',
    'my_blog/__init__.py',
    'my_blog/static/style.css',
    'my_blog/templates/index.html',
    'my_blog/wsgi.py',
    'requirements.txt',
    'tests/test_site.py',
  ]);
  expect([read('requirements.txt'), read('kraftwerk.yaml'), read('docs/my_blog.md')]).toEqual([
    'mine\n',
    'workers: 3\n',
    'About my-blog\n',
  ]);
  const modes = ['manage.py', 'kraftwerk.yaml'].map((name) => statSync(path.join(project, name)).mode & 0o100);
  expect(modes).toEqual([0o100, 0]);
});

test('what is wrong with the templates is said, and nothing is written', () => {
  write({
    'empty/notes.txt': '',
    'broken/skeleton/x.txt.eta': '<%= it.name',
    'c.yaml': 'templates: [./none]\n',
    '.kraftwerk.yaml': 'templates: [./gone]\n',
  });
  const init = (...more: string[]): string => kraftwerk(['init', 'blog', ...more]).stderr;
  expect(init()).toBe(`error: ${folder}/.kraftwerk.yaml: templates: no folder ${folder}/gone\n`);
  // Of one that is named, everything counts.
  expect(init('--config', 'c.yaml')).toContain('c.yaml:1:1 admins: missing');
  rmSync(path.join(folder, '.kraftwerk.yaml'));
  expect(init('--templates', 'empty')).toMatch(
    new RegExp(
      `^error: init: --templates: there is no folder ${folder}/empty/skeleton\nhint: its files replace those of /`,
    ),
  );
  expect(init('--templates', 'broken')).toMatch(
    new RegExp(`^error: ${folder}/broken/skeleton/x.txt.eta: .*\nhint: mend the template\n$`),
  );
  expect(existsSync(path.join(folder, 'blog'))).toBe(false);
});

test('version, help and schema', () => {
  expect(kraftwerk(['version']).stdout).toMatch(/^kraftwerk \d+\.\d+\.\d+\n$/);
  expect(kraftwerk(['--version']).stdout).toBe(kraftwerk(['version']).stdout);
  const help = kraftwerk(['help']);
  expect([help.status, help.stdout.split('\n')[0], help.stderr]).toEqual([
    0,
    'kraftwerk: git push your Python web site to your own servers',
    '',
  ]);
  expect(kraftwerk(['check', '--help']).stdout).toBe(kraftwerk(['help', 'check']).stdout);
  expect(JSON.parse(kraftwerk(['schema']).stdout)).toHaveProperty('title', 'kraftwerk.yaml');
  expect([kraftwerk([]).status, kraftwerk([]).stderr]).toEqual([2, help.stdout]);
});

test('show-config lists every error with its place', () => {
  const file = path.join(folder, 'c.yaml');
  writeFileSync(file, 'admin: []\nnodes: {}\nenvironments: {}\n');
  const { status, stderr } = kraftwerk(['show-config', '--config', 'c.yaml']);
  expect([status, stderr]).toEqual([
    3,
    `error: ${file}:1:1 unknown key "admin", did you mean "admins"?\n` +
      `error: ${file}:1:1 admins: missing, expected a list of public keys, or of files that hold them\n` +
      'hint: admins is how the first person gets in: admins: [~/.ssh/id_ed25519.pub]\n',
  ]);
});
