/**
 * The story of a move: a service's data goes to another node of its environment, and the others' links turn round. Until all of it
 * serves from there, the data on the old node is the live one and is not touched; afterwards it stays until somebody says that it may go.
 */
// Long because: a move, and what becomes of one that was cut off, are one story.
import { type InstanceName, KraftwerkError, type ServiceName, type StatusResult } from '../../node-agent/protocol.ts';
import type { DumpName, HealthResult } from '../../node-agent/protocol-data.ts';
import type { DeployOrder } from '../deploy/deploy.ts';
import { addHints } from '../deploy/node-names.ts';
import { planHealthcheck } from '../deploy/plan.ts';
import { toRequest } from '../deploy/render.ts';
import type { ReleaseRecord } from '../journal.ts';
import type { Operation, ServiceRecord } from '../journal-data.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { type Audience, askAll, type DataServices, tellRequest } from './data-services.ts';
import { findDump, makeDump } from './dump.ts';
import { leaveMaintenance, putInMaintenance } from './maintenance.ts';
import { type RenderedService, renderServices } from './render-services.ts';
import { bringDump } from './transfer.ts';

export interface MoveOrder {
  target: Target;
  service: ServiceName;
  /** A node of the environment. */
  to: Node;
  by: string;
}

export interface Moved {
  from: string;
  dump: DumpName;
  ms: number;
}

/** What the journal keeps of a move that goes on. */
interface MoveDetail {
  service: ServiceName;
  from: string;
  to: string;
  /** Somebody had put it there: then it stays. */
  wasInMaintenance: boolean;
  by: string;
}

type Going = Pick<Operation, 'id' | 'target'> & { detail: MoveDetail };

const STATUS_LIMIT_MS = 60_000;

/**
 * The caller holds the target's lock.
 * @throws KraftwerkError what stopped it: then the data is where it was, and the site serves as before
 */
export async function moveService(services: DataServices, order: MoveOrder, audience: Audience): Promise<Moved> {
  const { journal } = services;
  const { target, service, to, by } = order;
  const begin = services.nowMs();
  const { from, release } = checkMove(services, order);
  const wasInMaintenance = journal.data.maintenance(target) !== null;
  const detail: MoveDetail = { service, from: from.name, to: to.name, wasInMaintenance, by };
  // Whatever becomes of it, something of the service may be there.
  journal.data.noteOldCopy(target, service, to.name);
  const id = journal.data.beginOperation(target, 'move', 'preparing', by, detail);
  const going: Going = { id, target, detail };
  services.failpoint('move.begun');
  let dump: DumpName;
  try {
    // Packages may take minutes, and the site serves meanwhile.
    await setUp(services, going, audience);
    journal.data.setOperationPhase(id, 'moving');
    services.failpoint('move.moving');
    await quiesce(services, going, audience);
    services.failpoint('move.quiet');
    dump = await carry(services, going, audience);
    services.failpoint('move.carried');
    if (audience.signal.aborted) throw stopped();
  } catch (error) {
    throw await takeBack(services, going, error, audience);
  }
  // From here on it is not broken off: it is shorter to go on than to go back.
  const onward: Audience = { emit: audience.emit, signal: new AbortController().signal };
  try {
    journal.data.moveInOperation(id, 'switching', { target, name: service, node: to.name });
    services.failpoint('move.switching');
    await serve(services, target, release, by, onward);
    services.failpoint('move.serves');
  } catch (error) {
    throw await takeBack(services, going, error, onward);
  }
  journal.data.setOperationPhase(id, 'done');
  services.failpoint('move.done');
  await finish(services, going, onward);
  services.log('move.done', { target: targetName(target), service, from: from.name, to: to.name, by });
  return { from: from.name, dump, ms: services.nowMs() - begin };
}

/** @throws KraftwerkError `service.unknown`, `service.node`, `move.*` */
function checkMove(
  services: DataServices,
  { target, service, to }: Pick<MoveOrder, 'target' | 'service' | 'to'>,
): { from: Node; release: ReleaseRecord } {
  const name = targetName(target);
  const record = findRecord(services, target, service);
  const state = services.journal.target(target);
  const release = state?.current == null ? null : services.journal.release(target, state.current);
  if (release === null || state?.stopped)
    throw new KraftwerkError(
      'move.stopped',
      `${name} does not serve: whether it does with ${service} on ${to.name}, could not be told`,
      {
        hint: release === null ? `git push ${target.environment} master` : `ssh kraftwerk@HOST start ${name}`,
        exit: 'denied',
      },
    );
  if (record.node === to.name)
    throw new KraftwerkError('move.there', `${service} of ${name} is on ${to.name} already`, { exit: 'denied' });
  const from = services.nodes.get(record.node);
  if (from === undefined)
    throw new KraftwerkError('service.node', `${service} of ${name} is on ${record.node}, which is not configured`, {
      hint: [
        `put ${record.node} back into the nodes of the configuration`,
        `where it is lost: services:move ${name} ${service} ${to.name} --without-data, then load a copy`,
      ],
      exit: 'denied',
    });
  return { from, release };
}

