/** `rollback TARGET [vN] --with-data`: an earlier release, with the data as it was before a later one's release command. */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { ALL } from '../data/data-services.ts';
import { type ListedDump, listDumps } from '../data/dump.ts';
import { loadDump } from '../data/load.ts';
import { KEPT_DEPLOYS, type ReleaseRecord } from '../journal.ts';
import { type Target, targetName } from '../target.ts';
import { headline } from '../transcript.ts';
import { type Command, type CommandContext, printJson } from './command.ts';
import { succeed, telling, withData } from './data-command.ts';
import { confirmLoad } from './load.ts';
import { findKept } from './release-number.ts';
import { branchOf, deployAndTell, findDeployed, orderRelease } from './run-deploy.ts';

/**
 * Where the last deploy failed after its data was dumped, the release that serves stays, and that dump comes back.
 * @param given null: as above, else the release before
 */
export async function rollBackWithData(
  context: CommandContext,
  command: Command,
  given: number | null,
): Promise<number> {
  const { identity, receiver } = context;
  const { target } = findDeployed(context);
  await confirmLoad(context, command, target, true);
  return telling(context, () =>
    withData(context, target, 'rollback --with-data', async (audience, goesOn) => {
      const deployed = findDeployed(context);
      const dumps = await listDumps(receiver, target);
      const { dump, release } = choose(context, target, deployed.release, given, dumps);
      const order = { target, dump: dump.name, choice: ALL, by: identity.name, backUp: true, scrub: null };
      const serve =
        release === null
          ? {}
          : { serve: { release: release.release, start: () => goBackTo(context, target, release) } };
      const { loaded, rest } = await loadDump(receiver, { ...order, ...serve }, audience);
      goesOn(rest);
      receiver.journal.audit(identity.name, 'rollback.data', target, dump.name);
      const what = `v${(release ?? deployed.release).release} serves with the data of ${dump.name}`;
      if (context.json) {
        const served = (release ?? deployed.release).release;
        printJson(context.stdout, {
          target: targetName(target),
          release: served,
          dump: dump.name,
          backup: loaded.backup,
        });
      }
      succeed(context, `${what}; the data before: load ${targetName(target)} ${loaded.backup ?? ''}`);
      return EXIT_CODES.ok;
    }),
  );
}

/** @throws KraftwerkError `rollback.no-dump`, `rollback.done`, `release.none` */
function choose(
  context: CommandContext,
  target: Target,
  current: ReleaseRecord,
  given: number | null,
  dumps: readonly ListedDump[],
): { dump: ListedDump; release: ReleaseRecord | null } {
  const { journal } = context.receiver;
  const deploys = journal.deploys(target, KEPT_DEPLOYS);
  const [last] = deploys;
  // An uploaded one may tell of another target's releases.
  const beforeOf = ({ parts: [part] }: ListedDump): number | null =>
    part?.summary.reason === 'release' ? part.summary.before : null;
  // Oldest first: the first deploy that took a release's place has dumped what that one left.
  const made = dumps.filter((dump) => !dump.destroyed && beforeOf(dump) !== null).toReversed();
  const failed = last?.phase === 'failed' ? made.find((dump) => beforeOf(dump) === last.release) : undefined;
  if (given === null && failed !== undefined) {
    assertNotDone(target, failed, dumps);
    return { dump: failed, release: null };
  }
  const stays = given === current.release;
  const release = stays
    ? null
    : given === null
      ? (journal.releases(target).find((one) => one.release < current.release) ?? null)
      : findKept(context, given);
  if (!stays && release === null) {
    throw new KraftwerkError('release.none', `${targetName(target)}: there is no release before v${current.release}`, {
      hint: `ssh kraftwerk@HOST releases ${targetName(target)}`,
      exit: 'denied',
    });
  }
  const number = (release ?? current).release;
  // It may have served more than once: what counts is the last time, and the data that it left then.
  const began =
    deploys.find((one) => one.phase === 'done' && one.kind !== 'restart' && one.release === number)?.id ?? 0;
  const later = made.flatMap((dump) => {
    const deploy = journal.deployOf(target, beforeOf(dump) ?? 0);
    return deploy !== null && deploy.id > began ? [{ dump, deploy }] : [];
  });
  const { dump } = later.find(({ deploy }) => deploy.phase === 'done') ?? later[0] ?? {};
  if (dump !== undefined) return { dump, release };
  throw new KraftwerkError(
    'rollback.no-dump',
    `${targetName(target)}: no dump was made before a release command after v${number}`,
    {
      hint: [
        `without its data: ssh kraftwerk@HOST rollback ${targetName(target)} v${number}`,
        `all dumps: ssh kraftwerk@HOST dumps ${targetName(target)}`,
      ],
      exit: 'denied',
    },
  );
}

/** A second time would take what visitors have written since the first. @throws KraftwerkError `rollback.done` */
function assertNotDone(target: Target, { name }: ListedDump, dumps: readonly ListedDump[]): void {
  const since = dumps.find((dump) => dump.name > name && dump.parts[0]?.summary.reason === 'load');
  if (since === undefined) return;
  throw new KraftwerkError(
    'rollback.done',
    `${targetName(target)}: its data has been replaced since the last deploy failed (before it: ${since.name})`,
    {
      hint: [
        `all the same: ssh kraftwerk@HOST load ${targetName(target)} ${name}`,
        `an earlier release: ssh kraftwerk@HOST rollback ${targetName(target)} vN --with-data`,
      ],
      exit: 'denied',
    },
  );
}

/** @throws KraftwerkError when it does not come to serve */
async function goBackTo(context: CommandContext, target: Target, wanted: ReleaseRecord): Promise<void> {
  const code = await deployAndTell({ ...context, json: false }, target, async (sayLines) => {
    sayLines(headline(targetName(target), wanted.commit, wanted.subject));
    const ref = await branchOf(context, findDeployed(context));
    return orderRelease(context, wanted, { kind: 'rollback', release: wanted.release, ref });
  });
  if (code !== EXIT_CODES.ok)
    throw new KraftwerkError('rollback.failed', `v${wanted.release} did not come to serve with its data`, {
      hint: 'why, is said above',
    });
}
