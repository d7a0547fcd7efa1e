/** The story of a load: new data beside the old, one short exchange with the site in maintenance, and back if anything fails. */
// Long because: a load, and what becomes of one that was cut off, are one story.
import { type HealthcheckRequest, KraftwerkError, type ServiceName } from '../../node-agent/protocol.ts';
import type { DumpName, HealthResult, RunResult, WrittenVariables } from '../../node-agent/protocol-data.ts';
import { addHints } from '../deploy/node-names.ts';
import { planHealthcheck } from '../deploy/plan.ts';
import { quoteWord } from '../exec-line.ts';
import type { Operation } from '../journal-data.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import {
  type Audience,
  askAll,
  type Choice,
  type DataServices,
  findPlaces,
  type Place,
  tellRequest,
} from './data-services.ts';
import { findDump, makeDump, servicesOf } from './dump.ts';
import { checkPage, leaveMaintenance, putInMaintenance } from './maintenance.ts';
import type { SiteOnNode } from './site-services.ts';

export interface LoadOrder {
  target: Target;
  dump: DumpName;
  choice: Choice;
  by: string;
  /** The present data is dumped first. */
  backUp: boolean;
  /** A command that runs in the target when the new data is live, before visitors see it; its failure puts the old data back. */
  scrub: string | null;
  /** Instead of starting the release that served: the one that is to serve with this data, and how. */
  serve?: { release: number; start: () => Promise<void> };
}

export interface Loaded {
  /** What was there before; null: not asked for. */
  backup: DumpName | null;
  services: ServiceName[];
  ms: number;
}

export interface LoadEnd {
  loaded: Loaded;
  /** The old data is being removed, and the target to be held until it is. Rejects never: what fails is begun again. */
  rest: Promise<void>;
}

/** What the journal keeps of a load that goes on. */
interface LoadDetail {
  dump: DumpName;
  places: { node: string; services: readonly ServiceName[] }[];
  /** Then nothing is started afterwards. */
  wasStopped: boolean;
  /** Somebody had put it there: then it stays. */
  wasInMaintenance: boolean;
  /** The other release that is to serve with this data; null: the one that serves. */
  serves: number | null;
}

/**
 * The caller holds the target's lock.
 * @throws KraftwerkError what stopped it: then the data is what it was, and the site serves as before
 */
export async function loadDump(services: DataServices, order: LoadOrder, audience: Audience): Promise<LoadEnd> {
  const { target, dump, by } = order;
  const begin = services.nowMs();
  const places = await placesOfDump(services, order, audience);
  checkPage(services, target);
  const sites = await describeAll(services, target, places);
  await step(services, order, sites, 'check', audience);
  const backup = order.backUp ? (await backUp(services, order, audience)).name : null;

  const record = services.journal.target(target);
  const detail: LoadDetail = {
    ...detailOf(dump, places),
    wasStopped: record?.stopped ?? true,
    wasInMaintenance: services.journal.data.maintenance(target) !== null,
    serves: order.serve?.release ?? null,
  };
  const id = services.journal.data.beginOperation(target, 'load', 'loading', by, detail);
  services.failpoint('load.begun');
  try {
    await step(services, order, sites, 'new', audience);
    services.failpoint('load.new');
    if (audience.signal.aborted) throw stopped();
  } catch (error) {
    throw await takeBack(services, { id, target, detail, swapped: false }, error, audience);
  }
  // From here on it is not broken off: it is shorter to go on than to go back.
  const going: Audience = { emit: audience.emit, signal: new AbortController().signal };
  try {
    services.journal.data.setOperationPhase(id, 'swapping');
    services.failpoint('load.swapping');
    await quiesce(services, target, detail, going);
    services.failpoint('load.quiet');
    await step(services, order, sites, 'swap', going);
    services.failpoint('load.swapped');
    if (order.serve !== undefined) await order.serve.start();
    else {
      if (!detail.wasStopped) await start(services, target, going);
      await askHealth(sites, places);
      if (order.scrub !== null) await scrub(services, target, sites, order.scrub, going);
    }
  } catch (error) {
    throw await takeBack(services, { id, target, detail, swapped: true }, error, going);
  }
  services.journal.data.setOperationPhase(id, 'done');
  services.failpoint('load.done');
  await openAgain(services, target, detail);
  services.log('load.done', { target: targetName(target), dump, by, backup });
  const loaded = { backup, services: places.flatMap((place) => place.services), ms: services.nowMs() - begin };
  const rest = removeOld(services, { id, target, detail }, { ...going, emit: () => undefined });
  return {
    loaded,
    rest: rest.catch((error: unknown) => {
      services.log('load.rest_failed', { target: targetName(target), message: String(error) });
    }),
  };
}

