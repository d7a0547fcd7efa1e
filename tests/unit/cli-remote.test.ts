// The project that a command is typed in, and mistakes of `kraftwerk remote`.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { findManifestFolder, findProjectFolder } from '../../receiver/cli/project.ts';
import { run } from '../../receiver/cli/remote.ts';

test.each<[string[], string, string | undefined]>([
  [['list', 'x'], 'remote: unexpected argument "x"', undefined],
  [['add'], 'remote: add: the environment is missing', undefined],
  [['add', 'live'], 'remote: add: the host is missing', undefined],
  [
    ['add', 'Live', 'paas'],
    'remote: ENVIRONMENT: expected a lower-case letter, then at most 27 of a-z 0-9 _ -, got "Live"',
    'kraftwerk remote add stage HOST',
  ],
  [
    ['add', 'live', 'root@paas'],
    'remote: HOST: the user is always kraftwerk, got "root"',
    'kraftwerk remote add live paas.example.com',
  ],
  [
    ['add', 'live', '--', '-oProxyCommand=date'],
    'remote: HOST: expected a host\'s name, perhaps with :PORT, got "-oProxyCommand=date"',
    'kraftwerk remote add live paas.example.com',
  ],
  [['ad', 'live', 'paas'], 'remote: unknown word "ad", did you mean "add"?', undefined],
  [['rm', 'live'], 'remote: unknown word "rm", expected list or add', 'git remote remove live'],
])('%j is a mistake', async (argv, message, hint) => {
  await expect(run(argv)).rejects.toMatchObject({
    code: 'cli.usage',
    exit: 'usage',
    message,
    hints: hint === undefined ? [] : [hint],
  });
});

test('a project is found from below, up to the repository’s top', () => {
  const project = realpathSync(mkdtempSync(path.join(tmpdir(), 'kraftwerk-project-')));
  onTestFinished(() => rmSync(project, { recursive: true }));
  const inner = path.join(project, 'deep', 'inner');
  for (const made of ['.git', 'deep/down', 'deep/inner/.git', 'deep/inner/below']) {
    mkdirSync(path.join(project, made), { recursive: true });
  }
  writeFileSync(path.join(project, 'kraftwerk.yaml'), '');
  expect(findManifestFolder(path.join(project, 'deep', 'down'))).toBe(project);
  expect(findProjectFolder(path.join(project, 'deep', 'down'))).toBe(project);
  expect(findManifestFolder(path.join(inner, 'below'))).toBe(null);
  expect(findProjectFolder(path.join(inner, 'below'))).toBe(inner);
  // Without a repository only the folder itself counts.
  rmSync(path.join(project, '.git'), { recursive: true });
  expect(findManifestFolder(path.join(project, 'deep', 'down'))).toBe(null);
  expect(findManifestFolder(project)).toBe(project);
});
