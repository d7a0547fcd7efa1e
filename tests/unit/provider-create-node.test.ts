// kraftwerk create-node and destroy-node from the first question to the last line, against fakes of every provider.
// Long because: both commands are told from the first question to the last line, over all providers.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { CliCommand } from '../../receiver/cli/command.ts';
import { createNode } from '../../receiver/cli/create-node.ts';
import { destroyNode } from '../../receiver/cli/destroy-node.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../receiver/providers/provider.ts';
import type { FakeProvider } from '../actors/fake-provider-server.ts';
import {
  CHOICES,
  createWorld,
  errorOf,
  FAKE_KINDS,
  startFakeProvider,
  type TestWorld,
  type WorldOptions,
} from '../actors/fake-providers.ts';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanUps.splice(0)) await clean();
});

function configOf(name: ProviderName): string {
  const { location, plan, image } = CHOICES[name];
  return `provider: ${name}\nlocation_id: ${location}\nsize_id: ${plan}\nimage_id: ${image}\n`;
}

async function startProvider(name: ProviderName): Promise<FakeProvider> {
  const fake = await startFakeProvider(name);
  cleanUps.push(() => fake.close());
  return fake;
}

function worldOf(options: WorldOptions): TestWorld {
  const world = createWorld(options);
  cleanUps.push(() => world.remove());
  return world;
}

async function setUp(name: ProviderName, options: Partial<WorldOptions> = {}) {
  const fake = await startProvider(name);
  const world = worldOf({ env: fake.env, config: configOf(name), ...options });
  return { fake, world, hosts: () => readFileSync(world.hostsFile, 'utf8') };
}

/** A setup-node that writes down what it was called with. */
function setupNode(code = 0): { commands: CliCommand[]; calls: string[][] } {
  const calls: string[][] = [];
  const run = async (argv: string[]): Promise<number> => {
    calls.push(argv);
    return code;
  };
  const command = {
    name: 'setup-node',
    summary: '',
    usage: '',
    details: [],
    examples: [],
    load: async () => ({ run }),
  };
  return { commands: [command], calls };
}

const LOCAL = '127.0.0.1 localhost\n';
const LINE = '127.0.0.1 web1 # kraftwerk: web1\n';

