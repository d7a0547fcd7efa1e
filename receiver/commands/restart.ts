/** `restart TARGET`: the same release in a new process, which takes over when it is healthy. */
import { targetName } from '../target.ts';
import { headline } from '../transcript.ts';
import type { Command } from './command.ts';
import { deployAndTell, orderRelease, withTarget } from './run-deploy.ts';

export const restart: Command = {
  name: 'restart',
  aliases: ['ps:restart'],
  summary: 'start the current release anew, without a gap',
  usage: 'TARGET [--json]',
  examples: ['restart blog/live'],
  verb: 'process',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    return withTarget(context, 'restart', async ({ target, release }) =>
      deployAndTell(context, target, async (sayLines) => {
        sayLines(headline(targetName(target), release.commit, release.subject));
        return orderRelease(context, release, { kind: 'restart', release: release.release, ref: null });
      }),
    );
  },
};
