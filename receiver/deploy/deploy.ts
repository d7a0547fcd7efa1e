/** The story of one deploy: prepare on all nodes, activate, move the ref, retire; or take everything back. */
// Long because: from the order to the release that serves, and back, is one story.
import { type CommitId, KraftwerkError } from '../../node-agent/protocol.ts';
import type { EnvironmentConfig } from '../config.ts';
import type { PlanLinks } from '../data/links.ts';
import type { KeepInMaintenance } from '../data/maintenance.ts';
import { checkPlacement, homesOf, type PlacementWarning } from '../data/placement.ts';
import type { Failpoint } from '../failpoint.ts';
import { type Artifact, artifactExists, packArtifact, pruneArtifacts } from '../git/artifact.ts';
import type { RefMove } from '../git/ref-transaction.ts';
import { openRepository } from '../git/repository.ts';
import type { Instances } from '../instances.ts';
import type { DeployKind, DeployRecord, Journal, Switches } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import type { Routes } from '../router/routes.ts';
import { readService } from '../services.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import { type DomainClaims, nodesWithDomain } from './domains.ts';
import {
  aborted,
  activateAll,
  closeSessions,
  confirmAll,
  type FanOut,
  openSessions,
  prepareAll,
  reachAll,
  retireAll,
  type Sessions,
  type Site,
} from './fan-out.ts';
import { addHints } from './node-names.ts';
import type { ReleaseSpec } from './plan.ts';
import { createRecorder, type OnDeployEvent } from './recorder.ts';
import { releaseRef, siteUrl } from './release-ref.ts';
import { makesRelease, type Settled, settleDeploy, takeBack } from './settle.ts';

export interface DeployOrder {
  target: Target;
  kind: DeployKind;
  /** The number to make, or to go back to. */
  release: number;
  commit: CommitId;
  subject: string;
  spec: ReleaseSpec;
  artifact: Artifact;
  /** The branch that moves to the commit at the end, and from where. Null: none moves. */
  ref: { name: string; from: CommitId | null } | null;
  by: string;
  override: boolean;
  setUpServices: boolean;
  runReleaseCommand: boolean;
  /** Its data is dumped before the release command may change it. */
  dumpBeforeRelease: boolean;
}

export interface DeployOutcome {
  id: number;
  release: number;
  url: string;
  ms: number;
}

export interface DeployerOptions {
  data: string;
  journal: Journal;
  /** A node's own, by its name. */
  templatesOf(node: string): Templates;
  nodesOf(environment: EnvironmentConfig): readonly Node[];
  routes: Routes;
  instances: Instances;
  environment(target: Target): EnvironmentConfig;
  claims: DomainClaims;
  nowMs(): number;
  log(event: string, fields: Record<string, unknown>): void;
  failpoint: Failpoint;
  dumpBeforeRelease: FanOut['dumpBeforeRelease'];
  keepInMaintenance: KeepInMaintenance;
  links: PlanLinks;
}

export type Deployer = ReturnType<typeof createDeployer>;

