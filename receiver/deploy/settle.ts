/** Brings a deploy that failed or was cut off to its end: finished where nodes have been switched, else taken back. */
import { type InstanceStatus, KraftwerkError, type StatusResult } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import { openRepository } from '../git/repository.ts';
import type { DeployRecord, Journal } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import type { Routes } from '../router/routes.ts';
import { abandonAll, activate, type NodeFailure, type Site } from './fan-out.ts';
import { nameNode } from './node-names.ts';
import { releaseRef } from './release-ref.ts';

export type Settled = 'finished' | 'taken back';

export interface SettleServices {
  data: string;
  journal: Journal;
  routes: Routes;
}

const STATUS_LIMIT_MS = 60_000;

/** @throws KraftwerkError what a node says that cannot be asked: then the deploy stays open */
export async function settleDeploy(services: SettleServices, deploy: DeployRecord, site: Site): Promise<Settled> {
  const untouched = deploy.phase === 'preparing' || deploy.phase === 'abandoning';
  const switched = untouched ? [] : await nodesThatServe(site, deploy);
  if (switched.length === 0) return goBack(services, deploy, site);
  try {
    await goForward(services, deploy, site, switched);
    return 'finished';
  } catch (error) {
    // A node that has been started anew meanwhile has lost what it had ready; one that is away may still have it.
    if (deploy.phase !== 'activating' || isAway(error)) throw error;
    return goBack(services, deploy, site);
  }
}

function isAway(error: unknown): boolean {
  return !(error instanceof KraftwerkError) || ['node.unreachable', 'node.lost'].includes(error.code);
}

/** Every node was ready when the first was switched: forward is the shorter way, and the same from any point. */
async function goForward(
  { data, journal, routes }: SettleServices,
  deploy: DeployRecord,
  site: Site,
  switched: readonly Node[],
): Promise<void> {
  for (const node of site.nodes) {
    const serve = deploy.switches?.[node.name]?.next;
    if (serve === undefined) continue;
    const request = activate(node, site.instance, serve);
    // Where it serves already, a process that is just being started again is no reason to stop.
    await (switched.includes(node) ? request.catch(() => undefined) : request);
  }
  journal.setPhase(deploy.id, 'activated');
  await routes.put(deploy.target, journal.release(deploy.target, deploy.release)?.spec ?? null);
  const repository = openRepository(data, deploy.target);
  if (deploy.ref !== null && (await repository.readRef(deploy.ref)) !== deploy.commit) {
    await repository.moveRef(deploy.ref, deploy.refFrom, deploy.commit);
  }
  if (makesRelease(deploy)) await repository.moveRefs([{ ref: releaseRef(deploy.release), to: deploy.commit }]);
  if (deploy.ref !== null) await repository.setHead(deploy.ref);
  journal.finishDeploy(deploy, site.nodes[0]?.name ?? '');
}

async function goBack(services: SettleServices, deploy: DeployRecord, site: Site): Promise<Settled> {
  const [failure] = await takeBack(services, deploy, site, deploy.error ?? 'interrupted before it served');
  if (failure !== undefined) throw nameNode(failure.error, failure.node);
  return 'taken back';
}

/**
 * Puts ref, router and nodes back.
 * @returns what could not be put back now: then the deploy stays open in the journal, and whoever settles it goes on with this
 */
export async function takeBack(
  { data, journal, routes }: SettleServices,
  deploy: DeployRecord,
  site: Site,
  reason: string,
): Promise<NodeFailure[]> {
  const { id, target, switches, ref, refFrom, commit } = deploy;
  // A node that is put back has no longer what it would be switched to: from here on there is no way forward.
  if (deploy.phase !== 'preparing' && deploy.phase !== 'abandoning') journal.abandonDeploy(id, reason);
  const failures: NodeFailure[] = [];
  if (switches !== null) {
    const repository = openRepository(data, target);
    if (ref !== null && refFrom !== commit && (await repository.readRef(ref)) === commit)
      await repository.moveRef(ref, commit, refFrom);
    const current = journal.target(target)?.current ?? null;
    const serving = current === null ? null : (journal.release(target, current)?.spec ?? null);
    await routes.put(target, serving).catch((error: unknown) => {
      failures.push({ node: routes.routerOf(target) ?? '', error });
    });
  }
  const spec = journal.release(target, deploy.release)?.spec ?? null;
  failures.push(...(await abandonAll(site, switches, spec, keptReleases(journal, deploy))));
  if (failures.length === 0) journal.failDeploy(deploy, reason);
  return failures;
}

/** A rollback or restart goes to a release that is there already. */
export function makesRelease({ kind }: Pick<DeployRecord, 'kind'>): boolean {
  return kind === 'push' || kind === 'deploy';
}

/** The releases whose trees stay when a deploy is taken back. */
function keptReleases(journal: Journal, deploy: Pick<DeployRecord, 'target' | 'release' | 'kind'>): number[] {
  const all = journal.releases(deploy.target).map(({ release }) => release);
  return makesRelease(deploy) ? all.filter((release) => release !== deploy.release) : all;
}

async function nodesThatServe(site: Site, deploy: DeployRecord): Promise<Node[]> {
  const order = { op: 'status', instances: [site.instance], memory: false } as const;
  const answers = await allBounded(site.nodes, async (node) => {
    const { instances } = (await node.request(order, { timeoutMs: STATUS_LIMIT_MS })) as StatusResult;
    const current = (instances[0] as InstanceStatus | undefined)?.current;
    const wanted = deploy.switches?.[node.name]?.next;
    return wanted !== undefined && current?.release === wanted.release && current.boot === wanted.boot;
  });
  return site.nodes.filter((node, index) => {
    const answer = answers[index];
    if (answer?.status === 'rejected') throw nameNode(answer.reason, node.name);
    return answer?.value;
  });
}