describe.each(PROVIDER_NAMES)('%s', (name) => {
  test('yes to all: ordered, awaited, in /etc/hosts, set up; then destroyed by its name', async () => {
    const { fake, world, hosts } = await setUp(name, { answers: ['y', 'yes', 'Y', 'web1'], closed: 2 });
    fake.bootPolls = 4;
    const { commands, calls } = setupNode(7);
    expect(await createNode(['web1'], commands, world)).toBe(7);
    expect(world.asked).toEqual(['Order it? [y/N]', 'Write it there? [y/N]', 'Set it up as a node now? [y/N]']);
    expect([fake.servers.length, hosts(), calls]).toEqual([1, LOCAL + LINE, [['web1']]]);
    expect(world.said.filter((line) => line.startsWith('still waiting: ')).length).toBeGreaterThan(1);
    expect(world.said).toContain('web1 is up: 127.0.0.1, SSH answers');

    world.said.splice(0);
    expect(await destroyNode(['web1'], world)).toBe(0);
    expect(world.asked.at(-1)).toBe('Type web1 to go on:');
    expect([fake.servers.every(({ isGone }) => isGone), hosts()]).toEqual([true, LOCAL]);
    const id = fake.servers[0]?.id;
    expect(world.said.slice(-2)).toEqual([
      `web1 (id ${id}) is deleted`,
      `${world.hostsFile}: the line of web1 is removed`,
    ]);
  });

  test('without a terminal: --yes orders, everything else is only said', async () => {
    const { fake, world, hosts } = await setUp(name);
    const refused = await errorOf(createNode(['web1'], [], world));
    expect([refused.message, refused.hints, refused.exit]).toEqual([
      'create-node: nothing ordered: not confirmed',
      ['without a terminal, --yes accepts the price'],
      'usage',
    ]);
    expect(fake.servers).toEqual([]);
    expect(await createNode(['web1', '--yes'], [], world)).toBe(0);
    expect([fake.servers.length, hosts()]).toEqual([1, LOCAL]);
    expect(world.out.join('')).toBe(
      'nodes:\n  web1: {host: 127.0.0.1, host_key: "SHA256:…"}\nenvironments:\n  live: {nodes: [web1]}\n',
    );
    expect(world.said.at(-1)).toBe(`next: kraftwerk setup-node 127.0.0.1 --as web1`);

    const kept = await errorOf(destroyNode(['web1'], world));
    expect([kept.message, kept.hints, kept.exit]).toEqual([
      'destroy-node: nothing deleted: not confirmed',
      ['kraftwerk destroy-node web1 --confirm web1'],
      'usage',
    ]);
    expect((await errorOf(destroyNode(['web1', '--confirm', 'web2'], world))).message).toBe(
      'destroy-node: nothing deleted: expected web1, got "web2"',
    );
    expect(fake.servers[0]?.isGone).toBe(false);
    expect(await destroyNode(['web1', '--confirm', 'web1'], world)).toBe(0);
    expect(fake.servers[0]?.isGone).toBe(true);
  });

  test('run again: the same server, no question about a price', async () => {
    const { fake, world } = await setUp(name);
    await createNode(['web1', '--yes'], [], world);
    world.said.splice(0);
    expect(await createNode(['web1'], [], world)).toBe(0);
    expect(fake.servers).toHaveLength(1);
    expect(world.said[0]).toMatch(/ has web1 already \(id .*\): nothing is ordered$/);
  });

  test('the answer to the order is lost: one server, and the command goes on', async () => {
    const { fake, world } = await setUp(name);
    const order = {
      hetzner: /servers$/,
      digitalocean: /droplets$/,
      linode: /instances$/,
      vultr: /instances$/,
      ec2: /^RunInstances$/,
    };
    fake.fail('POST', order[name], 'cut after');
    expect(await createNode(['web1', '--yes'], [], world)).toBe(0);
    expect(fake.servers).toHaveLength(1);
  });

  test('ids that there are none of, and none at all: all choices at once, with prices', async () => {
    const { fake, world } = await setUp(name, {
      config: `provider: ${name}\nlocation_id: ${CHOICES[name].location}\n`,
    });
    const error = await errorOf(createNode(['web1', '--size-id', 'nope', '--yes'], [], world));
    expect([error.code, error.exit]).toEqual(['provider.choice', 'usage']);
    expect(error.message).toMatch(/ needs --image-id; .* has no size in .* "nope"$/);
    const { plan, image } = CHOICES[name];
    expect(error.lines.join('\n')).toMatch(
      new RegExp(`^SIZE-ID .*CORES[^]*^${plan} .* [0-9]+\\.[0-9]{2} +[0-9.]+$`, 'm'),
    );
    expect(error.lines.some((line) => line.startsWith(`${image} `))).toBe(true);
    expect(error.hints[0]).toMatch(
      /^kraftwerk create-node web1 --provider \w+ --location-id \S+ --size-id \S+ --image-id \S+$/,
    );
    expect(fake.servers).toEqual([]);
  });

  test('a token is never seen', async () => {
    const { fake, world } = await setUp(name, { answers: ['y', 'n', 'n'] });
    await createNode(['web1'], [], world);
    const shown = JSON.stringify([world.out, world.said, world.asked]);
    for (const [variable, value] of Object.entries(fake.env))
      if (/TOKEN|KEY/.test(variable)) expect(shown).not.toContain(value);
    expect(shown).not.toContain('secret-of-vultr');
  });
});

test('what is shown before the price is confirmed, and no as the answer', async () => {
  const { fake, world } = await setUp('hetzner', { answers: ['n'] });
  const error = await errorOf(createNode(['web1.example.com'], [], world));
  expect([error.message, error.exit]).toEqual(['create-node: nothing ordered', 'failed']);
  expect(world.said).toEqual([
    'server    web1.example.com',
    'provider  Hetzner Cloud',
    'size      cx22, 2 cores (x86), 4 GB memory, 40 GB disk',
    'image     debian-12, Debian 12 (x86, arm)',
    'location  fsn1, Falkenstein, DE',
    expect.stringMatching(/^root key {2}SHA256:\S+ ada@example \(\/\S+\/key\.pub\)$/),
    'price     5.11 EUR a month (0.0082 an hour), with VAT and the IPv4 address',
  ]);
  // Nothing was made, no key either.
  expect(fake.requests.filter(({ method }) => method !== 'GET')).toEqual([]);
});

