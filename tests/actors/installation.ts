/** Actor: kraftwerk as npm installs it, made of this checkout's package and the dependencies that are here. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { quoteForShell } from '../../receiver/templates.ts';
import type { Box } from './box.ts';
import { type Outcome, outcome } from './ssh.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The package's own files; its dependencies are the checkout's. */
const INSIDE = 'lib/node_modules/kraftwerk-paas';

export interface Installation {
  folder: string;
  /** kraftwerk on this machine. @param env beside PATH and a HOME without ssh's files */
  run(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** The same with a terminal, which says `input`. What it prints is all on stdout. */
  inTerminal(args: readonly string[], input: string, env?: Readonly<Record<string, string>>): Promise<Outcome>;
  /** As `npm install -g` leaves it, below /usr/local. */
  copyTo(box: Box): Promise<void>;
  remove(): void;
}

export interface RunOptions {
  env?: Readonly<Record<string, string>>;
  /** Told of each piece of stderr. */
  onText?(text: string): void;
  /** Ctrl-C. */
  signal?: AbortSignal;
}

/** Packs the checkout, which does not change under the tests' feet then. */
export function installPackage(): Installation {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-installed-'));
  const inside = join(folder, INSIDE);
  // Builds what is older than its source.
  execFileSync(join(ROOT, 'scripts/kraftwerk'), ['version'], { stdio: 'pipe' });
  mkdirSync(inside, { recursive: true });
  mkdirSync(join(folder, 'home'));
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], {
    cwd: ROOT,
    stdio: 'pipe',
  });
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  execFileSync('tar', ['-xzf', join(folder, `kraftwerk-paas-${version}.tgz`), '-C', inside, '--strip-components=1']);
  symlinkSync(join(ROOT, 'node_modules'), join(inside, 'node_modules'));

  const environment = { PATH: process.env.PATH ?? '', HOME: join(folder, 'home'), LANG: 'C.UTF-8' };
  return {
    folder,
    run(args, { env = {}, onText, signal } = {}) {
      const child = spawn(process.execPath, [join(inside, 'build/kraftwerk.mjs'), ...args], {
        cwd: folder,
        env: { ...environment, ...env },
      });
      signal?.addEventListener('abort', () => child.kill('SIGINT'), { once: true });
      if (onText) child.stderr.on('data', (chunk: Buffer) => onText(chunk.toString('utf8')));
      return outcome(child);
    },
    inTerminal(args, input, env = {}) {
      const words = [process.execPath, join(inside, 'build/kraftwerk.mjs'), ...args];
      const child = spawn('script', ['-qec', words.map(quoteForShell).join(' '), '/dev/null'], {
        cwd: folder,
        env: { ...environment, ...env },
      });
      // What is typed before the question is asked is waited for by the terminal.
      return outcome(child, input);
    },
    async copyTo(box) {
      const archive = join(folder, 'installation.tar');
      if (!existsSync(archive)) pack(folder, archive);
      await box.copyIn(archive, '/root/installation.tar');
      await box.run(['tar', '-xf', '/root/installation.tar', '-C', '/usr/local', '--no-same-owner']);
      await box.run(['rm', '/root/installation.tar']);
      await box.run(['ln', '-sfn', `../${INSIDE}/build/kraftwerk.mjs`, '/usr/local/bin/kraftwerk']);
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The package, and each dependency as a real folder below it. */
function pack(folder: string, archive: string): void {
  execFileSync('tar', ['-C', folder, `--exclude=${INSIDE}/node_modules`, '-cf', archive, INSIDE]);
  const listed = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const paths = listed
    .split('\n')
    .filter((path) => path.startsWith(`${ROOT}node_modules/`))
    .map((path) => path.slice(ROOT.length));
  // The nested ones come with the outer ones.
  const outer = paths.filter((path) => !paths.some((other) => path.startsWith(`${other}/`)));
  const move = `--transform=s,^node_modules,${INSIDE}/node_modules,`;
  execFileSync('tar', ['-C', ROOT, move, '-rf', archive, ...outer]);
}