/**
 * Loads a dump beside the live data and removes it again. The caller holds the target's lock.
 * @returns the services that were loaded
 * @throws KraftwerkError what is wrong with the dump
 */
export async function tryLoad(
  services: DataServices,
  order: Pick<LoadOrder, 'target' | 'dump' | 'choice' | 'by'>,
  audience: Audience,
): Promise<ServiceName[]> {
  const { target, dump, by } = order;
  const places = await placesOfDump(services, order, audience);
  const sites = await describeAll(services, target, places);
  await step(services, order, sites, 'check', audience);
  const detail: LoadDetail = { ...detailOf(dump, places), wasStopped: true, wasInMaintenance: true, serves: null };
  const id = services.journal.data.beginOperation(target, 'load', 'loading', by, detail);
  try {
    await step(services, order, sites, 'new', audience);
  } catch (error) {
    throw await takeBack(services, { id, target, detail, swapped: false }, error, audience);
  }
  await goBack(services, { id, target, detail, swapped: false }, audience);
  services.journal.data.endOperation(id, null);
  return places.flatMap((place) => place.services);
}

function detailOf(dump: DumpName, places: readonly Place[]): Pick<LoadDetail, 'dump' | 'places'> {
  return { dump, places: places.map(({ node, services }) => ({ node: node.name, services })) };
}

type Going = Pick<Operation, 'id' | 'target'> & { detail: LoadDetail };

/** Brings a load that was cut off to its end. @throws KraftwerkError what a node says that cannot be asked: then it stays open */
export async function settleLoad(
  services: DataServices,
  operation: Operation,
  audience: Audience,
): Promise<'finished' | 'taken back'> {
  const going: Going = { ...operation, detail: operation.detail as LoadDetail };
  const current = services.journal.target(operation.target)?.current ?? null;
  // Its deploy has come to its end: the release that serves wants this data, not the old one.
  if (operation.phase === 'swapping' && current !== null && current === going.detail.serves)
    services.journal.data.setOperationPhase(operation.id, 'done');
  else if (operation.phase !== 'done') {
    await goBack(services, { ...going, swapped: operation.phase !== 'loading' }, audience);
    services.journal.data.endOperation(operation.id, 'interrupted; the data is what it was before');
    return 'taken back';
  }
  await openAgain(services, operation.target, going.detail);
  await removeOld(services, going, audience);
  return 'finished';
}

/** There is no way back from here, and what is left to do harms nobody; a large database takes seconds. */
async function removeOld(services: DataServices, { id, target, detail }: Going, audience: Audience): Promise<void> {
  const sites = await describeAll(services, target, placesFrom(services, detail));
  await step(services, { target, dump: null }, sites, 'done', audience);
  services.journal.data.endOperation(id, null);
}

async function takeBack(
  services: DataServices,
  going: Going & { swapped: boolean },
  error: unknown,
  audience: Audience,
): Promise<unknown> {
  const { id, target } = going;
  const why = error instanceof Error ? error.message : String(error);
  services.log('load.failed', { target: targetName(target), message: why });
  const { emit } = audience;
  try {
    await goBack(services, going, { emit, signal: new AbortController().signal });
    services.journal.data.endOperation(id, why);
  } catch (cause) {
    services.log('load.take_back_failed', { target: targetName(target), message: String(cause) });
    return addHints(error, [
      `the old data is put back as soon as the node answers; until then the site is closed. Why not now: ${cause instanceof Error ? cause.message : String(cause)}`,
    ]);
  }
  return addHints(error, ['nothing has changed: the data is what it was before']);
}

/** Every step can be repeated, whatever was done of it. */
async function goBack(services: DataServices, going: Going & { swapped: boolean }, audience: Audience): Promise<void> {
  const { id, target, detail, swapped } = going;
  services.journal.data.setOperationPhase(id, swapped ? 'back' : 'loading');
  if (swapped) await quiesce(services, target, detail, audience);
  const sites = await describeAll(services, target, placesFrom(services, detail));
  await step(services, { target, dump: null }, sites, 'back', audience);
  if (!swapped) return;
  if (!detail.wasStopped) await start(services, target, audience);
  await openAgain(services, target, detail);
}