test('--json: one object on stdout, for an order and for a server that is there', async () => {
  const { world } = await setUp('hetzner');
  await createNode(['web1', '--yes', '--json', '--hosts'], [], world);
  const report = {
    ...{ node: 'web1', provider: 'hetzner', id: '4711', address: '127.0.0.1', ordered: true, size_id: 'cx22' },
    ...{ image_id: 'debian-12', location_id: 'fsn1', hosts_line: true, next: 'kraftwerk setup-node web1' },
    price: { monthly: expect.closeTo(5.1051), hourly: expect.closeTo(0.008152), currency: 'EUR' } as unknown,
  };
  expect(JSON.parse(world.out.join(''))).toEqual(report);
  world.out.splice(0);
  await createNode(['web1', '--json'], [], world);
  expect(JSON.parse(world.out.join(''))).toEqual({
    ...report,
    ordered: false,
    image_id: null,
    price: null,
    hosts_line: true,
  });
  world.out.splice(0);
  await destroyNode(['web1', '--json', '--confirm', 'web1'], world);
  expect(JSON.parse(world.out.join(''))).toEqual({
    ...{ node: 'web1', provider: 'hetzner', id: '4711', hosts_line_removed: true },
  });
});

test('lists, for people and for programs', async () => {
  const { world } = await setUp('hetzner', { config: 'provider: hetzner\n' });
  await createNode(['--list-plans', '--location-id', 'fsn1'], [], world);
  expect(world.out.join('')).toBe(
    'SIZE-ID  CPU  CORES  MEMORY   DISK  EUR/MONTH  EUR/HOUR\n' +
      'cax11    arm      2    4 GB  40 GB       5.11    0.0082\n' +
      'cx22     x86      2    4 GB  40 GB       5.11    0.0082\n' +
      'cpx11    x86      2    2 GB  40 GB       5.78    0.0093\n',
  );
  expect(world.said).toEqual(['prices of Hetzner Cloud in fsn1, with VAT and the IPv4 address']);
  for (const what of ['--list-images', '--list-locations']) {
    world.out.splice(0);
    await createNode([what, '--json'], [], world);
    expect(JSON.parse(world.out.join(''))).toContainEqual(
      what === '--list-images'
        ? { id: 'ubuntu-24.04', description: 'Ubuntu 24.04 (x86)' }
        : { id: 'fsn1', description: 'Falkenstein, DE' },
    );
  }
  expect((await errorOf(createNode(['--list-plans', '--list-images'], [], world))).message).toBe(
    'create-node: one list at a time',
  );
});

test('a slip of the finger', async () => {
  const { world } = await setUp('hetzner');
  const error = await errorOf(createNode(['web1', '--size-id', 'cx23', '--location-id', 'fsn2'], [], world));
  expect(error.message).toBe(
    'Hetzner Cloud has no location "fsn2", did you mean "fsn1"?; Hetzner Cloud has no size "cx23", did you mean "cx22"?',
  );
});

test('long lists of choices are cut, with the command that shows all', async () => {
  const { fake, world } = await setUp('vultr', { config: 'provider: vultr\nlocation_id: ams\nsize_id: vc2-1c-1gb\n' });
  const os = Array.from({ length: 90 }, (_, id) => ({ id, name: `Debian ${id}`, arch: 'x64', family: 'debian' }));
  fake.fail('GET', /\/os$/, { status: 200, body: { os, meta: { total: 90, links: { next: '', prev: '' } } } });
  const { lines } = await errorOf(createNode(['web1'], [], world));
  expect([lines.length, lines[41]]).toEqual([43, '… 50 more: kraftwerk create-node --provider vultr --list-images']);
});

