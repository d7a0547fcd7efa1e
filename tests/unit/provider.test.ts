// Every provider against a server on this machine that answers as the real one does: pages, refusals, lost answers, slow boots.
// Long because: one table of what every provider has to do, and beside it what is peculiar to one.
import { afterEach, describe, expect, test } from 'vitest';
import { renderUserData } from '../../receiver/providers/cloud-init.ts';
import { findServer, orderServer } from '../../receiver/providers/create-server.ts';
import { PROVIDER_NAMES, type ProviderName, type ServerOrder } from '../../receiver/providers/provider.ts';
import type { FakeProvider } from '../actors/fake-provider-server.ts';
import {
  CHOICES,
  type Client,
  connectTo,
  errorOf,
  FAKE_KINDS,
  PUBLIC_KEY,
  startFakeProvider,
} from '../actors/fake-providers.ts';

const fakes: FakeProvider[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.close();
});

async function start(name: ProviderName, location: string | null = null): Promise<Client & { fake: FakeProvider }> {
  const fake = await startFakeProvider(name);
  fakes.push(fake);
  return { ...connectTo(name, fake.env, location), fake };
}

async function orderOf({ provider }: Client, name: string): Promise<ServerOrder> {
  const prepared = await provider.prepare(PUBLIC_KEY);
  const order = { ...CHOICES[provider.name], name, prepared, publicKey: PUBLIC_KEY };
  return { ...order, userData: renderUserData(PUBLIC_KEY) };
}

/** How each is asked for a new server, and for a list that comes in pages. */
const ORDER: Record<ProviderName, RegExp> = {
  hetzner: /^\/v1\/servers$/,
  digitalocean: /^\/v2\/droplets$/,
  linode: /^\/v4\/linode\/instances$/,
  vultr: /^\/v2\/instances$/,
  ec2: /^RunInstances$/,
};
const LIST: Record<ProviderName, [method: string, path: RegExp]> = {
  hetzner: ['GET', /server_types$/],
  digitalocean: ['GET', /sizes$/],
  linode: ['GET', /types$/],
  vultr: ['GET', /plans$/],
  ec2: ['POST', /^DescribeInstanceTypes$/],
};
const SECRETS = PROVIDER_NAMES.flatMap((name) =>
  Object.entries(FAKE_KINDS[name].env('http://x'))
    .filter(([variable]) => /TOKEN|KEY/.test(variable))
    .map(([, value]) => value),
);

const usd = (monthly: number, hourly: number) => ({ monthly, hourly, currency: 'USD' });

