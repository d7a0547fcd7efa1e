/** Actor: somebody with a git work tree who pushes it to a receiver. */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestReceiver } from './receiver.ts';
import { type Outcome, outcome, type TestKey } from './ssh.ts';

const FIXTURES = fileURLToPath(new URL('../fixtures/sites', import.meta.url));

/** Path -> text; null removes the file. */
export type Files = Record<string, string | Buffer | null>;

export interface PushResult {
  code: number;
  /** All that git printed. */
  output: string;
  /** What the receiver said: git's `remote: ` is cut off. */
  lines: string[];
  /** In git's own status line, ` ! [remote rejected] master -> master (…)`; null when it took the ref. */
  rejected: string | null;
}

export interface PushOptions {
  /** `-o` each. */
  options?: string[];
  /** Further arguments of git push, before the remote. */
  args?: string[];
  key?: TestKey;
}

export type Pusher = ReturnType<typeof createPusher>;

/**
 * @param project the repository's name on the receiver
 * @param site a fixture's name, or files
 */
export function createPusher(
  receiver: TestReceiver,
  project: string,
  site: string | Files = 'plain',
  key = receiver.admin,
) {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-pusher-'));
  const cleanUp = (): void => rmSync(folder, { recursive: true, force: true });
  receiver.onCleanUp(cleanUp);
  const environment = (who: TestKey): Record<string, string> => ({
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    HOME: folder,
    LANG: 'C.UTF-8',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_AUTHOR_NAME: 'Alice',
    GIT_AUTHOR_EMAIL: 'alice@example.com',
    GIT_COMMITTER_NAME: 'Alice',
    GIT_COMMITTER_EMAIL: 'alice@example.com',
    GIT_SSH_COMMAND: receiver.sshCommand(who).join(' '),
  });
  const work = join(folder, 'work');
  mkdirSync(work);

  /** git in the work tree. @returns its trimmed output; throws when it fails */
  function git(args: readonly string[], input: string | Buffer = ''): string {
    const result = spawnSync('git', args, { cwd: work, env: environment(key), input, maxBuffer: 1 << 28 });
    if (result.status !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
    return result.stdout.toString().trim();
  }

  /** git as it is, failing or not. */
  function tryGit(args: readonly string[], who = key): Promise<Outcome> {
    return outcome(spawn('git', args, { cwd: work, env: environment(who) }));
  }

  function write(files: Files): void {
    for (const [path, text] of Object.entries(files)) {
      const full = join(work, path);
      if (text === null) rmSync(full, { recursive: true, force: true });
      else {
        mkdirSync(dirname(full), { recursive: true });
        writeFileSync(full, text);
      }
    }
  }

  /** Writes the files and commits all there is. @returns the commit's id */
  function commit(files: Files = {}, message = 'Change it'): string {
    write(files);
    git(['add', '--all', '.']);
    git(['commit', '--quiet', '--allow-empty', '-m', message]);
    return git(['rev-parse', 'HEAD']);
  }

  /** `remote`: stage, live, or a URL. */
  async function push(remote = 'stage', ref = 'master', options: PushOptions = {}): Promise<PushResult> {
    const args = [...(options.options ?? []).flatMap((option) => ['-o', option]), ...(options.args ?? [])];
    const refs = ref.split(' ').filter((word) => word !== '');
    const { code, stdout, stderr } = await tryGit(['push', ...args, remote, ...refs], options.key);
    const lines = stderr
      .split('\n')
      .filter((line) => line.startsWith('remote: '))
      .map((line) => line.slice('remote: '.length).trimEnd());
    const rejected = /^ ! \[remote rejected\] .*? \((.*)\)$/m.exec(stderr)?.[1] ?? null;
    return { code: code ?? -1, output: stdout + stderr, lines, rejected };
  }

  /** commit and push; throws when it was not taken. */
  async function deploy(files: Files = {}, remote = 'stage'): Promise<PushResult> {
    commit(files);
    const result = await push(remote, git(['symbolic-ref', '--short', 'HEAD']));
    if (result.code !== 0) throw new Error(`push failed:\n${result.output}\n${receiver.tail()}`);
    return result;
  }

  git(['init', '--quiet', '--initial-branch=master']);
  for (const environmentName of ['stage', 'live'])
    git(['remote', 'add', environmentName, `kraftwerk@receiver:${project}/${environmentName}`]);
  if (typeof site === 'string') cpSync(join(FIXTURES, site), work, { recursive: true });
  else write(site);

  return {
    project,
    folder,
    work,
    git,
    tryGit,
    write,
    commit,
    push,
    deploy,
    head: (): string => git(['rev-parse', 'HEAD']),
    cleanUp,
  };
}
