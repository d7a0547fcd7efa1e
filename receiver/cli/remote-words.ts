// The words of a command that goes to a receiver: --remote taken out, the target found or put in, one line for ssh. Pure.
import { parseArgs } from 'node:util';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Command } from '../commands/command.ts';
import { findProgram } from '../commands/parse-args.ts';
import { quoteWord, splitWords } from '../exec-line.ts';
import { usageError } from './parse-options.ts';

const REMOTE = { type: 'string', short: 'r' } as const;
const COMMON = { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const;

export interface RemoteWords {
  /** --remote; null: none was given. */
  remote: string | null;
  /** All others, as they were typed. */
  args: string[];
  /** Those before `--` that are neither options nor options' values. */
  positionals: string[];
  /** Where the first of them stands in `args`. */
  firstAt: number;
  /** The long names of the options that were given. */
  options: ReadonlySet<string>;
}

/**
 * Where a program's own words follow, they are left alone. Without `--` they begin with the first word that is no option, or
 * with the one behind it if that is a target of a known project.
 * @param projects names of the projects that the git remotes lead to
 * @throws KraftwerkError `cli.usage`
 */
export function readRemoteWords(
  command: Command,
  typed: readonly string[],
  projects: readonly string[] = [],
): RemoteWords {
  if (command.program !== true) return readOwnWords(command, typed);
  const known = { options: { ...command.options, remote: REMOTE } };
  const [first, second] = [findProgram(known, typed, 0), findProgram(known, typed, 1)];
  const separate = typed[second] === '--';
  const [project, environment, ...rest] = (typed[first] ?? '').split('/');
  const isTarget = separate || (projects.includes(project ?? '') && environment !== '' && rest.length === 0);
  const begin = isTarget ? second : first;
  const words = typed.slice(typed[begin] === '--' ? begin + 1 : begin);
  const own = readOwnWords(command, typed.slice(0, begin));
  return words.length === 0 ? own : { ...own, args: [...own.args, '--', ...words] };
}

function readOwnWords(command: Command, typed: readonly string[]): RemoteWords {
  // A command's own option of that name is the command's: --remote goes before its name then.
  const own = Object.entries(command.options).some(([name, { short }]) => name === 'remote' || short === REMOTE.short);
  const { tokens } = parseArgs({
    args: [...typed],
    options: { ...COMMON, ...command.options, ...(!own && { remote: REMOTE }) },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const end = tokens.find(({ kind }) => kind === 'option-terminator')?.index ?? typed.length;
  const given = tokens.flatMap((token) => (token.kind === 'option' && token.name === 'remote' && !own ? [token] : []));
  if (given.length > 1) throw usageError(command.name, '--remote is given twice');
  const taken = new Set<number>();
  for (const { index, inlineValue, rawName, value } of given) {
    if (value === undefined || value === '')
      throw usageError(command.name, `${rawName} needs the name of a git remote`);
    if (!/^-(?:r|-remote)/.test(typed[index] ?? '')) throw usageError(command.name, `write -r ${value} by itself`);
    taken.add(index);
    if (inlineValue !== true) taken.add(index + 1);
  }
  const positionals = tokens.flatMap((token) => (token.kind === 'positional' && token.index < end ? [token] : []));
  const first = positionals[0]?.index ?? 0;
  return {
    remote: given[0]?.value ?? null,
    args: typed.filter((_, index) => !taken.has(index)),
    positionals: positionals.map(({ value }) => value),
    firstAt: first - [...taken].filter((index) => index < first).length,
    options: new Set(tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))),
  };
}

/**
 * The target, where one was typed. `rollback v41` has none and `rollback blog/live v41` has: a target has a slash, or is the
 * name of a project, or is one word more than the command takes behind it.
 * @param projects names of the projects that the git remotes lead to
 */
export function findTypedTarget(
  command: Pick<Command, 'args' | 'target' | 'program'>,
  positionals: readonly string[],
  projects: readonly string[],
): string | null {
  const [first] = positionals;
  if (command.target === 'none' || first === undefined) return null;
  if (command.program === true) return first;
  if (first.includes('/') && !first.includes('=')) return first;
  return projects.includes(first) || positionals.length > command.args.max ? first : null;
}

/** The command's words with the target that was chosen: in the place of a typed project, else in front. */
export function putTarget({ args, firstAt }: RemoteWords, target: string | null, given: string | null): string[] {
  if (target === null) return args;
  return given === null ? [target, ...args] : args.with(firstAt, target);
}

/** Commands that ask for something to be typed: a name to confirm with, or what else comes on stdin; and all that a program may. */
export function asksInTerminal(
  command: Pick<Command, 'options' | 'usage' | 'program'>,
  options: ReadonlySet<string>,
): boolean {
  if (command.program === true) return true;
  return ('confirm' in command.options && !options.has('confirm')) || / < [A-Z]/.test(command.usage);
}

/**
 * One line that the receiver reads as exactly these words.
 * @throws KraftwerkError `exec.invalid` for what no line can hold
 */
export function formatExecLine(words: readonly [name: string, ...args: string[]]): string {
  const line = words.map(quoteWord).join(' ');
  try {
    splitWords(line);
    return line;
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    const bad = words.find((word) => /[\p{Cc}\ufffd]/u.test(word));
    const which = bad === undefined ? 'the command line' : JSON.stringify(bad.slice(0, 60));
    const why = error.message.replace(/^command line: /, '');
    throw new KraftwerkError(error.code, `${words[0]}: ${which}: ${why}; nothing was sent`, {
      hint: error.hints,
      exit: 'usage',
    });
  }
}
