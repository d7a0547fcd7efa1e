/** The story of an end: of a whole target, or of one service that it no longer asks for. A last dump outlives it. */
// Long because: from the last dump to the journal that forgets, and what becomes of one that was cut off, is one story.
import { rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type InstanceName, KraftwerkError, type ServiceName, type StatusResult } from '../../node-agent/protocol.ts';
import type { DestroyRequest, DumpName } from '../../node-agent/protocol-data.ts';
import { allBounded } from '../bounded.ts';
import { mergeEvents } from '../deploy/merge-events.ts';
import { addHints, nameNode } from '../deploy/node-names.ts';
import { planHealthcheck } from '../deploy/plan.ts';
import { pruneArtifacts } from '../git/artifact.ts';
import { removeRepository, repositoryExists, repositoryPath } from '../git/repository.ts';
import type { Operation } from '../journal-data.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { ALL, type Audience, type DataServices, findPlaces, tellRequest } from './data-services.ts';
import { KEPT, makeDump } from './dump.ts';

export interface DestroyOrder {
  target: Target;
  /** Null: all of the target. */
  service: ServiceName | null;
  by: string;
  dump: boolean;
}

export interface Destroyed {
  /** The last one; null: there was nothing to dump, or it was not wanted. */
  dump: DumpName | null;
  /** Those that have nothing of it any more. */
  nodes: string[];
  ms: number;
}

/** What the journal keeps of a destroy that goes on. */
interface DestroyDetail {
  service: ServiceName | null;
  /** Somebody had stopped it: then it is not started where nothing is destroyed after all. */
  wasStopped: boolean;
}

type Going = Pick<Operation, 'id' | 'target'> & { detail: DestroyDetail };

const STOP_LIMIT_MS = 600_000;
const PROGRESS_MS = 5_000;
const nobody = new AbortController().signal;

/**
 * The caller holds the target's lock.
 * @throws KraftwerkError what kept the last dump from being made: then nothing is destroyed. `destroy.unfinished`: then it goes
 * on when its nodes answer
 */
export async function destroy(services: DataServices, order: DestroyOrder, audience: Audience): Promise<Destroyed> {
  const { target, service, by } = order;
  const begin = services.nowMs();
  if (service !== null) assertNotAsked(services, target, service);
  await retired(services, target, audience);
  const record = services.journal.target(target);
  const detail: DestroyDetail = {
    service,
    wasStopped: service !== null || record === null || record.current === null || record.stopped,
  };
  const going: Going = {
    id: services.journal.data.beginOperation(target, 'destroy', 'closing', by, detail),
    target,
    detail,
  };
  services.failpoint('destroy.begun');
  let dump: DumpName | null;
  try {
    dump = order.dump ? await lastDump(services, going, audience) : null;
  } catch (error) {
    throw await takeBack(services, going, error, audience);
  }
  // From here on there is no way back, and nobody breaks it off.
  services.journal.data.setOperationPhase(going.id, 'destroying');
  services.failpoint('destroy.destroying');
  const nodes = await finish(services, going, { emit: audience.emit, signal: nobody });
  services.log('destroy.done', { target: targetName(target), service, by, dump, nodes });
  return { dump, nodes, ms: services.nowMs() - begin };
}

/** Brings a destroy that was cut off to its end. @throws KraftwerkError what a node says that cannot be asked: then it stays open */
export async function settleDestroy(
  services: DataServices,
  operation: Operation,
  audience: Audience,
): Promise<'finished' | 'taken back'> {
  const going: Going = { ...operation, detail: operation.detail as DestroyDetail };
  if (operation.phase === 'closing') {
    await reopen(services, going, audience);
    services.journal.data.endOperation(going.id, 'interrupted before anything was destroyed');
    return 'taken back';
  }
  await finish(services, going, audience);
  return 'finished';
}

/** @throws KraftwerkError `service.unknown`, `service.asked` */
function assertNotAsked({ journal }: DataServices, target: Target, service: ServiceName): void {
  const name = targetName(target);
  const records = journal.data.services(target);
  if (!records.some((record) => record.name === service)) {
    throw new KraftwerkError('service.unknown', `${name} has no service ${service}`, {
      hint:
        records.length === 0 ? `${name} has none at all` : `it has: ${records.map((record) => record.name).join(', ')}`,
      exit: 'denied',
    });
  }
  const current = journal.target(target)?.current ?? null;
  const asked = current === null ? [] : (journal.release(target, current)?.spec.services ?? []);
  if (!asked.some((one) => one.name === service)) return;
  throw new KraftwerkError('service.asked', `${name}: v${current} asks for ${service}`, {
    hint: [`remove ${service} from the services of kraftwerk.yaml, then: git push ${target.environment} master`],
    exit: 'denied',
  });
}