/** One that has data. @throws KraftwerkError `service.unknown` */
export function findRecord(services: DataServices, target: Target, service: ServiceName): ServiceRecord {
  const records = services.journal.data.services(target).filter(({ name, node }) => {
    const known = services.nodes.get(node) ?? services.deployer.nodesOf(target)[0];
    return known !== undefined && services.describeServices(target, known).scripts('dump', [name]).length > 0;
  });
  const found = records.find(({ name }) => name === service);
  if (found !== undefined) return found;
  throw new KraftwerkError('service.unknown', `${targetName(target)} has no service ${service} with data`, {
    hint: records.length === 0 ? 'it has none at all' : `it has: ${records.map(({ name }) => name).join(', ')}`,
    exit: 'denied',
  });
}

/** Brings a move that was cut off to its end. @throws KraftwerkError what a node says that cannot be asked: then it stays open */
export async function settleMove(
  services: DataServices,
  operation: Operation,
  audience: Audience,
): Promise<'finished' | 'taken back'> {
  const going: Going = { ...operation, detail: operation.detail as MoveDetail };
  if (operation.phase === 'done') {
    await finish(services, going, audience);
    return 'finished';
  }
  await goBack(services, going, audience);
  services.journal.data.endOperation(
    operation.id,
    `interrupted; ${going.detail.service} is still on ${going.detail.from}`,
  );
  return 'taken back';
}

/** What is left to do harms nobody. */
async function finish(services: DataServices, { id, target, detail }: Going, audience: Audience): Promise<void> {
  const { service, from, to, wasInMaintenance } = detail;
  if (!wasInMaintenance) await leaveMaintenance(services, target);
  await loadStep(services, target, service, nodeOf(services, to), 'done', null, audience);
  services.journal.data.forgetOldCopy(target, service, to);
  services.journal.data.noteOldCopy(target, service, from);
  services.journal.data.endOperation(id, null);
}

async function takeBack(services: DataServices, going: Going, error: unknown, { emit }: Audience): Promise<unknown> {
  const { id, target, detail } = going;
  const why = error instanceof Error ? error.message : String(error);
  services.log('move.failed', { target: targetName(target), message: why });
  try {
    await goBack(services, going, { emit, signal: new AbortController().signal });
    services.journal.data.endOperation(id, why);
  } catch (cause) {
    const how = cause instanceof Error ? cause.message : String(cause);
    services.log('move.take_back_failed', { target: targetName(target), message: how });
    return addHints(error, [
      `${detail.service} is still on ${detail.from}; the rest is put back as soon as the nodes answer. Why not now: ${how}`,
    ]);
  }
  return addHints(error, [`nothing has changed: ${detail.service} is still on ${detail.from}`]);
}

/** Every step can be repeated, whatever was done of it. */
async function goBack(services: DataServices, going: Going, audience: Audience): Promise<void> {
  const { id, target, detail } = going;
  const { journal } = services;
  const { phase } = journal.data.openOperations(target).find((one) => one.id === id) ?? { phase: 'moving' };
  if (phase === 'preparing') return;
  if (phase !== 'moving')
    journal.data.moveInOperation(id, 'returning', { target, name: detail.service, node: detail.from });
  // Its start scripts may be of either side by now, and its links, too: so it is deployed as it was.
  const release = journal.release(target, journal.target(target)?.current ?? 0);
  if (phase !== 'moving' && release !== null) await serve(services, target, release, detail.by, audience);
  else
    await eachServing(services, target, detail, ({ node, instance, timeoutMs }) =>
      tellRequest(
        node,
        { op: 'start', instance, timeoutMs, health: release && planHealthcheck(release.spec) },
        { emit: audience.emit },
      ),
    );
  if (!detail.wasInMaintenance) await leaveMaintenance(services, target, await servingNodes(services, target, detail));
  await loadStep(services, target, detail.service, nodeOf(services, detail.to), 'back', null, audience);
}

function nodeOf({ nodes }: DataServices, name: string): Node {
  const node = nodes.get(name);
  if (node !== undefined) return node;
  throw new KraftwerkError(
    'service.node',
    `the node ${name}, which a service was being moved from or to, is not configured any more`,
  );
}

/** The service as it is on the node that is to have its data. */
function renderThere(services: DataServices, target: Target, service: ServiceName, node: Node): RenderedService {
  const record = findRecord(services, target, service);
  const current = services.journal.target(target)?.current ?? 0;
  const spec = services.journal.release(target, current)?.spec ?? { environ: {} };
  const [rendered] = renderServices(services.templatesOf(node.name), node.profile, {
    ...{ target, instance: services.instances.of(target, node.name), services: [record], spec },
  });
  if (rendered === undefined) throw new TypeError(`${service} was not rendered`);
  return rendered;
}

async function setUp(services: DataServices, { target, detail }: Going, audience: Audience): Promise<void> {
  const node = nodeOf(services, detail.to);
  const rendered = renderThere(services, target, detail.service, node);
  const { instance } = services.describeServices(target, node);
  await tellRequest(node, { op: 'set-up', instance, services: [toRequest(rendered)] }, audience);
}

