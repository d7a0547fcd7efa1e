// What a release is, and who owns a domain.
import { describe, expect, it } from 'vitest';
import type { AbsolutePath, InstanceName, ServiceName, TreePath } from '../../node-agent/protocol.ts';
import { findOwner } from '../../receiver/deploy/domains.ts';
import {
  baseEnvironment,
  countWorkers,
  describeChanges,
  planHealthcheck,
  type ReleaseSpec,
  siteEnvironment,
  sitePaths,
} from '../../receiver/deploy/plan.ts';
import { siteUrl } from '../../receiver/deploy/release-ref.ts';
import { instanceName } from '../../receiver/instance-name.ts';
import type { Target } from '../../receiver/target.ts';

const TARGET = { project: 'blog', environment: 'live' } as Target;
const SPEC: ReleaseSpec = {
  domains: ['blog.example', 'www.blog.example'],
  aliases: [],
  wsgi: 'blog.wsgi:application',
  pythonPath: '.' as TreePath,
  workers: null,
  threads: 1,
  workerClass: 'sync',
  environ: { DEBUG: '0', UPLOADS_PATH: '/mine' },
  requirements: 'requirements.txt' as TreePath,
  requirementsNamed: false,
  python: '/usr/bin/python3' as AbsolutePath,
  static: [],
  healthcheck: {
    path: '/',
    statusMin: 200,
    statusMax: 399,
    timeoutMs: 5000,
    intervalMs: 1000,
    retries: 10,
    settleMs: 0,
  },
  timeoutMs: 30_000,
  keepReleases: 5,
  build: null,
  release: null,
  scrub: null,
  services: [],
  generation: 0,
};
const GB = 1024 ** 3;

it.each([
  [null, 1, GB / 2, 2],
  [null, 2, 4 * GB, 2],
  [null, 4, 4 * GB, 4],
  [null, 32, 64 * GB, 8],
  [7, 1, GB, 7],
])('workers %j on %d cores and %d bytes: %d', (workers, cores, memoryBytes, expected) => {
  expect(countWorkers({ workers }, { cores, memoryBytes })).toBe(expected);
});

it('gives a process its variables: services lose to the project, and nothing is left out', () => {
  const paths = sitePaths('/srv/node', 'blog' as InstanceName);
  const base = baseEnvironment(TARGET, 42, 'c'.repeat(40) as never, paths);
  const service = { name: 'files' as ServiceName, uploads: true, variables: { UPLOADS_PATH: '/u', OTHER: 'x' } };
  expect(siteEnvironment(base, { ...SPEC, pythonPath: 'src' as TreePath }, [service], paths, 42)).toEqual({
    SITE_ROOT: '/srv/node/web/blog',
    KRAFTWERK_PROJECT: 'blog',
    KRAFTWERK_ENVIRONMENT: 'live',
    KRAFTWERK_RELEASE: 'v42',
    KRAFTWERK_COMMIT: 'c'.repeat(40),
    HOME: '/srv/node/web/blog',
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    PYTHONUNBUFFERED: '1',
    PYTHONPATH: '/srv/node/web/blog/releases/v42/src',
    OTHER: 'x',
    UPLOADS_PATH: '/mine',
    DEBUG: '0',
  });
});

it('asks for health with the canonical domain', () => {
  expect(planHealthcheck(SPEC)).toMatchObject({ host: 'blog.example', bootMs: 60_000 });
});

it('names the site with the port where it is not the usual one', () => {
  expect([siteUrl(SPEC, 80), siteUrl(SPEC, 8080)]).toEqual(['http://blog.example', 'http://blog.example:8080']);
});

it('shows what a push would change, without the values of variables', () => {
  const current = { spec: SPEC, commit: 'a'.repeat(40), sha256: 'x', release: 3 };
  const next = {
    spec: { ...SPEC, workers: 4, environ: { SECRET: 'hunter2' } },
    commit: 'b'.repeat(40),
    sha256: 'y',
    release: 4,
  };
  expect(describeChanges(TARGET, next, current)).toEqual([
    'v3 -> v4',
    'code: aaaaaaa -> bbbbbbb',
    'processes: gunicorn sync xauto, 1 threads -> gunicorn sync x4, 1 threads',
    'environ: DEBUG, UPLOADS_PATH -> SECRET',
  ]);
});

describe('a domain', () => {
  const claim = (name: string, names: string[], nodes = ['web1']) => ({
    target: { ...TARGET, project: name } as Target,
    names,
    nodes,
  });
  it.each([
    [['blog.example'], ['web1'], 'shop'],
    [['x.example', 'blog.example'], ['web2', 'web1'], 'shop'],
    [['blog.example'], ['web2'], null],
    [['other.example'], ['web1'], null],
  ])('%j on %j belongs to %j', (names, nodes, owner) => {
    const others = [claim('blog', names, nodes), claim('shop', ['blog.example'])];
    expect(findOwner(claim('blog', names, nodes), others)?.claim.target.project ?? null).toBe(owner);
  });
});

it('refuses a name that is too long with its suffix', () => {
  expect(instanceName(TARGET, '-stage')).toBe('blog-stage');
  expect(() => instanceName({ ...TARGET, project: 'a'.repeat(25) } as Target, '-stage')).toThrow(
    'more than 28 characters',
  );
});
