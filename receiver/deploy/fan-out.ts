/** One order to all nodes of an environment: prepare in parallel, activate one by one, take back, retire. */
import type { Readable } from 'node:stream';
import {
  type ActivateResult,
  type AgentEvent,
  type DeployEvent,
  type InstanceName,
  KraftwerkError,
  type PrepareResult,
  type Serving,
} from '../../node-agent/protocol.ts';
import { readArtifact } from '../git/artifact.ts';
import type { Switches } from '../journal.ts';
import type { Node, NodeSession } from '../nodes/node.ts';
import { targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import type { DeployOrder } from './deploy.ts';
import { planHealthcheck, type ReleaseSpec } from './plan.ts';
import { type RenderedRelease, renderRelease } from './render.ts';

/** pip and the project's own commands have limits of their own; this is the last resort. */
const PREPARE_LIMIT_MS = 3 * 3_600_000;
const REQUEST_LIMIT_MS = 120_000;
const PIP_LIMIT_MS = 900_000;

export interface Prepared {
  node: Node;
  result: PrepareResult;
}

export interface Site {
  instance: InstanceName;
  nodes: readonly Node[];
}

/** One agent on each node, by its name: each holds the site's lock there. */
export type Sessions = ReadonlyMap<string, NodeSession>;

export function openSessions({ instance, nodes }: Site): Sessions {
  return new Map(nodes.map((node) => [node.name, node.session(instance)]));
}

export function closeSessions(sessions: Sessions): void {
  for (const session of sessions.values()) session.close();
}

/** A node's agent of this deploy. */
function agentOf(node: Node, sessions: Sessions): Pick<NodeSession, 'request'> {
  return sessions.get(node.name) ?? node;
}

async function render(templates: Templates, node: Node, order: DeployOrder, site: Site): Promise<RenderedRelease> {
  const { cores, memoryBytes } = node.facts() ?? (await node.hello());
  return renderRelease(templates, { profile: node.profile, cores, memoryBytes }, { ...order, instance: site.instance });
}

/** All or none: the first failure ends the others, and each node takes its own part back. */
export async function prepareAll(
  { data, templates }: { data: string; templates: Templates },
  order: DeployOrder,
  site: Site,
  sessions: Sessions,
  signal: AbortSignal,
  emit: (event: DeployEvent) => void,
): Promise<Prepared[]> {
  const { target, release, spec } = order;
  const failed = new AbortController();
  const prepareOne = async (node: Node, index: number): Promise<Prepared> => {
    const rendered = await render(templates, node, order, site);
    const result = await agentOf(node, sessions).request(
      {
        op: 'prepare',
        instance: site.instance,
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
        signal: AbortSignal.any([signal, failed.signal]),
        artifact: (): Readable => readArtifact(data, order.artifact),
        onEvent: (event: AgentEvent) => {
          if (event.event !== 'log' && event.event !== 'result' && event.event !== 'send') emit(event);
        },
      },
    );
    return { node, result: result as PrepareResult };
  };
  const all = site.nodes.map((node, index) => prepareOne(node, index));
  for (const one of all) one.catch(() => failed.abort());
  // Every node is waited for, so that none is still busy with taking things back; the first cause is told.
  const outcomes = await Promise.allSettled(all);
  const causes = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
  const cause = causes.find((one) => !(one instanceof KraftwerkError && one.code === 'deploy.aborted')) ?? causes[0];
  if (cause !== undefined) throw cause;
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
}

/** Switches node after node. Saying it twice does no harm, so an agent that was lost is asked once more. */
export async function activateAll(site: Site, sessions: Sessions, switches: Switches): Promise<void> {
  for (const node of site.nodes) {
    const serve = switches[node.name]?.next;
    if (serve !== undefined) await activate(node, site.instance, serve, agentOf(node, sessions));
  }
}

export async function activate(
  node: Node,
  instance: InstanceName,
  serve: Serving,
  agent: Pick<NodeSession, 'request'> = node,
): Promise<ActivateResult> {
  const order = { op: 'activate', instance, serve } as const;
  const limit = { timeoutMs: REQUEST_LIMIT_MS };
  const result = await agent.request(order, limit).catch((error: unknown) => {
    if (error instanceof KraftwerkError && error.code === 'node.lost') return node.request(order, limit);
    throw error;
  });
  return result as ActivateResult;
}

/**
 * Every node serves again what it served before, and what the deploy has made is gone.
 * @param switches null: no node has been switched yet
 * @throws what the first node that could not be put back says
 */
export async function abandonAll(site: Site, switches: Switches | null, keep: readonly number[]): Promise<void> {
  const ask = (node: Node): Promise<unknown> => {
    const planned = switches?.[node.name];
    const restore = planned === undefined ? null : { serve: planned.previous };
    return node.request({ op: 'abandon', instance: site.instance, restore, keep }, { timeoutMs: REQUEST_LIMIT_MS });
  };
  await Promise.all(
    site.nodes.map((node) =>
      ask(node).catch((error: unknown) => {
        if (error instanceof KraftwerkError && error.code === 'node.lost') return ask(node);
        throw error;
      }),
    ),
  );
}

/** Lets what was replaced finish its requests, and removes what is not kept. */
export async function retireAll(
  site: Site,
  spec: ReleaseSpec,
  switches: Switches | null,
  keep: readonly number[],
): Promise<void> {
  const order = {
    op: 'retire',
    instance: site.instance,
    timeoutMs: spec.timeoutMs,
    healthPath: spec.healthcheck.path,
    host: spec.domains[0] ?? 'localhost',
    keep,
  } as const;
  const limit = { timeoutMs: spec.timeoutMs * 2 + 60_000 };
  await Promise.all(
    site.nodes.map((node) => node.request({ ...order, old: switches?.[node.name]?.previous?.boot ?? null }, limit)),
  );
}
