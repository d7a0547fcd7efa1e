/** `load TARGET TIMESTAMP`: the data of a dump, instead of what is there; `--upload` takes an archive from stdin. */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import type { DumpName } from '../../node-agent/protocol-data.ts';
import { openCopy, requireStore } from '../backups/copies.ts';
import { type Audience, type Choice, findPlaces } from '../data/data-services.ts';
import { listDumps, nextName } from '../data/dump.ts';
import { type Loaded, loadDump } from '../data/load.ts';
import { importArchive } from '../data/transfer.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson, usageError } from './command.ts';
import { confirmName } from './confirm.ts';
import { CHOICE_OPTIONS, readChoice, succeed, telling, withData } from './data-command.ts';
import { parseName } from './dump.ts';

export const load: Command = {
  name: 'load',
  aliases: ['pg:backups:restore', 'restore'],
  summary: 'put the data of a dump in place of what is there',
  usage:
    'TARGET TIMESTAMP [--copy], or TARGET --upload [--no-backup] [--only SERVICE] [--exclude SERVICE] [--confirm TARGET] [--json]',
  examples: [
    'load blog/live 2026-11-22T10:20:30',
    'load blog/stage --upload <blog.tar',
    'load blog/live 2026-11-22T10:20:30 --only postgres',
  ],
  verb: 'load',
  target: 'required',
  args: { min: 0, max: 1 },
  file: { option: 'upload', direction: 'read' },
  options: {
    ...CHOICE_OPTIONS,
    upload: { type: 'boolean' },
    copy: { type: 'boolean' },
    'no-backup': { type: 'boolean' },
    confirm: { type: 'string' },
  },
  async run(context) {
    const { args, identity, receiver, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const upload = flagOption(context, 'upload');
    const backUp = !flagOption(context, 'no-backup');
    const choice = readChoice(load, context);
    const [given] = args;
    if (upload && flagOption(context, 'copy')) throw usageError(load, '--upload and --copy do not go together');
    if ((given === undefined) === !upload)
      throw usageError(load, 'expected a dump, or --upload with an archive on stdin');
    const name = given === undefined ? null : parseName(load, given);
    await confirmLoad(context, load, target, backUp);
    return telling(context, () =>
      withData(context, target, 'load', async (audience, goesOn) => {
        const dump = await bringIn(context, target, choice, name, audience);
        const order = { target, dump, choice, by: identity.name, backUp, scrub: null };
        const { loaded, rest } = await loadDump(receiver, order, audience);
        goesOn(rest);
        return tellLoaded(context, target, dump, loaded);
      }),
    );
  },
};

/** Where it is protected, or nothing would bring the old data back. @throws KraftwerkError `confirm.refused` */
export async function confirmLoad(
  context: CommandContext,
  command: Command,
  target: Target,
  backUp: boolean,
): Promise<void> {
  const { receiver, stderr } = context;
  const name = targetName(target);
  const reasons = [
    ...(receiver.environment(target).protected ? [`${target.environment} is protected`] : []),
    ...(backUp ? [] : ['its present data is not dumped first']),
  ];
  if (reasons.length === 0) return;
  stderr.write(`the data of ${name} is about to be replaced: ${reasons.join(', ')}\n`);
  await confirmName(context, command, name);
}

export function tellLoaded(context: CommandContext, target: Target, dump: DumpName, loaded: Loaded): number {
  const { json, receiver, stdout } = context;
  receiver.journal.audit(context.identity.name, 'load', target, dump);
  if (json) printJson(stdout, { target: targetName(target), dump, ...loaded });
  const before = loaded.backup === null ? '' : `; before it: load ${targetName(target)} ${loaded.backup}`;
  succeed(context, `${loaded.services.join(', ')} of ${dump} loaded in ${(loaded.ms / 1000).toFixed(1)}s${before}`);
  return EXIT_CODES.ok;
}

/** What is not on the node yet comes from stdin or from the store. */
async function bringIn(
  context: CommandContext,
  target: Target,
  choice: Choice,
  name: DumpName | null,
  audience: Audience,
): Promise<DumpName> {
  const { receiver } = context;
  if (name === null) return takeIn(context, target, choice, audience);
  if (!flagOption(context, 'copy')) return name;
  if ((await listDumps(receiver, target)).some((dump) => dump.name === name)) return name;
  const archive = await openCopy(requireStore(receiver, target), target, name, audience);
  const order = { target, node: onlyPlace(context, target, choice), name, reason: 'upload' } as const;
  await importArchive(receiver, order, archive, audience);
  return name;
}

/** An archive from stdin becomes a dump of the target. */
async function takeIn(context: CommandContext, target: Target, choice: Choice, audience: Audience): Promise<DumpName> {
  const { pty, receiver, stdin } = context;
  if (pty !== null)
    throw new KraftwerkError('load.terminal', 'load --upload: expected an archive on stdin, got a terminal', {
      hint: `ssh kraftwerk@HOST load ${targetName(target)} --upload <blog.tar`,
      exit: 'usage',
    });
  const node = onlyPlace(context, target, choice);
  const name = await nextName(receiver, targetName(target));
  await importArchive(receiver, { target, node, name, reason: 'upload' }, stdin, audience);
  return name;
}

/** @throws KraftwerkError `dump.parts` */
function onlyPlace({ receiver }: CommandContext, target: Target, choice: Choice): Node {
  const places = findPlaces(receiver, target, choice);
  const [place] = places;
  if (place === undefined || places.length > 1) {
    throw new KraftwerkError(
      'dump.parts',
      `${targetName(target)} has its data on ${places.length === 0 ? 'no node' : 'several nodes'}`,
      {
        hint: places.length === 0 ? 'it asks for no service with data' : 'one service after the other: --only SERVICE',
      },
    );
  }
  return place.node;
}