const LISTS: Record<ProviderName, { locations: unknown; plans: unknown; anywhere: string[]; images: unknown }> = {
  hetzner: {
    locations: [
      { id: 'fsn1', description: 'Falkenstein, DE' },
      { id: 'ash', description: 'Ashburn, VA, US' },
      { id: 'hel1', description: 'Helsinki, FI' },
    ],
    // With the address; what is sold out is left out.
    plans: [
      {
        id: 'cax11',
        cpu: 'arm',
        cores: 2,
        memoryGb: 4,
        diskGb: 40,
        price: expect.objectContaining({ currency: 'EUR' }) as unknown,
      },
      {
        ...{ id: 'cx22', cpu: 'x86', cores: 2, memoryGb: 4, diskGb: 40 },
        price: { monthly: 4.5101 + 0.595, hourly: 0.0072 + 0.000952, currency: 'EUR' },
      },
      { id: 'cpx11', cpu: 'x86', cores: 2, memoryGb: 2, diskGb: 40, price: expect.anything() as unknown },
    ],
    anywhere: ['cax11', 'cx22', 'cpx11'],
    images: [
      { id: '777', description: 'mine (x86)' },
      { id: 'debian-12', description: 'Debian 12 (x86, arm)' },
      { id: 'ubuntu-24.04', description: 'Ubuntu 24.04 (x86)' },
    ],
  },
  digitalocean: {
    locations: [
      { id: 'fra1', description: 'Frankfurt 1' },
      { id: 'nyc3', description: 'New York 3' },
    ],
    plans: [
      { id: 's-1vcpu-1gb', cpu: null, cores: 1, memoryGb: 1, diskGb: 25, price: usd(6, 6 / 672) },
      { id: 's-2vcpu-4gb', cpu: null, cores: 2, memoryGb: 4, diskGb: 80, price: usd(24, 24 / 672) },
    ],
    anywhere: ['s-1vcpu-512mb-10gb', 's-1vcpu-1gb', 's-2vcpu-4gb'],
    images: [
      { id: 'ubuntu-24-04-x64', description: 'Ubuntu 24.04 (LTS) x64' },
      { id: 'debian-12-x64', description: 'Debian 12 x64' },
      { id: '555', description: 'Debian my snapshot' },
    ],
  },
  linode: {
    locations: [
      { id: 'eu-central', description: 'Frankfurt, DE, DE' },
      { id: 'br-gru', description: 'Sao Paulo, BR, BR' },
    ],
    plans: [
      { id: 'g6-nanode-1', cpu: null, cores: 1, memoryGb: 1, diskGb: 25, price: usd(5, 5 / 667) },
      { id: 'g6-standard-1', cpu: null, cores: 1, memoryGb: 2, diskGb: 50, price: usd(12, 12 / 667) },
    ],
    anywhere: ['g6-nanode-1', 'g6-standard-1'],
    images: [
      { id: 'linode/debian12', description: 'Debian 12' },
      { id: 'private/77', description: 'mine' },
    ],
  },
  vultr: {
    locations: [
      { id: 'ams', description: 'Amsterdam, NL' },
      { id: 'ewr', description: 'New Jersey, US' },
    ],
    plans: [
      { id: 'vc2-1c-1gb', cpu: null, cores: 1, memoryGb: 1, diskGb: 25, price: usd(5, 5 / 730) },
      { id: 'vc2-1c-2gb', cpu: null, cores: 1, memoryGb: 2, diskGb: 55, price: usd(10, 0.015) },
    ],
    anywhere: ['vc2-1c-1gb', 'vc2-1c-2gb'],
    images: [
      { id: '2136', description: 'Debian 12 x64 (bookworm)' },
      { id: '2284', description: 'Ubuntu 24.04 LTS x64' },
    ],
  },
  ec2: {
    locations: [
      { id: 'eu-central-1', description: 'region' },
      { id: 'us-east-1', description: 'region' },
      { id: 'eu-central-1a', description: 'zone of eu-central-1' },
      { id: 'eu-central-1b', description: 'zone of eu-central-1' },
    ],
    plans: [
      { id: 't4g.micro', cpu: 'arm64', cores: 2, memoryGb: 1, diskGb: null, price: usd(0.0096 * 730, 0.0096) },
      { id: 't3.micro', cpu: 'x86_64', cores: 2, memoryGb: 1, diskGb: null, price: usd(0.012 * 730, 0.012) },
      { id: 't3.small', cpu: 'x86_64', cores: 2, memoryGb: 2, diskGb: null, price: usd(0.024 * 730, 0.024) },
    ],
    anywhere: ['t4g.micro', 't3.micro', 't3.small'],
    images: [
      { id: 'ami-0debian12new', description: 'debian-12-amd64-20241004-1890 (x86_64)' },
      {
        id: 'ami-0noble',
        description: 'ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20241004 (x86_64)',
      },
    ],
  },
};

