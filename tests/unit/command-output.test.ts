import { describe, expect, it } from 'vitest';
import type { CommitId, InstanceName, InstanceStatus, LogLine } from '../../node-agent/protocol.ts';
import { formatJsonLine, formatLine } from '../../receiver/commands/log-lines.ts';
import { readReleaseNumber } from '../../receiver/commands/release-number.ts';
import { listReleases } from '../../receiver/commands/releases.ts';
import {
  describeState,
  findDisagreements,
  findMaintenance,
  judge,
  type NodeState,
  type TargetState,
} from '../../receiver/commands/target-state.ts';
import { formatBytes, formatSeconds, formatTime } from '../../receiver/commands/units.ts';
import type { DeployRecord, ReleaseRecord } from '../../receiver/journal.ts';

describe('log lines', () => {
  const line: LogLine = {
    event: 'log',
    process: 'web',
    slot: 'a',
    release: 42,
    at: '2026-11-22T10:20:30.123456Z',
    text: 'a\tb \u001b[31m\u202ered',
  };

  it('for people: milliseconds, the release, nothing that steers a terminal', () => {
    expect(formatLine(null, line)).toBe('2026-11-22T10:20:30.123Z web v42 a    b \\x1b[31m\\u{202e}red\n');
    expect(formatLine('web1', { ...line, release: null, text: '' })).toBe('2026-11-22T10:20:30.123Z web@web1 - \n');
  });

  it('for programs: JSON that gives the very text back', () => {
    const text = formatJsonLine('web1', { ...line, text: `${line.text} \u0085 \u{e0001}` });
    expect(text).toMatch(/^[\x20-\x7e]+\n$/);
    expect(JSON.parse(text)).toEqual({
      at: '2026-11-22T10:20:30.123456Z',
      node: 'web1',
      process: 'web',
      release: 42,
      text: `${line.text} \u0085 \u{e0001}`,
    });
  });
});

