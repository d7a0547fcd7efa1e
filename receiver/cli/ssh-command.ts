// The ssh that git would start, without a shell: $GIT_SSH_COMMAND, core.sshCommand, $GIT_SSH, ssh. Pure.
import { join } from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { splitWords } from '../exec-line.ts';

export interface SshSources {
  env: Readonly<Record<string, string | undefined>>;
  /** git's core.sshCommand; null: none. */
  configured: string | null;
  /** For `~/`. */
  home: string;
}

/**
 * @returns program and arguments
 * @throws KraftwerkError `ssh.command` for what only a shell could run
 */
export function readSshCommand({ configured, env, home }: SshSources): [program: string, ...args: string[]] {
  if (env.GIT_SSH_COMMAND) return split('$GIT_SSH_COMMAND', env.GIT_SSH_COMMAND, home);
  if (configured) return split("git's core.sshCommand", configured, home);
  return [env.GIT_SSH || 'ssh'];
}

function split(where: string, text: string, home: string): [string, ...string[]] {
  const refuse = (): KraftwerkError =>
    new KraftwerkError('ssh.command', `${where}: only a shell could run ${JSON.stringify(text.slice(0, 200))}`, {
      hint: 'kraftwerk starts ssh itself: name a program and plain arguments, or set options in ~/.ssh/config',
      exit: 'config',
    });
  if (/[$`;|&<>()*?[\]{}]/.test(text)) throw refuse();
  let words: string[];
  try {
    words = splitWords(text);
  } catch (cause) {
    if (cause instanceof KraftwerkError) throw refuse();
    throw cause;
  }
  const [program, ...args] = words.map((word) => (word.startsWith('~/') ? join(home, word.slice(2)) : word));
  // `NAME=value ssh` sets a variable in a shell.
  if (program === undefined || program.includes('=')) throw refuse();
  return [program, ...args];
}
