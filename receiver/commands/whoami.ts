/** `whoami`: the key's name and what it may do. */
import { formatPattern } from '../access.ts';
import { printPairs } from '../print-table.ts';
import type { Command } from './command.ts';
import { printJson } from './command.ts';

export const whoami: Command = {
  name: 'whoami',
  aliases: ['auth:whoami'],
  summary: "your key's name, role and targets",
  usage: '[--json]',
  examples: ['whoami', 'whoami --json'],
  verb: 'self',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run({ identity, json, stdout }) {
    const { name, role } = identity;
    const targets = identity.targets === 'all' ? 'all' : identity.targets.map(formatPattern);
    if (json) printJson(stdout, { name, role, targets });
    else {
      stdout.write(
        printPairs([
          ['name', name],
          ['role', role],
          ['targets', targets === 'all' ? 'all' : targets.join(', ')],
        ]),
      );
    }
    return 0;
  },
};
