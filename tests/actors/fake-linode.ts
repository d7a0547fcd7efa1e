/** Actor: Linode, as https://techdocs.akamai.com/linode-api/reference/api has it. */
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

const TOKEN = 'linode-test-token';

const type = (id: string, kind: string, vcpus: number, memory: number, disk: number, monthly: number, there = []) => ({
  ...{ id, label: id, class: kind, vcpus, memory, disk, transfer: 1000, network_out: 1000, gpus: 0, successor: null },
  ...{ price: { hourly: monthly / 667, monthly }, region_prices: there as object[], addons: {} },
});
const TYPES = [
  type('g6-nanode-1', 'nanode', 1, 1024, 25_600, 5),
  {
    ...type('g6-standard-1', 'standard', 1, 2048, 51_200, 12),
    region_prices: [{ id: 'br-gru', hourly: 0.0252, monthly: 16.8 }],
  },
  type('g1-gpu-rtx6000-1', 'gpu', 8, 32_768, 655_360, 1000),
];
const REGIONS = [
  { id: 'eu-central', label: 'Frankfurt, DE', country: 'de', status: 'ok', capabilities: ['Linodes', 'Metadata'] },
  { id: 'br-gru', label: 'Sao Paulo, BR', country: 'br', status: 'ok', capabilities: ['Linodes'] },
  { id: 'us-storage', label: 'Storage only', country: 'us', status: 'ok', capabilities: ['Object Storage'] },
];
const IMAGES = [
  {
    id: 'linode/debian12',
    label: 'Debian 12',
    vendor: 'Debian',
    deprecated: false,
    status: 'available',
    is_public: true,
  },
  { id: 'linode/debian9', label: 'Debian 9', vendor: 'Debian', deprecated: true, status: 'available', is_public: true },
  { id: 'private/77', label: 'mine', vendor: null, deprecated: false, status: 'available', is_public: false },
];

export const fakeLinode: FakeKind = {
  env: (url) => ({ LINODE_TOKEN: TOKEN, LINODE_URL: url }),
  handle(request, state) {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return error(401, 'Invalid Token');
    const path = request.path.replace(/^\/v4/, '');
    const id = /^\/linode\/instances\/([^/]+)$/.exec(path)?.[1];
    const route = `${request.method} ${path}`;
    if (route === 'GET /linode/types') return list(request, state, TYPES);
    if (route === 'GET /regions') return list(request, state, REGIONS);
    if (route === 'GET /images') return list(request, state, IMAGES);
    if (route === 'POST /linode/instances') return create(request, state);
    if (route === 'GET /linode/instances') {
      const { label } = JSON.parse(String(request.headers['x-filter'] ?? '{}')) as { label?: string };
      return list(
        request,
        state,
        alive(state, label ?? null).map((one) => show(state, one)),
      );
    }
    const found = id === undefined ? null : poll(state, id);
    if (found === null) return error(404, 'Not found');
    if (request.method === 'DELETE') found.isGone = true;
    return { status: 200, body: request.method === 'DELETE' ? {} : show(state, found) };
  },
};

function list(request: FakeRequest, state: FakeState, all: readonly object[]): FakeAnswer {
  const asked = Number(request.query.get('page_size') ?? 100);
  if (asked < 25 || asked > 500) return error(400, 'Must be 25-500', 'page_size');
  const { items, page, pages } = pageOf(all, Number(request.query.get('page') ?? 1), asked, state.pageSize);
  return { status: 200, body: { data: items, page, pages, results: all.length } };
}

function create({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const label = String(body.label);
  if (alive(state, label).length > 0) return error(400, 'Label must be unique among your linodes', 'label');
  if (!/^[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?![._-])){1,62}[A-Za-z0-9]$/.test(label))
    return error(400, 'Label must be between 3 and 64 characters', 'label');
  if (typeof body.root_pass !== 'string' || body.root_pass.length < 11)
    return error(400, 'root_pass is required', 'root_pass');
  const server = addServer(state, {
    ...{ name: label, plan: String(body.type), image: String(body.image), location: String(body.region) },
    isOurs: ((body.tags ?? []) as string[]).includes('kraftwerk'),
    order: { ...body, key: (body.authorized_keys as string[])[0] },
  });
  return { status: 200, body: show(state, server) };
}

function show(state: FakeState, server: FakeServer): object {
  const ready = hasBooted(state, server);
  return {
    ...{ id: Number(server.id), label: server.name, status: ready ? 'running' : 'provisioning' },
    ...{ created: '2026-11-22T10:20:30', type: server.plan, image: server.image, region: server.location },
    ipv4: ready ? ['192.168.133.7', state.address] : [],
    ipv6: '2600:3c01::/128',
    tags: server.isOurs ? ['kraftwerk'] : [],
  };
}

function error(status: number, reason: string, field?: string): FakeAnswer {
  return { status, body: { errors: [{ ...(field !== undefined && { field }), reason }] } };
}