interface ServingNode {
  node: Node;
  instance: InstanceName;
  timeoutMs: number;
}

/** Where the target serves: on the environment's nodes, as far as they have it, and on the old one that may have left it. */
async function servingNodes(services: DataServices, target: Target, { from }: MoveDetail): Promise<ServingNode[]> {
  const { journal } = services;
  const instance = services.instances.of(target, from);
  const timeoutMs = journal.release(target, journal.target(target)?.current ?? 0)?.spec.timeoutMs ?? 30_000;
  const nodes = [...new Set([...services.deployer.nodesOf(target), nodeOf(services, from)])];
  const found = await askAll(
    nodes.map((node) => ({ node })),
    async ({ node }) => {
      const order = { op: 'status', instances: [instance], memory: false } as const;
      const { instances } = (await node.request(order, { timeoutMs: STATUS_LIMIT_MS })) as StatusResult;
      return (instances[0]?.current ?? null) === null ? [] : [{ node, instance, timeoutMs }];
    },
  );
  return found.flat();
}

async function eachServing(
  services: DataServices,
  target: Target,
  detail: MoveDetail,
  ask: (serving: ServingNode) => Promise<unknown>,
): Promise<void> {
  await askAll(await servingNodes(services, target, detail), (serving) => ask(serving as ServingNode));
}

/** Visitors see the page, and no process of the site touches its data: what is dumped now is all there is. */
async function quiesce(services: DataServices, { target, detail }: Going, { emit }: Audience): Promise<void> {
  const serving = await servingNodes(services, target, detail);
  if (!detail.wasInMaintenance) await putInMaintenance(services, target, serving);
  await askAll(serving, async ({ node }, index) => {
    const { instance, timeoutMs } = serving[index] as ServingNode;
    await tellRequest(node, { op: 'stop', instance, timeoutMs, health: null }, { emit });
  });
}

/** @returns the dump that was brought over: it stays on both nodes */
async function carry(services: DataServices, { target, detail }: Going, audience: Audience): Promise<DumpName> {
  const { service, to: toName } = detail;
  const to = nodeOf(services, toName);
  const choice = { only: [service], exclude: [] };
  const { name } = await makeDump(services, { target, reason: 'move', choice }, audience);
  const { parts, ...listed } = await findDump(services, target, name);
  const own = parts.filter(({ node }) => node.name === detail.from);
  await bringDump(
    services,
    { target, dump: { ...listed, parts: own } },
    { target, node: to, name, reason: 'move' },
    audience,
  );
  for (const step of ['check', 'new', 'swap'] as const)
    await loadStep(services, target, service, to, step, name, audience);
  await askHealth(services, target, service, to);
  return name;
}

async function loadStep(
  services: DataServices,
  target: Target,
  service: ServiceName,
  node: Node,
  step: 'check' | 'new' | 'swap' | 'back' | 'done',
  dump: DumpName | null,
  audience: Audience,
): Promise<void> {
  const { instance, written } = await services.describeSite(target, node);
  const { environment, scripts } = renderThere(services, target, service, node);
  const order = {
    op: 'load',
    instance,
    target: targetName(target),
    step,
    dump: step === 'check' || step === 'new' ? dump : null,
    services: [{ name: service, script: scripts.load ?? '', environment }],
    written,
  } as const;
  const heeds = step === 'check' || step === 'new';
  await tellRequest(node, order, { emit: audience.emit, ...(heeds && { signal: audience.signal }) });
}

/** @throws KraftwerkError `service.unhealthy` */
async function askHealth(services: DataServices, target: Target, service: ServiceName, node: Node): Promise<void> {
  const { health, variables, written } = renderThere(services, target, service, node);
  if (health === null) return;
  const { instance } = services.describeServices(target, node);
  const order = {
    op: 'health',
    instance,
    services: [{ name: service, command: health }],
    environment: variables,
    written: [{ name: service, written }],
  } as const;
  const [answer] = (await node.request(order, { timeoutMs: 120_000 })) as HealthResult;
  if (answer === undefined || answer.ok) return;
  throw new KraftwerkError('service.unhealthy', `${service} does not answer on ${node.name}`, {
    step: 'Health',
    lines: answer.lines,
    exit: 'unhealthy',
    reason: `${service} is not healthy`,
  });
}

/** The current release in new processes, whose variables and links are those of the record. */
async function serve(
  services: DataServices,
  target: Target,
  release: ReleaseRecord,
  by: string,
  { emit, signal }: Audience,
): Promise<void> {
  const { commit, subject, spec, artifact } = release;
  const order: DeployOrder = {
    ...{ target, kind: 'restart', release: release.release, commit, subject, spec, artifact, ref: null, by },
    override: false,
    setUpServices: true,
    runReleaseCommand: false,
    dumpBeforeRelease: false,
  };
  await services.deployer.run(order, signal, emit);
}

function stopped(): KraftwerkError {
  return new KraftwerkError('move.aborted', 'the client went away before the data was moved', { reason: 'cancelled' });
}
