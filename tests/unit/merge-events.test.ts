// Several nodes' steps as one story.
import { expect, it } from 'vitest';
import { type DeployEvent, KraftwerkError, type StepName } from '../../node-agent/protocol.ts';
import { allBounded } from '../../receiver/bounded.ts';
import { mergeEvents } from '../../receiver/deploy/merge-events.ts';
import { nameNode, shortNames } from '../../receiver/deploy/node-names.ts';

const NODES = ['web1.example.com', 'web2.example.com', 'web3.example.com'] as const;
const [WEB1, WEB2, WEB3] = NODES;

function story(nodes: readonly string[] = NODES) {
  const told: DeployEvent[] = [];
  let now = 0;
  const merger = mergeEvents(
    nodes,
    (event) => told.push(event),
    () => now,
  );
  const step = (node: string, name: StepName, detail: string, ms: number): void =>
    merger.on(node, { event: 'step', step: name, detail, ms });
  const pass = (ms: number): void => {
    now += ms;
  };
  return { told, merger, step, pass };
}

it('passes everything on where there is one node', () => {
  const { told, merger, step } = story(['here']);
  step('here', 'Start', 'gunicorn', 3);
  merger.on('here', { event: 'output', step: 'Release', line: 'x' });
  merger.on('here', { event: 'progress', step: 'Release', what: 'x', ms: 1 });
  merger.on('here', { event: 'progress', step: 'Release', what: 'x', ms: 2 });
  merger.flush();
  expect(told.map(({ event }) => event)).toEqual(['step', 'output', 'progress', 'progress']);
});

it('tells a step once, when the slowest has it behind it, and names who differs', () => {
  const { told, merger, step } = story();
  step(WEB1, 'Packages', 'installed 3 packages', 100);
  step(WEB2, 'Packages', 'installed 3 packages', 300);
  step(WEB1, 'Start', 'gunicorn x2', 10);
  expect(told).toEqual([]);
  step(WEB3, 'Packages', 'installed 3 packages', 200);
  step(WEB2, 'Start', 'gunicorn x2', 10);
  step(WEB3, 'Start', 'gunicorn x4', 20);
  step(WEB1, 'Health', 'GET / 200 in 9 ms', 10);
  merger.flush();
  expect(told).toEqual([
    { event: 'step', step: 'Packages', detail: 'installed 3 packages', ms: 300 },
    { event: 'step', step: 'Start', detail: 'gunicorn x4 (web3)', ms: 20 },
    { event: 'step', step: 'Health', detail: 'GET / 200 in 9 ms (web1)', ms: 10 },
  ]);
});

it('does not wait for a node that has a step no need of', () => {
  const { told, step } = story();
  step(WEB1, 'Packages', 'installed', 100);
  step(WEB2, 'Packages', 'installed', 100);
  step(WEB3, 'Start', 'gunicorn', 10);
  expect(told).toEqual([{ event: 'step', step: 'Packages', detail: 'installed (web1, web2)', ms: 100 }]);
});

it('shows what the first node prints, in its place, and what another printed when that one fails', () => {
  const { told, merger, step } = story();
  const print = (node: string, line: string): void => merger.on(node, { event: 'output', step: 'Build', line });
  step(WEB1, 'Packages', 'reused', 1);
  print(WEB1, 'one');
  print(WEB2, 'two');
  step(WEB2, 'Packages', 'reused', 1);
  expect(told).toEqual([]);
  step(WEB3, 'Packages', 'reused', 1);
  print(WEB1, 'more');
  merger.failed(WEB2);
  expect(told.map((event) => (event.event === 'output' ? event.line : event.event))).toEqual([
    'step',
    'one',
    'more',
    'two',
  ]);
});

it('tells the release command at once, and warnings once', () => {
  const { told, merger, step } = story();
  const warning = { event: 'warning', message: 'no gunicorn here' } as const;
  for (const node of NODES) merger.on(node, warning);
  merger.on(WEB2, { event: 'warning', message: 'old nginx' });
  merger.on(WEB1, { event: 'output', step: 'Release', line: 'migrating' });
  step(WEB1, 'Release', 'migrate', 5);
  expect(told).toEqual([
    { event: 'output', step: 'Release', line: 'migrating' },
    warning,
    { event: 'warning', message: 'old nginx (web2)' },
    { event: 'step', step: 'Release', detail: 'migrate', ms: 5 },
  ]);
});

it('lets one heartbeat through at a time, with its node', () => {
  const { told, merger, pass } = story();
  for (const node of NODES) merger.on(node, { event: 'progress', step: 'Packages', what: 'installing', ms: 2000 });
  pass(5000);
  merger.on(WEB3, { event: 'progress', step: 'Packages', what: 'installing', ms: 7000 });
  expect(told.map((event) => (event.event === 'progress' ? event.what : ''))).toEqual([
    'installing on web1',
    'installing on web3',
  ]);
});

it('shortens names that stay different', () => {
  expect([...shortNames(['web1.a.example', 'web2.a.example', 'db.a.example', 'db.b.example', '10.0.0.1'])]).toEqual([
    ['web1.a.example', 'web1'],
    ['web2.a.example', 'web2'],
    ['db.a.example', 'db.a.example'],
    ['db.b.example', 'db.b.example'],
    ['10.0.0.1', '10.0.0.1'],
  ]);
});

it('names the node of an error once, and leaves bugs alone', () => {
  const error = new KraftwerkError('health.died', 'v2 not deployed: it ended', { step: 'Health', hint: 'look' });
  const named = nameNode(error, WEB2) as KraftwerkError;
  expect([named.code, named.message, named.hints, named.reason]).toEqual([
    'health.died',
    'node web2.example.com: v2 not deployed: it ended',
    ['look'],
    'health on web2.example.com',
  ]);
  const lost = new KraftwerkError('node.lost', 'node web2.example.com: the agent ended');
  expect(nameNode(lost, WEB2)).toBe(lost);
  const bug = new TypeError('x');
  expect(nameNode(bug, WEB2)).toBe(bug);
});

it('works on a few at a time, in order, and waits for all', async () => {
  let under = 0;
  let most = 0;
  const results = await allBounded(
    [1, 2, 3, 4, 5],
    async (item) => {
      most = Math.max(most, ++under);
      await new Promise((resolve) => setTimeout(resolve, 2));
      under--;
      if (item === 2) throw new Error('two');
      return item * 10;
    },
    2,
  );
  expect([most, results.map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason)))]).toEqual([
    2,
    [10, 'Error: two', 30, 40, 50],
  ]);
});
