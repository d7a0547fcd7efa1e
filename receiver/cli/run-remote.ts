// A command of the receiver's table, typed in a project: sent over ssh to the receiver that the git remotes name.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Command } from '../commands/command.ts';
import { readSurroundings, type Surroundings } from '../config.ts';
import { quoteWord } from '../exec-line.ts';
import { type Files, runInForeground, runUserGit } from '../git/user-programs.ts';
import { escapeForTerminal } from '../print-table.ts';
import { chooseRemote } from './choose-remote.ts';
import { openFile, type TypedFile, takeFile } from './local-file.ts';
import { usageError } from './parse-options.ts';
import { type GitRemote, readRemotes } from './project.ts';
import { type Address, sshDestination } from './remote-url.ts';
import { asksInTerminal, findTypedTarget, formatExecLine, putTarget, readRemoteWords } from './remote-words.ts';
import { readScopes, readSshCommand, type SshSetting } from './ssh-command.ts';

/** What ssh ends with when it could not do its own part. */
const SSH_FAILED = 255;
/** What git ends with when it does not know an option. */
const GIT_USAGE = 129;

/**
 * @param before the --remote that stood before the command's name
 * @returns the receiver's exit code
 */
export async function runRemote(command: Command, all: readonly string[], before: string | null): Promise<number> {
  const { words: typed, file } = takeFile(command, all);
  if (
    file === null &&
    command.file?.direction === 'write' &&
    typed.includes(`--${command.file.option}`) &&
    process.stdout.isTTY
  )
    throw usageError(command.name, `--${command.file.option} needs a FILE: stdout is a terminal`);
  const surroundings = readSurroundings();
  const early = command.program === true ? await readRemotes(command.name, surroundings) : null;
  const words = readRemoteWords(command, typed, projectsOf(early ?? []));
  const { args, options, positionals, remote } = words;
  if (remote !== null && before !== null) throw usageError(command.name, '--remote is given twice');
  // What cannot be sent is said before anything else is looked at.
  formatExecLine([command.name, ...args]);
  const [remotes, configured] = await Promise.all([
    early ?? readRemotes(command.name, surroundings),
    readSshSetting(surroundings),
  ]);
  const { own: setting, ofRepository } = configured;
  const given = findTypedTarget(command, positionals, projectsOf(remotes));
  const { address, target } = chooseRemote(
    {
      command: command.name,
      words: [
        command.name,
        ...args.flatMap((word) => (word === `--${file?.option}` ? [word, file?.path ?? ''] : [word])),
      ],
      positionals: command.program === true ? [] : positionals,
      remote: remote ?? before,
      takesTarget: command.target !== 'none' && !(command.withoutTarget && options.has(command.withoutTarget.option)),
      given,
    },
    remotes,
  );
  const line = formatExecLine([command.name, ...putTarget(words, target, given)]);
  if (ofRepository !== null && !surroundings.env.GIT_SSH_COMMAND) warnOfSshSetting(ofRepository);
  const [ssh, ...own] = readSshCommand({ ...surroundings, configured: setting });
  const terminal = file === null && process.stdin.isTTY && process.stdout.isTTY && asksInTerminal(command, options);
  const argv = [...own, terminal ? '-t' : '-T', ...sshDestination(address), line];
  const code = await withFile(file, (files) => runSsh(ssh, argv, surroundings, files));
  if (code === SSH_FAILED) explainFailure(address, [ssh, ...own]);
  return code;
}

async function runSsh(ssh: string, argv: readonly string[], { env }: Surroundings, files: Files): Promise<number> {
  try {
    return await runInForeground(ssh, argv, env, files);
  } catch (cause) {
    if (!(cause instanceof KraftwerkError)) throw cause;
    throw new KraftwerkError(cause.code, cause.message, { hint: 'apt-get install openssh-client', cause });
  }
}

/** What is written stays when the command has ended well. @returns the exit code that `body` gives */
async function withFile(file: TypedFile | null, body: (files: Files) => Promise<number>): Promise<number> {
  if (file === null) return body({});
  const { fd, close } = openFile(file);
  let code: number | null = null;
  try {
    code = await body(file.direction === 'read' ? { stdin: fd } : { stdout: fd });
    return code;
  } finally {
    close(code === 0);
  }
}

function projectsOf(remotes: readonly GitRemote[]): string[] {
  return remotes.flatMap(({ parsed }) => (parsed.kind === 'ssh' ? [parsed.target.project] : []));
}

/** git's core.sshCommand, as far as it is the person's own or the machine's. */
async function readSshSetting({ cwd, env }: Surroundings): Promise<SshSetting> {
  const scoped = ['config', '--includes', '--show-scope', '--null', '--get-all', 'core.sshCommand'];
  const { code, stdout } = await runUserGit(scoped, { cwd, env });
  if (code === 0) return readScopes(stdout);
  if (code !== GIT_USAGE) return { own: null, ofRepository: null };
  // git before 2.26 tells no scopes.
  const old = await runUserGit(['config', '--global', '--get', 'core.sshCommand'], { cwd, env });
  return { own: old.code === 0 ? old.stdout.trimEnd() : null, ofRepository: null };
}

/** git itself would run it at a push, which somebody decides on; here it would be run by `kraftwerk status`. */
function warnOfSshSetting(text: string): void {
  const lines = [
    "warning: this repository's own core.sshCommand is not used: it may have come with the repository",
    `hint: if it is yours: export GIT_SSH_COMMAND=${quoteWord(text.slice(0, 200))}`,
  ];
  process.stderr.write(`${lines.map(escapeForTerminal).join('\n')}\n`);
}

function explainFailure(address: Address, ssh: readonly string[]): void {
  const destination = sshDestination(address).filter((word) => word !== '--');
  const attempt = [...ssh, '-v', ...destination, 'whoami'].map(quoteWord).join(' ');
  const lines = [
    `error: ssh gave up: ${destination.at(-1) ?? ''} was not reached, shows another host key, or does not know yours`,
    `hint: what ssh tries: ${attempt}`,
    'hint: an admin lets a key in: kraftwerk keys:add NAME < KEY.pub',
    'hint: where the remotes lead: kraftwerk remote',
  ];
  process.stderr.write(`${lines.map(escapeForTerminal).join('\n')}\n`);
}
