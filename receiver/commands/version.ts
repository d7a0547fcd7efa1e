/** `version`: the receiver's. */
import type { Command } from './command.ts';
import { printJson } from './command.ts';

export const version: Command = {
  name: 'version',
  aliases: ['--version'],
  summary: "the receiver's version",
  usage: '[--json]',
  examples: ['version'],
  verb: 'self',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run({ json, receiver, stdout }) {
    if (json) printJson(stdout, { version: receiver.version });
    else stdout.write(`kraftwerk ${receiver.version}\n`);
    return 0;
  },
};
