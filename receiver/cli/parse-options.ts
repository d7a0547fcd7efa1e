// Options of one command; a mistake is a usage error, and main.ts adds the command's usage as its hint.
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { KraftwerkError } from '../../node-agent/protocol.ts';

/** @throws KraftwerkError `cli.usage` */
export function parseOptions<const O extends ParseArgsOptionsConfig>(
  command: string,
  argv: readonly string[],
  options: O,
  maxPositionals = 0,
) {
  try {
    const parsed = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
    const surplus = parsed.positionals[maxPositionals];
    if (surplus === undefined) return parsed;
    throw usageError(command, `unexpected argument ${JSON.stringify(surplus)}`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!(error instanceof TypeError) || !code.startsWith('ERR_PARSE_ARGS')) throw error;
    // Node adds advice about "--" behind the first sentence.
    throw usageError(command, error.message.split(/\. (?=To |Did )/)[0]?.split('\n')[0] ?? error.message);
  }
}

/** @param hint default: the command's usage */
export function usageError(command: string, message: string, hint?: string | readonly string[]): KraftwerkError {
  return new KraftwerkError('cli.usage', `${command}: ${message}`, {
    ...(hint !== undefined && { hint }),
    exit: 'usage',
  });
}