test('EC2 without a region: the regions, and nothing else is asked for', async () => {
  const fake = await startProvider('ec2');
  const { AWS_REGION: _, ...env } = fake.env;
  // Of the region that is asked when none is named.
  fake.fail('POST', /^DescribeRegions$/, {
    status: 200,
    body: '<DescribeRegionsResponse><regionInfo><item><regionName>eu-north-1</regionName><regionEndpoint>x</regionEndpoint></item></regionInfo></DescribeRegionsResponse>',
  });
  fake.fail('POST', /^DescribeInstances$/, {
    status: 200,
    body: '<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>',
  });
  const world = worldOf({ env });
  const error = await errorOf(createNode(['web1', '--provider', 'ec2', '--size-id', 't3.micro'], [], world));
  expect([error.message, error.lines, error.hints[0]]).toEqual([
    'Amazon EC2 needs --location-id',
    ['LOCATION-ID  WHERE', 'eu-north-1   region', ''],
    'kraftwerk create-node web1 --provider ec2 --location-id eu-north-1',
  ]);
  const destroy = await errorOf(destroyNode(['web1', '--provider', 'ec2', '--confirm', 'web1'], world));
  expect(destroy.message).toBe('destroy-node: Amazon EC2 is asked region by region: name it with --location-id');
});

test('names that cannot be', async () => {
  const { world } = await setUp('hetzner');
  const messages: string[] = [];
  for (const name of ['', 'a_b', 'localhost', '10.0.0.1', 'Web1', 'a b', 'a'.repeat(64), 'web1.', '-x'])
    messages.push((await errorOf(createNode(['--', name], [], world))).message);
  expect(messages).toEqual([
    'create-node: NAME: expected a domain name, got nothing',
    'create-node: NAME: expected a domain name (a-z 0-9 - and dots; no _), got "a_b"',
    "create-node: NAME: localhost is this machine's own",
    'create-node: NAME: expected a name, not an address',
    'create-node: NAME: expected at most 63 of a-z 0-9 - and dots',
    'create-node: NAME: expected a domain name (a-z 0-9 - and dots), got "a b"',
    expect.stringMatching(/^create-node: NAME: expected a domain name/),
    'create-node: NAME: expected a domain name without a dot at its end, got "web1."',
    'create-node: NAME: expected a domain name (a-z 0-9 - and dots), got "-x"',
  ]);
  expect((await errorOf(createNode([], [], world))).message).toBe('create-node: which name is the server to have?');
});

test('no provider: which there are, and which variables they need', async () => {
  const world = worldOf({ env: {} });
  const error = await errorOf(createNode(['web1'], [], world));
  expect([error.message, error.lines]).toEqual([
    'which provider? Name one with --provider, or provider: in the configuration',
    [
      'hetzner (HCLOUD_TOKEN)',
      'digitalocean (DIGITALOCEAN_TOKEN)',
      'linode (LINODE_TOKEN)',
      'vultr (VULTR_API_KEY)',
      'ec2 (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)',
    ],
  ]);
});

test('another provider than the configured one: its ids are not taken', async () => {
  const fake = await startProvider('linode');
  const world = worldOf({ env: fake.env, config: configOf('hetzner') });
  const error = await errorOf(createNode(['web1', '--provider', 'linode'], [], world));
  expect(error.message).toBe('Linode needs --location-id, --size-id and --image-id');
});

test('the key: named, missing, private, not the default one', async () => {
  const { world, fake } = await setUp('hetzner');
  const missing = await errorOf(createNode(['web1', '--pubkey', 'nope.pub'], [], world));
  expect([missing.message, missing.hints.at(-1)]).toEqual([
    `${world.folder}/nope.pub: no such file`,
    'a new key: ssh-keygen -t ed25519',
  ]);
  writeFileSync(join(world.folder, 'key'), '-----BEGIN OPENSSH PRIVATE KEY-----\n');
  const secret = await errorOf(createNode(['web1', '--pubkey', 'key'], [], world));
  expect(secret.message).toBe(`${world.folder}/key: is a private key, name the file that ends in .pub`);
  expect(fake.requests.filter(({ method }) => method === 'POST')).toEqual([]);
  // The private one beside it is what setup-node has to log in with.
  await createNode(['web1', '--yes'], [], world);
  expect(world.said.at(-1)).toBe(`next: kraftwerk setup-node 127.0.0.1 --as web1 --identity ${world.folder}/key`);
});

