// Where a router finds its nodes, whom they believe, and nginx's file for it.
import { expect, it } from 'vitest';
import type { AbsolutePath, InstanceName } from '../../node-agent/protocol.ts';
import type { NodeConfig } from '../../receiver/config-nodes.ts';
import { listensOf } from '../../receiver/deploy/plan.ts';
import { installPath } from '../../receiver/install-root.ts';
import { type Place, serverOf, trustedBy } from '../../receiver/router/addresses.ts';
import { renderRoute } from '../../receiver/router/render-route.ts';
import { resolveHost } from '../../receiver/router/routes.ts';
import type { Target } from '../../receiver/target.ts';
import { createTemplates } from '../../receiver/templates.ts';

const ROOTLESS = { profile: 'rootless', root: '/srv/try' as AbsolutePath, httpPort: 8080 } as const;

function place(config: NodeConfig, more: Partial<Place> = {}): Place {
  return { config, addresses: [], httpPort: 80, resolved: null, ...more };
}
const ssh = (name: string, address: string | null = null): NodeConfig => ({
  name,
  kind: 'ssh',
  host: name,
  user: 'root',
  port: 22,
  hostKey: 'SHA256:x',
  address,
});
const rootless = (name: string): NodeConfig => ({ name, kind: 'rootless', root: ROOTLESS.root, httpPort: 0 });

const web1 = place(ssh('web1'), { resolved: '203.0.113.1' });
const web2 = place(ssh('web2', '10.0.0.2'), { resolved: '203.0.113.2' });
const six = place(ssh('six'), { resolved: '2001:db8::6' });
const door = place(ssh('door', '10.0.0.9'), {
  resolved: '203.0.113.9',
  addresses: ['203.0.113.9', '10.0.0.9', 'fd00::9'],
});
const here = place({ name: 'here', kind: 'local' }, { addresses: ['203.0.113.5'] });
const one = place(rootless('one'), { httpPort: 8081 });
const two = place(rootless('two'), { httpPort: 8082 });

it.each<[string, Place, Place, string, string[]]>([
  ['another machine', web1, door, '203.0.113.1:80', ['10.0.0.9', '203.0.113.9', 'fd00::9']],
  ['by a private network', web2, door, '10.0.0.2:80', ['10.0.0.9', '203.0.113.9', 'fd00::9']],
  ['by IPv6', six, door, '[2001:db8::6]:80', ['10.0.0.9', '203.0.113.9', 'fd00::9']],
  ['the router itself', door, door, '127.0.0.2:80', ['127.0.0.1']],
  ['this machine, from another', here, door, '203.0.113.5:80', ['10.0.0.9', '203.0.113.9', 'fd00::9']],
  ['another, from this one', web1, here, '203.0.113.1:80', ['203.0.113.5']],
  ['two on this machine', one, two, '127.0.0.1:8081', ['127.0.0.1']],
  ['a rootless router of its own site', one, one, '127.0.0.2:8081', ['127.0.0.1']],
])('%s', (_, node, router, server, trusted) => {
  expect([serverOf(node, router), trustedBy(node, router)]).toEqual([server, trusted]);
});

it('says what to do about a node that cannot be reached', () => {
  expect(() => serverOf(place({ name: 'here', kind: 'local' }), door)).toThrow(
    'router door: cannot reach the node here',
  );
  expect(() => serverOf(one, door)).toThrow('router door: cannot reach the node one');
});

it('resolves names on the receiver, whose /etc/hosts may know more than the router', async () => {
  expect(await resolveHost('web1', async () => ({ address: '10.0.0.1' }))).toBe('10.0.0.1');
  const unknown = resolveHost('web1', () => Promise.reject(new Error('ENOTFOUND')));
  await expect(unknown).rejects.toMatchObject({
    code: 'router.resolve',
    hints: [expect.stringContaining('nodes.web1.address')],
  });
});

it('listens where visitors come, and behind a router where they do not', () => {
  expect([listensOf(ROOTLESS, false), listensOf(ROOTLESS, true), listensOf({ profile: 'system' }, true)]).toEqual([
    { listens: ['127.0.0.1:__HTTP_PORT__'], portSuffix: ':__HTTP_PORT__' },
    { listens: ['127.0.0.2:__HTTP_PORT__'], portSuffix: ':__HTTP_PORT__' },
    { listens: ['127.0.0.2:80'], portSuffix: '' },
  ]);
});

it("writes nginx's file: every node, domains, aliases, and more time than a node takes", () => {
  const text = renderRoute(createTemplates([installPath('templates')]), {
    target: { project: 'blog', environment: 'live' } as Target,
    instance: 'blog' as InstanceName,
    spec: { domains: ['blog.example', 'www.blog.example'], aliases: ['old.example'], timeoutMs: 30_000 },
    servers: ['10.0.0.1:80', '[fd00::2]:80'],
    profile: ROOTLESS,
  });
  const lines = text.split('\n').map((line) => line.trim());
  for (const line of [
    'upstream blog.router {',
    'least_conn;',
    'server 10.0.0.1:80 max_fails=5 fail_timeout=5s;',
    'server [fd00::2]:80 max_fails=5 fail_timeout=5s;',
    'listen 127.0.0.1:__HTTP_PORT__;',
    'server_name  blog.example www.blog.example;',
    'proxy_read_timeout 40s;',
    'server_name  old.example;',
    'return 301 $scheme://blog.example:__HTTP_PORT__$request_uri;',
  ])
    expect(lines).toContain(line);
});
