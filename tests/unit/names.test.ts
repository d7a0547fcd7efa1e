// Long because: every kind of name, and where it comes from, is on one page.
/**
 * No two targets that both hold their claims share a name: no user, path, unit, socket, database, upstream or lock on a node, no
 * repository, no copy in a store. The names are what the product itself makes of targets, environments and nodes that come at random.
 */
import type { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { destroyedFolder, dumpFolder } from '../../node-agent/dump-folders.ts';
import { nodeLayout, type SiteLayout, siteLayout } from '../../node-agent/layout.ts';
import { unitOf } from '../../node-agent/links.ts';
import {
  type AbsolutePath,
  type BootName,
  type CommitId,
  type InstanceName,
  type NodeProfile,
  PROJECT_PATTERN,
  type ServiceName,
  siteOwner,
} from '../../node-agent/protocol.ts';
import type { DumpName } from '../../node-agent/protocol-data.ts';
import { routerSite } from '../../node-agent/route.ts';
import { copyDump, listCopies } from '../../receiver/backups/copies.ts';
import type { ObjectStore } from '../../receiver/backups/object-store.ts';
import { renderRelease } from '../../receiver/deploy/render.ts';
import { repositoryPath } from '../../receiver/git/repository.ts';
import { createInstances } from '../../receiver/instances.ts';
import { type Journal, openJournal } from '../../receiver/journal.ts';
import { renderRoute } from '../../receiver/router/render-route.ts';
import { linkFolder, readService, renderScripts, serviceValues } from '../../receiver/services.ts';
import { TakenError } from '../../receiver/taken.ts';
import { type Target, targetName } from '../../receiver/target.ts';
import { createTemplates } from '../../receiver/templates.ts';

const templates = createTemplates({ configured: [] });
const SERVICES = templates.services();
const SYSTEM: NodeProfile = { profile: 'system' };
const ROOTLESS: NodeProfile = { profile: 'rootless', root: '/srv/node' as AbsolutePath, httpPort: 8080 };
const SPEC = {
  ...{ domains: ['www.example.com'], aliases: ['example.com'], wsgi: 'a:b', pythonPath: '.', workers: 1, threads: 1 },
  ...{
    workerClass: 'sync',
    environ: {},
    requirements: 'requirements.txt',
    requirementsNamed: false,
    python: '/usr/bin/python3',
  },
  ...{ static: [{ prefix: '/static', folder: 'static', named: false }], timeoutMs: 30_000, keepReleases: 5 },
  ...{
    healthcheck: { path: '/', statusMin: 200, statusMax: 399, timeoutMs: 1, intervalMs: 1, retries: 1, settleMs: 0 },
  },
  ...{ build: null, release: null, scrub: null, services: [], generation: 0 },
} as unknown as Parameters<typeof renderRelease>[2]['spec'];

/** All paths of a layout, those of its functions, too. */
function pathsOf(site: SiteLayout): string[] {
  const own = Object.entries(site).filter(([key]) => !['node', 'instance', 'owner'].includes(key));
  return own.flatMap(([key, value]) => {
    if (typeof value === 'string') return [value];
    if (typeof value !== 'function') throw new TypeError(`site.${key}: what is it?`);
    const argument = { boot: 'a.7' as BootName, release: 3, releaseNotes: 3, uncompiled: 3, runLink: 3 }[key] ?? 'a';
    return [(value as (one: unknown) => string)(argument)];
  });
}

/** What `upstream`, `zone` and the like are called, and the sockets behind them. */
function nginxNames(text: string): string[] {
  return [...text.matchAll(/^\s*(?:upstream|zone)\s+([^\s;{]+)/gm), ...text.matchAll(/server unix:([^\s;]+)/g)].map(
    ([, name = '']) => `nginx ${name}`,
  );
}

/** Words of a service's scripts that are made of the site's names, as the shell makes them. */
const SITE_WORD = /[A-Za-z0-9_.@:/-]*(?:(?:\$\{?(?:instance|user|site)\b\}?|%i)[A-Za-z0-9_.@:/-]*)+/g;
function serviceNames(profile: NodeProfile, instance: InstanceName, target: Target): string[] {
  return SERVICES.flatMap((service) => {
    const definition = readService(templates, service);
    if (profile.profile === 'rootless' && !definition.rootless) return [];
    const values = serviceValues(definition, { profile, instance, ...target, options: {} });
    const fill: Record<string, string> = { instance, user: values.user ?? '', site: values.site };
    const scripts = Object.values(renderScripts(templates, definition, values)).join('\n');
    const words = [...scripts.matchAll(SITE_WORD)].map(([word]) =>
      word.replace(/%i/g, instance).replace(/\$\{?(instance|user|site)\b\}?/g, (_, name: string) => fill[name] ?? ''),
    );
    // Alone it is a word of a message, and elsewhere in here by what it is.
    const made = words.filter((word) => word.includes(instance) && word !== instance && word !== fill.user);
    return made.map((word) => (/^\/|@/.test(word) ? word : `${service} ${word}`));
  });
}

/** What all sites of a node use together: no site may have it as its own. */
function sharedNames(): string[] {
  const [, lock = ''] = /exec 9>.*"(\/run\/kraftwerk\/[^"]*)"/.exec(templates.read('services/functions.sh')) ?? [];
  expect(lock).toContain('$1');
  return SERVICES.map((service) => lock.replace('$1', service));
}