test('the configuration: a mistake in it, and one that is not there', async () => {
  const { world } = await setUp('hetzner', { config: 'provider: hetzer\nnodes: 7\n' });
  const error = await errorOf(createNode(['web1'], [], world));
  expect([error.message, ...error.lines]).toEqual([
    `${world.folder}/.kraftwerk.yaml:2:11 provider: expected hetzner, digitalocean, linode, vultr or ec2, got "hetzer"`,
    `${world.folder}/.kraftwerk.yaml:3:8 nodes: expected nodes ("here: {local: true}"), got 7`,
  ]);
  expect((await errorOf(createNode(['web1', '--config', 'nope.yaml'], [], world))).message).toBe(
    `--config: no file ${world.folder}/nope.yaml`,
  );
});

describe('/etc/hosts', () => {
  test('a line of somebody else is left, and wins', async () => {
    const { world, hosts } = await setUp('hetzner', { hosts: '10.0.0.1 web1\n' });
    await createNode(['web1', '--yes', '--hosts'], [], world);
    expect(hosts()).toBe('10.0.0.1 web1\n');
    expect(world.said).toContain(`warning: ${world.hostsFile}:1 names web1 as 10.0.0.1: left as it is`);
    expect(world.said.at(-1)).toBe('next: kraftwerk setup-node 127.0.0.1 --as web1');
  });

  test('our own line of an earlier server is brought up to date', async () => {
    const { world, hosts } = await setUp('hetzner', { hosts: '198.51.100.9 web1 # kraftwerk: web1\n# end\n' });
    await createNode(['web1', '--yes', '--hosts'], [], world);
    expect(hosts()).toBe(`${LINE}# end\n`);
  });

  test('a name that is known already needs no line', async () => {
    const { world, hosts } = await setUp('hetzner', { answers: ['y', 'n'] });
    world.lookUp = async () => '127.0.0.1';
    await createNode(['web1'], [], world);
    expect([world.asked, hosts()]).toEqual([['Order it? [y/N]', 'Set it up as a node now? [y/N]'], LOCAL]);
    expect(world.said.at(-1)).toBe('next: kraftwerk setup-node web1');
  });

  test('a file that cannot be written is a warning: the server is up', async () => {
    const { world } = await setUp('hetzner');
    world.hostsFile = join(world.folder, 'none', 'hosts');
    expect(await createNode(['web1', '--yes', '--hosts'], [], world)).toBe(0);
    expect(world.said).toContain(`warning: ${world.hostsFile} was not changed (ENOENT)`);
  });
});

describe('destroy-node', () => {
  test('a server that kraftwerk has not made goes only by its id and its name', async () => {
    const { fake, world } = await setUp('digitalocean');
    await createNode(['web1', '--yes'], [], world);
    const [server] = fake.servers;
    if (server === undefined) throw new Error('no server');
    server.isOurs = false;
    const foreign = await errorOf(destroyNode(['web1', '--confirm', 'web1'], world));
    expect([foreign.message, foreign.hints, foreign.exit]).toEqual([
      `DigitalOcean has a server web1 that kraftwerk has not made (id ${server.id}): nothing was deleted`,
      [`if it is to go all the same: kraftwerk destroy-node web1 --provider digitalocean --id ${server.id}`],
      'denied',
    ]);
    const other = await errorOf(destroyNode(['web2', '--id', server.id, '--confirm', 'web2'], world));
    expect([other.message, other.hints]).toEqual([
      `DigitalOcean: the server ${server.id} is called web1, not web2`,
      ['nothing was deleted'],
    ]);
    expect(server.isGone).toBe(false);
    expect(await destroyNode(['web1', '--id', server.id, '--confirm', 'web1'], world)).toBe(0);
    expect(server.isGone).toBe(true);
  });

  test('no such server: an error, unless our line in /etc/hosts was left behind', async () => {
    const { world, hosts } = await setUp('hetzner', { hosts: LOCAL + LINE });
    expect(await destroyNode(['web1', '--confirm', 'web1'], world)).toBe(0);
    expect([hosts(), world.said[0]]).toEqual([LOCAL, 'Hetzner Cloud has no server web1']);
    const error = await errorOf(destroyNode(['web1', '--confirm', 'web1'], world));
    expect([error.message, error.exit]).toEqual(['Hetzner Cloud has no server web1', 'denied']);
  });

  test('the configuration still names it: a warning', async () => {
    const config = `${configOf('hetzner')}nodes: {web1: {host_key: "SHA256:${'a'.repeat(43)}"}}\nenvironments: {live: {nodes: [web1]}}\n`;
    const { world } = await setUp('hetzner', { config });
    await createNode(['web1', '--yes'], [], world);
    expect(world.said).toContain(`${world.folder}/.kraftwerk.yaml has the node web1 already`);
    await destroyNode(['web1', '--confirm', 'web1'], world);
    expect(world.said.at(-1)).toBe(`warning: ${world.folder}/.kraftwerk.yaml still names the node web1, in live`);
  });

  test('the answer is lost: asked again, and it is gone', async () => {
    const { fake, world } = await setUp('linode');
    await createNode(['web1', '--yes'], [], world);
    fake.fail('DELETE', /instances/, 'cut after');
    expect(await destroyNode(['web1', '--confirm', 'web1'], world)).toBe(0);
    expect(fake.servers[0]?.isGone).toBe(true);
  });
});

