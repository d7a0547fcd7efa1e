// How a deploy over several nodes that was cut off, or could not be taken back at once, comes to its end.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { type InstanceName, KraftwerkError, type Serving } from '../../node-agent/protocol.ts';
import { settleDeploy, takeBack } from '../../receiver/deploy/settle.ts';
import { type DeployRecord, openJournal, type Phase } from '../../receiver/journal.ts';
import type { Node, NodeOrder } from '../../receiver/nodes/node.ts';
import type { Routes } from '../../receiver/router/routes.ts';
import type { Target } from '../../receiver/target.ts';

const TARGET = { project: 'blog', environment: 'live' } as Target;
const OLD = { release: 1, boot: 'a.1' } as Serving;
const NEW = { release: 2, boot: 'b.2' } as Serving;
const AWAY = new KraftwerkError('node.unreachable', 'node x: no connection');

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A node that serves `serving`; what it is asked is written down. */
function fakeNode(name: string, state: { serving: Serving | null; fails?: Partial<Record<string, Error>> }) {
  const asked: string[] = [];
  const request = async (order: NodeOrder): Promise<unknown> => {
    asked.push(order.op);
    const error = state.fails?.[order.op];
    if (error !== undefined) throw error;
    if (order.op === 'activate') state.serving = order.serve;
    if (order.op === 'abandon' && order.restore !== null) state.serving = order.restore.serve;
    return { instances: [{ current: state.serving }] };
  };
  return { node: { name, request } as unknown as Node, state, asked };
}

function scene(phase: Phase, nodes: readonly ReturnType<typeof fakeNode>[]) {
  const data = mkdtempSync(join(tmpdir(), 'kraftwerk-settle-'));
  folders.push(data);
  const journal = openJournal(join(data, 'journal.db'), () => new Date());
  const routed: unknown[] = [];
  const routes = {
    put: async (_: Target, spec: unknown) => void routed.push(spec),
    routerOf: () => 'lb',
  } as unknown as Routes;
  const refs = { ref: null, refFrom: null };
  const id = journal.beginDeploy({
    target: TARGET,
    kind: 'restart',
    release: 2,
    previous: 1,
    commit: 'c'.repeat(40) as DeployRecord['commit'],
    ...refs,
    by: 'alice',
  });
  const switches = Object.fromEntries(nodes.map(({ node }) => [node.name, { next: NEW, previous: OLD }]));
  if (phase !== 'preparing') journal.setPhase(id, 'activating', switches);
  if (phase === 'abandoning') journal.abandonDeploy(id, 'node web2: no');
  const site = { instance: 'blog' as InstanceName, nodes: nodes.map(({ node }) => node) };
  const open = (): DeployRecord => {
    const [deploy] = journal.openDeploys(TARGET);
    if (deploy === undefined) throw new Error('no deploy is open');
    return deploy;
  };
  return { services: { data, journal, routes }, journal, site, open, routed };
}

it('goes forward where one node has switched', async () => {
  const nodes = [fakeNode('a', { serving: NEW }), fakeNode('b', { serving: OLD })];
  const { services, site, open, journal } = scene('activating', nodes);
  expect(await settleDeploy(services, open(), site)).toBe('finished');
  expect([nodes.map(({ state }) => state.serving), journal.openDeploys()]).toEqual([[NEW, NEW], []]);
});

it('goes back where the other node has lost what it had ready', async () => {
  const died = new KraftwerkError('health.died', 'v2 ended before it could serve');
  const nodes = [fakeNode('a', { serving: NEW }), fakeNode('b', { serving: OLD, fails: { activate: died } })];
  const { services, site, open, journal, routed } = scene('activating', nodes);
  expect(await settleDeploy(services, open(), site)).toBe('taken back');
  expect([nodes.map(({ state }) => state.serving), journal.openDeploys(), routed]).toEqual([[OLD, OLD], [], [null]]);
});

it('waits where the other node is away, and nobody can say what it has ready', async () => {
  const nodes = [fakeNode('a', { serving: NEW }), fakeNode('b', { serving: OLD, fails: { status: AWAY } })];
  const { services, site, open } = scene('activating', nodes);
  await expect(settleDeploy(services, open(), site)).rejects.toThrow('node x: no connection');
  expect([open().phase, nodes[0]?.state.serving]).toEqual(['activating', NEW]);
});

it('puts back all nodes that can be asked, and never goes forward again when the other one is back', async () => {
  const nodes = [fakeNode('a', { serving: NEW }), fakeNode('b', { serving: NEW, fails: { abandon: AWAY } })];
  const { services, site, open, journal } = scene('activating', nodes);
  const failures = await takeBack(services, open(), site, 'node b: no');
  expect(failures.map(({ node }) => node)).toEqual(['b']);
  expect([nodes.map(({ state }) => state.serving), open().phase, open().error]).toEqual([
    [OLD, NEW],
    'abandoning',
    'node b: no',
  ]);

  await expect(settleDeploy(services, open(), site)).rejects.toThrow(AWAY.message);
  // It is back, and serves what the others no longer have.
  const [, b] = nodes;
  if (b !== undefined) b.state.fails = {};
  expect(await settleDeploy(services, open(), site)).toBe('taken back');
  expect([nodes.map(({ state }) => state.serving), journal.openDeploys()]).toEqual([[OLD, OLD], []]);
  expect(journal.deploys(TARGET, 1)[0]?.error).toBe('node b: no');
  expect(nodes.flatMap(({ asked }) => asked)).not.toContain('activate');
});

it('takes back without a look what no node was switched for', async () => {
  const nodes = [fakeNode('a', { serving: OLD }), fakeNode('b', { serving: null })];
  const { services, site, open, routed } = scene('preparing', nodes);
  expect(await settleDeploy(services, open(), site)).toBe('taken back');
  expect([nodes.flatMap(({ asked }) => asked), routed]).toEqual([['abandon', 'abandon'], []]);
});
