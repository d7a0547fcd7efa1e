// Services of a kraftwerk.yaml: in which order they are taken, and the node that one may name.
import { describe, expect, test } from 'vitest';
import type { EnvironmentName, ProjectName } from '../../node-agent/protocol.ts';
import { knownServices } from '../../receiver/known-services.ts';
import { parseManifest } from '../../receiver/manifest.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { YamlError } from '../../receiver/yaml-source.ts';

const services = knownServices(createTemplates({ configured: [] }));

function read(text: string, nodes: string[] = ['web1', 'web2']) {
  return parseManifest(`${text}\n`, {
    project: 'blog' as ProjectName,
    environment: 'live' as EnvironmentName,
    environments: ['live', 'stage'] as EnvironmentName[],
    domainPattern: '{project}.example',
    services,
    nodes,
  }).services.map(({ name, options, node }) => [name as string, options, node]);
}

function errorsOf(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    if (error instanceof YamlError) return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

test.each<[text: string, names: string[]]>([
  ['services: [redis, postgres, files]', ['redis', 'postgres', 'files']],
  ['services: {redis: , postgres: , files: }', ['redis', 'postgres', 'files']],
  ['services:\n  sqlite:\n  mariadb: {}\n  files:', ['sqlite', 'mariadb', 'files']],
  ['services: {redis: }\nenvironments: {live: {services: {mariadb: , files: }}}', ['redis', 'mariadb', 'files']],
  ['services: {redis: , postgres: }\nenvironments: {live: {services: {redis: {memory: 9}}}}', ['redis', 'postgres']],
])('are taken in the order in which they are named: %s', (text, names) => {
  expect(read(text).map(([name]) => name)).toEqual(names);
});

describe('node:', () => {
  test.each<[text: string, expected: unknown[]]>([
    ['services: {postgres: {node: web2}}', ['postgres', {}, 'web2']],
    ['services: {redis: {memory: 9, node: web1}}', ['redis', { memory: 9 }, 'web1']],
    ['services: {redis: }', ['redis', {}, undefined]],
    [
      'services: {postgres: {node: web9}}\nenvironments: {live: {services: {postgres: {node: web1}}}}',
      ['postgres', {}, 'web1'],
    ],
    ['services: {redis: }\nenvironments: {stage: {services: {redis: {node: web9}}}}', ['redis', {}, undefined]],
  ])('right: %s', (text, expected) => {
    expect(read(text)).toEqual([expected]);
  });

  test.each<[text: string, error: string]>([
    [
      'services: {postgres: {node: web3}}',
      'kraftwerk.yaml:1:29 services.postgres.node: live has no node "web3", did you mean "web1"?',
    ],
    [
      'services: {postgres: {node: elsewhere}}',
      'kraftwerk.yaml:1:29 services.postgres.node: live has no node "elsewhere", expected web1 or web2',
    ],
    [
      'environments: {live: {services: {redis: {node: elsewhere}}}}',
      'kraftwerk.yaml:1:48 environments.live.services.redis.node: live has no node "elsewhere", expected web1 or web2',
    ],
    [
      'services: {postgres: {node: 1}}',
      'kraftwerk.yaml:1:29 services.postgres.node: expected the name of a node, got 1',
    ],
  ])('wrong: %s', (text, error) => {
    expect(errorsOf(text)).toEqual([error]);
  });

  test('a service without data has no such option', () => {
    expect(errorsOf('services: {memcached: {node: web1}}')[0]).toMatch(/^kraftwerk\.yaml:1:24 .*unknown option "node"/);
  });
});
