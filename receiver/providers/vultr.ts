/**
 * Vultr.
 * @see https://www.vultr.com/api/
 */
import { z } from 'zod';
import { parsePublicKey } from '../keys.ts';
import { collectPages, parseAnswer, parseJson } from './answers.ts';
import { type Api, type ApiContext, type At, createAt, createTokenApi, type ProviderWords } from './api.ts';
import { type Environment, exportHint } from './credentials.ts';
import { nameOfKey } from './key-name.ts';
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

const TITLE = 'Vultr';
const VARIABLE = 'VULTR_API_KEY';
const TOKEN_HINT = [
  "an API key, with this machine's address under Access Control: https://my.vultr.com/settings/#settingsapi",
  exportHint(VARIABLE),
];
const PER_PAGE = '500';
const HOURS_A_MONTH = 730;
/** Not ISO images, snapshots, backups and applications. */
const NO_SYSTEM = new Set(['iso', 'snapshot', 'backup', 'application', 'windows']);
/** Until there is one. */
const NO_ADDRESS = '0.0.0.0';

const plan = z.object({
  id: z.string(),
  vcpu_count: z.number(),
  ram: z.number(),
  disk: z.number(),
  disk_count: z.number().optional(),
  monthly_cost: z.number(),
  hourly_cost: z.number().optional(),
  type: z.string(),
  locations: z.array(z.string()),
});
const region = z.object({ id: z.string(), city: z.string(), country: z.string() });
const system = z.object({ id: z.int(), name: z.string(), arch: z.string(), family: z.string() });
const sshKey = z.object({ id: z.string(), ssh_key: z.string() });
const instance = z.object({
  id: z.string(),
  label: z.string(),
  status: z.string(),
  power_status: z.string(),
  main_ip: z.string(),
  plan: z.string(),
  region: z.string(),
  tags: z.array(z.string()),
});
const meta = z.looseObject({ meta: z.object({ links: z.object({ next: z.string() }) }) });
const errorBody = z.object({ error: z.string() });

/** @param endpoint as in VULTR_API_ENDPOINT, `https://api.vultr.com/v2` */
export function createVultr(env: Environment, endpoint: string, context: ApiContext): Provider {
  const api = createTokenApi(env, { title: TITLE, variable: VARIABLE, tokenHint: TOKEN_HINT, readError }, context);
  const at = createAt(endpoint);
  const list = <T extends z.ZodType>(key: string, path: string, item: T, query = {}): Promise<z.output<T>[]> =>
    listAll(api, at, key, path, item, query);

  return {
    name: 'vultr',
    title: TITLE,
    priceNote: 'without VAT',
    defaultLocation: null,
    isRegional: false,
    // Instances may share a label.
    refusesTwins: false,
    async locations(): Promise<Location[]> {
      const all = await list('regions', '/regions', region);
      return all.map(({ id, city, country }) => ({ id, description: `${city}, ${country}` }));
    },
    async plans(location): Promise<Plan[]> {
      const all = await list('plans', '/plans', plan);
      const offered = all.filter(
        ({ type, locations }) =>
          !type.startsWith('vcg') && (location === null ? locations.length > 0 : locations.includes(location)),
      );
      return sortPlans(
        offered.map((one) => ({
          id: one.id,
          cpu: null,
          cores: one.vcpu_count,
          memoryGb: one.ram / 1024,
          diskGb: one.disk * (one.disk_count ?? 1),
          price: {
            monthly: one.monthly_cost,
            hourly: one.hourly_cost ?? one.monthly_cost / HOURS_A_MONTH,
            currency: 'USD',
          },
        })),
      );
    },
    async images(): Promise<Image[]> {
      return (await list('os', '/os', system))
        .filter(({ family }) => !NO_SYSTEM.has(family))
        .map(({ id, name }) => ({ id: String(id), description: name }));
    },
    async find(name) {
      const found = await list('instances', '/instances', instance, { label: name });
      return found.map(toServer).filter((one) => one.name === name);
    },
    async get(id) {
      const found = await api.getIfThere(at(`/instances/${encodeURIComponent(id)}`), z.object({ instance }));
      return found && toServer(found.instance);
    },
    prepare: (publicKey) => ensureKey(api, at, publicKey),
    async create(order) {
      const body = {
        region: order.location,
        plan: order.plan,
        os_id: Number(order.image),
        label: order.name,
        hostname: order.name,
        tags: [LABEL],
        sshkey_id: [order.prepared],
        user_data: Buffer.from(order.userData).toString('base64'),
        backups: 'disabled',
        activation_email: false,
      };
      const answer = await api.json({ method: 'POST', url: at('/instances'), body }, z.object({ instance }));
      return toServer(answer.instance);
    },
    destroy: (id) => api.remove(at(`/instances/${encodeURIComponent(id)}`)),
  };
}

function listAll<T extends z.ZodType>(
  api: Api,
  at: At,
  key: string,
  path: string,
  item: T,
  query: Record<string, string> = {},
): Promise<z.output<T>[]> {
  return collectPages('', async (cursor) => {
    const url = at(path, { ...query, per_page: PER_PAGE, ...(cursor !== '' && { cursor }) });
    const answer = await api.get(url, meta);
    const items = parseAnswer(z.array(item), answer[key], `${TITLE}: GET ${path}: ${key}`);
    const { next } = answer.meta.links;
    return { items, next: next === '' ? null : next };
  });
}

/** The id of the key at Vultr. */
async function ensureKey(api: Api, at: At, line: string): Promise<string> {
  const { type, blob } = parsePublicKey(line);
  const wanted = `${type} ${blob.toString('base64')}`;
  const look = async (): Promise<string | undefined> => {
    const all = await listAll(api, at, 'ssh_keys', '/ssh-keys', sshKey);
    return all.find((key) => key.ssh_key.trim().split(/\s+/).slice(0, 2).join(' ') === wanted)?.id;
  };
  const there = await look();
  if (there !== undefined) return there;
  try {
    const body = { name: nameOfKey(line), ssh_key: line };
    const schema = z.object({ ssh_key: sshKey });
    return (await api.json({ method: 'POST', url: at('/ssh-keys'), body }, schema)).ssh_key.id;
  } catch (error) {
    const found = error instanceof ProviderError ? await look() : undefined;
    if (found === undefined) throw error;
    return found;
  }
}

function toServer(value: z.output<typeof instance>): Server {
  return {
    id: value.id,
    name: value.label,
    state: value.status === 'active' ? value.power_status : value.status,
    isRunning: value.status === 'active' && value.power_status === 'running',
    isGone: false,
    address: value.main_ip === '' || value.main_ip === NO_ADDRESS ? null : value.main_ip,
    plan: value.plan,
    location: value.region,
    isOurs: value.tags.includes(LABEL),
  };
}

function readError(body: string): ProviderWords {
  const parsed = errorBody.safeParse(parseJson(body));
  return { code: null, message: parsed.success ? parsed.data.error : null };
}
