/** `start TARGET`: what was stopped serves again. */
import { changeRunning } from './change-running.ts';
import type { Command } from './command.ts';

export const start: Command = {
  name: 'start',
  aliases: ['ps:start'],
  summary: 'start what was stopped',
  usage: 'TARGET [--json]',
  examples: ['start blog/live'],
  verb: 'process',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  run: (context) => changeRunning(context, 'start'),
};
