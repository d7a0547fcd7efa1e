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

/** @throws KraftwerkError `command.usage` */
export function parseCommandArgs(command: Command, words: readonly string[]): ParsedArgs {
  const known = { ...command.options, ...COMMON };
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
