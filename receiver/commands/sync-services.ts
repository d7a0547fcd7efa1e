/** `sync-services FROM TO`: one target's data into another, which is dumped first. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { requireAccess } from '../access.ts';
import { type Choice, findPlaces } from '../data/data-services.ts';
import { makeDump, nextName } from '../data/dump.ts';
import { loadDump } from '../data/load.ts';
import { bringDump } from '../data/transfer.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, usageError } from './command.ts';
import { CHOICE_OPTIONS, readChoice, telling, withData } from './data-command.ts';
import { findTarget } from './find-target.ts';
import { confirmLoad, tellLoaded } from './load.ts';
import { findDeployed } from './run-deploy.ts';

export const syncServices: Command = {
  name: 'sync-services',
  aliases: ['pg:copy'],
  summary: 'load the data of one target into another',
  usage: 'FROM TO [--only SERVICE] [--exclude SERVICE] [--confirm TO] [--json]',
  examples: ['sync-services blog/live blog/stage', 'sync-services blog/live blog/stage --only postgres'],
  verb: 'dump',
  target: 'required',
  args: { min: 1, max: 1 },
  options: { ...CHOICE_OPTIONS, confirm: { type: 'string' } },
  async run(context) {
    const { args, identity, receiver, target: from } = context;
    if (from === null) throw new TypeError('a command with a target has none');
    const to = findTarget(syncServices, 'load', args[0], identity, receiver);
    requireAccess(identity, 'load', 'sync-services', to);
    if (targetName(from) === targetName(to)) throw usageError(syncServices, 'a target has its own data already');
    if (from.project !== to.project)
      throw usageError(
        syncServices,
        `${from.project} and ${to.project} are two projects: one's data means nothing to the other`,
      );
    const choice = sharedChoice(context, from, to, readChoice(syncServices, context));
    const scrub = findDeployed({ ...context, target: to }).release.spec.scrub ?? null;
    await confirmLoad(context, syncServices, to, true);
    return telling(context, () =>
      withData(context, to, `sync-services from ${targetName(from)}`, async (audience, goesOn) => {
        const made = await withData(context, from, `sync-services to ${targetName(to)}`, (dumping) =>
          makeDump(receiver, { target: from, reason: 'sync', choice }, dumping),
        );
        const place = findPlaces(receiver, to, choice)[0];
        if (place === undefined) throw new TypeError('the target has no data');
        // A name among the dumps of the target that gets it: theirs may have one of that second already.
        const name = await nextName(receiver, targetName(to));
        const order = { target: to, node: place.node, name, reason: 'sync' } as const;
        await bringDump(
          receiver,
          { target: from, dump: { name: made.name, destroyed: false, parts: made.parts } },
          order,
          audience,
        );
        const load = { target: to, dump: name, choice, by: identity.name, backUp: true, scrub };
        const { loaded, rest } = await loadDump(receiver, load, audience);
        goesOn(rest);
        return tellLoaded(context, to, name, loaded);
      }),
    );
  },
};

/** What both have. @throws KraftwerkError `sync.services`, `service.unknown` */
function sharedChoice({ receiver }: CommandContext, from: Target, to: Target, choice: Choice): Choice {
  const namesOf = (target: Target, chosen: Choice) =>
    findPlaces(receiver, target, chosen).flatMap(({ services }) => services);
  const source = namesOf(from, choice);
  const all = namesOf(to, { only: null, exclude: [] });
  const missing = source.filter((name) => !all.includes(name));
  if (source.length === 0 || missing.length > 0) {
    const what =
      source.length === 0 ? `${targetName(from)} has no data` : `${targetName(to)} has no ${missing.join(', ')}`;
    throw new KraftwerkError('sync.services', what, {
      hint:
        source.length === 0
          ? 'services with data: ssh kraftwerk@HOST status TARGET'
          : [`without it: --exclude ${missing[0]}`, 'or add it to the services of kraftwerk.yaml and push'],
      exit: 'denied',
    });
  }
  const several = [from, to].find((target) => findPlaces(receiver, target, { only: source, exclude: [] }).length > 1);
  if (several !== undefined) {
    throw new KraftwerkError('sync.services', `${targetName(several)} has these services on several nodes`, {
      hint: 'one after the other: --only SERVICE',
    });
  }
  return { only: source, exclude: [] };
}