describe.each(PROVIDER_NAMES)('%s', (name) => {
  test('lists locations, plans with prices, and images, through all pages', async () => {
    const { provider, fake } = await start(name);
    const { location } = CHOICES[name];
    expect({
      locations: await provider.locations(),
      plans: await provider.plans(location, null),
      anywhere: (await provider.plans(null, null)).map(({ id }) => id),
      images: await provider.images(location, null),
    }).toEqual(LISTS[name]);
    expect(fake.count(...LIST[name])).toBeGreaterThan(2);
  });

  test('a server is ordered with key and user data, boots, is found by its name, and goes', async () => {
    const client = await start(name);
    const { provider, fake } = client;
    fake.bootPolls = 3;
    expect(await provider.find('web1')).toEqual([]);

    const made = await provider.create(await orderOf(client, 'web1'));
    expect(made).toMatchObject({
      name: 'web1',
      plan: CHOICES[name].plan,
      isOurs: true,
      isRunning: false,
      address: null,
    });
    const [server] = fake.servers;
    expect(server?.image).toBe(CHOICES[name].image);
    // Root's key comes by the provider's own way, and by cloud-init where there is one.
    const { key = PUBLIC_KEY, user_data: userData = renderUserData(PUBLIC_KEY) } = server?.order ?? {};
    expect([key, userData]).toEqual([PUBLIC_KEY, renderUserData(PUBLIC_KEY)]);
    if (name !== 'linode') expect(server?.order).toHaveProperty('user_data');
    if (name !== 'ec2') expect(server?.order).toHaveProperty('key');

    const seen = [await provider.get(made.id), await provider.get(made.id), await provider.get(made.id)];
    expect(seen.map((one) => [one?.isRunning, one?.address])).toEqual([
      [false, null],
      [false, null],
      [true, '127.0.0.1'],
    ]);
    expect(await provider.find('web1')).toMatchObject([{ id: made.id, isRunning: true, isOurs: true }]);
    expect(await provider.find('web')).toEqual([]);

    await provider.destroy(made.id);
    expect(await provider.find('web1')).toEqual([]);
    const gone = await provider.get(made.id);
    expect(gone === null || gone.isGone).toBe(true);
    // Again, and one that was never there: gone is gone.
    await provider.destroy(made.id);
    await provider.destroy(name === 'ec2' ? 'i-0999' : '999');
  });

  test('what an order refers to is made once', async () => {
    const { provider, fake } = await start(name);
    const first = await provider.prepare(PUBLIC_KEY);
    const posts = fake.requests.length;
    expect(await provider.prepare(PUBLIC_KEY)).toBe(first);
    expect(
      fake.requests.slice(posts).filter(({ method, text }) => method === 'POST' && !/Describe/.test(text)),
    ).toEqual([]);
  });

  test('its refusal is repeated in its own words', async () => {
    const client = await start(name);
    const order = { ...(await orderOf(client, 'full-1')), ...(name === 'linode' && { name: 'ab' }) };
    const error = await errorOf(client.provider.create(name === 'ec2' ? { ...order, plan: 't3.small' } : order));
    const words: Record<ProviderName, string> = {
      hetzner: 'Hetzner Cloud: POST /v1/servers: server limit exceeded (403)',
      digitalocean:
        'DigitalOcean: POST /v2/droplets: creating this/these droplet(s) will exceed your droplet limit (422)',
      linode: 'Linode: POST /v4/linode/instances: label: Label must be between 3 and 64 characters (400)',
      vultr: 'Vultr: POST /v2/instances: Server add failed: Plan is not available in the selected region. (400)',
      ec2: 'Amazon EC2: RunInstances: InsufficientInstanceCapacity: We currently do not have sufficient t3.small capacity. (500)',
    };
    expect([error.code, error.message]).toEqual(['provider.refused', words[name]]);
    expect(client.fake.servers).toEqual([]);
    expect(client.fake.count('POST', ORDER[name])).toBe(1);
  });

  test('a wrong token: which variable, where to get one, and never the token itself', async () => {
    const fake = await startFakeProvider(name);
    fakes.push(fake);
    const [variable = '', token = ''] = Object.entries(fake.env).find(([one]) => /TOKEN|KEY$/.test(one)) ?? [];
    const { provider } = connectTo(name, { ...fake.env, [variable]: `${token}-wrong` });
    const error = await errorOf(provider.plans(null, null));
    expect(error.code).toBe('provider.token');
    expect(error.message).toMatch(/ does not accept the token: .*[a-z]/);
    expect(error.hints.join(' ')).toMatch(/https:\/\/.* read -rs [A-Z_]+ && export [A-Z_]+$/);
    expect(fake.requests).toHaveLength(1);
    for (const secret of SECRETS)
      expect(JSON.stringify([error.message, error.hints, error.stack])).not.toContain(secret);
  });

  test('no token at all', () => {
    const env = FAKE_KINDS[name].env('http://127.0.0.1:1');
    for (const variable of Object.keys(env).filter((one) => /TOKEN|KEY/.test(one))) {
      expect(() => connectTo(name, { ...env, [variable]: ' ' })).toThrow(
        `the environment variable ${variable} is not set`,
      );
      const odd = { ...env, [variable]: 'sec\nret' };
      expect(() => connectTo(name, odd)).toThrow(`${variable} contains blanks or other characters of no token`);
    }
  });

  test('429: waits as long as it is told, and asks again', async () => {
    const { provider, fake, said, pauses } = await start(name);
    fake.fail(...LIST[name], { status: 429, headers: { 'retry-after': '7' }, body: {} }, 2);
    expect((await provider.plans(null, null)).length).toBeGreaterThan(0);
    expect(pauses).toEqual([7000, 7000]);
    expect(said[0]).toMatch(/ asks for fewer requests \(429\); trying again in 7 s$/);
  });

  test('429 of an order was not carried out: it is given again', async () => {
    const client = await start(name);
    const order = await orderOf(client, 'web1');
    client.fake.fail('POST', ORDER[name], { status: 429, body: {} }, 2);
    await client.provider.create(order);
    expect(client.fake.servers).toHaveLength(1);
    expect(client.pauses).toEqual([500, 1000]);
  });

  test('429 for an hour, or again and again: gives up', async () => {
    const { provider, fake, pauses } = await start(name);
    fake.fail(...LIST[name], { status: 429, headers: { 'retry-after': '3600' }, body: {} });
    const long = await errorOf(provider.plans(null, null));
    expect([long.code, long.hints]).toEqual(['provider.busy', ['try again in 60 min']]);
    expect(pauses).toEqual([]);
    fake.fail(...LIST[name], { status: 429, headers: { 'retry-after': '1' }, body: {} }, 99);
    expect((await errorOf(provider.plans(null, null))).code).toBe('provider.busy');
    expect(pauses).toEqual([1000, 1000, 1000, 1000]);
  });

  test('502 and cut connections: reads are tried again, with growing pauses, five times at most', async () => {
    const { provider, fake, pauses } = await start(name);
    fake.fail(...LIST[name], { status: 502, body: '<html>Bad Gateway</html>' });
    fake.fail(...LIST[name], 'cut before');
    expect((await provider.plans(null, null)).length).toBeGreaterThan(0);
    expect(pauses).toEqual([500, 1000]);
    fake.fail(...LIST[name], { status: 502, body: '' }, 99);
    const before = fake.count(...LIST[name]);
    expect((await errorOf(provider.plans(null, null))).code).toBe('provider.down');
    expect(fake.count(...LIST[name]) - before).toBe(5);
  });

  test('an order whose answer is lost makes one server, and that one is taken', async () => {
    const client = await start(name);
    const order = await orderOf(client, 'web1');
    client.fake.fail('POST', ORDER[name], 'cut after');
    const server = await orderServer(client.provider, order, client.context);
    expect(client.fake.servers.map(({ id }) => id)).toEqual([server.id]);
    expect(client.said.join('\n')).toMatch(/the connection was cut before the answer/);
    // A second run of the command finds it first.
    expect(await findServer(client.provider, 'web1')).toMatchObject({ id: server.id });
  });

  test('an order that failed with 504 after it was carried out', async () => {
    const client = await start(name);
    const order = await orderOf(client, 'web1');
    await client.provider.create(order);
    client.fake.fail('POST', ORDER[name], { status: 504, body: '' });
    await orderServer(client.provider, order, client.context);
    expect(client.fake.servers).toHaveLength(1);
  });

  test('an order that got lost on its way: given again only where it cannot make two', async () => {
    const client = await start(name);
    const order = await orderOf(client, 'web1');
    client.fake.fail('POST', ORDER[name], 'cut before');
    if (client.provider.refusesTwins) {
      await orderServer(client.provider, order, client.context);
      expect(client.fake.servers).toHaveLength(1);
      return;
    }
    const error = await errorOf(orderServer(client.provider, order, client.context));
    expect([error.code, error.message]).toEqual([
      'provider.lost',
      `${client.provider.title} did not answer the order of web1, and lists no such server so far`,
    ]);
    expect(client.fake.servers).toEqual([]);
    expect(client.fake.count('POST', ORDER[name])).toBe(1);
  });

  test('one that somebody else has made is not taken, and two are too many', async () => {
    const client = await start(name);
    const order = await orderOf(client, 'web1');
    await client.provider.create(order);
    const [server] = client.fake.servers;
    if (server === undefined) throw new Error('no server');
    server.isOurs = false;
    const foreign = await errorOf(findServer(client.provider, 'web1'));
    expect([foreign.code, foreign.message]).toEqual([
      'node.foreign',
      `${client.provider.title} has a server web1 that kraftwerk has not made (id ${server.id})`,
    ]);
    server.isOurs = true;
    client.fake.servers.push({ ...server, id: `${server.id}9` });
    expect((await errorOf(findServer(client.provider, 'web1'))).code).toBe('node.ambiguous');
  });

  test('an answer of another shape is refused, with its place', async () => {
    const { provider, fake } = await start(name);
    const body =
      name === 'ec2'
        ? '<DescribeInstanceTypesResponse><instanceTypeSet><item/></instanceTypeSet></DescribeInstanceTypesResponse>'
        : { plans: 7 };
    fake.fail(...LIST[name], { status: 200, body });
    const error = await errorOf(provider.plans(null, null));
    expect(error.code).toBe('provider.answer');
    expect(error.message).toMatch(/^.*: an answer that kraftwerk does not understand: .*expected/);
    fake.fail(...LIST[name], { status: 200, body: 'maintenance' });
    expect((await errorOf(provider.plans(null, null))).code).toBe('provider.answer');
  });

  test('a redirect is not followed: the token stays', async () => {
    const { provider, fake } = await start(name);
    const elsewhere = await startFakeProvider(name);
    fakes.push(elsewhere);
    const location = Object.values(elsewhere.env).find((value) => value.startsWith('http')) ?? '';
    fake.fail(...LIST[name], { status: 307, headers: { location }, body: '' });
    expect((await errorOf(provider.plans(null, null))).message).toMatch(/answered 307 \(307\)$/);
    expect(elsewhere.requests).toEqual([]);
  });

  test('nobody listens', async () => {
    const client = await start(name);
    await fakes.pop()?.close();
    const error = await errorOf(client.provider.plans(null, null));
    expect([error.code, error.message.replace(/^.*: /, '')]).toEqual(['provider.down', 'cannot connect (refused)']);
    expect(client.pauses).toEqual([500, 1000, 2000, 4000]);
  });

  test('Ctrl-C ends the waiting', async () => {
    const fake = await startFakeProvider(name);
    fakes.push(fake);
    const controller = new AbortController();
    const { provider } = connectTo(name, fake.env, null, controller.signal);
    fake.fail(...LIST[name], { status: 502, body: '' }, 99);
    controller.abort(new Error('interrupted'));
    await expect(provider.plans(null, null)).rejects.toThrow('interrupted');
    expect(fake.requests.length).toBeLessThan(2);
  });
});

