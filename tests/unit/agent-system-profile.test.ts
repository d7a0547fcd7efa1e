// The agent's system profile, as far as it is pure: where everything is, who it belongs to, what is missing of that.
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { asBuilder, asCompiler, asSite, limitWords, parseAccounts, planAccounts } from '../../node-agent/accounts.ts';
import { nodeLayout, siteLayout, socketFromRoot } from '../../node-agent/layout.ts';
import {
  type AbsolutePath,
  type BootName,
  type CommitId,
  type InstanceName,
  type Limits,
  type NodeProfile,
  nodePlace,
  parseNodeProfile,
  type ServiceName,
  type TreePath,
} from '../../node-agent/protocol.ts';
import { fillSite } from '../../node-agent/site.ts';
import type { System } from '../../node-agent/system.ts';
import { renderRelease } from '../../receiver/deploy/render.ts';
import { createTemplates } from '../../receiver/templates.ts';

const BLOG = 'blog' as InstanceName;
const SYSTEM = { profile: 'system' } as const;
const ROOTLESS = { profile: 'rootless', root: '/srv/node' as AbsolutePath, httpPort: 8080 } as const;
const site = siteLayout(nodeLayout(SYSTEM), BLOG);

/** A machine that has these files and nothing else. */
const machine = (files: Readonly<Record<string, string>>): System =>
  ({ readText: (path: string) => files[path] ?? null, exists: (path: string) => path in files }) as unknown as System;

describe('the profile of a node', () => {
  it.each([
    [SYSTEM, { root: '/', httpPort: 80 }],
    [ROOTLESS, { root: '/srv/node', httpPort: 8080 }],
  ])('%j', (profile, place) => {
    expect(parseNodeProfile(profile, 'node')).toEqual(profile);
    expect(nodePlace(profile)).toMatchObject(place);
  });
  it.each([{ profile: 'system', root: '/' }, { profile: 'other' }, { profile: 'rootless' }, null, []])(
    '%j is refused',
    (value) => {
      expect(() => parseNodeProfile(value, 'node')).toThrow(/^node[.:]/);
    },
  );

  const places = (profile: NodeProfile) => {
    const node = nodeLayout(profile);
    const { owner, cache, ...one } = siteLayout(node, BLOG);
    const boot = 'a.1' as BootName;
    return [
      node.root,
      node.runtime,
      one.nginxSite,
      one.slot('a'),
      one.slotLink('b'),
      one.boot(boot),
      cache,
      owner?.user,
    ];
  };
  it('puts a rootless node below its root, a system node at the root', () => {
    expect(places(ROOTLESS)).toEqual([
      '/srv/node',
      '/srv/node/run/kraftwerk',
      '/srv/node/etc/nginx/sites-enabled/blog',
      '/srv/node/etc/sv/blog.web.a',
      '/srv/node/etc/service/blog.web.b',
      '/srv/node/run/kraftwerk/blog/a.1',
      '/srv/node/web/blog/.kraftwerk/cache',
      undefined,
    ]);
    expect(places(SYSTEM)).toEqual([
      '/',
      '/run/kraftwerk',
      '/etc/nginx/sites-enabled/blog',
      '/etc/sv/blog.web.a',
      '/etc/service/blog.web.b',
      '/run/kraftwerk/blog/a.1',
      '/web/blog/.cache',
      'web-blog',
    ]);
    expect(socketFromRoot(site, 'a.1' as BootName)).toBe('run/kraftwerk/blog/a.1/web.sock');
  });
  it('names users and groups that fit into the 32 letters that there are', () => {
    const { owner } = siteLayout(nodeLayout(SYSTEM), `x${'y'.repeat(27)}` as InstanceName);
    expect([owner?.user.length, owner?.gate.length, owner?.builder.length]).toEqual([32, 32, 32]);
  });
});

