/** Actor: Vultr, as https://www.vultr.com/api/ has it. */
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

const TOKEN = 'VULTRTESTKEY';

const plan = (
  id: string,
  vcpus: number,
  ram: number,
  disk: number,
  cost: number,
  locations: string[],
  type = 'vc2',
) => ({
  ...{ id, vcpu_count: vcpus, ram, disk, disk_count: 1, bandwidth: 1024, monthly_cost: cost, type, locations },
});
const PLANS = [
  { ...plan('vc2-1c-2gb', 1, 2048, 55, 10, ['ams', 'ewr']), hourly_cost: 0.015 },
  plan('vc2-1c-1gb', 1, 1024, 25, 5, ['ams']),
  plan('vc2-1c-0.5gb', 1, 512, 10, 2.5, []),
  plan('vcg-a16-2c-8g-2vram', 2, 8192, 50, 43, ['ams'], 'vcg'),
];
const REGIONS = [
  { id: 'ams', city: 'Amsterdam', country: 'NL', continent: 'Europe', options: ['ddos_protection'] },
  { id: 'ewr', city: 'New Jersey', country: 'US', continent: 'North America', options: [] },
];
const SYSTEMS = [
  { id: 2136, name: 'Debian 12 x64 (bookworm)', arch: 'x64', family: 'debian' },
  { id: 2284, name: 'Ubuntu 24.04 LTS x64', arch: 'x64', family: 'ubuntu' },
  { id: 159, name: 'Custom', arch: 'x64', family: 'iso' },
];

export const fakeVultr: FakeKind = {
  env: (url) => ({ VULTR_API_KEY: TOKEN, VULTR_API_ENDPOINT: `${url}/v2` }),
  handle(request, state) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return error(401, 'Invalid API token.');
    const path = request.path.replace(/^\/v2/, '');
    const id = /^\/instances\/([^/]+)$/.exec(path)?.[1];
    const route = `${request.method} ${path}`;
    if (route === 'GET /plans') return list(request, state, 'plans', PLANS);
    if (route === 'GET /regions') return list(request, state, 'regions', REGIONS);
    if (route === 'GET /os') return list(request, state, 'os', SYSTEMS);
    if (route === 'GET /ssh-keys')
      return list(
        request,
        state,
        'ssh_keys',
        [...state.keys].map(([key, line]) => ({ id: key, name: 'k', ssh_key: line })),
      );
    if (route === 'POST /ssh-keys') return addKey(request, state);
    if (route === 'POST /instances') return create(request, state);
    if (route === 'GET /instances')
      return list(
        request,
        state,
        'instances',
        alive(state, request.query.get('label')).map((one) => show(state, one)),
      );
    const found = id === undefined ? null : poll(state, id);
    if (found === null) return error(404, 'Invalid instance.');
    if (request.method !== 'DELETE') return { status: 200, body: { instance: show(state, found) } };
    found.isGone = true;
    return { status: 204 };
  },
};

function list(request: FakeRequest, state: FakeState, key: string, all: readonly object[]): FakeAnswer {
  const cursor = request.query.get('cursor');
  const at = cursor === null ? 1 : Number(Buffer.from(cursor, 'base64').toString().replace('next__', ''));
  const { items, page, pages } = pageOf(all, at, Number(request.query.get('per_page') ?? 100), state.pageSize);
  const next = page < pages ? Buffer.from(`next__${page + 1}`).toString('base64') : '';
  return { status: 200, body: { [key]: items, meta: { total: all.length, links: { next, prev: '' } } } };
}

function addKey({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const id = `3b8066a7-b438-455a-9688-44afc9a3597${state.keys.size}`;
  state.keys.set(id, String(body.ssh_key));
  return {
    status: 201,
    body: { ssh_key: { id, date_created: '2026-11-22', name: body.name, ssh_key: body.ssh_key } },
  };
}

function create({ body }: FakeRequest, state: FakeState): FakeAnswer {
  if (String(body.label).startsWith('full'))
    return error(400, 'Server add failed: Plan is not available in the selected region.');
  const [key = ''] = body.sshkey_id as string[];
  const line = state.keys.get(key);
  if (line === undefined) return error(400, 'Invalid SSH key.');
  const server = addServer(
    state,
    {
      ...{
        name: String(body.label),
        plan: String(body.plan),
        image: String(body.os_id),
        location: String(body.region),
      },
      isOurs: ((body.tags ?? []) as string[]).includes('kraftwerk'),
      order: { ...body, key: line, user_data: Buffer.from(String(body.user_data), 'base64').toString() },
    },
    `cb676a46-66fd-4dfb-b839-44311a5a8d0${state.servers.length}`,
  );
  return { status: 202, body: { instance: { ...show(state, server), default_password: 'secret-of-vultr' } } };
}

function show(state: FakeState, server: FakeServer): object {
  const ready = hasBooted(state, server);
  return {
    ...{ id: server.id, os: 'Debian 12', ram: 1024, disk: 25, main_ip: ready ? state.address : '0.0.0.0' },
    ...{ vcpu_count: 1, region: server.location, plan: server.plan, date_created: '2026-11-22T10:20:30+00:00' },
    ...{ status: ready ? 'active' : 'pending', power_status: 'running', server_status: ready ? 'ok' : 'none' },
    ...{ label: server.name, hostname: server.name, tags: server.isOurs ? ['kraftwerk'] : [], features: [] },
  };
}

function error(status: number, message: string): FakeAnswer {
  return { status, body: { error: message, status } };
}
