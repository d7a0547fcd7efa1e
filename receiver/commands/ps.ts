/** `ps TARGET`: the processes that run. */
import { targetName } from '../target.ts';
import { type Command, printJson } from './command.ts';
import { printProcesses, processJson, runningProcesses } from './process-table.ts';
import { exitCodeOf, readTarget } from './status.ts';
import { describeState } from './target-state.ts';

export const ps: Command = {
  name: 'ps',
  aliases: ['ps:list', 'ps:report'],
  summary: 'the processes that run',
  usage: 'TARGET [--json]',
  examples: ['ps blog/live', 'ps blog/live --json'],
  verb: 'ps',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    const state = await readTarget(context);
    const rows = runningProcesses(state);
    if (context.json) printJson(context.stdout, rows.map(processJson));
    else context.stdout.write(printProcesses(rows, state.nodes.length));
    if (rows.length === 0) context.stderr.write(`${targetName(state.target)}: ${describeState(state)}\n`);
    return exitCodeOf(state.state);
  },
};