describe('users and groups', () => {
  const PASSWD = 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n';
  const GROUP = 'root:x:0:\nwww-data:x:33:\n';
  const DONE_PASSWD = `${PASSWD}web-blog:x:999:999::/web/blog:/usr/sbin/nologin
bld-blog:x:994:994::/web/blog/.cache:/usr/sbin/nologin
kraftwerk-log:x:998:998::/nonexistent:/usr/sbin/nologin
kraftwerk-compile:x:997:997::/nonexistent:/usr/sbin/nologin
`;
  const DONE_GROUP = `${GROUP}web:x:996:web-blog\nngx-blog:x:995:web-blog,www-data\nweb-blog:x:999:\nbld-blog:x:994:\n`;
  const SYSTEM_USER = ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin'];
  const helper = (name: string): string[] => [
    ...['useradd', ...SYSTEM_USER, '--home-dir', '/nonexistent', '--user-group'],
    name,
  ];

  it('are read as passwd(5) and group(5) say', () => {
    const { users, groups } = parseAccounts(DONE_PASSWD, DONE_GROUP);
    expect(users.get('web-blog')).toEqual({ uid: 999, gid: 999, home: '/web/blog' });
    expect(groups.get('ngx-blog')).toEqual({ gid: 995, members: ['web-blog', 'www-data'] });
    expect(groups.get('web-blog')).toEqual({ gid: 999, members: [] });
  });
  it('are all made on a new node', () => {
    expect(planAccounts(site, parseAccounts(PASSWD, GROUP))).toEqual([
      ['groupadd', '--system', 'web'],
      ['groupadd', '--system', 'ngx-blog'],
      ['useradd', ...SYSTEM_USER, '--home-dir', '/web/blog', '--user-group', '--groups', 'web,ngx-blog', 'web-blog'],
      ['useradd', ...SYSTEM_USER, '--home-dir', '/web/blog/.cache', '--user-group', 'bld-blog'],
      helper('kraftwerk-log'),
      helper('kraftwerk-compile'),
      ['usermod', '--append', '--groups', 'ngx-blog', 'www-data'],
    ]);
  });
  it.each([
    ['nothing', DONE_PASSWD, DONE_GROUP, []],
    [
      'the user, whose group is left',
      DONE_PASSWD.replace(/^web-blog.*\n/m, ''),
      DONE_GROUP,
      [
        [
          'useradd',
          ...SYSTEM_USER,
          '--home-dir',
          '/web/blog',
          '--gid',
          'web-blog',
          '--groups',
          'web,ngx-blog',
          'web-blog',
        ],
      ],
    ],
    [
      'memberships',
      DONE_PASSWD,
      DONE_GROUP.replaceAll(/(web:x:996|ngx-blog:x:995):.*/g, '$1:'),
      [
        ['usermod', '--append', '--groups', 'web,ngx-blog', 'web-blog'],
        ['usermod', '--append', '--groups', 'ngx-blog', 'www-data'],
      ],
    ],
  ])('%s is missing', (_, passwd, group, plan) => {
    expect(planAccounts(site, parseAccounts(passwd, group))).toEqual(plan);
  });
  it('are not there on a rootless node', () => {
    const rootless = siteLayout(nodeLayout(ROOTLESS), BLOG);
    expect(planAccounts(rootless, parseAccounts('', ''))).toEqual([]);
    expect(asSite(rootless, ['id'])).toEqual(['id']);
    expect(asCompiler(rootless, ['id'])).toEqual(['id']);
  });
  it('go before what is run for a site', () => {
    expect(asSite(site, ['id', '-a'])).toEqual(['chpst', '-u', 'web-blog:web-blog:ngx-blog:web', 'id', '-a']);
    expect(asBuilder(site, ['id'])).toEqual(['chpst', '-u', 'bld-blog:bld-blog:web-blog:ngx-blog', 'id']);
    expect(asCompiler(site, ['id'])).toEqual(['chpst', '-u', 'kraftwerk-compile:kraftwerk-compile', 'id']);
  });
});

describe('limits', () => {
  const LIMITS: Limits = { memoryBytes: 512 << 20, processes: 100 };
  const SCOPES = { '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n', '/usr/bin/systemd-run': '' };
  const scope = ['systemd-run', '--scope', '--quiet', '--collect', '--slice=kraftwerk.slice'];
  it.each([
    ['no limits', SCOPES, null, []],
    ['no limits said, without scopes', {}, { memoryBytes: null, processes: null }, []],
    ['no limits said', SCOPES, { memoryBytes: null, processes: null }, []],
    [
      "a scope of systemd's",
      SCOPES,
      LIMITS,
      [...scope, '-p', 'MemoryMax=536870912', '-p', 'MemorySwapMax=0', '-p', 'TasksMax=100', '--'],
    ],
    [
      "a scope of systemd's, for one of them",
      SCOPES,
      { memoryBytes: null, processes: 20 },
      [...scope, '-p', 'TasksMax=20', '--'],
    ],
    ["setrlimit's where there are no scopes", {}, LIMITS, ['chpst', '-d', '536870912', '-p', '100']],
    [
      "setrlimit's where the kernel's are off",
      { '/sys/fs/cgroup/cgroup.controllers': '\n' },
      { ...LIMITS, processes: null },
      ['chpst', '-d', '536870912'],
    ],
  ])('%s', (_, files, limits, words) => {
    expect(limitWords(machine(files), limits)).toEqual(words);
  });
});

