/** The story of one deploy over all nodes of an environment: prepare everywhere, activate, move the ref, retire. */
import type { Readable } from 'node:stream';
import {
  type ActivateResult,
  type AgentEvent,
  type CommitId,
  type DeployEvent,
  KraftwerkError,
  type PrepareResult,
  type Serving,
} from '../../node-agent/protocol.ts';
import type { EnvironmentConfig } from '../config.ts';
import { type Artifact, artifactExists, packArtifact, pruneArtifacts, readArtifact } from '../git/artifact.ts';
import { openRepository } from '../git/repository.ts';
import type { DeployKind, Journal } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import { instanceName, type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import type { DomainClaims } from './domains.ts';
import { planHealthcheck, type ReleaseSpec } from './plan.ts';
import { type RenderedRelease, renderRelease } from './render.ts';

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
}

export interface DeployOutcome {
  id: number;
  release: number;
  url: string;
  ms: number;
}

export type OnDeployEvent = (event: DeployEvent) => void;

export interface DeployerOptions {
  data: string;
  journal: Journal;
  templates: Templates;
  nodesOf(environment: EnvironmentConfig): readonly Node[];
  environment(target: Target): EnvironmentConfig;
  claims: DomainClaims;
  nowMs(): number;
  log(event: string, fields: Record<string, unknown>): void;
}

export type Deployer = ReturnType<typeof createDeployer>;

/** pip and the project's own commands have limits of their own; this is the last resort. */
const PREPARE_LIMIT_MS = 3 * 3_600_000;
const ACTIVATE_LIMIT_MS = 60_000;
const PIP_LIMIT_MS = 900_000;