interface SiteAt extends Place {
  site: SiteOnNode;
}

function describeAll(services: DataServices, target: Target, places: readonly Place[]): Promise<SiteAt[]> {
  return Promise.all(
    places.map(async (place) => ({ ...place, site: await services.describeSite(target, place.node) })),
  );
}

/** @throws KraftwerkError `dump.unknown`, `dump.services`, `service.unknown` */
async function placesOfDump(
  services: DataServices,
  { target, dump, choice }: Pick<LoadOrder, 'target' | 'dump' | 'choice'>,
  { emit }: Audience,
): Promise<Place[]> {
  const found = await findDump(services, target, dump);
  const held = servicesOf(found);
  const chosen = findPlaces(services, target, choice);
  const places = chosen
    .map(({ node, services: names }) => ({ node, services: names.filter((name) => held.includes(name)) }))
    .filter(({ services: names }) => names.length > 0);
  const all = chosen.flatMap(({ services: names }) => names);
  const left = all.filter((name) => !held.includes(name));
  const name = targetName(target);
  if (places.length === 0 || (choice.only !== null && left.length > 0)) {
    throw new KraftwerkError(
      'dump.services',
      `${dump} holds ${held.join(', ') || 'nothing'}, and not ${left.join(', ') || all.join(', ')}`,
      {
        hint: `ssh kraftwerk@HOST dumps ${name}`,
        exit: 'denied',
      },
    );
  }
  const more = held.filter((one) => !choice.exclude.includes(one) && choice.only === null && !all.includes(one));
  if (more.length > 0) {
    throw new KraftwerkError('dump.services', `${dump} holds ${more.join(', ')}, which ${name} does not have`, {
      hint: [`without it: --exclude ${more[0]}`, `or add it to the services of kraftwerk.yaml and push first`],
      exit: 'denied',
    });
  }
  for (const { node, services: names } of places) {
    const missing = names.filter(
      (one) =>
        !found.parts.some(
          (part) => part.node === node && part.summary.services.some((service) => service.name === one),
        ),
    );
    if (missing.length > 0)
      throw new KraftwerkError(
        'dump.node',
        `${dump}: ${missing.join(', ')} of it is on another node than ${node.name}`,
        {
          hint: `take it there first: dump ${name} --download, then load ${name} --upload`,
        },
      );
  }
  if (left.length > 0)
    emit({ event: 'warning', message: `${dump} does not hold ${left.join(', ')}: it stays as it is` });
  return places;
}

function placesFrom({ nodes }: DataServices, detail: LoadDetail): Place[] {
  return detail.places.map(({ node: name, services: names }) => {
    const node = nodes.get(name);
    if (node === undefined)
      throw new KraftwerkError('service.node', `the node ${name}, which has the data, is not configured any more`);
    return { node, services: names };
  });
}

function backUp(services: DataServices, { target, choice, dump }: LoadOrder, audience: Audience) {
  return makeDump(services, { target, reason: 'load', choice, spare: dump }, audience);
}

async function step(
  services: DataServices,
  { target, dump }: { target: Target; dump: DumpName | null },
  sites: readonly SiteAt[],
  name: 'check' | 'new' | 'swap' | 'back' | 'done',
  { emit, signal }: Audience,
): Promise<void> {
  await askAll(sites, async ({ node }, index) => {
    const { site, services: names } = sites[index] as SiteAt;
    const order = {
      op: 'load',
      instance: site.instance,
      target: targetName(target),
      step: name,
      dump: name === 'check' || name === 'new' ? dump : null,
      services: site.scripts('load', names),
      written: site.written,
    } as const;
    await tellRequest(node, order, { emit, ...((name === 'check' || name === 'new') && { signal }) });
  });
  services.failpoint(`load.after-${name}`);
}

/** Visitors see the page, and no process of the site touches its data. */
async function quiesce(services: DataServices, target: Target, detail: LoadDetail, audience: Audience): Promise<void> {
  if (!detail.wasInMaintenance) await putInMaintenance(services, target);
  if (!detail.wasStopped) await running(services, target, 'stop', null, audience);
}

