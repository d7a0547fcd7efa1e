/** `help [COMMAND]`: what there is, or one command with its examples. */
import { roleMay } from '../access.ts';
import { printPairs } from '../print-table.ts';
import type { Command, CommandContext } from './command.ts';
import { printJson, usageLine } from './command.ts';
import { findCommand } from './find-command.ts';

export const help: Command = {
  name: 'help',
  aliases: ['--help', '-h'],
  summary: 'what there is; help COMMAND tells about one',
  usage: '[COMMAND]',
  examples: ['help', 'help keys:add'],
  verb: 'self',
  target: 'none',
  args: { min: 0, max: 1 },
  options: {},
  async run(context) {
    const [name] = context.args;
    if (name === undefined) overview(context);
    else describe(context, findCommand(context.commands, name));
    return 0;
  },
};

function overview({ commands, identity, json, receiver, stdout }: CommandContext): void {
  const usable = commands.filter(({ verb }) => roleMay(identity.role, verb));
  if (json) {
    printJson(stdout, usable.map(toJson));
    return;
  }
  const lines = printPairs(
    usable.map((command) => [`  ${command.name} ${withoutOptions(command.usage)}`.trimEnd(), command.summary]),
  );
  stdout.write(
    `kraftwerk ${receiver.version}\n\n` +
      'git push deploys: git remote add live kraftwerk@HOST:PROJECT/ENVIRONMENT\n\n' +
      `ssh kraftwerk@HOST COMMAND\n${lines}\nMost take --json. help COMMAND shows examples.\n`,
  );
}

function describe({ json, stdout }: CommandContext, command: Command): void {
  if (json) {
    printJson(stdout, toJson(command));
    return;
  }
  const aliases = command.aliases.length === 0 ? '' : `also: ${command.aliases.join(', ')}\n`;
  const examples = command.examples.map((example) => `  ssh kraftwerk@HOST ${example}\n`).join('');
  stdout.write(`${usageLine(command)}\n\n${command.summary}\n${aliases}\nexamples:\n${examples}`);
}

function withoutOptions(usage: string): string {
  return usage.replace(/ *\[-[^\]]*\]/g, '').trim();
}

function toJson({ name, aliases, summary, usage, examples }: Command): object {
  return { name, aliases, summary, usage, examples };
}
