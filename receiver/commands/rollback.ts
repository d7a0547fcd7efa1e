/** `rollback TARGET [vN]`: serve an earlier release again. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { ReleaseRecord } from '../journal.ts';
import { targetName } from '../target.ts';
import { headline } from '../transcript.ts';
import { type Command, type CommandContext, flagOption } from './command.ts';
import { findKept, parseReleaseNumber } from './release-number.ts';
import { rollBackWithData } from './rollback-with-data.ts';
import { branchOf, type Deployed, deployAndTell, orderRelease, withTarget } from './run-deploy.ts';

export const rollback: Command = {
  name: 'rollback',
  aliases: ['releases:rollback'],
  summary: 'serve an earlier release again',
  usage: 'TARGET [vN] [--with-data] [--confirm TARGET] [--json]',
  examples: ['rollback blog/live', 'rollback blog/live v41', 'rollback blog/live --with-data'],
  verb: 'rollback',
  target: 'required',
  args: { min: 0, max: 1 },
  options: { 'with-data': { type: 'boolean' }, confirm: { type: 'string' } },
  async run(context) {
    const given = context.args[0] === undefined ? null : parseReleaseNumber(rollback, context.args[0]);
    if (flagOption(context, 'with-data')) return rollBackWithData(context, rollback, given);
    return withTarget(context, 'rollback', async (deployed) => {
      const { target } = deployed;
      const wanted = given === null ? findEarlier(context, deployed) : findOther(context, deployed, given);
      return deployAndTell(context, target, async (sayLines) => {
        sayLines(headline(targetName(target), wanted.commit, wanted.subject));
        const ref = await branchOf(context, deployed);
        return orderRelease(context, wanted, { kind: 'rollback', release: wanted.release, ref });
      });
    });
  },
};

function findEarlier({ receiver }: CommandContext, { release, target }: Deployed): ReleaseRecord {
  const earlier = receiver.journal.releases(target).find((one) => one.release < release.release);
  if (earlier !== undefined) return earlier;
  throw new KraftwerkError('release.none', `${targetName(target)}: there is no release before v${release.release}`, {
    hint: `ssh kraftwerk@HOST releases ${targetName(target)}`,
    exit: 'denied',
  });
}

function findOther(context: CommandContext, { release, target }: Deployed, number: number): ReleaseRecord {
  const wanted = findKept(context, number);
  if (wanted.release !== release.release) return wanted;
  const name = targetName(target);
  throw new KraftwerkError('release.current', `${name}: v${number} is the current release already`, {
    hint: [`start it anew: ssh kraftwerk@HOST restart ${name}`, `make it anew: ssh kraftwerk@HOST deploy ${name}`],
  });
}
