/** Asks before something is destroyed: the name typed in a terminal, or `--confirm NAME`; else refuses. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { quoteWord } from '../exec-line.ts';
import type { Command, CommandContext } from './command.ts';
import { textOption } from './command.ts';
import { readLine } from './input.ts';

/**
 * For commands with an option `confirm`.
 * @throws KraftwerkError `confirm.refused`
 */
export async function confirmName(context: CommandContext, command: Command, name: string): Promise<void> {
  const given = textOption(context, 'confirm') ?? (await ask(context, command, name));
  if (given === name) return;
  const shown = JSON.stringify(given.slice(0, 60));
  throw new KraftwerkError('confirm.refused', `${command.name}: nothing done: expected ${name}, got ${shown}`, {
    exit: 'usage',
  });
}

async function ask(
  { pty, signal, stderr, stdin, words }: CommandContext,
  command: Command,
  name: string,
): Promise<string> {
  if (pty === null) {
    throw new KraftwerkError('confirm.refused', `${command.name}: nothing done: not confirmed`, {
      hint: ['ssh kraftwerk@HOST', ...[command.name, ...words, '--confirm', name].map(quoteWord)].join(' '),
      exit: 'usage',
    });
  }
  stderr.write(`Type ${name} to go on: `);
  return await readLine(stdin, signal);
}
