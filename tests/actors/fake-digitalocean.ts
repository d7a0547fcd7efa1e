/** Actor: DigitalOcean, as https://docs.digitalocean.com/reference/api/digitalocean/ has it. */
import { md5Fingerprint } from '../../receiver/providers/key-name.ts';
import {
  addServer,
  alive,
  type FakeAnswer,
  type FakeKind,
  type FakeRequest,
  type FakeServer,
  type FakeState,
  hasBooted,
  pageOf,
  poll,
} from './fake-provider-server.ts';

const TOKEN = 'dop_v1_test';

const size = (slug: string, memory: number, vcpus: number, disk: number, monthly: number, regions: string[]) => ({
  ...{ slug, memory, vcpus, disk, transfer: 1, price_monthly: monthly, price_hourly: monthly / 672, regions },
  ...{ available: true, description: 'Basic' },
});
const SIZES = [
  size('s-1vcpu-1gb', 1024, 1, 25, 6, ['fra1', 'nyc3']),
  size('s-1vcpu-512mb-10gb', 512, 1, 10, 4, ['nyc3']),
  size('s-2vcpu-4gb', 4096, 2, 80, 24, ['fra1', 'nyc3']),
  { ...size('gone', 512, 1, 10, 1, ['fra1']), available: false },
];
const REGIONS = [
  { slug: 'fra1', name: 'Frankfurt 1', sizes: [], available: true, features: [] },
  { slug: 'nyc3', name: 'New York 3', sizes: [], available: true, features: [] },
  { slug: 'nyc2', name: 'New York 2', sizes: [], available: false, features: [] },
];
const image = (id: number, slug: string | null, distribution: string, name: string, own = false) => ({
  ...{ id, slug, distribution, name, public: !own, regions: ['fra1', 'nyc3'], created_at: '2023-06-20T00:00:00Z' },
  ...{ min_disk_size: 7, type: own ? 'snapshot' : 'base', size_gigabytes: 1, status: 'available', tags: [] },
});
const IMAGES = [
  image(133, 'ubuntu-24-04-x64', 'Ubuntu', '24.04 (LTS) x64'),
  image(134, 'debian-12-x64', 'Debian', '12 x64'),
  image(555, null, 'Debian', 'my snapshot', true),
];

export const fakeDigitalOcean: FakeKind = {
  env: (url) => ({ DIGITALOCEAN_TOKEN: TOKEN, DIGITALOCEAN_API_URL: url }),
  handle(request, state) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`)
      return error(401, 'Unauthorized', 'Unable to authenticate you');
    const path = request.path.replace(/^\/v2/, '');
    const id = /^\/droplets\/([^/]+)$/.exec(path)?.[1];
    const key = /^\/account\/keys\/([^/]+)$/.exec(path)?.[1];
    const route = `${request.method} ${path}`;
    if (route === 'GET /sizes') return list(request, state, 'sizes', SIZES);
    if (route === 'GET /regions') return list(request, state, 'regions', REGIONS);
    if (route === 'GET /images')
      return list(
        request,
        state,
        'images',
        IMAGES.filter((one) => one.public === (request.query.get('private') !== 'true')),
      );
    if (request.method === 'GET' && key !== undefined) return getKey(key, state);
    if (route === 'POST /account/keys') return addKey(request, state);
    if (route === 'POST /droplets') return create(request, state);
    if (route === 'GET /droplets')
      return list(
        request,
        state,
        'droplets',
        alive(state, request.query.get('name')).map((one) => show(state, one)),
      );
    const found = id === undefined ? null : poll(state, id);
    if (found === null) return error(404, 'not_found', 'The resource you requested could not be found.');
    if (request.method !== 'DELETE') return { status: 200, body: { droplet: show(state, found) } };
    found.isGone = true;
    return { status: 204 };
  },
};

function list(request: FakeRequest, state: FakeState, key: string, all: readonly object[]): FakeAnswer {
  const asked = Number(request.query.get('per_page') ?? 20);
  const { items, page, pages } = pageOf(all, Number(request.query.get('page') ?? 1), asked, state.pageSize);
  const next = `https://api.digitalocean.com${request.path}?page=${page + 1}&per_page=${asked}`;
  const links = page < pages ? { pages: { next, last: next } } : {};
  return { status: 200, body: { [key]: items, links, meta: { total: all.length } } };
}

function getKey(fingerprint: string, state: FakeState): FakeAnswer {
  const found = [...state.keys].find(([, line]) => md5Fingerprint(line) === fingerprint);
  if (found === undefined) return error(404, 'not_found', 'The resource you requested could not be found.');
  return { status: 200, body: { ssh_key: { id: Number(found[0]), fingerprint, public_key: found[1], name: 'key' } } };
}

function addKey({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const line = String(body.public_key);
  if ([...state.keys.values()].includes(line))
    return error(422, 'unprocessable_entity', 'SSH Key is already in use on your account');
  const id = 500 + state.keys.size;
  state.keys.set(String(id), line);
  return {
    status: 201,
    body: { ssh_key: { id, fingerprint: md5Fingerprint(line), public_key: line, name: body.name } },
  };
}

function create({ body }: FakeRequest, state: FakeState): FakeAnswer {
  if (String(body.name).startsWith('full'))
    return error(422, 'unprocessable_entity', 'creating this/these droplet(s) will exceed your droplet limit');
  const [key] = body.ssh_keys as string[];
  const line = [...state.keys.values()].find((one) => md5Fingerprint(one) === key);
  if (line === undefined)
    return error(422, 'unprocessable_entity', `${key} are invalid key identifiers for Droplet creation.`);
  const server = addServer(state, {
    ...{
      name: String(body.name),
      plan: String(body.size),
      image: String(body.image),
      location: String(body.region),
    },
    isOurs: ((body.tags ?? []) as string[]).includes('kraftwerk'),
    order: { ...body, key: line },
  });
  return {
    status: 202,
    body: { droplet: show(state, server), links: { actions: [{ id: 1, rel: 'create', href: '' }] } },
  };
}

function show(state: FakeState, server: FakeServer): object {
  const ready = hasBooted(state, server);
  const addresses = [
    { ip_address: '10.135.0.2', netmask: '255.255.0.0', gateway: '', type: 'private' },
    { ip_address: state.address, netmask: '255.255.240.0', gateway: '', type: 'public' },
  ];
  return {
    ...{ id: Number(server.id), name: server.name, memory: 1024, vcpus: 1, disk: 25, locked: !ready },
    ...{ status: ready ? 'active' : 'new', created_at: '2026-11-22T10:20:30Z', size_slug: server.plan },
    region: REGIONS.find(({ slug }) => slug === server.location) ?? REGIONS[0],
    networks: { v4: ready ? addresses : [], v6: [] },
    tags: server.isOurs ? ['kraftwerk'] : [],
  };
}

function error(status: number, id: string, message: string): FakeAnswer {
  return { status, body: { id, message, request_id: '4d9d8375-3c56-4925-a3e7-eb137fed17e9' } };
}
