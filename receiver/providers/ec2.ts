/**
 * Amazon EC2.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Welcome.html
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { collectPages } from './answers.ts';
import type { ApiContext } from './api.ts';
import type { Environment } from './credentials.ts';
import { createEc2Api, EC2_TITLE, type Ec2Api, type Ec2Endpoints, itemsOf, number, type Params } from './ec2-api.ts';
import { ensureSecurityGroup } from './ec2-firewall.ts';
import { readEc2Prices } from './ec2-prices.ts';
import {
  type Image,
  isMissing,
  LABEL,
  type Location,
  type Plan,
  type Provider,
  ProviderError,
  type Server,
  type ServerOrder,
  sortPlans,
} from './provider.ts';

/** `eu-central-1`, with a letter behind it: one of its zones. */
const PLACE = /^(?<region>[a-z]{2}(?:-[a-z]+)+-[0-9]+)(?<zone>[a-z]|(?:-[a-z0-9]+)+)?$/;
/** Publishers of images whose root gets the key by cloud-init. @see https://wiki.debian.org/Cloud/AmazonEC2Image */
const PUBLISHERS = [
  { owner: '136693071363', name: 'debian-*-amd64-*' },
  { owner: '136693071363', name: 'debian-*-arm64-*' },
  { owner: '099720109477', name: 'ubuntu/images/hvm-ssd*/ubuntu-*-amd64-server-*' },
  { owner: '099720109477', name: 'ubuntu/images/hvm-ssd*/ubuntu-*-arm64-server-*' },
];
const MAX_TOKENS = 20;
const ALIVE = ['pending', 'running', 'stopping', 'stopped'];

const tags = itemsOf(z.object({ key: z.string(), value: z.string() })).optional();
const instance = z.object({
  instanceId: z.string(),
  instanceState: z.object({ name: z.string() }),
  instanceType: z.string(),
  ipAddress: z.string().optional(),
  placement: z.object({ availabilityZone: z.string() }),
  tagSet: tags,
});
const reservations = z.object({
  reservationSet: itemsOf(z.object({ instancesSet: itemsOf(instance) })),
  nextToken: z.string().optional(),
});
const instanceTypes = z.object({
  instanceTypeSet: itemsOf(
    z.object({
      instanceType: z.string(),
      vCpuInfo: z.object({ defaultVCpus: number }),
      memoryInfo: z.object({ sizeInMiB: number }),
      processorInfo: z.object({ supportedArchitectures: itemsOf(z.string()) }).optional(),
    }),
  ),
  nextToken: z.string().optional(),
});
const image = z.object({
  imageId: z.string(),
  name: z.string().optional(),
  description: z.string().optional(),
  architecture: z.string(),
  creationDate: z.string().optional(),
});
const imagesAnswer = z.object({ imagesSet: itemsOf(image), nextToken: z.string().optional() });

