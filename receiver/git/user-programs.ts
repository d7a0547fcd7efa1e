/** Programs of whoever typed `kraftwerk`: git in their work tree, ssh in their terminal. Their own environment and configuration count. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { HARMLESS_GIT } from './harmless-git.ts';

type Env = Readonly<Record<string, string | undefined>>;

const GIT_LIMIT_MS = 20_000;
const CAUGHT = 255;
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** Descriptors in the place of a program's own. */
export interface Files {
  stdin?: number;
  stdout?: number;
}

export interface UserGitResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** git in a work tree, with its messages in English. @throws KraftwerkError `git.missing`, `git.failed` */
export function runUserGit(args: readonly string[], { cwd, env }: { cwd: string; env: Env }): Promise<UserGitResult> {
  return new Promise((resolve, reject) => {
    execFile(
      'git',
      [...HARMLESS_GIT, ...args],
      { cwd, env: { ...env, LC_ALL: 'C' }, timeout: GIT_LIMIT_MS },
      (error, stdout, stderr) => {
        if (error === null) return resolve({ code: 0, stdout, stderr });
        if (typeof error.code === 'number') return resolve({ code: error.code, stdout, stderr });
        const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
        reject(
          new KraftwerkError(
            missing ? 'git.missing' : 'git.failed',
            missing ? 'git is not installed' : `git ${args[0] ?? ''} did not end within ${GIT_LIMIT_MS / 1000} s`,
            { cause: error, ...(missing && { hint: 'apt-get install git' }) },
          ),
        );
      },
    );
  });
}

/**
 * A program that has terminal, streams and signals to itself until it ends.
 * @returns its exit code; 128 + the signal's number when one has ended it, also where it catches signals and says 255, as ssh does
 * @throws KraftwerkError `program.missing`
 */
export function runInForeground(
  program: string,
  args: readonly string[],
  env: Env,
  files: Files = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess | null = null;
    let heard: NodeJS.Signals | null = null;
    const forward = (signal: NodeJS.Signals): void => {
      heard = signal;
      child?.kill(signal);
    };
    // Before it is started: a signal that came first would leave it behind alone.
    for (const signal of FORWARDED) process.on(signal, forward);
    const stdio = [files.stdin ?? 'inherit', files.stdout ?? 'inherit', 'inherit'] as const;
    child = spawn(program, args, { stdio: [...stdio], env: { ...env } });
    const settle = (act: () => void): void => {
      for (const signal of FORWARDED) process.off(signal, forward);
      act();
    };
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'ENOENT' ? 'it is not installed' : (cause.code ?? cause.message);
      settle(() => reject(new KraftwerkError('program.missing', `cannot start ${program}: ${reason}`, { cause })));
    });
    child.once('close', (code, signal) => {
      const by = code === null ? (signal ?? 'SIGTERM') : code === CAUGHT ? heard : null;
      settle(() => resolve(by === null ? (code ?? CAUGHT) : 128 + constants.signals[by]));
    });
  });
}
