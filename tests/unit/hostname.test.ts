// Which names no project may have as a domain: addresses in every form that a client knows, and what a machine calls itself.
import { describe, expect, it } from 'vitest';
import type { HelloResult } from '../../node-agent/protocol.ts';
import type { NodeConfig } from '../../receiver/config-nodes.ts';
import { createDomainClaims } from '../../receiver/deploy/domains.ts';
import { createOwnNames } from '../../receiver/deploy/own-names.ts';
import { findDomainProblem, findHostnameProblem } from '../../receiver/hostname.ts';
import type { Target } from '../../receiver/target.ts';

const ADDRESSES = [
  ...['127.0.0.1', '127.1', '127.0.1', '0', '0.0.0.0', '2130706433', '0x7f.1', '0x7f000001', '0X7F.0.0.1', '0x'],
  ...[
    '017700000001',
    '0177.0.0.1',
    '1.2.3.4',
    '255.255.255.255',
    '256.256.256.256',
    '1.2.3.4.5',
    'example.1',
    'a.0x1f',
  ],
  ...['example.0x', '10.0.0.9', 'www.example.09'],
];
const OWN = ['localhost', 'LOCALHOST', 'localhost.localdomain', 'ip6-localhost', 'ip6-loopback', 'localhost6', 'local'];
const NO_NAMES = [
  '[::1]',
  '::1',
  '::ffff:127.0.0.1',
  'fe80::1%eth0',
  '127.0.0.1.',
  'localhost.',
  '１２７.0.0.1',
  'localhost:80',
];
const GOOD = [
  ...['blog.localhost', 'blog-stage.localhost', 'a.b', 'example.com', '1.example.com', '127.0.0.1.example.com'],
  ...[
    '0x7f.example.com',
    '4.ly',
    'x1.0x1g',
    'www.1und1',
    'localhost.example.com',
    'ip6-localhost.example.com',
    'xn--p1ai',
  ],
];

describe('a domain', () => {
  it.each(ADDRESSES)('is not %s', (name) => {
    expect(findDomainProblem(name)).toMatch(/^expected a domain name and not what browsers take for an address, got "/);
    // What a node may be called.
    expect(findHostnameProblem(name)).toBeNull();
  });
  it('is an address to browsers, where they agree that it is one', () => {
    for (const name of ['127.1', '2130706433', '0x7f.1', '0177.0.0.1', '0x7f000001'])
      expect(new URL(`http://${name}/`).hostname).toBe('127.0.0.1');
    for (const name of GOOD) expect(new URL(`http://${name}/`).hostname).toBe(name);
  });
  it.each(OWN)('is not %s', (name) => {
    expect(findDomainProblem(name)).toMatch(/^expected a domain name and not what every machine calls itself, got "/);
  });
  it.each(NO_NAMES)('is not %s', (name) => expect(findDomainProblem(name)).not.toBeNull());
  it.each(GOOD)('may be %s', (name) => expect(findDomainProblem(name)).toBeNull());
});

const configured: NodeConfig[] = [
  {
    name: 'web1.example.com',
    kind: 'ssh',
    host: 'Web1.Internal',
    user: 'root',
    port: 22,
    hostKey: '',
    address: 'private1',
  },
  { name: 'here', kind: 'local' },
  { name: 'silent', kind: 'ssh', host: 'silent.example.com', user: 'root', port: 22, hostKey: '', address: null },
];
const facts = { hostname: 'vps-1234.provider.net', addresses: ['203.0.113.7'] } as HelloResult;
const ownNames = createOwnNames({
  configured: new Map(configured.map((node) => [node.name, node])),
  nodes: new Map([['web1.example.com', { facts: () => facts }]]),
  hostname: 'Receiver.Example.com',
});

describe("a node's own name", () => {
  it.each([
    ['web1.example.com', 'the name of the node web1.example.com'],
    ['web1.internal', 'a name of the node web1.example.com itself'],
    ['private1', 'a name of the node web1.example.com itself'],
    ['vps-1234.provider.net', 'a name of the node web1.example.com itself'],
    ['here', 'the name of the node here'],
    ['receiver.example.com', 'a name of the node here itself'],
    ['silent.example.com', 'a name of the node silent itself'],
  ])('%s is refused, wherever it stands', (name, whose) => {
    expect(() => ownNames.refuse({ domains: ['good.example', name], aliases: [] }, () => 'kraftwerk.yaml:3:1')).toThrow(
      expect.objectContaining({
        code: 'domain.own',
        message: `kraftwerk.yaml:3:1 domain: ${name} is ${whose}, and no project's`,
        exit: 'config',
        reason: `${name} is a node's own name`,
        hints: ['give the site a domain of its own in kraftwerk.yaml: domain: www.example.com'],
      }),
    );
    expect(() => ownNames.refuse({ domains: ['good.example'], aliases: [name] })).toThrow(
      `aliases: ${name} is ${whose}, and no project's`,
    );
  });
  it.each(['www.web1.example.com', 'example.com', 'blog.localhost', 'internal'])("%s is nobody's", (name) => {
    expect(() => ownNames.refuse({ domains: [name], aliases: [] })).not.toThrow();
  });
  it('is refused to a release that is gone back to, and left to one that is only started anew', () => {
    const claims = createDomainClaims(() => [], ownNames);
    const target = { project: 'blog', environment: 'live' } as Target;
    const take = (name: string, serves: boolean) =>
      claims.take(target, { domains: [name], aliases: [] }, ['here'], serves);
    for (const name of ['web1.example.com', '127.0.0.1', 'localhost']) {
      expect(() => take(name, false)).toThrow();
      expect(() => take(name, true).release()).not.toThrow();
    }
  });
});
