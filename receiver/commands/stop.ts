/** `stop TARGET`: the process ends and stays ended, also over a reboot. */
import { changeRunning } from './change-running.ts';
import type { Command } from './command.ts';

export const stop: Command = {
  name: 'stop',
  aliases: ['ps:stop'],
  summary: 'stop serving; it stays stopped, also after a reboot',
  usage: 'TARGET [--json]',
  examples: ['stop blog/live'],
  verb: 'process',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  run: (context) => changeRunning(context, 'stop'),
};