export function createDeployer(options: DeployerOptions) {
  const { data, journal, templates, claims, nowMs, log } = options;
  /** What drains and is tidied up after a deploy; the next one of the same target waits for it. */
  const retiring = new Map<string, Promise<void>>();

  function nodesOf(target: Target): readonly Node[] {
    return options.nodesOf(options.environment(target));
  }

  async function render(node: Node, order: DeployOrder): Promise<RenderedRelease> {
    const facts = node.facts() ?? (await node.hello());
    const instance = instanceName(order.target, options.environment(order.target).suffix);
    return renderRelease(
      templates,
      { profile: node.profile, cores: facts.cores, memoryBytes: facts.memoryBytes },
      { ...order, instance },
    );
  }

  /**
   * Runs a deploy to its end. The caller holds the target's lock.
   * @param signal heeded until the first node is switched: then the deploy goes on to its end
   * @throws KraftwerkError what stopped it; then nothing that serves has changed
   */
  async function run(
    order: DeployOrder,
    signal: AbortSignal,
    onEvent: OnDeployEvent,
    onBegin: (id: number) => void = () => undefined,
  ): Promise<DeployOutcome> {
    const begin = nowMs();
    const { target, release, spec } = order;
    const name = targetName(target);
    const before = journal.target(target);
    const claim = claims.take(target, spec, options.environment(target).nodes);
    const nodes = nodesOf(target);
    const id = journal.beginDeploy({
      target,
      kind: order.kind,
      release,
      previous: before?.current ?? null,
      commit: order.commit,
      ref: order.ref?.name ?? null,
      refFrom: order.ref?.from ?? null,
      by: order.by,
    });
    onBegin(id);
    const record = createRecorder(onEvent);
    let activated: { node: Node; result: ActivateResult }[] = [];
    let refMoved = false;
    try {
      await afterRetiring(name, record.emit);
      await ensureArtifact(order, signal);
      const prepared = await prepareAll(order, nodes, signal, record.emit);

      const switchBegin = nowMs();
      const serving = Object.fromEntries(
        prepared.map(({ node, result }): [string, Serving] => [node.name, { release, boot: result.boot }]),
      );
      if (order.kind === 'push' || order.kind === 'deploy') {
        journal.saveRelease({
          target,
          release,
          commit: order.commit,
          subject: order.subject,
          artifact: order.artifact,
          spec,
          createdAt: new Date().toISOString(),
          createdBy: order.by,
          durationMs: nowMs() - begin,
        });
      }
      if (signal.aborted)
        throw new KraftwerkError('deploy.aborted', 'the client went away before the new release served', {
          reason: 'cancelled',
        });
      journal.setPhase(id, 'activating', serving);
      activated = await activateAll(order, nodes, serving);
      journal.setPhase(id, 'activated');
      await moveRefs(order);
      refMoved = true;
      journal.finishDeploy({ id, target, release, ref: order.ref?.name ?? null });
      record.emit({ event: 'step', step: 'Switch', detail: `v${release} serves`, ms: nowMs() - switchBegin });
      journal.saveSteps(id, record.steps);
      log('deploy.done', {
        target: name,
        kind: order.kind,
        release,
        by: order.by,
        durationMs: Math.round(nowMs() - begin),
        steps: record.steps,
      });
      const port = prepared[0]?.result.httpPort ?? 80;
      retireLater(target, spec, id);
      return { id, release, url: siteUrl(spec, port), ms: nowMs() - begin };
    } catch (error) {
      if (refMoved && order.ref !== null)
        await openRepository(data, target)
          .moveRef(order.ref.name, order.commit, order.ref.from)
          .catch(() => undefined);
      await takeBack(order, nodes, activated);
      journal.saveSteps(id, record.steps);
      journal.failDeploy(
        { id, target, release, kind: order.kind },
        error instanceof KraftwerkError ? error.message : 'internal error',
      );
      log('deploy.failed', {
        target: name,
        kind: order.kind,
        release,
        by: order.by,
        code: error instanceof KraftwerkError ? error.code : 'bug',
        message: error instanceof Error ? error.message : String(error),
      });
      throw error;
    } finally {
      claim.release();
      for (const node of nodes) node.cool();
    }
  }

  async function afterRetiring(name: string, emit: OnDeployEvent): Promise<void> {
    const earlier = retiring.get(name);
    if (earlier === undefined) return;
    const begin = nowMs();
    const timer = setInterval(
      () =>
        emit({
          event: 'progress',
          step: 'Start',
          what: 'waiting for the release before to finish its requests',
          ms: nowMs() - begin,
        }),
      5_000,
    );
    await earlier.catch(() => undefined);
    clearInterval(timer);
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

  async function prepareAll(
    order: DeployOrder,
    nodes: readonly Node[],
    signal: AbortSignal,
    emit: OnDeployEvent,
  ): Promise<{ node: Node; result: PrepareResult }[]> {
    const { target, release, spec } = order;
    const instance = instanceName(target, options.environment(target).suffix);
    return Promise.all(
      nodes.map(async (node, index) => {
        const rendered = await render(node, order);
        const result = (await node.request(
          {
            op: 'prepare',
            instance,
            target: targetName(target),
            release,
            artifact: order.artifact,
            site: rendered.site,
            services: order.setUpServices ? rendered.services : [],
            python: spec.python,
            requirements: spec.requirements,
            requirementsNamed: spec.requirementsNamed,
            generation: spec.generation,
            build: spec.build,
            releaseCommand: order.runReleaseCommand && index === 0 ? spec.release : null,
            buildEnvironment: rendered.buildEnvironment,
            environment: rendered.environment,
            startLabel: rendered.startLabel,
            health: planHealthcheck(spec),
            timeoutMs: spec.timeoutMs,
            override: order.override,
            pipTimeoutMs: PIP_LIMIT_MS,
          },
          {
            timeoutMs: PREPARE_LIMIT_MS,
            signal,
            artifact: (): Readable => readArtifact(data, order.artifact),
            onEvent: (event: AgentEvent) => {
              if (event.event !== 'log' && event.event !== 'result' && event.event !== 'send') emit(event);
              // The next agent starts while the site boots, so that the switch does not wait for it.
              if (event.event === 'step' && event.step === 'Start') node.warm();
            },
          },
        )) as PrepareResult;
        return { node, result };
      }),
    );
  }

  async function activateAll(
    order: DeployOrder,
    nodes: readonly Node[],
    serving: Readonly<Record<string, Serving>>,
  ): Promise<{ node: Node; result: ActivateResult }[]> {
    const instance = instanceName(order.target, options.environment(order.target).suffix);
    const done: { node: Node; result: ActivateResult }[] = [];
    for (const node of nodes) {
      const serve = serving[node.name];
      if (serve === undefined) continue;
      try {
        const result = (await node.request(
          { op: 'activate', instance, serve },
          { timeoutMs: ACTIVATE_LIMIT_MS },
        )) as ActivateResult;
        done.push({ node, result });
      } catch (error) {
        await putBack(order, done);
        throw error;
      }
    }
    return done;
  }

  /** The others are switched back to what they served; their old processes still run. */
  async function putBack(order: DeployOrder, done: readonly { node: Node; result: ActivateResult }[]): Promise<void> {
    const instance = instanceName(order.target, options.environment(order.target).suffix);
    for (const { node, result } of done) {
      if (result.previous === null) continue;
      await node
        .request({ op: 'activate', instance, serve: result.previous }, { timeoutMs: ACTIVATE_LIMIT_MS })
        .catch((error: unknown) => {
          log('deploy.compensation_failed', {
            target: targetName(order.target),
            node: node.name,
            message: String(error),
          });
        });
    }
  }

  /** The branch, its place as HEAD, and the name under which the release can be fetched. */
  async function moveRefs(order: DeployOrder): Promise<void> {
    const repository = openRepository(data, order.target);
    if (order.ref !== null) await repository.moveRef(order.ref.name, order.ref.from, order.commit);
    if (order.kind === 'push' || order.kind === 'deploy')
      await repository.setRefs(new Map([[releaseRef(order.release), order.commit]]));
    if (order.ref !== null && order.ref.name !== journal.target(order.target)?.branch)
      await repository.setHead(order.ref.name);
  }

  async function takeBack(
    order: DeployOrder,
    nodes: readonly Node[],
    activated: readonly { node: Node; result: ActivateResult }[],
  ): Promise<void> {
    await putBack(order, activated);
    const instance = instanceName(order.target, options.environment(order.target).suffix);
    const keep = journal
      .releases(order.target)
      .map(({ release }) => release)
      .filter((release) => release !== order.release || order.kind === 'rollback' || order.kind === 'restart');
    await Promise.all(
      nodes.map((node) =>
        node.request({ op: 'abandon', instance, keep }, { timeoutMs: 120_000 }).catch((error: unknown) => {
          log('deploy.abandon_failed', { target: targetName(order.target), node: node.name, message: String(error) });
        }),
      ),
    );
  }

  /** After the pusher has been told: the old process finishes its requests, old releases go. */
  function retireLater(target: Target, spec: ReleaseSpec, deployId: number): void {
    const name = targetName(target);
    const work = retire(target, spec)
      .then(() => journal.setRetired(deployId))
      .catch((error: unknown) => log('deploy.retire_failed', { target: name, message: String(error) }))
      .finally(() => {
        if (retiring.get(name) === work) retiring.delete(name);
      });
    retiring.set(name, work);
  }

  async function retire(target: Target, spec: ReleaseSpec): Promise<void> {
    const current = journal.target(target)?.current ?? null;
    const others = journal
      .releases(target)
      .map(({ release }) => release)
      .filter((release) => release !== current);
    const kept = others.slice(0, spec.keepReleases);
    const dropped = others.slice(spec.keepReleases);
    const instance = instanceName(target, options.environment(target).suffix);
    await Promise.all(
      nodesOf(target).map((node) =>
        node.request(
          {
            op: 'retire',
            instance,
            timeoutMs: spec.timeoutMs,
            healthPath: spec.healthcheck.path,
            host: spec.domains[0] ?? 'localhost',
            keep: kept,
          },
          { timeoutMs: spec.timeoutMs * 2 + 60_000 },
        ),
      ),
    );
    journal.dropReleases(target, dropped);
    const repository = openRepository(data, target);
    await repository.deleteRefs(dropped.map(releaseRef));
    await pruneArtifacts(data, journal.artifactNeeded, false);
    await repository.tidy();
  }

  return {
    run,
    retire,
    nodesOf,
    moveRefs,
    /** Resolves when nothing drains any more. */
    async settled(): Promise<void> {
      while (retiring.size > 0) await Promise.allSettled(retiring.values());
    },
  };
}

export function releaseRef(release: number): string {
  return `refs/kraftwerk/releases/v${release}`;
}

export function siteUrl(spec: Pick<ReleaseSpec, 'domains'>, port: number): string {
  return `http://${spec.domains[0] ?? 'localhost'}${port === 80 ? '' : `:${port}`}`;
}

/** Passes events on and keeps the times of the steps. */
function createRecorder(onEvent: OnDeployEvent): { emit: OnDeployEvent; steps: { step: string; ms: number }[] } {
  const steps: { step: string; ms: number }[] = [];
  return {
    steps,
    emit(event) {
      if (event.event === 'step') steps.push({ step: event.step, ms: Math.round(event.ms * 10) / 10 });
      onEvent(event);
    },
  };
}
