/**
 * Hetzner Cloud.
 * @see https://docs.hetzner.cloud/reference/cloud
 */
import { z } from 'zod';
import { collectPages, parseAnswer, parseJson } from './answers.ts';
import { type Api, type ApiContext, type At, createAt, createTokenApi, type ProviderWords } from './api.ts';
import { type Environment, exportHint } from './credentials.ts';
import { md5Fingerprint, nameOfKey } from './key-name.ts';
import {
  type Image,
  LABEL,
  type Location,
  type Plan,
  type Price,
  type Provider,
  ProviderError,
  type Server,
  sortPlans,
} from './provider.ts';

const TITLE = 'Hetzner Cloud';
const VARIABLE = 'HCLOUD_TOKEN';
const TOKEN_HINT = [
  'a token with read and write: https://console.hetzner.cloud, the project, Security, API tokens',
  exportHint(VARIABLE),
];
const PER_PAGE = '50';

const amount = z.string().regex(/^[0-9]+(?:\.[0-9]+)?$/, 'expected an amount');
const price = z.object({ gross: amount });
const locationPrice = z.object({ location: z.string(), price_hourly: price, price_monthly: price });
const pagination = z.looseObject({ meta: z.object({ pagination: z.object({ next_page: z.int().nullable() }) }) });

const serverType = z.object({
  name: z.string(),
  cores: z.number(),
  memory: z.number(),
  disk: z.number(),
  architecture: z.string(),
  prices: z.array(locationPrice),
  locations: z.array(z.object({ name: z.string(), available: z.boolean().optional() })).optional(),
});
const pricing = z.object({
  pricing: z.object({
    currency: z.string(),
    primary_ips: z.array(z.object({ type: z.string(), prices: z.array(locationPrice) })).default([]),
  }),
});
const image = z.object({
  id: z.int(),
  type: z.string(),
  name: z.string().nullable(),
  description: z.string(),
  architecture: z.string(),
  deprecated: z.string().nullable().optional(),
});
const server = z.object({
  id: z.int(),
  name: z.string(),
  status: z.string(),
  public_net: z.object({ ipv4: z.object({ ip: z.string() }).nullable() }),
  server_type: z.object({ name: z.string() }),
  location: z.object({ name: z.string() }).optional(),
  datacenter: z.object({ location: z.object({ name: z.string() }) }).nullish(),
  labels: z.record(z.string(), z.string()),
});
const errorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    details: z
      .object({ fields: z.array(z.object({ name: z.string(), messages: z.array(z.string()).optional() })).optional() })
      .nullish(),
  }),
});

