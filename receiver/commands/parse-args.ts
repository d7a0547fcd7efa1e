/** A command's words -> options and arguments, or a usage error that says what was probably meant. Pure. */
import type { ParseArgsOptionDescriptor } from 'node:util';
import { parseArgs } from 'node:util';
import { suggest } from '../suggest.ts';
import type { Command, OptionValue } from './command.ts';
import { usageError } from './command.ts';

const COMMON: Readonly<Record<string, ParseArgsOptionDescriptor>> = {
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
};

export interface ParsedArgs {
  options: Record<string, OptionValue>;
  positionals: string[];
}

/**
 * Options, target and options again, then a program and its words: it begins behind `--`, or with the first word behind the
 * target that is no option.
 */
function parseProgramArgs(command: Command, words: readonly string[]): ParsedArgs {
  const begin = findProgram(command, words, command.target === 'none' ? 0 : 1);
  const { program: _, ...plain } = command;
  const { options, positionals } = parseCommandArgs(plain, words.slice(0, begin));
  return { options, positionals: [...positionals, ...words.slice(words[begin] === '--' ? begin + 1 : begin)] };
}

/**
 * Where `--` stands, or else the word that is one too many to be anything but the program; the number of words where there is
 * none.
 * @param before how many words stand before it that are neither options nor options' values
 */
export function findProgram(command: Pick<Command, 'options'>, words: readonly string[], before: number): number {
  const { tokens } = parseArgs({
    args: [...words],
    options: { ...command.options, ...COMMON },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const end = tokens.find(({ kind }) => kind === 'option-terminator')?.index ?? words.length;
  const own = tokens.flatMap((token) => (token.kind === 'positional' && token.index < end ? [token.index] : []));
  return own[before] ?? end;
}

/** @throws KraftwerkError `command.usage` */
export function parseCommandArgs(command: Command, words: readonly string[]): ParsedArgs {
  if (command.program === true) return parseProgramArgs(command, words);
  const known = { ...command.options, ...COMMON };
  // Nothing is accepted and ignored.
  if (!command.usage.includes('--json')) delete known.json;
  // Not node's own strict mode: its messages are for programmers.
  const { values, positionals, tokens } = parseArgs({
    args: [...words],
    options: known,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const option = Object.hasOwn(known, token.name) ? known[token.name] : undefined;
    if (option === undefined) throw unknownOption(command, token.rawName, Object.keys(known));
    if (option.type === 'string' && (token.value === undefined || token.value === '')) {
      throw usageError(command, `${token.rawName} needs a value`);
    }
    if (option.type === 'boolean' && token.value !== undefined) {
      throw usageError(command, `${token.rawName} takes no value`);
    }
    if (
      !option.multiple &&
      tokens.some((other) => other.kind === 'option' && other.name === token.name && other.index > token.index)
    ) {
      throw usageError(command, `${token.rawName} is given twice`);
    }
  }
  return { options: { ...values }, positionals };
}

function unknownOption(command: Command, given: string, known: readonly string[]): Error {
  const meant = suggest(given.replace(/^-+/, ''), known);
  return usageError(
    command,
    `unknown option ${given.slice(0, 60)}`,
    meant === null ? undefined : `did you mean --${meant}?`,
  );
}