test('two that were ordered in the same moment, where that makes two: both are named', async () => {
  const client = await start('vultr');
  const order = await orderOf(client, 'web1');
  await client.provider.create(order);
  const error = await errorOf(orderServer(client.provider, order, client.context));
  expect([error.code, error.message, error.lines.length]).toEqual(['node.ambiguous', 'Vultr has 2 servers web1', 2]);
});

test('pages without end are cut off', async () => {
  const { provider, fake } = await start('hetzner');
  const meta = {
    pagination: { page: 1, per_page: 50, previous_page: null, next_page: 2, last_page: 2, total_entries: 1 },
  };
  fake.fail('GET', /locations$/, { status: 200, body: { locations: [], meta } }, 999);
  expect((await errorOf(provider.locations())).message).toBe('more than 100 pages in one list');
  expect(fake.count('GET', /locations$/)).toBe(100);
});

test('a next page of another host is asked for at our own', async () => {
  const { provider, fake } = await start('digitalocean');
  fake.fail('GET', /sizes$/, {
    status: 200,
    body: { sizes: [], links: { pages: { next: 'https://evil.example/v2/sizes?page=2' } }, meta: { total: 3 } },
  });
  expect(await provider.plans(null, null)).toHaveLength(1);
});

test('EC2: a name is free again when its server was destroyed, though Amazon remembers the token', async () => {
  const client = await start('ec2');
  const order = await orderOf(client, 'web1');
  for (const turn of [1, 2, 3]) {
    const server = await client.provider.create(order);
    expect(client.fake.servers).toHaveLength(turn);
    await client.provider.destroy(server.id);
  }
});