/** @param place a region or one of its zones; null: AWS_REGION @throws ProviderError `provider.token`, `provider.place` */
export function createEc2(
  env: Environment,
  place: string | null,
  endpoints: Ec2Endpoints,
  context: ApiContext,
): Provider {
  const preset = [env.AWS_REGION, env.AWS_DEFAULT_REGION].map((region) => region?.trim()).find(Boolean) ?? null;
  const chosen = place ?? preset;
  const { region = 'us-east-1', zone } = chosen === null ? {} : parsePlace(chosen);
  const api = createEc2Api(env, region, endpoints, context);

  return {
    name: 'ec2',
    title: EC2_TITLE,
    priceNote: 'without VAT, disk, traffic and the IPv4 address',
    defaultLocation: preset,
    isRegional: true,
    // RunInstances with the same ClientToken answers with the same instance.
    refusesTwins: true,
    async locations(): Promise<Location[]> {
      const schema = z.object({
        regionInfo: itemsOf(z.object({ regionName: z.string(), regionEndpoint: z.string() })),
      });
      const { regionInfo } = await api.call('DescribeRegions', {}, schema);
      const zones = chosen === null ? [] : await listZones(api);
      return [...regionInfo.map(({ regionName }) => ({ id: regionName, description: 'region' })), ...zones];
    },
    async plans(_, wanted): Promise<Plan[]> {
      const types = await listTypes(api, wanted);
      const prices = types.length === 0 ? new Map() : await readEc2Prices(api, wanted);
      return sortPlans(
        types.map(({ instanceType, vCpuInfo, memoryInfo, processorInfo }) => ({
          id: instanceType,
          // i386 stands beside x86_64 at old ones.
          cpu: processorInfo?.supportedArchitectures.at(-1) ?? null,
          cores: vCpuInfo.defaultVCpus,
          memoryGb: memoryInfo.sizeInMiB / 1024,
          diskGb: null,
          price: prices.get(instanceType) ?? null,
        })),
      );
    },
    images: (_, wanted) => listImages(api, wanted),
    async find(name) {
      const filters = { ...filter(1, 'tag:Name', [name]), ...filter(2, 'instance-state-name', ALIVE) };
      return await listInstances(api, filters);
    },
    async get(id) {
      try {
        return (await listInstances(api, { 'InstanceId.1': id }))[0] ?? null;
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    prepare: () => ensureSecurityGroup(api),
    create: (order) => runInstance(api, order, zone ?? null, context),
    async destroy(id) {
      try {
        await api.call('TerminateInstances', { 'InstanceId.1': id }, z.object({}));
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    },
  };
}

function parsePlace(place: string): { region: string; zone: string | undefined } {
  const { region, zone } = PLACE.exec(place)?.groups ?? {};
  if (region === undefined) {
    const shown = JSON.stringify(place.slice(0, 60));
    throw new ProviderError(
      'provider.place',
      `${EC2_TITLE}: expected a region as eu-central-1, or a zone as eu-central-1a, got ${shown}`,
      {
        hint: 'kraftwerk create-node --provider ec2 --list-locations',
        exit: 'usage',
      },
    );
  }
  return { region, zone: zone === undefined ? undefined : place };
}

export function filter(index: number, name: string, values: readonly string[]): Params {
  const fields = values.map((value, at) => [`Filter.${index}.Value.${at + 1}`, value]);
  return { [`Filter.${index}.Name`]: name, ...Object.fromEntries(fields) };
}

async function listZones(api: Ec2Api): Promise<Location[]> {
  const schema = z.object({ availabilityZoneInfo: itemsOf(z.object({ zoneName: z.string() })) });
  const params = filter(1, 'state', ['available']);
  const { availabilityZoneInfo } = await api.call('DescribeAvailabilityZones', params, schema);
  return availabilityZoneInfo.map(({ zoneName }) => ({ id: zoneName, description: `zone of ${api.region}` }));
}

async function listTypes(api: Ec2Api, wanted: string | null) {
  const params: Params =
    wanted === null
      ? { ...filter(1, 'current-generation', ['true']), ...filter(2, 'bare-metal', ['false']), MaxResults: '100' }
      : { 'InstanceType.1': wanted };
  try {
    return await collectPages('', async (token) => {
      const fields = { ...params, ...(token !== '' && { NextToken: token }) };
      const page = await api.call('DescribeInstanceTypes', fields, instanceTypes);
      return { items: page.instanceTypeSet, next: page.nextToken || null };
    });
  } catch (error) {
    // "The following supplied instance types do not exist", or are not even of the form.
    const isUnknown =
      error instanceof ProviderError && /^Invalid(?:InstanceType|ParameterValue)$/.test(error.providerCode ?? '');
    if (wanted !== null && isUnknown) return [];
    throw error;
  }
}

/** The newest image of each kind, or only the one that is wanted. */
async function listImages(api: Ec2Api, wanted: string | null): Promise<Image[]> {
  if (wanted !== null) {
    try {
      const { imagesSet } = await api.call('DescribeImages', { 'ImageId.1': wanted }, imagesAnswer);
      if (imagesSet.length > 0) return imagesSet.map(toImage);
    } catch (error) {
      const isUnknown = error instanceof ProviderError && (error.providerCode ?? '').startsWith('InvalidAMIID.');
      if (!isUnknown) throw error;
    }
  }
  const newest = new Map<string, z.output<typeof image>>();
  for (const { owner, name } of PUBLISHERS) {
    const params = { 'Owner.1': owner, ...filter(1, 'name', [name]), ...filter(2, 'state', ['available']) };
    const { imagesSet } = await api.call('DescribeImages', params, imagesAnswer);
    for (const one of imagesSet) {
      // Dates and build numbers at the end tell one build from the next.
      const kind = (one.name ?? one.imageId).replace(/(?:-[0-9.]{8,})(?:-[0-9]+)?$/, '');
      const known = newest.get(kind);
      if (known === undefined || (known.creationDate ?? '') < (one.creationDate ?? '')) newest.set(kind, one);
    }
  }
  return [...newest.values()].map(toImage).sort((a, b) => (a.description < b.description ? -1 : 1));
}

function toImage({ imageId, name, description, architecture }: z.output<typeof image>): Image {
  return { id: imageId, description: `${name ?? description ?? ''} (${architecture})` };
}

async function listInstances(api: Ec2Api, params: Params): Promise<Server[]> {
  const found = await collectPages('', async (token) => {
    const fields = { ...params, ...(token !== '' && { NextToken: token }) };
    const page = await api.call('DescribeInstances', fields, reservations);
    return { items: page.reservationSet.flatMap(({ instancesSet }) => instancesSet), next: page.nextToken || null };
  });
  return found.map(toServer);
}

/**
 * Tokens are made from the name, so that an order that is given twice makes one server. Amazon remembers a token for a day,
 * also that of a server that was destroyed meanwhile: the next token is made from that one's id, and so on.
 * @see https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
 */
async function runInstance(api: Ec2Api, order: ServerOrder, zone: string | null, context: ApiContext): Promise<Server> {
  const params: Params = {
    ImageId: order.image,
    InstanceType: order.plan,
    MinCount: '1',
    MaxCount: '1',
    'SecurityGroupId.1': order.prepared,
    UserData: Buffer.from(order.userData).toString('base64'),
    'TagSpecification.1.ResourceType': 'instance',
    'TagSpecification.1.Tag.1.Key': 'Name',
    'TagSpecification.1.Tag.1.Value': order.name,
    'TagSpecification.1.Tag.2.Key': LABEL,
    'TagSpecification.1.Tag.2.Value': 'node',
    // What a site can be tricked into fetching is not the instance's own data.
    'MetadataOptions.HttpTokens': 'required',
    ...(zone !== null && { 'Placement.AvailabilityZone': zone }),
  };
  let token = hash(LABEL, api.region, order.name);
  for (let attempt = 0; attempt < MAX_TOKENS; attempt += 1) {
    const server = (await tryToken(api, params, token)) ?? (await findByToken(api, token, context));
    if (server !== null && !server.isGone) return server;
    token = hash(token, server === null ? JSON.stringify(params) : server.id);
  }
  throw new ProviderError('provider.refused', `${EC2_TITLE}: ${order.name} was made and destroyed too often today`, {
    hint: 'take another name',
  });
}

/** Null: the token was used with other parameters. */
async function tryToken(api: Ec2Api, params: Params, token: string): Promise<Server | null> {
  try {
    const schema = z.object({ instancesSet: itemsOf(instance).refine((list) => list.length === 1, 'one instance') });
    const { instancesSet } = await api.call('RunInstances', { ...params, ClientToken: token }, schema);
    return instancesSet.map(toServer)[0] ?? null;
  } catch (error) {
    if (error instanceof ProviderError && error.providerCode === 'IdempotentParameterMismatch') return null;
    throw error;
  }
}

/** An order of a moment ago takes some seconds to be seen. */
async function findByToken(api: Ec2Api, token: string, { clock, signal }: ApiContext): Promise<Server | null> {
  for (const pauseMs of [0, 2000, 4000, 8000]) {
    await clock.sleep(pauseMs, signal);
    const [found] = await listInstances(api, filter(1, 'client-token', [token]));
    if (found !== undefined) return found;
  }
  return null;
}

/** 40 characters; a token has at most 64. */
function hash(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 40);
}

function toServer(value: z.output<typeof instance>): Server {
  const tag = (wanted: string): string | undefined => value.tagSet?.find(({ key }) => key === wanted)?.value;
  const state = value.instanceState.name;
  return {
    id: value.instanceId,
    name: tag('Name') ?? value.instanceId,
    state,
    isRunning: state === 'running',
    isGone: state === 'shutting-down' || state === 'terminated',
    address: value.ipAddress ?? null,
    plan: value.instanceType,
    location: value.placement.availabilityZone,
    isOurs: tag(LABEL) !== undefined,
  };
}
