/** `deploy TARGET [vN or commit]`: make a release anew, or one of a commit that was pushed, as the next number. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { tellRemovedServices } from '../data/removed-services.ts';
import type { DeployOrder } from '../deploy/deploy.ts';
import type { SayLines } from '../deploy/tell.ts';
import { openObjects } from '../git/object-reader.ts';
import { openRepository } from '../git/repository.ts';
import { describeCommit } from '../git/tree.ts';
import { MANIFEST_FILE } from '../manifest.ts';
import { readCommit } from '../push.ts';
import { targetName } from '../target.ts';
import { headline, stepLine } from '../transcript.ts';
import { type Command, type CommandContext, usageError } from './command.ts';
import { findKept, readReleaseNumber } from './release-number.ts';
import { branchOf, type Deployed, deployAndTell, orderRelease, withTarget } from './run-deploy.ts';

export const deploy: Command = {
  name: 'deploy',
  aliases: ['ps:rebuild'],
  summary: 'deploy again: the current release, another, or a commit',
  usage: 'TARGET [vN or COMMIT] [--json]',
  examples: ['deploy blog/live', 'deploy blog/live v41', 'deploy blog/live 3f2c1ab'],
  verb: 'deploy',
  target: 'required',
  args: { min: 0, max: 1 },
  options: {},
  async run(context) {
    const [given] = context.args;
    const number = given === undefined ? null : readReleaseNumber(given);
    const byCommit = given !== undefined && number === null;
    if (byCommit && !/^[0-9a-f]{4,64}$/i.test(given)) {
      throw usageError(deploy, `expected a release (v42) or a commit, got ${JSON.stringify(given.slice(0, 60))}`);
    }
    return withTarget(context, 'deploy', async (deployed) => {
      const { target, release } = deployed;
      const wanted = byCommit ? null : number === null ? release : findKept(context, number);
      return deployAndTell(context, target, async (sayLines) => {
        if (wanted === null) return orderCommit(context, deployed, (given ?? '').toLowerCase(), sayLines);
        sayLines(headline(targetName(target), wanted.commit, wanted.subject));
        const how = { kind: 'deploy', release: context.receiver.journal.nextRelease(target) } as const;
        return orderRelease(context, wanted, { ...how, ref: await branchOf(context, deployed) });
      });
    });
  },
};

/** Its tree is read as a push would: the commit's own kraftwerk.yaml counts. */
async function orderCommit(
  context: CommandContext,
  deployed: Deployed,
  given: string,
  sayLines: SayLines,
): Promise<DeployOrder> {
  const { identity, receiver, signal } = context;
  const { record, target } = deployed;
  const repository = openRepository(receiver.data, target);
  const found = await repository.resolve(given);
  if (found === null) {
    throw new KraftwerkError('commit.unknown', `${targetName(target)}: no commit ${given} here, or several`, {
      hint: `push it: git push ${target.environment} ${record.branch?.slice('refs/heads/'.length) ?? 'master'}`,
      exit: 'denied',
      reason: 'unknown commit',
    });
  }
  const objects = openObjects(repository.path);
  try {
    const { commit, subject } = await describeCommit(objects, found);
    sayLines(headline(targetName(target), commit, subject));
    const push = { target, environment: receiver.environment(target), identity, objects, signal };
    const { spec, artifact, configMs } = await readCommit(commit, record.generation, push, receiver);
    sayLines(stepLine('Config', `${MANIFEST_FILE} ok`, configMs));
    sayLines(tellRemovedServices(receiver.journal.data, target, spec));
    return {
      target,
      kind: 'deploy',
      release: receiver.journal.nextRelease(target),
      commit,
      subject,
      spec,
      artifact,
      ref: await branchOf(context, deployed),
      by: identity.name,
      override: false,
      setUpServices: true,
      runReleaseCommand: true,
      dumpBeforeRelease: true,
    };
  } finally {
    objects.close();
  }
}