describe('waiting', () => {
  test('ten minutes, then it says what to do', async () => {
    const { fake, world } = await setUp('vultr');
    fake.bootPolls = Number.POSITIVE_INFINITY;
    const error = await errorOf(createNode(['web1', '--yes'], [], world));
    expect([error.code, error.message]).toEqual([
      'node.slow',
      expect.stringMatching(/^web1 \(id \S+\) is not ready after 600s: pending, no address yet$/),
    ]);
    expect(error.hints).toEqual([
      'the server is there, and costs: the same command again goes on waiting',
      'kraftwerk destroy-node web1 deletes it',
    ]);
    // A line every six seconds or so.
    const lines = world.said.filter((line) => line.startsWith('still waiting: pending, no address yet … '));
    expect(lines.length).toBeGreaterThan(90);
    expect(lines.length).toBeLessThan(105);
  });

  test('the provider has trouble for a while, and the server is not listed at once', async () => {
    const { fake, world } = await setUp('hetzner');
    fake.fail('GET', /servers\/4711$/, { status: 404, body: {} }, 2);
    fake.fail('GET', /servers\/4711$/, { status: 503, body: '' }, 6);
    expect(await createNode(['web1', '--yes'], [], world)).toBe(0);
    expect(world.said).toContainEqual(
      expect.stringMatching(/^still waiting: Hetzner Cloud: GET .* answered 503 \(503\) … /),
    );
  });

  test('an address that is none goes nowhere', async () => {
    const { fake, world, hosts } = await setUp('hetzner');
    fake.address = '127.0.0.1 evil\n127.0.0.1';
    const error = await errorOf(createNode(['web1', '--yes', '--hosts'], [], world));
    expect(error.message).toBe('Hetzner Cloud: web1: expected an IPv4 address, got "127.0.0.1 evil\\n127.0.0.1"');
    expect(hosts()).toBe(LOCAL);
  });

  test('somebody deletes it meanwhile', async () => {
    const { fake, world } = await setUp('hetzner');
    fake.bootPolls = 99;
    fake.fail('GET', /servers\/4711$/, { status: 404, body: {} }, 999);
    const error = await errorOf(createNode(['web1', '--yes'], [], world));
    expect(error.message).toBe('web1 (id 4711) is gone from Hetzner Cloud: not listed');
  });

  test('Ctrl-C leaves the server, and says so', async () => {
    const controller = new AbortController();
    const { fake, world } = await setUp('hetzner', { signal: controller.signal });
    world.isSshOpen = async () => {
      controller.abort(new KraftwerkError('node.interrupted', 'interrupted'));
      return false;
    };
    const error = await errorOf(createNode(['web1', '--yes'], [], world));
    expect([error.message, error.hints]).toEqual([
      'interrupted: the server is there, and costs',
      ['the same command again looks for it and goes on', 'kraftwerk destroy-node web1 --provider hetzner deletes it'],
    ]);
    expect(fake.servers).toHaveLength(1);
  });
});

test('every provider is in the table', () => {
  expect(Object.keys(FAKE_KINDS)).toEqual([...PROVIDER_NAMES]);
});
