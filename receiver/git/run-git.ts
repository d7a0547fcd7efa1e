/** Starts git: one environment, argv arrays, byte caps and time limits. */
import { type ChildProcess, spawn } from 'node:child_process';
import { KraftwerkError } from '../../node-agent/protocol.ts';

/** Settings of the server's repositories come from here alone: neither the machine's nor a repository's own count. */
const SETTINGS: readonly (readonly [string, string])[] = [
  ['core.fsync', 'all'],
  ['gc.auto', '0'],
  ['receive.autogc', 'false'],
  ['receive.procReceiveRefs', 'refs'],
  ['receive.hideRefs', 'refs/kraftwerk'],
  ['receive.fsckObjects', 'true'],
  ['receive.advertisePushOptions', 'true'],
  ['receive.advertiseAtomic', 'true'],
  ['receive.maxInputSize', String(1024 * 1024 * 1024)],
  ['uploadpack.allowFilter', 'true'],
  ['tar.umask', '0022'],
  ['protocol.version', '2'],
];

const SMALL_OUTPUT = 64 * 1024 * 1024;

export interface GitOptions {
  repository: string;
  hooks?: string;
  env?: Readonly<Record<string, string>>;
}

/** What every git process of the receiver gets to see. */
export function gitEnvironment(options: GitOptions): Record<string, string> {
  const settings = [...SETTINGS, ...(options.hooks ? ([['core.hooksPath', options.hooks]] as const) : [])];
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_NO_LAZY_FETCH: '1',
    GIT_CONFIG_COUNT: String(settings.length),
    ...Object.fromEntries(
      settings.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
    ...options.env,
  };
}

/** Starts git with pipes; the caller ends it. */
export function startGit(args: readonly string[], options: GitOptions): ChildProcess {
  return spawn('git', args, { cwd: options.repository, env: gitEnvironment(options), stdio: ['pipe', 'pipe', 'pipe'] });
}

export interface GitResult {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

/** Runs git to its end. Never throws for a bad exit code: see `git` for that. */
export function tryGit(
  args: readonly string[],
  options: GitOptions & { input?: string; maxBytes?: number; timeoutMs?: number },
): Promise<GitResult> {
  return new Promise((resolve, reject) => {
    const child = startGit(args, options);
    const chunks: Buffer[] = [];
    let size = 0;
    let stderr = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > (options.maxBytes ?? SMALL_OUTPUT)) child.kill('SIGKILL');
      else chunks.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (stderr.length < 8192) stderr += chunk.toString('utf8');
    });
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(
        new KraftwerkError('git.missing', `cannot start git: ${cause.message}`, { cause, hint: 'apt install git' }),
      );
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout: Buffer.concat(chunks), stderr: stderr.trim() });
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

/** Runs git and gives its stdout. @throws KraftwerkError `git.failed` */
export async function git(args: readonly string[], options: Parameters<typeof tryGit>[1]): Promise<Buffer> {
  const result = await tryGit(args, options);
  if (result.code === 0) return result.stdout;
  throw new KraftwerkError(
    'git.failed',
    `git ${args[0]} failed in ${options.repository}: ${result.stderr.split('\n')[0] ?? ''}`,
  );
}