test('EC2: another order under the same name, while the first cannot be seen yet', async () => {
  const client = await start('ec2');
  const order = await orderOf(client, 'web1');
  const first = await client.provider.create(order);
  const second = await client.provider.create({ ...order, image: 'ami-0noble' });
  expect([second.id, client.fake.servers.length]).toEqual([first.id, 1]);
});

test('EC2: a zone, the region of the environment, and neither', async () => {
  const { provider, fake } = await start('ec2', 'eu-central-1a');
  expect(provider.defaultLocation).toBe('eu-central-1');
  const order = await orderOf({ provider } as Client, 'web1');
  expect((await provider.create(order)).location).toBe('eu-central-1a');
  const { AWS_REGION: _, ...env } = fake.env;
  expect(connectTo('ec2', env).provider.defaultLocation).toBe(null);
  expect(() => connectTo('ec2', fake.env, 'Frankfurt')).toThrow(
    'Amazon EC2: expected a region as eu-central-1, or a zone as eu-central-1a, got "Frankfurt"',
  );
});

test('EC2: prices that this key may not see are not known, and nothing fails', async () => {
  const { provider, fake } = await start('ec2');
  const body = {
    __type: 'com.amazon.coral.service#AccessDeniedException',
    Message: 'not authorized to perform pricing:GetProducts',
  };
  fake.fail('POST', /^\/$/, { status: 400, body });
  expect((await provider.plans('eu-central-1', null)).map(({ price }) => price)).toEqual([null, null, null]);
});

