// kraftwerk help [COMMAND]: all commands, of this machine and of the receiver, or one with examples.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Command } from '../commands/command.ts';
import { COMMANDS as REMOTE_COMMANDS } from '../commands/table.ts';
import { printPairs } from '../print-table.ts';
import { didYouMean } from '../yaml-validate.ts';
import type { CliCommand } from './command.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[], commands: readonly CliCommand[]): Promise<number> {
  const { positionals } = parseOptions('help', argv, {}, 1);
  const [name] = positionals;
  if (name === undefined) {
    process.stdout.write(formatOverview(commands));
    return 0;
  }
  const local = commands.find((command) => command.name === name);
  const remote = findRemoteCommand(name);
  if (local !== undefined) process.stdout.write(formatHelp(local));
  else if (remote !== undefined) process.stdout.write(formatRemoteHelp(remote));
  else throw unknownCommand(name, commands);
  return 0;
}

/** By its name or by what other platforms call it. */
export function findRemoteCommand(name: string): Command | undefined {
  return REMOTE_COMMANDS.find((command) => command.name === name || command.aliases.includes(name));
}

/** Those of the receiver that no command of this machine hides. */
export function remoteOnly(commands: readonly CliCommand[]): Command[] {
  return REMOTE_COMMANDS.filter(({ name }) => !commands.some((command) => command.name === name));
}

export function formatOverview(commands: readonly CliCommand[]): string {
  const local = commands.map(({ name, summary }) => [`  ${name}`, summary] as const);
  const remote = remoteOnly(commands).map(({ name, summary, usage }) => {
    const shown = localUsage(usage).replace(/ *\[-[^\]]*\]| *<.*$/g, '');
    return [`  ${name} ${shown}`.trimEnd(), summary] as const;
  });
  return [
    'kraftwerk: git push your Python web site to your own servers\n\n',
    'usage: kraftwerk COMMAND [OPTIONS]\n\n',
    printPairs(local),
    '\nin a project, sent over ssh to the receiver that its git remotes name:\n\n',
    printPairs(remote),
    '\nkraftwerk help COMMAND shows one with examples.\n',
    'Without a project: ssh kraftwerk@HOST help\n',
  ].join('');
}

export function formatHelp({ name, summary, usage, details, examples }: CliCommand): string {
  const lines = [`kraftwerk ${name}: ${summary}`, '', `usage: ${usage}`];
  if (details.length > 0) lines.push('', ...details);
  lines.push('', 'examples:', ...examples.map((example) => `  ${example}`));
  return `${lines.join('\n')}\n`;
}

export function formatRemoteHelp({ aliases, examples, name, summary, target, usage }: Command): string {
  const lines = [`kraftwerk ${name}: ${summary}`, '', `usage: ${remoteUsage(name, usage)}`, ''];
  if (target !== 'none') lines.push('TARGET: PROJECT/ENVIRONMENT; default: what the only git remote names.');
  lines.push('-r, --remote REMOTE: the git remote that names receiver and target.');
  if (aliases.length > 0) lines.push(`Also called: ${aliases.join(', ')}.`);
  lines.push('', 'examples:', ...examples.map((example) => `  kraftwerk ${example}`));
  const [, ...rest] = examples[0]?.split(' ') ?? [];
  if (target !== 'none') lines.push(`  kraftwerk ${[name, '-r', 'live', ...rest.slice(1)].join(' ')}`);
  lines.push('', `Without a project: ssh kraftwerk@HOST ${examples[0] ?? name}`);
  return `${lines.join('\n')}\n`;
}

/** The usage line that stands under a mistake. */
export function remoteUsage(name: string, usage: string): string {
  const [words = '', input] = localUsage(usage).split(/ (?=< )/);
  return ['kraftwerk', name, words, '[-r REMOTE]', input].filter((part) => part).join(' ');
}

function localUsage(usage: string): string {
  return usage.replace(/^TARGET\b/, '[TARGET]');
}

export function unknownCommand(name: string, commands: readonly CliCommand[]): KraftwerkError {
  const names = [...commands, ...remoteOnly(commands)].map((command) => command.name);
  const meant = didYouMean(name, names);
  const shown = JSON.stringify(name.slice(0, 60));
  return new KraftwerkError('cli.unknown', `unknown command ${shown}${meant}`, {
    hint: 'kraftwerk help',
    exit: 'usage',
  });
}