it.each([
  [0, '0s'],
  [59.6, '1m'],
  [200, '3m 20s'],
  [3600, '1h'],
  [18_061, '5h 1m'],
  [1_047_600, '12d 3h'],
])('%d seconds are %s', (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

it('times and sizes', () => {
  expect(formatTime('2026-11-22T10:20:30.123Z')).toBe('2026-11-22T10:20:30Z');
  expect(formatTime(null)).toBe('-');
  expect(formatBytes(47_185_920)).toBe('45 MiB');
});

it.each([
  ['v42', 42],
  ['V1', 1],
  ['v0', null],
  ['42', null],
  ['v42x', null],
  ['v12345678', null],
])('%s is release %s', (text, number) => expect(readReleaseNumber(text)).toBe(number));

function node(name: string, release: number | null, how: 'run' | 'down' = 'run', stopped = false): NodeState {
  const process = { name: 'web', slot: 'a', release, pid: 7, uptimeS: 1, memoryBytes: null, workers: 2 };
  const instance: InstanceStatus = {
    instance: 'blog' as InstanceName,
    current: release === null ? null : ({ release, boot: 'a.1' } as InstanceStatus['current']),
    stopped,
    maintenance: false,
    releases: [],
    processes: [{ ...process, state: how, serves: true }],
  };
  return { node: name, error: null, instance, httpPort: 80 };
}
const silent: NodeState = { node: 'c', error: 'lost', instance: null, httpPort: 80 };

it.each([
  ['none', null, [node('a', null)]],
  ['running', 2, [node('a', 2), node('b', 2)]],
  ['running', 2, [node('a', 2), silent]],
  ['stopped', 2, [node('a', 2, 'down', true)]],
  ['down', 2, [node('a', 2, 'down')]],
  ['degraded', 2, [node('a', 2), node('b', 2, 'down', true)]],
  ['degraded', 2, [node('a', 2), node('b', 2, 'down')]],
  ['unknown', 2, [silent]],
  ['unknown', 2, []],
] as const)('%s: current %s on %#', (state, current, nodes) => expect(judge({ current }, nodes)).toBe(state));

describe('disagreements', () => {
  const commit = 'c'.repeat(40) as CommitId;
  const state = (nodes: NodeState[], more: object = {}): TargetState =>
    ({
      record: { current: 2, stopped: false },
      release: { release: 2, commit },
      busy: null,
      nodes,
      ...more,
    }) as unknown as TargetState;
  const ref = { name: 'master', commit };

  it('none', () => expect(findDisagreements(state([node('a', 2)]), ref)).toEqual([]));
  it('of a node that serves another, has nothing, cannot be asked, or is stopped', () =>
    expect(findDisagreements(state([node('a', 1), node('b', null), silent, node('d', 2, 'down', true)]), ref)).toEqual([
      'node a serves v1, the journal says v2',
      'node b has no release, the journal says v2',
      'node c cannot be asked: lost',
      'node d is stopped, the journal says running',
    ]));
  it('of a node whose process does not run, where another does', () =>
    expect(findDisagreements(state([node('a', 2), node('b', 2, 'down')]), ref)).toEqual(['node b does not run it']));
  it('of the branch', () =>
    expect(findDisagreements(state([node('a', 2)]), { name: 'master', commit: 'd'.repeat(40) })).toEqual([
      'master is at ddddddd, v2 is ccccccc',
    ]));
  it('not while somebody is at work', () => {
    const busy = { by: 'alice', what: 'git push', since: 0 };
    expect(findDisagreements(state([node('a', 1)], { busy }), ref)).toEqual([]);
  });
});

describe('maintenance', () => {
  const closed = (one: NodeState): NodeState =>
    ({ ...one, instance: { ...one.instance, maintenance: true } }) as unknown as NodeState;
  const put = { since: '2026-11-22T10:20:30.123Z', by: 'alice' };
  const busy = { by: 'alice', what: 'load', since: 0 };

  it.each([
    ['on nowhere', null, null, [node('a', 2)], null],
    ['on everywhere', put, null, [closed(node('a', 2)), closed(node('b', 2)), silent], null],
    [
      'missing on a node',
      put,
      null,
      [closed(node('a', 2)), node('b', 2)],
      { warnings: ['node b is open to visitors, the journal says maintenance'], mend: 'on' },
    ],
    [
      'left on a node',
      null,
      null,
      [closed(node('a', 2)), node('b', 2)],
      { warnings: ['node a is in maintenance, the journal says that it is not'], mend: 'off' },
    ],
    ['of a load that goes on', null, busy, [closed(node('a', 2))], null],
    ['on a node without a release', put, null, [node('a', null)], null],
  ])('%s', (_, maintenance, holder, nodes, expected) =>
    expect(findMaintenance({ maintenance, busy: holder, nodes })).toEqual(expected),
  );

  it.each([
    [null, [node('a', 2)], 'running'],
    [put, [node('a', 2)], 'running, maintenance'],
    [null, [closed(node('a', 2))], 'running, maintenance'],
  ])('%j is told beside the state', (maintenance, nodes, expected) => {
    const state = { state: 'running', busy: null, maintenance, nodes } as unknown as TargetState;
    expect(describeState(state)).toBe(expected);
    expect(describeState({ ...state, busy })).toBe(`${expected}, busy`);
  });
});

it('releases: the kept ones and those that have failed, newest first', () => {
  const kept = (release: number) =>
    ({
      release,
      commit: `c${release}`,
      subject: 's',
      createdAt: `at${release}`,
      createdBy: 'alice',
      durationMs: 5,
    }) as unknown as ReleaseRecord;
  const deploy = (kind: string, release: number, phase: string, endedAt: string | null) =>
    ({
      kind,
      release,
      phase,
      endedAt,
      startedAt: '2026-01-01T00:00:00.000Z',
      by: 'bob',
      commit: `c${release}`,
      error: phase === 'failed' ? 'pip failed' : null,
    }) as unknown as DeployRecord;
  const deploys = [
    deploy('push', 5, 'preparing', null),
    deploy('rollback', 2, 'done', 'later'),
    deploy('rollback', 1, 'failed', 'then'),
    deploy('push', 4, 'failed', '2026-01-01T00:00:02.000Z'),
    deploy('push', 3, 'done', 'x'),
  ];
  const rows = listReleases([kept(3), kept(2)], deploys, 2);
  expect(
    rows.map(({ release, result, error, rolledBackAt, durationMs, by }) => [
      release,
      result,
      error,
      rolledBackAt,
      durationMs,
      by,
    ]),
  ).toEqual([
    [5, 'deploying', null, null, null, 'bob'],
    [4, 'failed', 'pip failed', null, 2000, 'bob'],
    [3, 'ok', null, null, 5, 'alice'],
    [2, 'current', null, 'later', 5, 'alice'],
  ]);
});
