// The ssh that git would start, without a shell: $GIT_SSH_COMMAND, core.sshCommand, $GIT_SSH, ssh. Pure.
// Of core.sshCommand only the person's own and the machine's: a repository's may have come with it.
import { join } from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { splitWords } from '../exec-line.ts';

export interface SshSources {
  env: Readonly<Record<string, string | undefined>>;
  /** git's core.sshCommand, not the repository's; null: none. */
  configured: string | null;
  /** For `~/`. */
  home: string;
}

export interface SshSetting {
  /** Of the person, the machine, or the command line. */
  own: string | null;
  /** What the repository would have instead; it is not used. */
  ofRepository: string | null;
}

/** Whose configuration nobody can have sent. */
const TRUSTED: readonly string[] = ['system', 'global', 'command'];

/** @param text of `git config --show-scope --null --get-all`: scope, value, and so on; the last one counts */
export function readScopes(text: string): SshSetting {
  const words = text.split('\0');
  const setting: SshSetting = { own: null, ofRepository: null };
  for (let at = 0; at + 1 < words.length; at += 2) {
    const [scope = '', value = ''] = words.slice(at, at + 2);
    if (TRUSTED.includes(scope)) setting.own = value;
    else setting.ofRepository = value;
  }
  return setting;
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
