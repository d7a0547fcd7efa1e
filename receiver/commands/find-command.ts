/** Finds a command by its name or by what other platforms call it. Pure. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { suggest } from '../suggest.ts';
import type { Command } from './command.ts';

/** @throws KraftwerkError `command.unknown` */
export function findCommand(commands: readonly Command[], name: string): Command {
  const command = commands.find((candidate) => candidate.name === name || candidate.aliases.includes(name));
  if (command !== undefined) return command;
  const meant = suggest(
    name,
    commands.flatMap((candidate) => [candidate.name, ...candidate.aliases]),
  );
  throw new KraftwerkError('command.unknown', `unknown command ${JSON.stringify(name.slice(0, 60))}`, {
    hint: [...(meant === null ? [] : [`did you mean ${meant}?`]), 'ssh kraftwerk@HOST help'],
    exit: 'usage',
  });
}