test('EC2: one type, one image', async () => {
  const { provider, fake } = await start('ec2');
  expect(await provider.plans(null, 't3.micro')).toMatchObject([{ id: 't3.micro', price: { hourly: 0.012 } }]);
  expect(fake.requests).toHaveLength(2);
  expect(await provider.plans(null, 't3.huge')).toEqual([]);
  expect(await provider.images(null, 'ami-0mine')).toEqual([
    { id: 'ami-0mine', description: 'my own & only <image> (arm64)' },
  ]);
  expect((await provider.images(null, 'ami-0none')).map(({ id }) => id)).toEqual(['ami-0debian12new', 'ami-0noble']);
});

test('EC2: the firewall opens what is closed, and leaves what an admin has narrowed', async () => {
  const { provider, fake } = await start('ec2');
  expect(await provider.prepare(PUBLIC_KEY)).toBe('sg-1');
  const opened = () =>
    fake.requests.flatMap(({ text }) => /^Action=Authorize.*FromPort=([0-9]+)/.exec(text)?.[1] ?? []);
  expect(opened()).toEqual(['22', '80', '443']);
  await provider.prepare(PUBLIC_KEY);
  expect(opened()).toEqual(['22', '80', '443']);
});

test('Linode: prices of a region that has its own', async () => {
  const { provider } = await start('linode');
  expect((await provider.plans('br-gru', null)).find(({ id }) => id === 'g6-standard-1')?.price?.monthly).toBe(16.8);
});

test.each([
  ['http://api.hetzner.cloud/v1', 'HCLOUD_ENDPOINT: expected an address that begins with https://'],
  ['ftp://127.0.0.1', 'HCLOUD_ENDPOINT: expected an address that begins with https://'],
  ['api.hetzner.cloud', 'HCLOUD_ENDPOINT: expected an address that begins with https://'],
  ['https://u:p@x.example', 'HCLOUD_ENDPOINT: expected an address without user, query and fragment'],
])('the token is sent over https only: %s', (endpoint, message) => {
  expect(() => connectTo('hetzner', { HCLOUD_TOKEN: 'x', HCLOUD_ENDPOINT: endpoint })).toThrow(message);
});

test('no provider, or one that there is not', () => {
  const context = { env: {}, location: null };
  expect(() => connectTo('hetzer' as ProviderName, context.env)).toThrow(
    'no provider "hetzer", did you mean "hetzner"?',
  );
});