function namesOnNode(profile: NodeProfile, instance: InstanceName, target: Target): string[] {
  const node = nodeLayout(profile);
  const site = siteLayout(node, instance);
  const owner = siteOwner(profile, instance);
  const commit = 'a'.repeat(40) as CommitId;
  const release = { target, instance, release: 3, commit, spec: SPEC, router: null, limits: null };
  const { site: files } = renderRelease(templates, { profile, cores: 1, memoryBytes: 1e9 }, release);
  const route = { target, instance, spec: SPEC, servers: ['10.0.0.1:80'], profile };
  return [
    ...(owner === null ? [] : Object.values(owner).filter((name) => !name.includes(':'))).map((name) => `user ${name}`),
    ...pathsOf(site),
    ...[dumpFolder(site), destroyedFolder(node, instance), routerSite(node, instance).nginxSite],
    ...nginxNames(files.site),
    ...nginxNames(renderRoute(templates, route)),
    ...SERVICES.flatMap((service) => [unitOf(site, service), linkFolder(instance, service)]),
    ...serviceNames(profile, instance, target),
  ];
}

interface Names {
  all: ReadonlySet<string>;
  /** Those that a path among them is in. */
  folders: ReadonlySet<string>;
}

function indexed(names: readonly string[]): Names {
  const paths = names.filter((name) => name.startsWith('/'));
  const folders = paths.flatMap((path) => path.split('/').map((_, at, parts) => parts.slice(0, at + 1).join('/')));
  return { all: new Set(names), folders: new Set(folders) };
}

/** Neither the same, nor one inside another's folder. */
function common(ours: Names, theirs: Names): string[] {
  return [...ours.all].filter((name) => theirs.all.has(name) || theirs.folders.has(name));
}

const EDGES = [
  ...[
    'a',
    'b',
    'a-b',
    'a_b',
    'a-b-c',
    'blog',
    'blog-stage',
    'blog_stage',
    'blog-stage-stage',
    'blog2',
    'blog-new',
    'stage',
  ],
  ...[
    'lock',
    'new',
    'router',
    'default',
    'job',
    'web-blog',
    'bld-blog',
    'a'.repeat(28),
    'a'.repeat(26),
    `${'a'.repeat(26)}-b`,
  ],
];
const project = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom(...EDGES) },
  { weight: 1, arbitrary: fc.stringMatching(/^[a-z][a-z0-9_-]{0,27}$/) },
);
const suffix = fc.constantFrom('', '', '-stage', '_stage', '-b', '-b-c', '2', '-new');
const node = fc.constantFrom('n1', 'n2', 'n3');
const environment = fc.record({
  nodes: fc.uniqueArray(node, { minLength: 1, maxLength: 3 }),
  router: fc.option(node),
  suffix,
});
const world = fc.record({
  environments: fc.array(environment, { minLength: 2, maxLength: 4 }),
  // The same projects in all environments, and others.
  projects: fc.uniqueArray(project, { minLength: 2, maxLength: 7 }),
  order: fc.infiniteStream(fc.nat()),
});

interface Holder {
  target: Target;
  instance: InstanceName;
  nodes: string[];
}

let journal: Journal;
beforeEach(() => {
  journal = openJournal(':memory:', () => new Date());
});
afterEach(() => journal.close());

