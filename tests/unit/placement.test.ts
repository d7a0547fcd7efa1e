// Which node of an environment has a service's data, what the others have of it, and what a push says about it.
import { describe, expect, test } from 'vitest';
import { type EnvironmentName, KraftwerkError, type ProjectName, type ServiceName } from '../../node-agent/protocol.ts';
import { checkPlacement, homesOf, type PlacementOrder, placeOn } from '../../receiver/data/placement.ts';

const DEFINITIONS = {
  postgres: { data: true, link: { folder: '/run/postgresql', sockets: ['s'] } },
  files: { data: true, link: null },
  memcached: { data: false, link: null },
};
type Known = keyof typeof DEFINITIONS;

const service = (name: Known, node?: string) => ({
  name: name as string as ServiceName,
  options: {},
  ...(node !== undefined && { node }),
});
const record = (name: Known, node: string) => ({ name: name as string as ServiceName, node });
const definitionOf = (name: ServiceName) => ({ name, ...DEFINITIONS[name as string as Known] });

const BASE = {
  target: { project: 'blog' as ProjectName, environment: 'live' as EnvironmentName },
  nodes: ['web1', 'web2'],
  asked: [],
  records: [],
  fresh: true,
  definitionOf,
} satisfies PlacementOrder;

describe('what a node has of a service', () => {
  const homes = homesOf(
    [record('postgres', 'web2')],
    [service('postgres', 'web1'), service('files', 'web2'), service('memcached')],
    ['web1', 'web2'],
  );
  test('the record goes before kraftwerk.yaml, that before the first node', () => {
    expect([...homes]).toEqual([
      ['postgres', 'web2'],
      ['files', 'web2'],
      ['memcached', 'web1'],
    ]);
  });
  test.each<[node: string, name: Known, place: string]>([
    ['web2', 'postgres', 'here'],
    ['web1', 'postgres', 'linked'],
    ['web2', 'files', 'here'],
    ['web1', 'files', 'absent'],
    ['web1', 'memcached', 'here'],
    ['web2', 'memcached', 'here'],
  ])('%s: %s is %s', (node, name, place) => {
    expect(placeOn(node, homes, definitionOf(name as string as ServiceName))).toBe(place);
  });
});

describe('is well', () => {
  test.each<[what: string, change: Partial<PlacementOrder>]>([
    ['nothing', {}],
    ['one node with folders', { nodes: ['web1'], asked: [service('files')], records: [record('files', 'web1')] }],
    ['several with databases', { asked: [service('postgres'), service('memcached')] }],
    ['folders where it is said which', { asked: [service('files', 'web2')] }],
    ['an older release, which never said', { asked: [service('files')], fresh: false }],
    ['what does not say, and is elsewhere', { asked: [service('postgres')], records: [record('postgres', 'web2')] }],
  ])('%s', (_, change) => {
    expect(checkPlacement({ ...BASE, ...change })).toEqual([]);
  });
});

test('another node than the one that has it: nothing moves', () => {
  const order = { ...BASE, asked: [service('postgres', 'web2')], records: [record('postgres', 'web1')] };
  expect(checkPlacement(order)).toEqual([
    {
      message: 'postgres stays on web1, though kraftwerk.yaml says web2: a push moves no data',
      hint: 'ssh kraftwerk@HOST services:move blog/live postgres web2',
    },
  ]);
});

test.each<[what: string, change: Partial<PlacementOrder>, code: string, message: string]>([
  [
    'folders on several nodes',
    { asked: [service('files')] },
    'service.one-node',
    'files: its data is on one node, and live has web1, web2, which cannot reach it there',
  ],
  [
    'data outside of the environment, of one node',
    { nodes: ['web2'], asked: [service('postgres')], records: [record('postgres', 'web1')] },
    'service.node',
    'postgres: its data is on web1, which is not among the nodes of live',
  ],
  [
    'all that is outside, at once',
    {
      nodes: ['web2'],
      asked: [service('postgres'), service('files')],
      records: [record('postgres', 'web1'), record('files', 'web1')],
    },
    'service.node',
    'postgres, files: their data is on web1, which is not among the nodes of live',
  ],
  [
    'folders outside of it, of an older release',
    { nodes: ['web2'], asked: [service('files')], records: [record('files', 'web1')], fresh: false },
    'service.node',
    'files: its data is on web1, which is not among the nodes of live',
  ],
])('is refused: %s', (_, change, code, message) => {
  let thrown: unknown;
  try {
    checkPlacement({ ...BASE, ...change });
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(KraftwerkError);
  expect(thrown).toMatchObject({ code, message });
});
