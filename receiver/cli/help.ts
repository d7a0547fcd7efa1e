// kraftwerk help [COMMAND]: all commands, or one with examples.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { printPairs } from '../print-table.ts';
import { didYouMean } from '../yaml-validate.ts';

import { parseOptions } from './parse-options.ts';
import { type CommandUsage, findUsage, USAGE } from './usage.ts';

export async function run(argv: string[]): Promise<number> {
  const { positionals } = parseOptions('help', argv, {}, 1);
  const [name] = positionals;
  if (name === undefined) {
    process.stdout.write(formatOverview());
    return 0;
  }
  const command = findUsage(name);
  if (command === undefined) throw unknownCommand(name);
  process.stdout.write(formatHelp(command));
  return 0;
}

export function formatOverview(): string {
  const rows = USAGE.map(({ name, summary }) => [`  ${name}`, summary] as const);
  return [
    'kraftwerk: git push your Python web site to your own servers\n\n',
    'usage: kraftwerk COMMAND [OPTIONS]\n\n',
    printPairs(rows),
    '\nkraftwerk help COMMAND shows one with examples.\n',
    'Deployed projects are managed over SSH: ssh kraftwerk@HOST help\n',
  ].join('');
}

export function formatHelp({ name, summary, usage, details, examples }: CommandUsage): string {
  const lines = [`kraftwerk ${name}: ${summary}`, '', `usage: ${usage}`];
  if (details.length > 0) lines.push('', ...details);
  lines.push('', 'examples:', ...examples.map((example) => `  ${example}`));
  return `${lines.join('\n')}\n`;
}

export function unknownCommand(name: string): KraftwerkError {
  const names = USAGE.map((command) => command.name);
  const meant = didYouMean(name, names);
  const shown = JSON.stringify(name.slice(0, 60));
  return new KraftwerkError('cli.unknown', `unknown command ${shown}${meant}`, {
    hint: 'kraftwerk help',
    exit: 'usage',
  });
}
