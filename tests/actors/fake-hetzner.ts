/** Actor: Hetzner Cloud, as https://docs.hetzner.cloud/reference/cloud has it. */
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

const TOKEN = 'hcloud-test-token';

const price = (location: string, monthly: string, hourly: string) => ({
  location,
  price_hourly: { net: hourly, gross: hourly },
  price_monthly: { net: monthly, gross: monthly },
  included_traffic: 21990232555520,
  price_per_tb_traffic: { net: '1.0000000000', gross: '1.1900000000000000' },
});
const type = (id: number, name: string, cores: number, memory: number, disk: number, prices: object[], rest = {}) => ({
  ...{ id, name, description: name.toUpperCase(), cores, memory, disk, prices },
  ...{ deprecated: false, deprecation: null, storage_type: 'local', cpu_type: 'shared', architecture: 'x86' },
  locations: [
    { id: 1, name: 'fsn1', deprecation: null, available: true, recommended: false },
    { id: 2, name: 'ash', deprecation: null, available: true, recommended: false },
  ],
  ...rest,
});
const TYPES = [
  type(22, 'cpx11', 2, 2, 40, [
    price('fsn1', '5.1765000000000000', '0.0083300000000000'),
    price('ash', '5.9000', '0.0094'),
  ]),
  type(104, 'cx22', 2, 4, 40, [price('fsn1', '4.5101000000000000', '0.0072000000000000')]),
  type(45, 'cax11', 2, 4, 40, [price('fsn1', '4.5100000000000000', '0.0072000000000000')], { architecture: 'arm' }),
  type(99, 'cx99', 2, 4, 40, [price('fsn1', '1.0000', '0.0010')], {
    locations: [{ id: 1, name: 'fsn1', deprecation: null, available: false, recommended: false }],
  }),
];
const image = (id: number, kind: string, name: string | null, description: string, rest = {}) => ({
  ...{ id, type: kind, status: 'available', name, description, image_size: null, disk_size: 5, created: '2023-06-13' },
  ...{ os_flavor: 'debian', os_version: '12', architecture: 'x86', deprecated: null, labels: {}, ...rest },
});
const IMAGES = [
  image(114690387, 'system', 'debian-12', 'Debian 12'),
  image(114690389, 'system', 'debian-12', 'Debian 12', { architecture: 'arm' }),
  image(161547269, 'system', 'ubuntu-24.04', 'Ubuntu 24.04'),
  image(5924233, 'system', 'debian-10', 'Debian 10', { deprecated: '2023-08-25T00:00:00+00:00' }),
  image(40093140, 'app', 'docker-ce', 'docker-ce'),
  image(777, 'snapshot', null, 'mine'),
];
const LOCATIONS = [
  {
    id: 1,
    name: 'fsn1',
    description: 'Falkenstein DC Park 1',
    country: 'DE',
    city: 'Falkenstein',
    network_zone: 'eu-central',
  },
  { id: 2, name: 'ash', description: 'Ashburn, VA', country: 'US', city: 'Ashburn, VA', network_zone: 'us-east' },
  {
    id: 3,
    name: 'hel1',
    description: 'Helsinki DC Park 1',
    country: 'FI',
    city: 'Helsinki',
    network_zone: 'eu-central',
  },
];