async function openAgain(services: DataServices, target: Target, { wasInMaintenance }: LoadDetail): Promise<void> {
  if (!wasInMaintenance) await leaveMaintenance(services, target);
}

async function start(services: DataServices, target: Target, audience: Audience): Promise<void> {
  // What scripts have written may name another database by now: the other nodes have to hear of it.
  await services.links(target)?.((node) => node, audience.emit);
  const current = services.journal.target(target)?.current ?? 0;
  const spec = services.journal.release(target, current)?.spec;
  await running(services, target, 'start', spec === undefined ? null : planHealthcheck(spec), audience);
}

async function running(
  services: DataServices,
  target: Target,
  op: 'stop' | 'start',
  health: HealthcheckRequest | null,
  audience: Audience,
): Promise<void> {
  const current = services.journal.target(target)?.current ?? 0;
  const timeoutMs = services.journal.release(target, current)?.spec.timeoutMs ?? 30_000;
  const nodes = services.deployer.nodesOf(target).map((node) => ({ node }));
  await askAll(nodes, async ({ node }) => {
    const { instance } = services.describeServices(target, node);
    await tellRequest(node, { op, instance, timeoutMs, health }, { emit: audience.emit });
  });
}

/** @throws KraftwerkError `service.unhealthy` */
async function askHealth(sites: readonly SiteAt[], places: readonly Place[]): Promise<void> {
  await askAll(places, async ({ node }, index) => {
    const { site, services: names } = sites[index] as SiteAt;
    const result = (await node.request(
      {
        op: 'health',
        instance: site.instance,
        services: site.health.filter(({ name }) => names.includes(name)),
        environment: site.environment,
        written: site.written,
      },
      { timeoutMs: 120_000 },
    )) as HealthResult;
    const ill = result.find(({ ok }) => !ok);
    if (ill === undefined) return;
    throw new KraftwerkError('service.unhealthy', `${ill.name} does not answer with the loaded data`, {
      step: 'Health',
      lines: ill.lines,
      exit: 'unhealthy',
      reason: `${ill.name} is not healthy`,
    });
  });
}

/** @throws KraftwerkError `scrub.failed` */
async function scrub(
  services: DataServices,
  target: Target,
  sites: readonly SiteAt[],
  command: string,
  audience: Audience,
): Promise<void> {
  const [first] = services.deployer.nodesOf(target);
  const site = sites[0]?.site;
  if (first === undefined || site === undefined) return;
  const begin = services.nowMs();
  const own = first === sites[0]?.node ? site : await services.describeSite(target, first);
  const { code } = await runCommand(first, own, command, audience);
  if (code === 0) {
    audience.emit({ event: 'step', step: 'Scrub', detail: command, ms: services.nowMs() - begin });
    return;
  }
  throw new KraftwerkError('scrub.failed', `the scrub command "${command}" ended with exit code ${code}`, {
    step: 'Scrub',
    hint: `its output is above; try it: ssh kraftwerk@HOST run ${targetName(target)} -- sh -c ${quoteWord(command)}`,
    reason: 'scrub command failed',
  });
}

const COMMAND_LIMIT_MS = 3_600_000;

async function runCommand(node: Node, site: SiteOnNode, command: string, { emit }: Audience): Promise<RunResult> {
  const written: WrittenVariables = site.written;
  let rest = '';
  const result = await node.request(
    {
      op: 'run',
      instance: site.instance,
      release: null,
      argv: ['/bin/sh', '-c', command],
      environment: site.environment,
      written,
      limits: site.limits,
      user: null,
      terminal: null,
      timeoutMs: COMMAND_LIMIT_MS,
    },
    {
      timeoutMs: COMMAND_LIMIT_MS + 60_000,
      frames: endOfInput(),
      onEvent: (event) => {
        if (event.event !== 'data') return;
        const lines = (rest + Buffer.from(event.data, 'base64').toString('utf8')).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) emit({ event: 'output', step: 'Scrub', line });
      },
    },
  );
  if (rest !== '') emit({ event: 'output', step: 'Scrub', line: rest });
  return result as RunResult;
}

async function* endOfInput(): AsyncGenerator<{ end: true }> {
  yield { end: true };
}

function stopped(): KraftwerkError {
  return new KraftwerkError('load.aborted', 'the client went away before the data was exchanged', {
    reason: 'cancelled',
  });
}
