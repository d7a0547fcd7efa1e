// What `doctor` makes of what nodes say.
import { describe, expect, it } from 'vitest';
import { type HelloResult, type InstanceName, KraftwerkError } from '../../node-agent/protocol.ts';
import { diagnoseNode, diagnoseTarget } from '../../receiver/commands/diagnose.ts';
import { printDiagnosis } from '../../receiver/commands/doctor.ts';
import { type NodeRow, printRows } from '../../receiver/commands/nodes.ts';
import type { TargetState } from '../../receiver/commands/target-state.ts';

const GB = 1024 ** 3;
const FACTS: HelloResult = {
  agentVersion: 'abc',
  hostname: 'web1',
  httpPort: 80,
  cores: 2,
  memoryBytes: 4 * GB,
  memoryFreeBytes: GB,
  diskBytes: 20 * GB,
  diskFreeBytes: 10 * GB,
  load1: 0.5,
  clock: '2026-11-22T10:20:30.000Z',
  addresses: [],
  routes: {},
};

describe('a node', () => {
  const whats = (facts: Partial<HelloResult>, clockOffsetMs = 0): string[] =>
    diagnoseNode({ node: 'web1', facts: { ...FACTS, ...facts }, error: null, clockOffsetMs }, 'abc').map(
      ({ what }) => what,
    );

  it.each<[string, Partial<HelloResult>, number, string[]]>([
    ['in order', {}, 300, []],
    ['another agent', { agentVersion: 'def' }, 0, ["its agent is not this receiver's"]],
    ['little disk', { diskFreeBytes: GB / 2 }, 0, ['disk: 512 MiB of 20.0 GiB are free']],
    ['a large disk that is a tenth free', { diskBytes: 500 * GB, diskFreeBytes: 20 * GB }, 0, []],
    ['little memory', { memoryFreeBytes: GB / 10 }, 0, ['memory: 102 MiB of 4.0 GiB are free']],
    ['a clock a day ahead', {}, 86_400_000, ["clock: 86400 s ahead of the receiver's"]],
    ['a clock behind', {}, -5_000, ["clock: 5 s behind the receiver's"]],
  ])('%s', (_, facts, offset, expected) => expect(whats(facts, offset)).toEqual(expected));

  it('that does not answer', () => {
    const error = new KraftwerkError('node.unreachable', 'node web1: no connection', { hint: ['ssh root@web1 true'] });
    expect(diagnoseNode({ node: 'web1', facts: null, error, clockOffsetMs: null }, 'abc')).toEqual([
      { node: 'web1', target: null, what: 'no connection', mend: ['ssh root@web1 true'], remedy: null },
    ]);
  });
});

describe('a target', () => {
  const state = (
    instance: { release: number | null; state?: 'run' | 'down'; stopped?: boolean },
    record: object = {},
  ): TargetState =>
    ({
      target: { project: 'blog', environment: 'live' },
      record: { current: 2, stopped: false, ...record },
      release: { release: 2 },
      busy: null,
      nodes: [
        {
          node: 'web2',
          error: null,
          httpPort: 80,
          instance: {
            instance: 'blog' as InstanceName,
            current: instance.release === null ? null : { release: instance.release, boot: 'a.1' },
            stopped: instance.stopped ?? false,
            releases: [],
            processes: [{ serves: true, state: instance.state ?? 'run' }],
          },
        },
      ],
    }) as unknown as TargetState;
  const told = (one: TargetState): (string | null)[][] =>
    diagnoseTarget(one).map(({ node, what, remedy }) => [node, what, remedy]);

  it.each<[string, TargetState, (string | null)[][]]>([
    ['in order', state({ release: 2 }), []],
    ['another release', state({ release: 1 }), [['web2', 'blog/live: serves v1, the journal says v2', 'deploy']]],
    ['none', state({ release: null }), [['web2', 'blog/live: has no release, the journal says v2', 'deploy']]],
    ['down', state({ release: 2, state: 'down' }), [['web2', 'blog/live: v2 does not run', 'deploy']]],
    [
      'stopped',
      state({ release: 2, stopped: true }),
      [['web2', 'blog/live: is stopped, the journal says running', 'deploy']],
    ],
    ['runs', state({ release: 2 }, { stopped: true }), [['web2', 'blog/live: runs, the journal says stopped', 'stop']]],
    ['stopped as it should be', state({ release: 2, state: 'down', stopped: true }, { stopped: true }), []],
  ])('%s', (_, one, expected) => expect(told(one)).toEqual(expected));
});

it('is told as one paragraph for each node', () => {
  const problem = { target: null, remedy: null };
  expect(
    printDiagnosis(
      [{ name: 'web1' }, { name: 'web2' }],
      [
        { ...problem, node: 'web2', what: 'clock: \u001b[31m', mend: ['set it'] },
        { ...problem, node: null, what: 'blog/live: v2 was cut off', mend: [] },
      ],
    ),
  ).toBe('web1: in order\nweb2:\n  clock: \\x1b[31m\n    set it\ndeploys:\n  blog/live: v2 was cut off\n');
});

it('lists nodes, and what is not known as -', () => {
  const silent: NodeRow = {
    node: 'web2',
    kind: 'ssh',
    state: 'no answer',
    error: 'x',
    version: null,
    environments: ['live'],
    routes: ['stage'],
    cores: null,
    load1: null,
    memoryBytes: null,
    memoryFreeBytes: null,
    diskBytes: null,
    diskFreeBytes: null,
    clockOffsetMs: null,
  };
  const ready: NodeRow = {
    ...silent,
    node: 'web1',
    state: 'ready',
    error: null,
    version: '0.3.0',
    routes: [],
    cores: 2,
  };
  const rows = [
    {
      ...ready,
      environments: ['live'],
      load1: 0.5,
      memoryBytes: GB,
      memoryFreeBytes: GB / 2,
      diskBytes: GB,
      diskFreeBytes: GB,
    },
    { ...silent, environments: ['live'], routes: ['stage'] },
  ];
  expect(printRows(rows)).toBe(
    'NODE  STATE      VERSION  ENVIRONMENTS                   DISK FREE         MEMORY FREE  LOAD  CORES\n' +
      'web1  ready      0.3.0    live                  1.0 GiB of 1.0 GiB  512 MiB of 1.0 GiB  0.50      2\n' +
      'web2  no answer  -        live, stage (router)                   -                   -     -      -\n',
  );
});