export const fakeHetzner: FakeKind = {
  env: (url) => ({ HCLOUD_TOKEN: TOKEN, HCLOUD_ENDPOINT: `${url}/v1` }),
  handle(request, state) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`)
      return error(401, 'unauthorized', 'unable to authenticate');
    const [, , what, id] = request.path.split('/');
    const route = `${request.method} ${what}${id === undefined ? '' : '/ID'}`;
    if (route === 'GET pricing') return { status: 200, body: { pricing: PRICING } };
    if (route === 'GET server_types') return list(request, state, 'server_types', TYPES);
    if (route === 'GET images') return list(request, state, 'images', IMAGES);
    if (route === 'GET locations') return list(request, state, 'locations', LOCATIONS);
    if (route === 'GET ssh_keys') return list(request, state, 'ssh_keys', listKeys(request, state));
    if (route === 'POST ssh_keys') return addKey(request, state);
    if (route === 'POST servers') return create(request, state);
    if (route === 'GET servers')
      return list(
        request,
        state,
        'servers',
        alive(state, request.query.get('name')).map((one) => show(state, one)),
      );
    const found = route.endsWith('servers/ID') ? poll(state, id ?? '') : null;
    if (found === null) return error(404, 'not_found', 'server not found');
    if (request.method === 'DELETE') found.isGone = true;
    return { status: 200, body: request.method === 'DELETE' ? { action: {} } : { server: show(state, found) } };
  },
};

const PRICING = {
  currency: 'EUR',
  vat_rate: '19.000000',
  primary_ips: [{ type: 'ipv4', prices: [price('fsn1', '0.5950000000000000', '0.0009520000000000')] }],
  server_types: [],
};

function list(request: FakeRequest, state: FakeState, key: string, all: readonly object[]): FakeAnswer {
  const asked = Number(request.query.get('per_page') ?? 25);
  if (asked > 50) return error(400, 'invalid_input', 'invalid input in field per_page');
  const { items, page, pages } = pageOf(all, Number(request.query.get('page') ?? 1), asked, state.pageSize);
  const pagination = {
    ...{ page, per_page: asked, previous_page: page > 1 ? page - 1 : null, next_page: page < pages ? page + 1 : null },
    ...{ last_page: pages, total_entries: all.length },
  };
  return { status: 200, body: { [key]: items, meta: { pagination } } };
}

function listKeys(request: FakeRequest, state: FakeState): object[] {
  const wanted = request.query.get('fingerprint');
  return [...state.keys]
    .map(([id, line]) => ({ id: Number(id), name: `key-${id}`, fingerprint: md5Fingerprint(line), public_key: line }))
    .filter(({ fingerprint }) => wanted === null || fingerprint === wanted);
}

function addKey({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const line = String(body.public_key);
  if ([...state.keys.values()].includes(line)) return error(409, 'uniqueness_error', 'SSH key not unique');
  const id = 100 + state.keys.size;
  state.keys.set(String(id), line);
  return { status: 201, body: { ssh_key: { id, name: body.name, public_key: line, labels: {} } } };
}

function create({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const name = String(body.name);
  if (alive(state, name).length > 0) return error(409, 'uniqueness_error', 'server name is already used');
  if (name.startsWith('full')) return error(403, 'resource_limit_exceeded', 'server limit exceeded');
  if (!(body.ssh_keys as number[]).every((id) => state.keys.has(String(id))))
    return error(422, 'invalid_input', "invalid input in field 'ssh_keys'", [
      { name: 'ssh_keys', messages: ['not found'] },
    ]);
  const server = addServer(state, {
    ...{ name, plan: String(body.server_type), image: String(body.image), location: String(body.location) },
    isOurs: Object.hasOwn((body.labels ?? {}) as object, 'kraftwerk'),
    order: { ...body, key: state.keys.get(String((body.ssh_keys as number[])[0])) },
  });
  return {
    status: 201,
    body: { server: show(state, server), action: { id: 1, status: 'running' }, root_password: null },
  };
}

function show(state: FakeState, server: FakeServer): object {
  const ready = hasBooted(state, server);
  return {
    ...{ id: Number(server.id), name: server.name, created: '2026-11-22T10:20:30+00:00' },
    status: ready ? 'running' : 'initializing',
    public_net: { ipv4: ready ? { id: 1, ip: state.address, blocked: false } : null, ipv6: null, floating_ips: [] },
    server_type: TYPES.find(({ name }) => name === server.plan) ?? TYPES[0],
    location: { id: 1, name: server.location },
    labels: server.isOurs ? { kraftwerk: 'node' } : {},
  };
}

function error(status: number, code: string, message: string, fields?: object[]): FakeAnswer {
  return { status, body: { error: { code, message, details: fields === undefined ? null : { fields } } } };
}