describe('what is rendered', () => {
  const templates = createTemplates({ configured: [] });
  const rendered = (profile: NodeProfile) =>
    renderRelease(
      templates,
      { profile, cores: 2, memoryBytes: 1 << 30 },
      {
        target: { project: 'blog', environment: 'live' } as never,
        instance: BLOG,
        release: 7,
        commit: 'c'.repeat(40) as CommitId,
        router: null,
        limits: null,
        spec: {
          domains: ['blog.example'],
          aliases: ['old.example'],
          wsgi: 'app:application',
          pythonPath: '.' as TreePath,
          workers: 2,
          threads: 1,
          workerClass: 'sync',
          environ: { SECRET: "it's" },
          requirements: 'requirements.txt' as TreePath,
          requirementsNamed: false,
          python: '/usr/bin/python3' as AbsolutePath,
          static: [{ prefix: '/static', folder: 'blog/static' as TreePath, named: false }],
          healthcheck: {
            ...{ path: '/', statusMin: 200, statusMax: 399, timeoutMs: 5000 },
            ...{ intervalMs: 1000, retries: 10, settleMs: 0 },
          },
          timeoutMs: 30_000,
          keepReleases: 5,
          build: null,
          release: null,
          scrub: null,
          services: [{ name: 'files' as ServiceName, options: {} }],
          generation: 0,
        },
      },
    );

  it("names a site's user and groups on a system node only", () => {
    const { site: files, services, buildEnvironment } = rendered(SYSTEM);
    expect(files.slotRun).toContain("chpst -P -u 'web-blog:web-blog:ngx-blog:web'");
    expect(files.slotLog).toContain("chpst -u 'kraftwerk-log' svlogd -ttt .");
    expect(services[0]?.setup).toContain("owner='web-blog:www-data'");
    expect(buildEnvironment).toMatchObject({ SITE_ROOT: '/web/blog' });
    expect(files.served).toEqual(['blog/static']);
    const rootless = rendered(ROOTLESS);
    expect(JSON.stringify(rootless)).not.toMatch(/web-blog|www-data|kraftwerk-log/);
    expect(rootless.buildEnvironment.HOME).toBe('/srv/node/web/blog');
  });
  it('has nginx serve on the ports of the profile, by a socket whose path is short enough', () => {
    const { site: files } = rendered(SYSTEM);
    const listens = (text: string): string[] =>
      [...text.matchAll(/^\s*(?:listen|server unix:).*$/gm)].map(([line]) => line.trim());
    expect(listens(files.site)).toEqual([
      'server unix:/web/blog/current/.run/web.sock fail_timeout=0;',
      ...['listen 80;', 'listen [::]:80;', 'listen 80;', 'listen [::]:80;'],
    ]);
    expect(files.site).toContain('return 301 $scheme://blog.example$request_uri;');
    const without = fillSite(machine({}), site.node, files.site, 80);
    expect(listens(without).slice(1)).toEqual(['listen 80;', 'listen 80;']);
    expect(fillSite(machine({ '/proc/net/if_inet6': '' }), site.node, files.site, 80)).toBe(files.site);
    expect(listens(rendered(ROOTLESS).site.site)).toEqual([
      'server unix:web/blog/current/.run/web.sock fail_timeout=0;',
      ...['listen 127.0.0.1:__HTTP_PORT__;', 'listen 127.0.0.1:__HTTP_PORT__;'],
    ]);
  });
  it.skipIf(spawnSync('shellcheck', ['--version']).error !== undefined)('is what shellcheck likes', () => {
    for (const profile of [SYSTEM, ROOTLESS]) {
      const { site: files } = rendered(profile);
      const scripts = { run: files.run, slotRun: files.slotRun, slotFinish: files.slotFinish, slotLog: files.slotLog };
      for (const [name, text] of Object.entries(scripts)) {
        const input = text.replaceAll('__SLOT__', 'a').replaceAll('__LIMIT__', '');
        const { stdout } = spawnSync('shellcheck', ['--shell=sh', '--severity=warning', '-'], {
          input,
          encoding: 'utf8',
        });
        expect(stdout, `${profile.profile} ${name}`).toBe('');
      }
    }
  });
});
