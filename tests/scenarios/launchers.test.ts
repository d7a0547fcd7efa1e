// kraftwerk as npm installs it, with the Node.js and npm of distributions as launcher: Debian 12 has 18 and 9, Debian 13 has 20 and 9,
// Ubuntu 24.04 has 18 and 9, newer ones 20 to 22 with 9 to 11. It runs on the Node.js that comes with the package.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { itSome } from '../actors/thorough.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LIMIT_MS = 400_000;
const LAUNCHERS = ['18 9', '18 10', '20 9', '20 10', '20 11', '22 10', '22 11'] as const;

let folder: string;
let tarball: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-launchers-'));
  execFileSync(join(ROOT, 'scripts/kraftwerk'), ['version'], { stdio: 'pipe' });
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], {
    cwd: ROOT,
    stdio: 'pipe',
  });
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '');
}, LIMIT_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  itSome(LAUNCHERS, ['18 9'])(
    'works with Node.js and npm %s',
    async (versions) => {
      const [node, npm] = versions.split(' ');
      const [tools, prefix, home] = ['tools', 'prefix', 'home'].map((name) =>
        join(folder, versions.replace(' ', '-'), name),
      );
      for (const path of [tools, prefix, home]) mkdirSync(path ?? '', { recursive: true });
      writeFileSync(join(tools ?? '', 'package.json'), '{"private": true, "allowScripts": {"node": true}}');
      const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
      execFileSync('npm', ['install', ...quiet, `node@${node}`, `npm@${npm}`], { cwd: tools, stdio: 'pipe' });
      const env = { ...process.env, PATH: `${tools}/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin` };
      const run = (program: string, ...args: string[]) => {
        const { status, signal, stdout, stderr } = spawnSync(program, args, { env, cwd: home, encoding: 'utf8' });
        return { status, signal, stdout, stderr };
      };
      expect(run('node', '--version').stdout).toMatch(new RegExp(`^v${node}\\.`));
      expect(run('npm', '--version').stdout).toMatch(new RegExp(`^${npm}\\.`));
      // As docs/install.md has it, but for the place.
      const installed = run('npm', 'install', '-g', `--prefix=${prefix}`, tarball);
      expect([installed.status, installed.stderr]).toEqual([0, expect.not.stringContaining('npm error')]);
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
      const command = `${prefix}/bin/kraftwerk`;
      expect(run(command, 'version')).toEqual({
        status: 0,
        signal: null,
        stdout: `kraftwerk ${version}\n`,
        stderr: '',
      });
      // What it is told comes through, and so does its exit code.
      expect(run(command, 'nonsense')).toMatchObject({ status: 2, signal: null });
      expect(run(command, 'schema').stdout).toMatch(/^\{/);
    },
    LIMIT_MS,
  );
});
