// kraftwerk check: the working tree as the receiver would see it.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EnvironmentName, ProjectName } from '../../node-agent/protocol.ts';
import { type CheckResult, checkProject } from '../../receiver/cli/check.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'kraftwerk-check-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function check(files: Record<string, string>, environment?: string): Promise<CheckResult> {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  const file = path.join(folder, 'kraftwerk.yaml');
  return checkProject(folder, file, 'blog' as ProjectName, environment as EnvironmentName | undefined);
}

const APP = { 'app.py': 'app = 1\n' };

test('a project without environments', async () => {
  expect(await check({ ...APP, 'kraftwerk.yaml': 'domain: blog.example\n' })).toEqual({
    ok: true,
    errors: [],
    hints: [],
    environments: { default: { domains: ['blog.example'], wsgi: 'app:app' } },
  });
});

test('every environment that the file names, or the one that is asked for', async () => {
  const text = 'domain: blog.example\nenvironments:\n  stage: {domain: s.blog.example}\n  live: {}\n';
  expect((await check({ ...APP, 'kraftwerk.yaml': text })).environments).toEqual({
    stage: { domains: ['s.blog.example'], wsgi: 'app:app' },
    live: { domains: ['blog.example'], wsgi: 'app:app' },
  });
  expect((await check({}, 'live')).environments).toEqual({ live: { domains: ['blog.example'], wsgi: 'app:app' } });
});

test('errors of all environments, each once', async () => {
  const text = 'wrkers: 1\nenvironments: {a: {}, b: {threads: x}}\n';
  expect(await check({ ...APP, 'kraftwerk.yaml': text })).toEqual({
    ok: false,
    errors: [
      'kraftwerk.yaml:1:1 unknown key "wrkers", did you mean "workers"?',
      'kraftwerk.yaml:2:36 environments.b.threads: expected a whole number from 1 to 64, got "x"',
    ],
    hints: [],
    environments: {},
  });
});

test('what the file names and the tree lacks', async () => {
  const text = 'wsgi: blog.wsig\nrequirements: requirement.txt\nstatic: {/static: blog/statics}\n';
  const files = { 'blog/wsgi.py': 'app = 1\n', 'requirements.txt': '', 'blog/static/x.css': '' };
  expect((await check({ ...files, 'kraftwerk.yaml': text })).errors).toEqual([
    'kraftwerk.yaml:2:1 requirements: no file requirement.txt, did you mean "requirements.txt"?',
    'kraftwerk.yaml:3:10 static: no folder blog/statics, did you mean "blog/static"?',
    'kraftwerk.yaml:1:1 wsgi: no module blog.wsig in the project, did you mean "blog.wsgi"?',
  ]);
});

test('a package or a folder that is not there, unless build makes it', async () => {
  const text = 'wsgi: app\npackage: nope\nsrc: lib\n';
  expect((await check({ ...APP, 'kraftwerk.yaml': text })).errors).toEqual([
    'kraftwerk.yaml:3:1 src: no folder lib',
    'kraftwerk.yaml:2:1 package: no package nope in the tree',
  ]);
  for (const file of ['lib/nope.py', 'lib/nope/__init__.py']) {
    expect((await check({ [file]: '' })).errors).toEqual([]);
    rmSync(path.join(folder, file.split('/').slice(0, 2).join('/')), { recursive: true });
  }
  expect((await check({ 'kraftwerk.yaml': `${text}build: make\n` })).errors).toEqual([]);
});

test('no file, or another name', async () => {
  expect((await check(APP)).errors).toEqual(['kraftwerk.yaml: missing in the root of the project']);
  // Not one of another project below.
  expect((await check({ 'blog/kraftwerk.yaml': '' })).errors).toEqual([
    'kraftwerk.yaml: missing in the root of the project',
  ]);
  expect((await check({ 'kraftwerk.yml': '' })).hints).toEqual([
    'it has to stand in the root under this name: git mv kraftwerk.yml kraftwerk.yaml',
  ]);
});

test('a link, a folder, Latin-1, or far too much instead of the file', async () => {
  symlinkSync('elsewhere.yaml', path.join(folder, 'kraftwerk.yaml'));
  expect((await check({ 'elsewhere.yaml': 'wsgi: app\n', ...APP })).errors).toEqual([
    'kraftwerk.yaml: expected a file, got a link',
  ]);
  rmSync(path.join(folder, 'kraftwerk.yaml'));
  expect((await check({ 'kraftwerk.yaml': '#'.repeat(70_000) })).errors).toEqual([
    'kraftwerk.yaml:1:1 at most 65536 bytes are allowed, got 70000',
  ]);
  writeFileSync(path.join(folder, 'kraftwerk.yaml'), Buffer.from('# gr\xf6\xdfe\n', 'latin1'));
  expect((await check({})).errors).toEqual(['kraftwerk.yaml:1:5 expected UTF-8, got the byte 0xf6']);
  rmSync(path.join(folder, 'kraftwerk.yaml'));
  expect((await check({ 'kraftwerk.yaml/x': '' })).errors).toEqual(['kraftwerk.yaml: expected a file, got a folder']);
});
