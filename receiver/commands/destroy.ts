/** `destroy TARGET`: project, services and data go from all nodes, and a last dump is kept; `--service` takes one service. */
import { EXIT_CODES, KraftwerkError, PROJECT_PATTERN, type ServiceName } from '../../node-agent/protocol.ts';
import { seesTarget } from '../access.ts';
import { type Destroyed, destroy as destroyTarget, forgetOnly } from '../data/destroy.ts';
import { refuseWhileDraining } from '../git-session.ts';
import { nameOwner } from '../taken.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson, textOption, usageError } from './command.ts';
import { confirmName } from './confirm.ts';
import { succeed, telling, withData } from './data-command.ts';
import { holdTarget } from './hold-target.ts';

export const destroy: Command = {
  name: 'destroy',
  aliases: ['apps:destroy'],
  summary: 'remove a project and its data; a last dump is kept',
  usage: 'TARGET [--service NAME] [--no-dump] [--confirm TARGET, or NAME] [--json]',
  examples: [
    'destroy blog/stage',
    'destroy blog/stage --confirm blog/stage',
    'destroy blog/live --service redis --confirm redis',
  ],
  verb: 'destroy',
  target: 'required',
  args: { min: 0, max: 0 },
  options: { service: { type: 'string' }, 'no-dump': { type: 'boolean' }, confirm: { type: 'string' } },
  async run(context) {
    const { identity, receiver, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const service = readService(context);
    const dump = !flagOption(context, 'no-dump');
    if (service === null && receiver.instances.conflict(target) !== null) return forgetLoser(context, target);
    const had = service !== null && hasService(receiver, target, service);
    tellWhatGoes(context, target, service, dump);
    await confirmName(context, destroy, service ?? targetName(target));
    return telling(context, async () => {
      const destroyed = await withData(context, target, 'destroy', async (audience) => {
        // One that was cut off before may just have come to its end.
        if (isGone(context, target, service, had)) return { dump: null, nodes: [], ms: 0 };
        return destroyTarget(receiver, { target, service, by: identity.name, dump }, audience);
      });
      return tellDestroyed(context, target, service, destroyed);
    });
  },
};

/** Its name on a node is another target's: whatever is there is not this one's to destroy. */
async function forgetLoser(context: CommandContext, target: Target): Promise<number> {
  const { identity, json, receiver, stderr, stdout } = context;
  const name = targetName(target);
  const why = nameOwner(receiver.instances.refusal(target), seesTarget(identity));
  stderr.write(`${why instanceof KraftwerkError ? why.message : 'its name is taken'}\n`);
  stderr.write(`so ${name} is only forgotten here, with its repository and its history; no node is touched\n`);
  await confirmName(context, destroy, name);
  return telling(context, async () => {
    refuseWhileDraining(receiver);
    const lock = await holdTarget(context, target, 'destroy');
    let left: string[];
    try {
      left = await forgetOnly(receiver, target, identity.name);
    } finally {
      lock.release();
    }
    receiver.journal.audit(identity.name, 'destroy', target, 'forgotten only');
    if (json) printJson(stdout, { target: name, service: null, dump: null, nodes: [], forgotten: true, left, ms: 0 });
    succeed(context, `${name} is forgotten`);
    if (left.length > 0)
      stderr.write(`what it has on ${left.join(', ')} stays there, and no other project gets its name there\n`);
    return EXIT_CODES.ok;
  });
}

/** @throws KraftwerkError `command.usage` */
function readService(context: CommandContext): ServiceName | null {
  const given = textOption(context, 'service');
  if (given === undefined) return null;
  if (PROJECT_PATTERN.test(given)) return given as ServiceName;
  throw usageError(destroy, `--service: expected the name of a service, got ${JSON.stringify(given.slice(0, 60))}`);
}

function tellWhatGoes(context: CommandContext, target: Target, service: ServiceName | null, dump: boolean): void {
  const { receiver, stderr } = context;
  const name = targetName(target);
  const services = receiver.journal.data.services(target).map((record) => record.name);
  const data = services.length === 0 ? '' : `, with the data of ${services.join(', ')}`;
  const what = service === null ? `${name}${data}` : `the data of ${service} of ${name}`;
  const kept = services.length === 0 ? 'it has no data' : dump ? 'a last dump is kept' : 'no dump is made of it';
  stderr.write(`${what} is about to be destroyed; ${kept}\n`);
}

/** @param had whether there was such a service when the command began */
function isGone({ receiver }: CommandContext, target: Target, service: ServiceName | null, had: boolean): boolean {
  if (receiver.journal.target(target) === null) return true;
  return had && service !== null && !hasService(receiver, target, service);
}

function hasService({ journal }: CommandContext['receiver'], target: Target, service: ServiceName): boolean {
  return journal.data.services(target).some(({ name }) => name === service);
}

function tellDestroyed(
  context: CommandContext,
  target: Target,
  service: ServiceName | null,
  { dump, nodes, ms }: Destroyed,
): number {
  const { identity, json, receiver, stderr, stdout } = context;
  const name = targetName(target);
  receiver.journal.audit(identity.name, 'destroy', target, [service, dump].filter((word) => word !== null).join(' '));
  if (json) printJson(stdout, { target: name, service, dump, nodes, ms: Math.round(ms) });
  const what = service === null ? name : `${service} of ${name}`;
  succeed(context, `${what} is destroyed${ms === 0 ? '' : ` after ${(ms / 1000).toFixed(1)}s`}`);
  if (dump === null) return EXIT_CODES.ok;
  const first = service === null ? 'after a new push of that name' : `when ${service} is asked for again`;
  stderr.write(`its last data is in the dump ${dump}; it comes back, ${first}, with:\n`);
  stderr.write(`      ssh kraftwerk@HOST load ${name} ${dump}\n`);
  return EXIT_CODES.ok;
}
