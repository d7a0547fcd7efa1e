// The admin's configuration: defaults, references, keys, and every mistake with its place.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { findConfig, loadConfig } from '../../receiver/cli/find-config.ts';
import { parseConfig } from '../../receiver/config.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example';
const HOST_KEY = `SHA256:${'a'.repeat(43)}`;
const FILES: Record<string, string> = {
  '/home/ada/.ssh/id.pub': `# Ada\n${KEY}\n`,
  '/etc/kw/private': '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n',
  '/etc/kw/empty.pub': '\n',
};

const context = {
  file: '/etc/kw/receiver.yaml',
  home: '/home/ada',
  readFile(file: string): string {
    const text = FILES[file];
    if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return text;
  },
  isDirectory: (folder: string) => folder === '/etc/kw/templates',
};

function errorsOf(text: string): string[] {
  try {
    parseConfig(text, context);
  } catch (error) {
    if (error instanceof KraftwerkError) return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

const MINIMAL = `admins: ["${KEY}"]\nnodes: {here: {local: true, root: ./var/node}}\nenvironments: {stage: {nodes: [here]}}\n`;

const PLAIN = {
  router: null,
  suffix: '',
  domain: null,
  branch: null,
  fastForwardOnly: false,
  limits: null,
  protected: false,
  backups: null,
};

test('defaults', () => {
  expect(parseConfig(MINIMAL, context)).toEqual({
    file: '/etc/kw/receiver.yaml',
    data: '/var/lib/kraftwerk',
    ssh: { host: '0.0.0.0', port: 22 },
    http: null,
    admins: [KEY],
    templates: [],
    defaultEnvironment: null,
    nodes: new Map([['here', { name: 'here', kind: 'rootless', root: '/etc/kw/var/node', httpPort: 8080 }]]),
    environments: new Map([['stage', { ...PLAIN, name: 'stage', nodes: ['here'] }]]),
  });
});

test('every key', () => {
  const text = `
data: ~/data
ssh: {host: "::1", port: 0}
http: {}
admins: [~/.ssh/id.pub]
templates: [templates]
default_environment: stage
nodes:
  try: {local: true, root: /srv/here, http_port: 0}
  here: {local: true}
  web1.example.com: {user: root, port: 22, host_key: "${HOST_KEY}"}
  web2: {host: 10.0.0.2, host_key: "${HOST_KEY}", port: 2222, user: admin, address: fd00::2}
environments:
  stage: {nodes: [try, here], suffix: -stage, domain: "{project}.stage.example.com", limits: {memory: 512M, processes: 100}}
  live: {nodes: [web1.example.com, web2], router: here, branch: release/1.0, fast_forward_only: true, limits: {memory: 2G}}
`;
  const config = parseConfig(text, context);
  expect(Object.isFrozen(config)).toBe(true);
  expect(config).toEqual({
    file: '/etc/kw/receiver.yaml',
    data: '/home/ada/data',
    ssh: { host: '::1', port: 0 },
    http: { host: '127.0.0.1', port: 8022 },
    admins: [KEY],
    templates: ['/etc/kw/templates'],
    defaultEnvironment: 'stage',
    nodes: new Map<string, unknown>([
      ['try', { name: 'try', kind: 'rootless', root: '/srv/here', httpPort: 0 }],
      ['here', { name: 'here', kind: 'local' }],
      [
        'web1.example.com',
        {
          name: 'web1.example.com',
          kind: 'ssh',
          host: 'web1.example.com',
          user: 'root',
          port: 22,
          hostKey: HOST_KEY,
          address: null,
        },
      ],
      [
        'web2',
        {
          name: 'web2',
          kind: 'ssh',
          host: '10.0.0.2',
          user: 'admin',
          port: 2222,
          hostKey: HOST_KEY,
          address: 'fd00::2',
        },
      ],
    ]),
    environments: new Map([
      [
        'stage',
        {
          ...PLAIN,
          name: 'stage',
          nodes: ['try', 'here'],
          suffix: '-stage',
          domain: '{project}.stage.example.com',
          limits: { memoryBytes: 512 * 1024 ** 2, processes: 100 },
        },
      ],
      [
        'live',
        {
          ...PLAIN,
          name: 'live',
          nodes: ['web1.example.com', 'web2'],
          router: 'here',
          branch: 'release/1.0',
          fastForwardOnly: true,
          limits: { memoryBytes: 2 * 1024 ** 3, processes: null },
        },
      ],
    ]),
  });
});

const NODES = 'nodes: {here: {local: true, root: var}}\n';
const STAGE = 'environments: {stage: {nodes: [here]}}\n';
const ADMINS = 'admins: [~/.ssh/id.pub]\n';

test.each<[string, string, string[]]>([
  [
    'an empty file',
    '',
    [
      '1:1 admins: missing, expected a list of public keys, or of files that hold them',
      '1:1 nodes: missing, expected nodes ("here: {local: true}")',
      '1:1 environments: missing, expected environments ("stage: {nodes: [here]}")',
    ],
  ],
  ['a misspelt key', `imageid: 1\n${MINIMAL}`, ['1:1 unknown key "imageid", did you mean "image_id"?']],
  [
    'defaults of create-node that can be none',
    `provider: aws\nsize_id: "a b"\nimage_id: [1]\nlocation_id: ""\npubkey: 1\n${MINIMAL}`,
    [
      '1:11 provider: expected hetzner, digitalocean, linode, vultr or ec2, got "aws"',
      '2:10 size_id: expected the id of a size, got "a b"',
      '3:11 image_id: expected the id of an image, got a list',
      '4:14 location_id: expected the id of a location, got ""',
      '5:9 pubkey: expected a public key, or the file that holds it, got 1',
    ],
  ],
  [
    'nobody',
    `${NODES}${STAGE}admins: []\n`,
    ['3:9 admins: expected at least one public key, or nobody gets in: [~/.ssh/id_ed25519.pub], got a list'],
  ],
  ['a missing key file', `admins: [x.pub]\n${NODES}${STAGE}`, ['1:10 admins[0]: /etc/kw/x.pub: no such file']],
  [
    'a private key, and an empty file',
    `admins: [private, empty.pub]\n${NODES}${STAGE}`,
    [
      '1:10 admins[0]: /etc/kw/private: is a private key, name the file that ends in .pub',
      '1:19 admins[1]: /etc/kw/empty.pub: holds no public key',
    ],
  ],
  [
    'a damaged key',
    `admins: ["ssh-ed25519 AAAA x"]\n${NODES}${STAGE}`,
    ['1:10 admins[0]: public key: damaged or cut off'],
  ],
  [
    'a bad port',
    `${ADMINS}${NODES}${STAGE}ssh: {port: 70000}\n`,
    ['4:13 ssh.port: expected a port from 0 to 65535 (0: a free one), got 70000'],
  ],
  [
    'an unknown node and an unknown default',
    `${ADMINS}${NODES}environments: {stage: {nodes: [her]}}\ndefault_environment: stag\n`,
    [
      '3:32 environments.stage.nodes: no node "her", did you mean "here"?',
      '4:22 default_environment: no environment "stag", did you mean "stage"?',
    ],
  ],
  [
    'equal suffixes on one node',
    `${ADMINS}${NODES}environments: {stage: {nodes: [here]}, live: {nodes: [here]}}\n`,
    ['3:40 environments.live.suffix: stage has the same suffix "" on the node here, try "-live"'],
  ],
  [
    'bad patterns',
    `${ADMINS}${NODES}environments:\n  a: {nodes: [here], domain: a.b}\n  b: {nodes: [here], suffix: -B, domain: "{project}.{env}.x"}\n` +
      '  c: {nodes: [here], suffix: -c, domain: "{project}.x:80", branch: "../x"}\n' +
      '  d: {nodes: [here], suffix: -d, domain: "{project}.127.1"}\n',
    [
      '4:30 environments.a.domain: expected a domain with {project} in it, as "{project}.example.com", got "a.b"',
      '5:30 environments.b.suffix: expected a suffix of at most 20 of a-z 0-9 - _, got "-B"',
      '5:42 environments.b.domain: expected no other braces than {project}, got "{project}.{env}.x"',
      '6:42 environments.c.domain: expected a domain name without a port, got "{project}.x:80"',
      '6:68 environments.c.branch: expected the name of a branch, got "../x"',
      '7:42 environments.d.domain: expected a domain name and not what browsers take for an address, got "{project}.127.1"',
    ],
  ],
  [
    'missing templates',
    `${ADMINS}${NODES}${STAGE}templates: [nowhere]\n`,
    ['4:13 templates[0]: no folder /etc/kw/nowhere'],
  ],
])('%s is refused', (_, text, errors) => {
  expect(errorsOf(text)).toEqual(errors.map((line) => `/etc/kw/receiver.yaml:${line}`));
});

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

test('the first configuration that is there is taken', () => {
  const home = mkdtempSync(path.join(tmpdir(), 'kraftwerk-config-'));
  folders.push(home);
  const system = path.join(home, 'etc.yaml');
  const find = (named?: string, env: Record<string, string> = {}): string => {
    try {
      return findConfig(named, { env, home, cwd: home }, system);
    } catch (error) {
      return (error as Error).message;
    }
  };
  const own = path.join(home, '.kraftwerk.yaml');
  expect(find()).toBe(`no configuration, looked for ${own} and ${system}`);
  writeFileSync(system, '');
  expect(find()).toBe(system);
  writeFileSync(own, '');
  expect(find()).toBe(own);
  expect(find(undefined, { KRAFTWERK_CONFIG: 'x.yaml' })).toBe(`$KRAFTWERK_CONFIG: no file ${home}/x.yaml`);
  writeFileSync(path.join(home, 'x.yaml'), '');
  expect(find(undefined, { KRAFTWERK_CONFIG: 'x.yaml' })).toBe(`${home}/x.yaml`);
  expect(find('y.yaml', { KRAFTWERK_CONFIG: 'x.yaml' })).toBe(`--config: no file ${home}/y.yaml`);
});

test('a configuration is loaded with the files that it names', () => {
  const home = mkdtempSync(path.join(tmpdir(), 'kraftwerk-config-'));
  folders.push(home);
  mkdirSync(path.join(home, 'templates'));
  writeFileSync(path.join(home, 'key.pub'), `${KEY}\n`);
  writeFileSync(path.join(home, 'c.yaml'), `admins: [key.pub]\ntemplates: [templates]\n${NODES}${STAGE}`);
  const config = loadConfig('c.yaml', { env: {}, home, cwd: home });
  expect([config.file, config.admins, config.templates]).toEqual([`${home}/c.yaml`, [KEY], [`${home}/templates`]]);
});
