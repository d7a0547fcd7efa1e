/** `services:move TARGET SERVICE NODE`: a service's data goes to another node; `--forget` removes what moves have left. */
import { EXIT_CODES, KraftwerkError, PROJECT_PATTERN, type ServiceName } from '../../node-agent/protocol.ts';
import { DATA_LIMIT_MS } from '../data/data-services.ts';
import { findRecord, moveService } from '../data/move.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson, usageError } from './command.ts';
import { confirmName } from './confirm.ts';
import { succeed, telling, withData } from './data-command.ts';

export const servicesMove: Command = {
  name: 'services:move',
  aliases: [],
  summary: "take a service's data to another node",
  usage: 'TARGET SERVICE NODE [--forget | --without-data] [--confirm TARGET] [--json]',
  examples: ['services:move blog/live postgres web2', 'services:move blog/live postgres web1 --forget'],
  verb: 'load',
  target: 'required',
  args: { min: 2, max: 2 },
  options: { forget: { type: 'boolean' }, 'without-data': { type: 'boolean' }, confirm: { type: 'string' } },
  async run(context) {
    const { args, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const [given = '', nodeName = ''] = args;
    if (!PROJECT_PATTERN.test(given))
      throw usageError(servicesMove, `expected the name of a service, got ${JSON.stringify(given.slice(0, 60))}`);
    const service = given as ServiceName;
    const forget = flagOption(context, 'forget');
    const withoutData = flagOption(context, 'without-data');
    if (forget && withoutData) throw usageError(servicesMove, '--forget and --without-data do not go together');
    return telling(context, () => {
      if (forget) return forgetCopy(context, target, service, nodeName);
      const node = findNode(context, target, nodeName);
      return withoutData ? placeAnew(context, target, service, node) : move(context, target, service, node);
    });
  },
};

/** @throws KraftwerkError `node.unknown` */
function findNode({ receiver }: CommandContext, target: Target, name: string): Node {
  const nodes = receiver.deployer.nodesOf(target);
  const found = nodes.find((node) => node.name === name);
  if (found !== undefined) return found;
  throw new KraftwerkError('node.unknown', `${target.environment} has no node ${JSON.stringify(name.slice(0, 60))}`, {
    hint: `its nodes: ${nodes.map((node) => node.name).join(', ')}`,
    exit: 'denied',
  });
}

async function move(context: CommandContext, target: Target, service: ServiceName, to: Node): Promise<number> {
  const { identity, json, receiver, stdout, stderr } = context;
  const name = targetName(target);
  const moved = await withData(context, target, 'services:move', (audience) =>
    moveService(receiver, { target, service, to, by: identity.name }, audience),
  );
  receiver.journal.audit(identity.name, 'services.move', target, `${service} ${moved.from} ${to.name}`);
  if (json) printJson(stdout, { target: name, service, to: to.name, ...moved });
  succeed(context, `${service} is on ${to.name} after ${(moved.ms / 1000).toFixed(1)}s`);
  stderr.write(`its data on ${moved.from} is still there, as it was. To remove it:\n`);
  stderr.write(`      ssh kraftwerk@HOST services:move ${name} ${service} ${moved.from} --forget\n`);
  return EXIT_CODES.ok;
}

/** Where a node is lost, with all that was on it. */
async function placeAnew(context: CommandContext, target: Target, service: ServiceName, to: Node): Promise<number> {
  const { identity, json, receiver, stderr, stdout } = context;
  const name = targetName(target);
  const { data } = receiver.journal;
  const copy = data.oldCopies(target).find((one) => one.service === service && one.node === to.name);
  const left = copy === undefined ? null : `what a move left there at ${copy.since.slice(0, 16)}Z`;
  stderr.write(`${service} of ${name} is about to begin on ${to.name} with ${left ?? 'no data'}\n`);
  await confirmName(context, servicesMove, name);
  const from = await withData(context, target, 'services:move', async () => {
    const { node } = findRecord(receiver, target, service);
    if (node === to.name)
      throw new KraftwerkError('move.there', `${service} of ${name} is on ${to.name} already`, { exit: 'denied' });
    data.noteOldCopy(target, service, node);
    data.moveService(target, service, to.name);
    receiver.journal.data.forgetOldCopy(target, service, to.name);
    return node;
  });
  receiver.journal.audit(identity.name, 'services.place', target, `${service} ${from} ${to.name}`);
  if (json) printJson(stdout, { target: name, service, from, to: to.name, copy: copy?.since ?? null });
  const next = left === null ? 'sets it up there' : `serves ${left}`;
  succeed(context, `${service} belongs on ${to.name}; the next deploy ${next}, then load a dump`);
  return EXIT_CODES.ok;
}

/** The node with the old copy. @throws KraftwerkError `move.live`, `move.nothing` */
function findOldCopy({ receiver }: CommandContext, target: Target, service: ServiceName, nodeName: string): Node {
  const name = targetName(target);
  const { data } = receiver.journal;
  const copies = data.oldCopies(target).filter((copy) => copy.service === service);
  const node = receiver.nodes.get(nodeName);
  if (data.services(target).some((record) => record.name === service && record.node === nodeName))
    throw new KraftwerkError('move.live', `${nodeName} has the live data of ${service}, and no old copy`, {
      hint: `to remove the service: ssh kraftwerk@HOST destroy ${name} --service ${service}`,
      exit: 'denied',
    });
  if (!copies.some((copy) => copy.node === nodeName) || node === undefined)
    throw new KraftwerkError(
      'move.nothing',
      `nothing is known of ${service} of ${name} on ${JSON.stringify(nodeName.slice(0, 60))}`,
      {
        hint:
          copies.length === 0
            ? 'no move has left anything'
            : `moves have left: ${copies.map((copy) => copy.node).join(', ')}`,
        exit: 'denied',
      },
    );
  return node;
}

/** @throws KraftwerkError `move.live`, `move.nothing` */
async function forgetCopy(
  context: CommandContext,
  target: Target,
  service: ServiceName,
  nodeName: string,
): Promise<number> {
  const { identity, json, receiver, stderr, stdout } = context;
  const name = targetName(target);
  findOldCopy(context, target, service, nodeName);
  stderr.write(`the old data of ${service} of ${name} on ${nodeName} is about to be removed\n`);
  await confirmName(context, servicesMove, name);
  await withData(context, target, 'services:move', async () => {
    // While the name was typed, or a move was ended, it may have become the live data.
    const node = findOldCopy(context, target, service, nodeName);
    const { instance, scripts } = receiver.describeServices(target, node);
    const order = { op: 'destroy', instance, part: 'service', services: scripts('destroy', [service]) } as const;
    await node.request(order, { timeoutMs: DATA_LIMIT_MS });
    receiver.journal.data.forgetOldCopy(target, service, nodeName);
  });
  receiver.journal.audit(identity.name, 'services.forget', target, `${service} ${nodeName}`);
  if (json) printJson(stdout, { target: name, service, node: nodeName });
  succeed(context, `the old data of ${service} on ${nodeName} is removed`);
  return EXIT_CODES.ok;
}