/** What the last deploy has replaced may still drain, and tidies up when it has ended. */
async function retired({ deployer, nowMs }: DataServices, target: Target, { emit }: Audience): Promise<void> {
  const begin = nowMs();
  const timer = setInterval(() => {
    emit({
      event: 'progress',
      step: 'Stop',
      what: 'waiting for the release before to finish its requests',
      ms: nowMs() - begin,
    });
  }, PROGRESS_MS);
  try {
    await deployer.settledOf(target);
  } finally {
    clearInterval(timer);
  }
}

/** Of a site that has been stopped: nothing that a visitor has written is missing in it. */
async function lastDump(services: DataServices, going: Going, audience: Audience): Promise<DumpName | null> {
  const { target, detail } = going;
  // What has never served has taken nothing in, and its services may never have been set up.
  if ((services.journal.target(target)?.current ?? null) === null) return null;
  const only = detail.service === null ? null : [detail.service];
  const data = findPlaces(services, target, ALL).flatMap((place) => place.services);
  if (!data.some((name) => only?.includes(name) ?? true)) return null;
  if (!detail.wasStopped) await stopAll(services, target, audience);
  services.failpoint('destroy.stopped');
  const made = await makeDump(services, { target, reason: 'destroy', choice: { only, exclude: [] } }, audience);
  if (detail.service === null) await dumpFormer(services, target, made.name, audience);
  services.failpoint('destroy.dumped');
  if (audience.signal.aborted)
    throw new KraftwerkError('destroy.aborted', 'the client went away before anything was destroyed', {
      reason: 'cancelled',
    });
  return made.name;
}

/** Under names that the target has had before, another suffix gave it, its data is as good: it gets the same last dump. */
async function dumpFormer(services: DataServices, target: Target, name: DumpName, audience: Audience): Promise<void> {
  const { instances, journal } = services;
  const current = instances.find(target);
  for (const { node, instance } of placesOf(services, target, null).places) {
    if (instance === current) continue;
    const asked = { op: 'status', instances: [instance], memory: false } as const;
    const { instances: found } = (await node.request(asked, { timeoutMs: STOP_LIMIT_MS })) as StatusResult;
    // A name that it was given and never used: there is nothing.
    if ((found[0]?.releases.length ?? 0) === 0) continue;
    const scripts = services.describeServices(target, node, instance).scripts('dump');
    const release = journal.target(target)?.current ?? null;
    const about = { target: targetName(target), name, reason: 'destroy', release, before: null } as const;
    const order = { op: 'dump', instance, ...about, services: scripts, keep: KEPT.destroy, spare: null } as const;
    if (scripts.length > 0) await tellRequest(node, order, audience);
  }
}

/** One that cannot be asked now is no reason to keep it: where the data is, the dump says so. */
async function stopAll(services: DataServices, target: Target, { emit }: Audience): Promise<void> {
  const nodes = services.deployer.nodesOf(target);
  const merger = mergeEvents(
    nodes.map(({ name }) => name),
    emit,
    services.nowMs,
  );
  const outcomes = await eachNode(services, target, nodes, (node, order) =>
    tellRequest(node, { op: 'stop', ...order, health: null }, { emit: (event) => merger.on(node.name, event) }),
  );
  merger.flush();
  for (const { error, node } of outcomes)
    if (error !== null) emit({ event: 'warning', message: `${node.name} could not be stopped: ${wordsOf(error)}` });
}

interface Outcome {
  node: Node;
  /** Null: done. */
  error: unknown;
}

async function eachNode(
  { instances, journal }: DataServices,
  target: Target,
  nodes: readonly Node[],
  ask: (node: Node, order: { instance: InstanceName; timeoutMs: number }) => Promise<unknown>,
): Promise<Outcome[]> {
  const current = journal.target(target)?.current ?? 0;
  const timeoutMs = journal.release(target, current)?.spec.timeoutMs ?? 30_000;
  const order = { instance: instances.of(target), timeoutMs };
  const outcomes = await allBounded(nodes, (node) => ask(node, order));
  return outcomes.map((outcome, index) => ({
    node: nodes[index] as Node,
    error: outcome.status === 'rejected' ? (outcome.reason as unknown) : null,
  }));
}

