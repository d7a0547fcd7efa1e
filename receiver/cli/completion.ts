// kraftwerk completion SHELL: what a shell completes, generated from the tables of commands.
import { COMMANDS as REMOTE_COMMANDS } from '../commands/table.ts';
import { didYouMean } from '../yaml-validate.ts';
import type { CliCommand } from './command.ts';
import { completeBash } from './complete-bash.ts';
import { completeFish } from './complete-fish.ts';
import { completeZsh } from './complete-zsh.ts';
import { listCompletions } from './completion-words.ts';
import { parseOptions, usageError } from './parse-options.ts';

const SHELLS = { bash: completeBash, zsh: completeZsh, fish: completeFish } as const;

export async function run(argv: string[], commands: readonly CliCommand[]): Promise<number> {
  const { positionals } = parseOptions('completion', argv, {}, 1);
  const [shell] = positionals;
  if (shell === undefined) throw usageError('completion', 'which shell?');
  if (!Object.hasOwn(SHELLS, shell)) {
    const shown = JSON.stringify(shell.slice(0, 60));
    throw usageError('completion', `unknown shell ${shown}${didYouMean(shell, Object.keys(SHELLS))}`);
  }
  process.stdout.write(SHELLS[shell as keyof typeof SHELLS](listCompletions(commands, REMOTE_COMMANDS)));
  return 0;
}