describe('no two targets share a name', () => {
  it.each([
    ['a system node', SYSTEM],
    ['a rootless node', ROOTLESS],
  ])('on %s', (_, profile) => {
    const cache = new Map<string, Names>();
    const namesOf = (instance: InstanceName, target: Target): Names => {
      const names = cache.get(instance) ?? indexed(namesOnNode(profile, instance, target));
      cache.set(instance, names);
      return names;
    };
    const shared = indexed(sharedNames());
    const pairs = new Map<string, string[]>();
    const between = (one: Holder, other: Holder): string[] => {
      const pair = `${one.instance} ${other.instance}`;
      const [ours, theirs] = [namesOf(one.instance, one.target), namesOf(other.instance, other.target)];
      const found = pairs.get(pair) ?? [...common(ours, theirs), ...common(theirs, ours)];
      pairs.set(pair, found);
      return found;
    };
    let [taken, held] = [0, 0];
    fc.assert(
      fc.property(world, ({ environments, projects, order }) => {
        journal.close();
        journal = openJournal(':memory:', () => new Date());
        const configured = new Map(environments.map((one, index) => [`e${index}`, one]));
        const instances = createInstances({
          journal,
          environment: (target) => configured.get(target.environment) as never,
        });
        const all = projects.flatMap((name) =>
          [...configured.keys()].map((one) => ({ project: name, environment: one }) as Target),
        );
        const shuffled = all.map((target) => ({ target, at: order.next().value ?? 0 })).sort((a, b) => a.at - b.at);
        const holders: Holder[] = [];
        for (const { target } of shuffled) {
          const { nodes, router, suffix: end } = configured.get(target.environment) as (typeof environments)[number];
          if (!PROJECT_PATTERN.test(`${target.project}${end}`)) continue;
          try {
            const instance = instances.of(target);
            holders.push({ target, instance, nodes: [...nodes, ...(router === null ? [] : [router])] });
          } catch (error) {
            if (!(error instanceof TakenError)) throw error;
            taken++;
          }
        }
        held += holders.length;
        for (const [index, one] of holders.entries()) {
          expect(common(namesOf(one.instance, one.target), shared)).toEqual([]);
          for (const other of holders.slice(index + 1)) {
            if (!one.nodes.some((name) => other.nodes.includes(name))) continue;
            const found = between(one, other);
            if (found.length > 0)
              throw new Error(`${targetName(one.target)}, ${targetName(other.target)}: ${found.join(' ')}`);
          }
        }
      }),
      { numRuns: 60 },
    );
    // It has met both kinds.
    expect(taken).toBeGreaterThan(5);
    expect(held).toBeGreaterThan(100);
  });

  it('at the receiver, nor in the store', async () => {
    const target = fc.record({ project, environment: project }) as fc.Arbitrary<Target>;
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(target, { minLength: 2, maxLength: 6, selector: targetName }),
        async (targets) => {
          const paths = targets.map((one) => repositoryPath('/data', one));
          for (const [index, path] of paths.entries())
            expect(paths.filter((other, at) => at !== index && `${other}/`.startsWith(`${path}/`))).toEqual([]);
          const keys = new Map<string, Target>();
          const store = {
            put: (key: string, source: Readable) => {
              source.resume();
              expect(keys.has(key)).toBe(false);
              keys.set(key, one);
              return Promise.resolve({ bytes: 1 });
            },
            list: (prefix: string) =>
              Promise.resolve(
                [...keys.keys()]
                  .filter((key) => key.startsWith(prefix))
                  .map((key) => ({ key, bytes: 1, modified: new Date() })),
              ),
          } as unknown as ObjectStore;
          let one: Target;
          const name = '2026-11-22T10:20:30' as DumpName;
          for (one of targets) {
            const part = (nodeName: string) =>
              ({ node: { name: nodeName, request: () => Promise.resolve({ bytes: 0 }) }, summary: {} }) as never;
            const services = { instances: { of: () => 'x' }, log: () => undefined } as never;
            for (const parts of [[part('n1')], [part('n1'), part('n2')]])
              await copyDump(services, store, one, { name, parts }, new AbortController().signal);
          }
          for (const target of targets) {
            const found = await listCopies(store, target);
            expect(found.map(({ key }) => keys.get(key))).toEqual([target, target, target]);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

it('the words of the scripts are found: a check of the check', () => {
  const names = namesOnNode(SYSTEM, 'blog-stage' as InstanceName, { project: 'blog', environment: 'stage' } as Target);
  for (const name of [
    ...[
      'user web-blog-stage',
      'user ngx-blog-stage',
      '/web/blog-stage',
      '/web/blog-stage/dump',
      '/web/.destroyed/blog-stage',
    ],
    ...['/run/kraftwerk/blog-stage.lock', '/etc/sv/blog-stage.web.a', '/etc/nginx/sites-enabled/blog-stage.router'],
    ...[
      'kraftwerk-redis@blog-stage.service',
      '/run/kraftwerk-redis/blog-stage/redis.sock',
      'nginx blog-stage',
      'nginx blog-stage.router',
    ],
    ...['postgres web-blog-stage.new', 'rabbitmq web-blog-stage.2', 'mariadb web-blog-stage.2'],
    ...['kraftwerk-link@blog-stage.postgres.service', '/run/kraftwerk-link/blog-stage/redis'],
    '/run/kraftwerk-memcached/blog-stage/memcached.sock',
  ])
    expect(names).toContain(name);
  expect(SERVICES).toContain('postgres' as ServiceName);
});