/** Visitors are served again. @throws KraftwerkError what a node says that cannot be asked */
async function reopen(services: DataServices, { target, detail }: Going, { emit }: Audience): Promise<void> {
  if (detail.wasStopped) return;
  const current = services.journal.target(target)?.current ?? 0;
  const spec = services.journal.release(target, current)?.spec;
  const health = spec === undefined ? null : planHealthcheck(spec);
  const nodes = services.deployer.nodesOf(target);
  const merger = mergeEvents(
    nodes.map(({ name }) => name),
    emit,
    services.nowMs,
  );
  const outcomes = await eachNode(services, target, nodes, (node, order) =>
    node.request({ op: 'start', ...order, health }, { timeoutMs: STOP_LIMIT_MS }),
  );
  merger.flush();
  throwFirst(outcomes);
}

function throwFirst(outcomes: readonly Outcome[]): void {
  const failed = outcomes.find(({ error }) => error !== null);
  if (failed !== undefined) throw outcomes.length === 1 ? failed.error : nameNode(failed.error, failed.node.name);
}

async function takeBack(services: DataServices, going: Going, error: unknown, { emit }: Audience): Promise<unknown> {
  const name = targetName(going.target);
  services.log('destroy.failed', { target: name, message: wordsOf(error) });
  try {
    await reopen(services, going, { emit, signal: nobody });
    services.journal.data.endOperation(going.id, wordsOf(error));
  } catch (cause) {
    services.log('destroy.take_back_failed', { target: name, message: wordsOf(cause) });
    return addHints(error, [
      `nothing is destroyed; it is started again as soon as it can be. Why not now: ${wordsOf(cause)}`,
    ]);
  }
  return addHints(error, [
    'nothing is destroyed, and everything is as it was',
    `without a last dump: ssh kraftwerk@HOST destroy ${name}${optionOf(going.detail.service)} --no-dump`,
  ]);
}

/** Every step can be repeated. @returns the nodes that were asked. @throws KraftwerkError `destroy.unfinished` */
async function finish(services: DataServices, going: Going, audience: Audience): Promise<string[]> {
  const { data, journal, routes } = services;
  const { id, target, detail } = going;
  const { absent, places } = placesOf(services, target, detail.service);
  for (const name of absent) audience.emit(notConfigured(target, name));
  await destroyOnAll(services, going, places, audience);
  services.failpoint('destroy.nodes');
  const names = [...new Set(places.map(({ node }) => node.name))];
  if (detail.service !== null) {
    for (const { node, service } of journal.data.oldCopies(target))
      if (service === detail.service) journal.data.forgetOldCopy(target, service, node);
    journal.data.forgetService(target, detail.service);
    journal.data.endOperation(id, null);
    return names;
  }
  if (services.instances.conflict(target) === null)
    await routes.put(target, null).catch((error: unknown) => {
      throw addHints(error, [
        'nothing is left of it on its nodes',
        goesOn(going, routes.routerOf(target) ?? 'the router'),
      ]);
    });
  services.failpoint('destroy.route');
  await forgetRepository(data, target);
  services.failpoint('destroy.repository');
  journal.forget(target, absent);
  services.failpoint('destroy.forgotten');
  await pruneArtifacts(data, journal.artifactNeeded, false);
  return names;
}

async function forgetRepository(data: string, target: Target): Promise<void> {
  if (await repositoryExists(data, target)) await removeRepository(data, target);
  // The project may have others.
  await rmdir(dirname(repositoryPath(data, target))).catch(() => undefined);
}