/** @param endpoint as in HCLOUD_ENDPOINT, `https://api.hetzner.cloud/v1` */
export function createHetzner(env: Environment, endpoint: string, context: ApiContext): Provider {
  const api = createTokenApi(env, { title: TITLE, variable: VARIABLE, tokenHint: TOKEN_HINT, readError }, context);
  const at = createAt(endpoint);

  function list<T extends z.ZodType>(key: string, path: string, item: T, query = {}): Promise<z.output<T>[]> {
    return collectPages(1, async (page) => {
      const url = at(path, { ...query, page: String(page), per_page: PER_PAGE });
      const answer = await api.get(url, pagination);
      const items = parseAnswer(z.array(item), answer[key], `${TITLE}: GET ${path}: ${key}`);
      return { items, next: answer.meta.pagination.next_page };
    });
  }

  async function plans(location: string | null): Promise<Plan[]> {
    const { currency, primary_ips: addresses } = (await api.get(at('/pricing'), pricing)).pricing;
    const ofAddress = addresses.find(({ type }) => type === 'ipv4')?.prices ?? [];
    const types = await list('server_types', '/server_types', serverType);
    return sortPlans(
      types.flatMap(({ name, architecture, cores, memory, disk, prices, locations }) => {
        const soldOut = (place: string): boolean =>
          locations?.some((one) => one.name === place && one.available === false) === true;
        const offers = prices
          .filter((one) => (location === null || one.location === location) && !soldOut(one.location))
          .map((one): Price => {
            const address = ofAddress.find((other) => other.location === one.location);
            const sum = (key: 'price_monthly' | 'price_hourly'): number =>
              Number(one[key].gross) + Number(address?.[key].gross ?? 0);
            return { monthly: sum('price_monthly'), hourly: sum('price_hourly'), currency };
          })
          .sort((a, b) => a.monthly - b.monthly);
        const [cheapest] = offers;
        return cheapest === undefined
          ? []
          : [{ id: name, cpu: architecture, cores, memoryGb: memory, diskGb: disk, price: cheapest }];
      }),
    );
  }

  async function images(): Promise<Image[]> {
    const all = await list('images', '/images', image, { status: 'available' });
    const byId = new Map<string, Image & { architectures: Set<string> }>();
    for (const { id, type, name, description, architecture, deprecated } of all) {
      if (type !== 'snapshot' && (type !== 'system' || deprecated)) continue;
      // A system image has one name for all architectures, and the server's own is taken.
      const key = name ?? String(id);
      const known = byId.get(key);
      if (known) known.architectures.add(architecture);
      else byId.set(key, { id: key, description, architectures: new Set([architecture]) });
    }
    return [...byId.values()]
      .map(({ id, description, architectures }) => ({
        id,
        description: `${description} (${[...architectures].join(', ')})`,
      }))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  return {
    name: 'hetzner',
    title: TITLE,
    priceNote: 'with VAT and the IPv4 address',
    defaultLocation: null,
    isRegional: false,
    // "Name of the Server to create (must be unique per Project)".
    refusesTwins: true,
    plans,
    images,
    async locations(): Promise<Location[]> {
      const schema = z.object({ name: z.string(), city: z.string(), country: z.string() });
      const all = await list('locations', '/locations', schema);
      return all.map(({ name, city, country }) => ({ id: name, description: `${city}, ${country}` }));
    },
    async find(name) {
      return (await list('servers', '/servers', server, { name })).map(toServer).filter((one) => one.name === name);
    },
    async get(id) {
      const found = await api.getIfThere(at(`/servers/${encodeURIComponent(id)}`), z.object({ server }));
      return found && toServer(found.server);
    },
    prepare: (publicKey) => ensureKey(api, at, publicKey),
    async create(order) {
      const body = {
        name: order.name,
        server_type: order.plan,
        image: order.image,
        location: order.location,
        // Without one Hetzner sets a password that has to be changed at the first login, even with a key.
        ssh_keys: [Number(order.prepared)],
        user_data: order.userData,
        labels: { [LABEL]: 'node' },
        start_after_create: true,
      };
      const answer = await api.json({ method: 'POST', url: at('/servers'), body }, z.object({ server }));
      return toServer(answer.server);
    },
    destroy: (id) => api.remove(at(`/servers/${encodeURIComponent(id)}`)),
  };
}

/** The id of the key at Hetzner. */
async function ensureKey(api: Api, at: At, line: string): Promise<string> {
  const look = async (): Promise<string | null> => {
    const schema = z.object({ ssh_keys: z.array(z.object({ id: z.int() })) });
    const url = at('/ssh_keys', { fingerprint: md5Fingerprint(line) });
    const [found] = (await api.get(url, schema)).ssh_keys;
    return found === undefined ? null : String(found.id);
  };
  const there = await look();
  if (there !== null) return there;
  try {
    const body = { name: nameOfKey(line), public_key: line, labels: { [LABEL]: 'node' } };
    const schema = z.object({ ssh_key: z.object({ id: z.int() }) });
    return String((await api.json({ method: 'POST', url: at('/ssh_keys'), body }, schema)).ssh_key.id);
  } catch (error) {
    // No answer, or somebody was quicker.
    const found = error instanceof ProviderError ? await look() : null;
    if (found === null) throw error;
    return found;
  }
}

function toServer(value: z.output<typeof server>): Server {
  return {
    id: String(value.id),
    name: value.name,
    state: value.status,
    isRunning: value.status === 'running',
    isGone: value.status === 'deleting',
    address: value.public_net.ipv4?.ip ?? null,
    plan: value.server_type.name,
    location: value.location?.name ?? value.datacenter?.location.name ?? '',
    isOurs: Object.hasOwn(value.labels, LABEL),
  };
}

/** @see https://docs.hetzner.cloud/reference/cloud#errors */
function readError(body: string): ProviderWords {
  const parsed = errorBody.safeParse(parseJson(body));
  if (!parsed.success) return { code: null, message: null };
  const { code, message, details } = parsed.data.error;
  const fields = (details?.fields ?? []).map(({ name, messages }) => `${name}: ${(messages ?? []).join(', ')}`);
  return {
    code,
    message: fields.length === 0 ? message : `${message} (${fields.join('; ')})`,
    // 403 too, yet not a matter of the token.
    ...(code === 'resource_limit_exceeded' && { kind: 'refused' }),
  };
}