export function createDeployer(options: DeployerOptions) {
  const { data, journal, claims, routes, nowMs, log, failpoint } = options;
  const fanOut: FanOut = {
    ...options,
    routerOf: ({ target }, node) => routes.reach(target, node),
    limitsOf: ({ target }) => options.environment(target).limits,
    linksOf: ({ target, spec }) => options.links(target, spec),
    homesOf: ({ target, spec }) =>
      homesOf(journal.data.services(target), spec.services, options.environment(target).nodes),
  };
  /** What drains and is tidied up after deploys. */
  const retiring = new Map<Promise<void>, string>();
  /** Agents that wait for a deploy that is on its way, by target. */
  const reserved = new Map<string, Sessions>();

  function siteOf(target: Target): Site {
    return { instance: options.instances.of(target), nodes: options.nodesOf(options.environment(target)) };
  }

  /** Has an agent on each node start and take the site's lock; the next deploy of the target finds them ready. */
  function reserve(target: Target): void {
    const name = targetName(target);
    if (!reserved.has(name)) reserved.set(name, openSessions(siteOf(target)));
  }

  /** Lets agents go that have waited in vain. */
  function unreserve(target: Target): void {
    const sessions = reserved.get(targetName(target));
    reserved.delete(targetName(target));
    if (sessions !== undefined) closeSessions(sessions);
  }

  /** What was cut off comes to its end before anything new begins. */
  async function settleOpen(target: Target): Promise<void> {
    const open = journal.openDeploys(target);
    // It needs the site's lock for itself.
    if (open.length > 0) unreserve(target);
    for (const deploy of open) {
      await settle(deploy).catch((error: unknown) => {
        throw addHints(error, [`v${deploy.release} was cut off, and is settled when all of its nodes answer`]);
      });
    }
  }

  /** An agent on each node, or nothing is begun. */
  async function reach(target: Target, site: Site): Promise<Sessions> {
    const name = targetName(target);
    reserve(target);
    const sessions = reserved.get(name) ?? new Map();
    try {
      await reachAll(site, sessions, (node) => `once ${node} is back in: ssh kraftwerk@HOST deploy ${name}`);
      return sessions;
    } catch (error) {
      unreserve(target);
      throw error;
    }
  }

  /**
   * Runs a deploy to its end. The caller holds the target's lock.
   * @param signal heeded until the first node is switched: then the deploy goes on to its end
   * @param onBegin told the deploy's id in the journal
   * @throws KraftwerkError what stopped it; then nothing that serves has changed
   */
  async function run(
    order: DeployOrder,
    signal: AbortSignal,
    onEvent: OnDeployEvent,
    onBegin: (id: number) => void = () => undefined,
  ): Promise<DeployOutcome> {
    const begin = nowMs();
    const { target, kind, release, spec, by } = order;
    const name = targetName(target);
    await settleOpen(target);
    const site = siteOf(target);
    placeAnew(order);
    const misplaced = checkServices(order);
    const sessions = await reach(target, site);
    const domains = nodesWithDomain(options.environment(target));
    const claim = claims.take(target, spec, domains, kind === 'restart');
    const record = createRecorder(onEvent);
    for (const warning of misplaced) record.emit({ event: 'warning', ...warning });
    let id: number | null = null;
    const refs = openRepository(data, target).openTransaction();
    try {
      id = beginDeploy(order);
      onBegin(id);
      if (order.setUpServices) journal.data.announceServices(target, spec.services, site.nodes[0]?.name ?? '');
      failpoint('begun');
      // Moved meanwhile, or its disk is full: that must come out before anything is switched. Git does it while the site boots.
      let locked: Promise<void> | null = null;
      const lockRefs = (): Promise<void> => {
        locked ??= refs.prepare(refMoves(order));
        locked.catch(() => undefined);
        return locked;
      };
      await ensureArtifact(order, signal);
      const routable = routes.test(target, spec);
      routable.catch(() => undefined);
      const prepared = await prepareAll(fanOut, order, site, sessions, signal, (event) => {
        if (event.event === 'step' && event.step === 'Start') void lockRefs();
        record.emit(event);
      });
      await routable;
      const closed = await options.keepInMaintenance(target, (node) => sessions.get(node.name) ?? node);
      failpoint('prepared');

      const switchBegin = nowMs();
      await confirmAll(site, sessions);
      if (signal.aborted) throw aborted();
      if (makesRelease(order)) saveRelease(order, nowMs() - begin);
      const switches: Switches = Object.fromEntries(
        prepared.map(({ node, result }) => [
          node.name,
          { next: { release, boot: result.boot }, previous: result.previous },
        ]),
      );
      await lockRefs();
      journal.setPhase(id, 'activating', switches);
      failpoint('activating');
      await activateAll(site, sessions, switches, (count) => failpoint(`switched-${count}`));
      failpoint('switched');
      await routes.put(target, spec);
      journal.setPhase(id, 'activated');
      failpoint('activated');
      await refs.commit();
      await moveHead(order);
      failpoint('ref-moved');
      journal.finishDeploy({ id, target, release, ref: order.ref?.name ?? null }, site.nodes[0]?.name ?? '');
      failpoint('done');
      const where = prepared.length > 1 ? ` on ${prepared.length} nodes` : '';
      record.emit({ event: 'step', step: 'Switch', detail: `v${release} serves${where}`, ms: nowMs() - switchBegin });
      if (closed !== null) record.emit({ event: 'warning', ...closed });
      const ms = nowMs() - begin;
      log('deploy.done', { target: name, kind, release, by, durationMs: Math.round(ms), steps: record.steps });
      retireLater(target);
      const httpPort = routes.port(target) ?? prepared[0]?.result.httpPort ?? 80;
      return { id, release, url: siteUrl(spec, httpPort), ms };
    } catch (error) {
      const known = error instanceof KraftwerkError ? error : null;
      const { message } = error instanceof Error ? error : { message: String(error) };
      log('deploy.failed', { target: name, kind, release, by, code: known?.code ?? 'bug', message });
      await refs.abort();
      unreserve(target);
      throw addHints(error, await undo(id, order, site, known?.message ?? 'internal error'));
    } finally {
      if (id !== null) journal.saveSteps(id, record.steps);
      claim.release();
      unreserve(target);
    }
  }

  /** A target that has never served has no data yet: kraftwerk.yaml may still say where it is to be. */
  function placeAnew({ target, spec }: DeployOrder): void {
    if ((journal.target(target)?.current ?? null) !== null) return;
    for (const { name, node } of journal.data.services(target)) {
      const wanted = spec.services.find((service) => service.name === name)?.node ?? node;
      if (wanted === node) continue;
      journal.data.noteOldCopy(target, name, node);
      journal.data.moveService(target, name, wanted);
    }
  }

  /** @throws KraftwerkError `service.node`, `service.one-node` */
  function checkServices({ target, spec, kind }: DeployOrder): PlacementWarning[] {
    const { nodes } = options.environment(target);
    return checkPlacement({
      target,
      nodes,
      asked: spec.services,
      records: journal.data.services(target),
      fresh: kind === 'push' || kind === 'deploy',
      definitionOf: (name) => readService(options.templatesOf(nodes[0] ?? ''), name),
    });
  }

  function beginDeploy({ target, kind, release, commit, ref, by }: DeployOrder): number {
    const previous = journal.target(target)?.current ?? null;
    const refs = { ref: ref?.name ?? null, refFrom: ref?.from ?? null };
    return journal.beginDeploy({ target, kind, release, previous, commit, ...refs, by });
  }

  function saveRelease(
    { target, release, commit, subject, artifact, spec, by }: DeployOrder,
    durationMs: number,
  ): void {
    const createdAt = new Date(nowMs()).toISOString();
    journal.saveRelease({ target, release, commit, subject, artifact, spec, createdAt, createdBy: by, durationMs });
  }

  /** A rollback's artifact may be gone from disk: git still has the tree, and the same tree packs to the same bytes. */
  async function ensureArtifact(order: DeployOrder, signal: AbortSignal): Promise<void> {
    if (await artifactExists(data, order.artifact)) return;
    const again = await packArtifact(data, openRepository(data, order.target).path, order.commit, signal);
    if (again.sha256 === order.artifact.sha256) return;
    throw new KraftwerkError('artifact.lost', `the artifact of v${order.release} is gone and cannot be made again`, {
      hint: `push the commit ${order.commit.slice(0, 7)} again`,
    });
  }

  /** HEAD names the branch last deployed. */
  async function moveHead({ target, ref }: DeployOrder): Promise<void> {
    if (ref === null || ref.name === journal.target(target)?.branch) return;
    await openRepository(data, target).setHead(ref.name);
  }

  /** Takes a failed deploy back. @returns hints about nodes that could not be put back now */
  async function undo(id: number | null, order: DeployOrder, site: Site, reason: string): Promise<string[]> {
    const { release, target } = order;
    const failed = journal.openDeploys(target).find((deploy) => deploy.id === id);
    if (failed === undefined) return [];
    try {
      const failures = await takeBack({ data, journal, routes }, failed, site, reason);
      for (const { node, error } of failures)
        log('deploy.take_back_failed', { target: targetName(target), release, node, message: String(error) });
      const untouched = failed.phase === 'preparing';
      return failures.map(({ node }) =>
        untouched
          ? `what v${release} has left on ${node} goes when that answers again`
          : `${node} may serve v${release} until it answers again; then it is put back by itself`,
      );
    } catch (error) {
      log('deploy.take_back_failed', { target: targetName(target), release, message: String(error) });
      return [];
    }
  }

  // Rejects, and does not throw: one whose name is another's waits, and keeps no other from being settled.
  async function settle(deploy: DeployRecord): Promise<Settled> {
    return await settleDeploy({ data, journal, routes }, deploy, siteOf(deploy.target));
  }

  /** After the pusher has been told: the old process finishes its requests, old releases go. */
  function retireLater(target: Target): void {
    const upTo = journal.lastDeploy(target);
    const work = afterAnswer()
      .then(() => retire(target))
      .then(() => journal.setRetired(target, upTo))
      .catch((error: unknown) => log('deploy.retire_failed', { target: targetName(target), message: String(error) }))
      .finally(() => retiring.delete(work));
    retiring.set(work, targetName(target));
  }

  async function retire(target: Target): Promise<void> {
    const current = journal.target(target)?.current ?? null;
    const releases = journal.releases(target);
    const serving = releases.find(({ release }) => release === current);
    if (serving === undefined) return;
    const others = releases.map(({ release }) => release).filter((release) => release !== current);
    const dropped = others.slice(serving.spec.keepReleases);
    const kept = others.slice(0, serving.spec.keepReleases);
    await retireAll(siteOf(target), serving.spec, journal.lastSwitches(target), {
      release: serving.release,
      keep: kept,
    });
    journal.dropReleases(target, dropped);
    const repository = openRepository(data, target);
    await repository.deleteRefs(dropped.map(releaseRef));
    await pruneArtifacts(data, journal.artifactNeeded, false);
    await repository.tidy();
  }

  return {
    run,
    settle,
    retireLater,
    reserve,
    unreserve,
    nodesOf: (target: Target): readonly Node[] => siteOf(target).nodes,
    /** Resolves when nothing drains any more. */
    async settled(): Promise<void> {
      while (retiring.size > 0) await Promise.allSettled(retiring.keys());
    },
    /** The same of one target. */
    async settledOf(target: Target): Promise<void> {
      const own = (): Promise<void>[] =>
        [...retiring].flatMap(([work, of]) => (of === targetName(target) ? [work] : []));
      while (own().length > 0) await Promise.allSettled(own());
    },
  };
}

/** The answer to the pusher and the agent that retires would fight for the processor. */
function afterAnswer(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 150));
}

/** The branch, and the name under which the release can be fetched. */
function refMoves(order: DeployOrder): RefMove[] {
  const to = order.commit;
  const branch = order.ref === null ? [] : [{ ref: order.ref.name, to, from: order.ref.from }];
  return [...branch, ...(makesRelease(order) ? [{ ref: releaseRef(order.release), to }] : [])];
}