/** @throws KraftwerkError `destroy.unfinished`, or what the only node says */
async function destroyOnAll(
  services: DataServices,
  going: Going,
  places: readonly PlaceOnNode[],
  { emit }: Audience,
): Promise<void> {
  const { target, detail } = going;
  const nodes = [...new Set(places.map(({ node }) => node))];
  const merger = mergeEvents(
    nodes.map(({ name }) => name),
    emit,
    services.nowMs,
  );
  const part: DestroyRequest['part'] = detail.service === null ? 'site' : 'service';
  const outcomes = await allBounded(nodes, async (node) => {
    for (const { instance } of places.filter((place) => place.node === node)) {
      const scripts = scriptsFor(services, target, { node, instance }, detail.service);
      if (part === 'service' && scripts.length === 0) continue;
      const order = { op: 'destroy', instance, part, services: scripts } as const;
      await tellRequest(node, order, { emit: (event) => merger.on(node.name, event) });
    }
  });
  merger.flush();
  const failed = outcomes.flatMap((outcome, index) =>
    outcome.status === 'rejected' ? [{ node: nodes[index] as Node, error: outcome.reason as unknown }] : [],
  );
  const [first] = failed;
  if (first === undefined) return;
  const name = targetName(target);
  for (const { error, node } of failed)
    services.log('destroy.waits', { target: name, node: node.name, message: wordsOf(error) });
  const which = failed.map(({ node }) => node.name).join(', ');
  throw addHints(nodes.length === 1 ? first.error : nameNode(first.error, first.node.name), [
    goesOn(going, which),
    ...(failed.length < nodes.length ? ['on the other nodes nothing is left of it'] : []),
  ]);
}

function goesOn({ target, detail }: Going, who: string): string {
  const command = `ssh kraftwerk@HOST destroy ${targetName(target)}${optionOf(detail.service)}`;
  return `it goes on by itself when ${who} can do it, or now: ${command}`;
}

function optionOf(service: ServiceName | null): string {
  return service === null ? '' : ` --service ${service}`;
}

/** What the node has, and what moves have left on it. */
function scriptsFor(
  services: DataServices,
  target: Target,
  { node, instance }: PlaceOnNode,
  only: ServiceName | null,
): DestroyRequest['services'] {
  if (services.journal.data.services(target).length === 0) return [];
  const { scripts } = services.describeServices(target, node, instance);
  const left = services.journal.data.oldCopies(target).filter((copy) => copy.node === node.name);
  const here = [...scripts('destroy').map(({ name }) => name), ...left.map(({ service }) => service)];
  return scripts(
    'destroy',
    here.filter((name) => only === null || name === only),
  );
}

interface PlaceOnNode {
  node: Node;
  instance: InstanceName;
}

/**
 * Those of the environment, and all others where the target holds a name: other nodes and suffixes that it has had. Where the name
 * is another target's, what is there is not this one's. Of one service: the nodes that have been known to have it.
 */
function placesOf(
  { environment, instances, journal, nodes: configured }: DataServices,
  target: Target,
  service: ServiceName | null,
): { places: PlaceOnNode[]; absent: string[] } {
  const { nodes: own, router } = environment(target);
  const instance = instances.find(target);
  const records = journal.data.services(target).filter(({ name }) => name === service);
  const copies = journal.data.oldCopies(target).filter((copy) => copy.service === service);
  const concerned = [...own, ...records.map(({ node }) => node), ...copies.map(({ node }) => node)];
  const wanted = instances.held(target).filter(({ node, name }) => {
    if (service !== null) return name === instance && concerned.includes(node);
    // Its route there goes by itself.
    return node !== router || own.includes(node) || name !== instance;
  });
  // In the order of the environment: the first is told first.
  const rank = ({ node }: { node: string }): number => (own.includes(node) ? own.indexOf(node) : own.length);
  const sorted = [...wanted].sort((a, b) => rank(a) - rank(b));
  return {
    places: sorted.flatMap(({ node: name, name: held }) => {
      const node = configured.get(name);
      return node === undefined ? [] : [{ node, instance: held }];
    }),
    absent: [...new Set(sorted.map(({ node }) => node).filter((name) => !configured.has(name)))],
  };
}

/**
 * The way out for a target whose name on a node belongs to another one: the receiver forgets it, and asks no node. The caller holds
 * its lock.
 * @returns nodes where it does hold its name: what it has there stays, and so does its claim
 */
export async function forgetOnly(services: DataServices, target: Target, by: string): Promise<string[]> {
  const { data, instances, journal } = services;
  const left = [...new Set(instances.held(target).map(({ node }) => node))];
  await forgetRepository(data, target);
  journal.forget(target, left);
  await pruneArtifacts(data, journal.artifactNeeded, false);
  services.log('destroy.forgotten_only', { target: targetName(target), by, left });
  return left;
}

function notConfigured(target: Target, node: string): { event: 'warning'; message: string; hint: string } {
  return {
    event: 'warning',
    message: `${node} is not configured any more: what it may have of ${targetName(target)} stays, and is still served there`,
    hint: `configure ${node} again and destroy it once more, or clean up there; until then its name there stays its own`,
  };
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
