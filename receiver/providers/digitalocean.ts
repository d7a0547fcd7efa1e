/**
 * DigitalOcean.
 * @see https://docs.digitalocean.com/reference/api/digitalocean/
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
  type Provider,
  ProviderError,
  type Server,
  sortPlans,
} from './provider.ts';

const TITLE = 'DigitalOcean';
const VARIABLE = 'DIGITALOCEAN_TOKEN';
const TOKEN_HINT = [
  'a token with full access, or for droplets, tags and SSH keys: https://cloud.digitalocean.com/account/api/tokens',
  exportHint(VARIABLE),
];
const PER_PAGE = '200';

const size = z.object({
  slug: z.string(),
  memory: z.number(),
  vcpus: z.number(),
  disk: z.number(),
  price_monthly: z.number(),
  price_hourly: z.number(),
  regions: z.array(z.string()),
  available: z.boolean(),
});
const region = z.object({ slug: z.string(), name: z.string(), available: z.boolean() });
const image = z.object({
  id: z.int(),
  name: z.string(),
  distribution: z.string().nullable(),
  slug: z.string().nullable(),
  public: z.boolean(),
  regions: z.array(z.string()),
  status: z.string().optional(),
});
const droplet = z.object({
  id: z.int(),
  name: z.string(),
  status: z.string(),
  size_slug: z.string(),
  region: z.object({ slug: z.string() }),
  tags: z.array(z.string()),
  networks: z.object({ v4: z.array(z.object({ ip_address: z.string(), type: z.string() })) }),
});
const links = z.looseObject({
  links: z.object({ pages: z.object({ next: z.string().optional() }).optional() }).optional(),
});
const errorBody = z.object({ id: z.string(), message: z.string() });

/** @param endpoint as in DIGITALOCEAN_API_URL, `https://api.digitalocean.com` */
export function createDigitalOcean(env: Environment, endpoint: string, context: ApiContext): Provider {
  const api = createTokenApi(env, { title: TITLE, variable: VARIABLE, tokenHint: TOKEN_HINT, readError }, context);
  const at = createAt(`${endpoint}/v2`);

  function list<T extends z.ZodType>(key: string, path: string, item: T, query = {}): Promise<z.output<T>[]> {
    return collectPages('1', async (page) => {
      const answer = await api.get(at(path, { ...query, page, per_page: PER_PAGE }), links);
      const items = parseAnswer(z.array(item), answer[key], `${TITLE}: GET ${path}: ${key}`);
      return { items, next: readPage(answer.links?.pages?.next) };
    });
  }

  return {
    name: 'digitalocean',
    title: TITLE,
    priceNote: 'without VAT',
    defaultLocation: null,
    isRegional: false,
    // Droplets may share a name.
    refusesTwins: false,
    async locations(): Promise<Location[]> {
      return (await list('regions', '/regions', region))
        .filter(({ available }) => available)
        .map(({ slug, name }) => ({ id: slug, description: name }));
    },
    async plans(location): Promise<Plan[]> {
      const sizes = (await list('sizes', '/sizes', size)).filter(
        ({ available, regions }) => available && (location === null || regions.includes(location)),
      );
      return sortPlans(
        sizes.map((one) => ({
          id: one.slug,
          cpu: null,
          cores: one.vcpus,
          memoryGb: one.memory / 1024,
          diskGb: one.disk,
          price: { monthly: one.price_monthly, hourly: one.price_hourly, currency: 'USD' },
        })),
      );
    },
    async images(location): Promise<Image[]> {
      const official = await list('images', '/images', image, { type: 'distribution' });
      const own = await list('images', '/images', image, { private: 'true' });
      return [...official, ...own]
        .filter(({ status, regions }) => status !== 'retired' && (location === null || regions.includes(location)))
        .map(({ id, slug, distribution, name }) => ({
          id: slug ?? String(id),
          description: `${distribution ?? ''} ${name}`.trim(),
        }));
    },
    async find(name) {
      const found = await list('droplets', '/droplets', droplet, { name });
      return found.map(toServer).filter((one) => one.name === name);
    },
    async get(id) {
      const found = await api.getIfThere(at(`/droplets/${encodeURIComponent(id)}`), z.object({ droplet }));
      return found && toServer(found.droplet);
    },
    prepare: (publicKey) => ensureKey(api, at, publicKey),
    async create(order) {
      const body = {
        name: order.name,
        region: order.location,
        size: order.plan,
        image: /^[0-9]+$/.test(order.image) ? Number(order.image) : order.image,
        ssh_keys: [order.prepared],
        user_data: order.userData,
        tags: [LABEL],
      };
      return toServer((await api.json({ method: 'POST', url: at('/droplets'), body }, z.object({ droplet }))).droplet);
    },
    destroy: (id) => api.remove(at(`/droplets/${encodeURIComponent(id)}`)),
  };
}

/** Of the next page's address only its number counts: the token goes nowhere else. */
function readPage(next: string | undefined): string | null {
  if (next === undefined || !URL.canParse(next)) return null;
  const page = new URL(next).searchParams.get('page') ?? '';
  return /^[0-9]{1,6}$/.test(page) ? page : null;
}

/** Without a key DigitalOcean mails a password that has to be changed first. @returns the key's fingerprint */
async function ensureKey(api: Api, at: At, line: string): Promise<string> {
  const md5 = md5Fingerprint(line);
  const isThere = async (): Promise<boolean> =>
    (await api.getIfThere(at(`/account/keys/${md5}`), z.object({ ssh_key: z.object({ id: z.int() }) }))) !== null;
  if (await isThere()) return md5;
  try {
    const body = { name: nameOfKey(line), public_key: line };
    await api.send({ method: 'POST', url: at('/account/keys'), body });
  } catch (error) {
    // No answer, or "SSH Key is already in use on your account".
    if (!(error instanceof ProviderError) || !(await isThere())) throw error;
  }
  return md5;
}

function toServer(value: z.output<typeof droplet>): Server {
  return {
    id: String(value.id),
    name: value.name,
    state: value.status,
    isRunning: value.status === 'active',
    isGone: value.status === 'archive',
    address: value.networks.v4.find(({ type }) => type === 'public')?.ip_address ?? null,
    plan: value.size_slug,
    location: value.region.slug,
    isOurs: value.tags.includes(LABEL),
  };
}

/** @see https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/HTTP-Statuses */
function readError(body: string): ProviderWords {
  const parsed = errorBody.safeParse(parseJson(body));
  return parsed.success ? { code: parsed.data.id, message: parsed.data.message } : { code: null, message: null };
}
