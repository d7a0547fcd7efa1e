/**
 * Linode (Akamai).
 * @see https://techdocs.akamai.com/linode-api/reference/api
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { collectPages, parseAnswer, parseJson } from './answers.ts';
import { type ApiContext, createAt, createTokenApi, type ProviderWords } from './api.ts';
import { type Environment, exportHint } from './credentials.ts';
import { type Image, LABEL, type Location, type Plan, type Provider, type Server, sortPlans } from './provider.ts';

const TITLE = 'Linode';
const VARIABLE = 'LINODE_TOKEN';
const TOKEN_HINT = [
  'a token with read and write for Linodes, and read for Images: https://cloud.linode.com/profile/tokens',
  exportHint(VARIABLE),
];
const PER_PAGE = '500';
/** Shared and dedicated CPUs; no GPUs, no accelerators. */
const CLASSES = new Set(['nanode', 'standard', 'dedicated', 'highmem', 'premium']);

const money = z.object({ hourly: z.number().nullable(), monthly: z.number().nullable() });
const type = z.object({
  id: z.string(),
  class: z.string(),
  vcpus: z.number(),
  memory: z.number(),
  disk: z.number(),
  price: money,
  region_prices: z.array(money.extend({ id: z.string() })).default([]),
});
const region = z.object({
  id: z.string(),
  label: z.string(),
  country: z.string(),
  status: z.string(),
  capabilities: z.array(z.string()),
});
const image = z.object({
  id: z.string(),
  label: z.string(),
  deprecated: z.boolean(),
  status: z.string(),
});
const instance = z.object({
  id: z.int(),
  label: z.string(),
  status: z.string(),
  type: z.string().nullable(),
  region: z.string(),
  ipv4: z.array(z.string()),
  tags: z.array(z.string()),
});
const pageSchema = z.object({ data: z.unknown(), page: z.int(), pages: z.int() });
const errorBody = z.object({
  errors: z.array(z.object({ reason: z.string(), field: z.string().optional() })),
});

/** @param endpoint as in LINODE_URL, `https://api.linode.com` */
export function createLinode(env: Environment, endpoint: string, context: ApiContext): Provider {
  const api = createTokenApi(env, { title: TITLE, variable: VARIABLE, tokenHint: TOKEN_HINT, readError }, context);
  const at = createAt(`${endpoint}/v4`);

  function list<T extends z.ZodType>(path: string, item: T, filter?: Record<string, string>): Promise<z.output<T>[]> {
    // @see https://techdocs.akamai.com/linode-api/reference/filtering-and-sorting
    const headers: Record<string, string> = filter === undefined ? {} : { 'x-filter': JSON.stringify(filter) };
    return collectPages(1, async (wanted) => {
      const url = at(path, { page: String(wanted), page_size: PER_PAGE });
      const { data, page, pages } = await api.json({ method: 'GET', url, headers }, pageSchema);
      const items = parseAnswer(z.array(item), data, `${TITLE}: GET ${path}: data`);
      return { items, next: page < pages ? page + 1 : null };
    });
  }

  return {
    name: 'linode',
    title: TITLE,
    priceNote: 'without VAT',
    defaultLocation: null,
    isRegional: false,
    // "Label must be unique among your linodes".
    refusesTwins: true,
    async locations(): Promise<Location[]> {
      return (await list('/regions', region))
        .filter(({ status, capabilities }) => status === 'ok' && capabilities.includes('Linodes'))
        .map(({ id, label, country }) => ({ id, description: `${label}, ${country.toUpperCase()}` }));
    },
    async plans(location): Promise<Plan[]> {
      const types = (await list('/linode/types', type)).filter((one) => CLASSES.has(one.class));
      return sortPlans(
        types.map((one) => {
          const { monthly, hourly } = one.region_prices.find(({ id }) => id === location) ?? one.price;
          return {
            id: one.id,
            cpu: null,
            cores: one.vcpus,
            memoryGb: one.memory / 1024,
            diskGb: Math.floor(one.disk / 1024),
            price: monthly === null || hourly === null ? null : { monthly, hourly, currency: 'USD' },
          };
        }),
      );
    },
    async images(): Promise<Image[]> {
      return (await list('/images', image))
        .filter(({ deprecated, status }) => !deprecated && status === 'available')
        .map(({ id, label }) => ({ id, description: label }));
    },
    async find(name) {
      const found = await list('/linode/instances', instance, { label: name });
      return found.map(toServer).filter((one) => one.name === name);
    },
    async get(id) {
      const found = await api.getIfThere(at(`/linode/instances/${encodeURIComponent(id)}`), instance);
      return found && toServer(found);
    },
    // Keys go into the order itself.
    prepare: async () => '',
    async create(order) {
      const body = {
        label: order.name,
        region: order.location,
        type: order.plan,
        image: order.image,
        authorized_keys: [order.publicKey],
        // Has to be there with an image. Nobody will know it.
        root_pass: `${randomBytes(32).toString('base64url')}aA1-`,
        tags: [LABEL],
        booted: true,
      };
      return toServer(await api.json({ method: 'POST', url: at('/linode/instances'), body }, instance));
    },
    destroy: (id) => api.remove(at(`/linode/instances/${encodeURIComponent(id)}`)),
  };
}

function toServer(value: z.output<typeof instance>): Server {
  return {
    id: String(value.id),
    name: value.label,
    state: value.status,
    isRunning: value.status === 'running',
    isGone: value.status === 'deleting',
    // 192.168.128.0/17 are Linode's private ones.
    address: value.ipv4.find((address) => !address.startsWith('192.168.')) ?? null,
    plan: value.type ?? '',
    location: value.region,
    isOurs: value.tags.includes(LABEL),
  };
}

/** @see https://techdocs.akamai.com/linode-api/reference/errors */
function readError(body: string): ProviderWords {
  const parsed = errorBody.safeParse(parseJson(body));
  if (!parsed.success || parsed.data.errors.length === 0) return { code: null, message: null };
  const { errors } = parsed.data;
  const words = errors.map(({ field, reason }) => (field === undefined ? reason : `${field}: ${reason}`));
  return { code: null, message: words.join('; ') };
}
