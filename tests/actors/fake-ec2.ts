/** Actor: Amazon EC2 and its price list, as https://docs.aws.amazon.com/AWSEC2/latest/APIReference/ has them. */
import { signRequest } from '../../receiver/providers/sigv4.ts';
import {
  addServer,
  type FakeAnswer,
  type FakeKind,
  type FakeRequest,
  type FakeServer,
  type FakeState,
  hasBooted,
} from './fake-provider-server.ts';

const CREDENTIALS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'test/secret+key', sessionToken: null };
const REGION = 'eu-central-1';
const TYPES = [
  { name: 't3.micro', cores: 2, memory: 1024, hourly: '0.0120000000' },
  { name: 't3.small', cores: 2, memory: 2048, hourly: '0.0240000000' },
  { name: 't4g.micro', cores: 2, memory: 1024, hourly: '0.0096000000' },
];
const IMAGES = [
  ['ami-0debian12new', 'debian-12-amd64-20241004-1890', '136693071363', '2024-10-05T00:00:00.000Z', 'x86_64'],
  ['ami-0debian12old', 'debian-12-amd64-20240901-1857', '136693071363', '2024-09-02T00:00:00.000Z', 'x86_64'],
  [
    'ami-0noble',
    'ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20241004',
    '099720109477',
    '2024-10-04T10:00:00.000Z',
    'x86_64',
  ],
  ['ami-0mine', 'my own & only <image>', '123456789012', '2024-10-04T10:00:00.000Z', 'arm64'],
] as const;

interface Ec2State extends FakeState {
  /** By client token: what was ordered with it, and what came of it. */
  tokens?: Map<string, { params: string; id: string }>;
  groups?: Map<string, Set<string>>;
}

export const fakeEc2: FakeKind = {
  env: (url) => ({
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    AWS_REGION: REGION,
    AWS_ENDPOINT_URL: url,
  }),
  handle(request, state: Ec2State) {
    const isPrice = request.headers['x-amz-target'] !== undefined;
    if (!isSigned(request, isPrice ? 'pricing' : 'ec2', isPrice ? 'us-east-1' : REGION))
      return error(401, 'AuthFailure', 'AWS was not able to validate the provided access credentials');
    if (isPrice) return listPrices(request, state);
    const params = Object.fromEntries(new URLSearchParams(request.text));
    const handler = ACTIONS[params.Action ?? ''];
    if (handler === undefined)
      return error(400, 'InvalidAction', `The action ${params.Action} is not valid for this web service.`);
    const inner = handler(params, state);
    return typeof inner === 'string' ? answer(params.Action ?? '', inner) : inner;
  },
};

type Params = Record<string, string>;

const ACTIONS: Record<string, (params: Params, state: Ec2State) => string | FakeAnswer> = {
  DescribeRegions: () =>
    set(
      'regionInfo',
      ['eu-central-1', 'us-east-1'].map(
        (name) => `<regionName>${name}</regionName><regionEndpoint>ec2.${name}.amazonaws.com</regionEndpoint>`,
      ),
    ),
  DescribeAvailabilityZones: () =>
    set(
      'availabilityZoneInfo',
      ['a', 'b'].map((zone) => `<zoneName>${REGION}${zone}</zoneName>`),
    ),
  DescribeInstanceTypes(params, state) {
    const wanted = params['InstanceType.1'];
    if (wanted !== undefined && !TYPES.some(({ name }) => name === wanted))
      return error(400, 'InvalidInstanceType', `The following supplied instance types do not exist: [${wanted}]`);
    const types = TYPES.filter(({ name }) => wanted === undefined || name === wanted).map(
      ({ name, cores, memory }) =>
        `<instanceType>${name}</instanceType><currentGeneration>true</currentGeneration>` +
        `<processorInfo>${set('supportedArchitectures', name.startsWith('t4g') ? ['arm64'] : ['i386', 'x86_64'])}</processorInfo>` +
        `<vCpuInfo><defaultVCpus>${cores}</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>${memory}</sizeInMiB></memoryInfo>`,
    );
    return paged('instanceTypeSet', types, params, state);
  },
  DescribeImages(params) {
    const wanted = params['ImageId.1'];
    const found = IMAGES.filter(([id, , owner]) =>
      wanted === undefined ? owner === params['Owner.1'] : id === wanted,
    ).filter(([, name]) => wanted !== undefined || matches(name, params['Filter.1.Value.1'] ?? ''));
    if (wanted !== undefined && found.length === 0)
      return error(400, 'InvalidAMIID.NotFound', `The image id '[${wanted}]' does not exist`);
    return set(
      'imagesSet',
      found.map(
        ([id, name, owner, date, architecture]) =>
          `<imageId>${id}</imageId><imageOwnerId>${owner}</imageOwnerId><imageState>available</imageState>` +
          `<name>${escapeXml(name)}</name><architecture>${architecture}</architecture><creationDate>${date}</creationDate>`,
      ),
    );
  },
  DescribeVpcs: () => set('vpcSet', ['<vpcId>vpc-1</vpcId><isDefault>true</isDefault>']),
  DescribeSecurityGroups: (_, state) =>
    set(
      'securityGroupInfo',
      [...groupsOf(state)].map(
        ([id, ports]) =>
          `<groupId>${id}</groupId><groupName>kraftwerk</groupName>` +
          set(
            'ipPermissions',
            [...ports].map((port) => `<ipProtocol>tcp</ipProtocol><fromPort>${port}</fromPort>`),
          ),
      ),
    ),
  CreateSecurityGroup(_, state) {
    if (groupsOf(state).size > 0)
      return error(400, 'InvalidGroup.Duplicate', "The security group 'kraftwerk' already exists");
    groupsOf(state).set('sg-1', new Set());
    return '<return>true</return><groupId>sg-1</groupId>';
  },
  AuthorizeSecurityGroupIngress(params, state) {
    const ports = groupsOf(state).get(params.GroupId ?? '');
    const port = params['IpPermissions.1.FromPort'] ?? '';
    if (ports === undefined) return error(400, 'InvalidGroup.NotFound', 'The security group does not exist');
    if (ports.has(port)) return error(400, 'InvalidPermission.Duplicate', 'the specified rule already exists');
    ports.add(port);
    return '<return>true</return>';
  },
  RunInstances: runInstances,
  DescribeInstances(params, state) {
    const id = params['InstanceId.1'];
    const name = params['Filter.1.Name'] === 'tag:Name' ? params['Filter.1.Value.1'] : undefined;
    const token = params['Filter.1.Name'] === 'client-token' ? params['Filter.1.Value.1'] : undefined;
    const found = state.servers.filter(
      (server) =>
        (id === undefined || server.id === id) &&
        (name === undefined || (server.name === name && !server.isGone)) &&
        (token === undefined || server.id === state.tokens?.get(token)?.id),
    );
    if (id !== undefined && found.length === 0)
      return error(400, 'InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
    if (id !== undefined) for (const server of found) server.polls += 1;
    return paged(
      'reservationSet',
      found.map((server) => set('instancesSet', [show(state, server)])),
      params,
      state,
    );
  },
  TerminateInstances(params, state) {
    const found = state.servers.find(({ id }) => id === params['InstanceId.1']);
    if (found === undefined) return error(400, 'InvalidInstanceID.NotFound', 'The instance ID does not exist');
    found.isGone = true;
    return set('instancesSet', [
      `<instanceId>${found.id}</instanceId><currentState><code>32</code><name>shutting-down</name></currentState>`,
    ]);
  },
};

function runInstances(params: Params, state: Ec2State): string | FakeAnswer {
  if (params.ImageId === 'ami-0full' || params.InstanceType === 't3.small')
    return error(500, 'InsufficientInstanceCapacity', 'We currently do not have sufficient t3.small capacity.');
  state.tokens ??= new Map();
  const token = params.ClientToken ?? '';
  const known = state.tokens.get(token);
  const order = JSON.stringify(params);
  if (known !== undefined && known.params !== order)
    return error(400, 'IdempotentParameterMismatch', 'The parameters of this idempotent request do not match');
  const before = state.servers.find(({ id }) => id === known?.id);
  const server =
    before ??
    addServer(
      state,
      {
        name: params['TagSpecification.1.Tag.1.Value'] ?? '',
        plan: params.InstanceType ?? '',
        image: params.ImageId ?? '',
        location: params['Placement.AvailabilityZone'] ?? `${REGION}b`,
        isOurs: params['TagSpecification.1.Tag.2.Key'] === 'kraftwerk',
        order: { ...params, user_data: Buffer.from(params.UserData ?? '', 'base64').toString() },
      },
      `i-0${String(state.servers.length).padStart(4, '0')}`,
    );
  state.tokens.set(token, { params: order, id: server.id });
  return `<reservationId>r-1</reservationId>${set('instancesSet', [show(state, server)])}`;
}

function show(state: FakeState, server: FakeServer): string {
  const ready = hasBooted(state, server);
  const tags = [
    `<key>Name</key><value>${escapeXml(server.name)}</value>`,
    ...(server.isOurs ? ['<key>kraftwerk</key><value>node</value>'] : []),
  ];
  const name = server.isGone ? 'terminated' : ready ? 'running' : 'pending';
  return (
    `<instanceId>${server.id}</instanceId><imageId>${server.image}</imageId>` +
    `<instanceState><code>16</code><name>${name}</name></instanceState><instanceType>${server.plan}</instanceType>` +
    (ready && !server.isGone ? `<ipAddress>${state.address}</ipAddress>` : '') +
    `<placement><availabilityZone>${server.location}</availabilityZone></placement>${set('tagSet', tags)}`
  );
}

function listPrices({ body }: FakeRequest, state: FakeState): FakeAnswer {
  const filters = Object.fromEntries(
    (body.Filters as { Field: string; Value: string }[]).map((one) => [one.Field, one.Value]),
  );
  if (filters.regionCode !== REGION || filters.operatingSystem !== 'Linux')
    return { status: 200, body: { PriceList: [] } };
  const all = TYPES.filter(({ name }) => filters.instanceType === undefined || name === filters.instanceType);
  const start = Number(body.NextToken ?? 0);
  const end = start + state.pageSize;
  const PriceList = all.slice(start, end).map(({ name, hourly }) =>
    JSON.stringify({
      product: { productFamily: 'Compute Instance', sku: 'S', attributes: { instanceType: name, regionCode: REGION } },
      terms: {
        OnDemand: {
          'S.JRTCKXETXF': {
            priceDimensions: { 'S.JRTCKXETXF.6YS6EN2CT7': { unit: 'Hrs', pricePerUnit: { USD: hourly } } },
          },
        },
      },
    }),
  );
  return {
    status: 200,
    body: { FormatVersion: 'aws_v1', PriceList, ...(end < all.length && { NextToken: String(end) }) },
  };
}

function groupsOf(state: Ec2State): Map<string, Set<string>> {
  state.groups ??= new Map();
  return state.groups;
}

/** Signs what has come once more: the same header has to come out. */
function isSigned({ method, headers, text }: FakeRequest, service: string, region: string): boolean {
  const authorization = headers.authorization ?? '';
  const names = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(';') ?? [];
  const date = String(headers['x-amz-date']);
  const signed = signRequest({
    ...{ method, region, service, credentials: CREDENTIALS, body: text },
    url: new URL(`http://${headers.host}/`),
    headers: Object.fromEntries(
      names.filter((name) => name !== 'host' && name !== 'x-amz-date').map((name) => [name, String(headers[name])]),
    ),
    nowMs: Date.parse(date.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z')),
  });
  return names.includes('content-type') && signed.authorization === authorization;
}

function answer(action: string, inner: string): FakeAnswer {
  const body =
    `<?xml version="1.0" encoding="UTF-8"?>\n<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">\n` +
    `    <requestId>fdcdcab1-ae5c-489e-9c33-4637c5dda355</requestId>\n${inner}\n</${action}Response>`;
  return { status: 200, body };
}

function set(name: string, items: readonly string[]): string {
  return items.length === 0
    ? `<${name}/>`
    : `<${name}>${items.map((item) => `<item>${item}</item>`).join('')}</${name}>`;
}

function paged(name: string, items: readonly string[], params: Params, state: FakeState): string {
  const start = Number(params.NextToken ?? 0);
  const end = start + state.pageSize;
  return `${set(name, items.slice(start, end))}${end < items.length ? `<nextToken>${end}</nextToken>` : ''}`;
}

function error(status: number, code: string, message: string): FakeAnswer {
  const body =
    `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>${code}</Code>` +
    `<Message>${escapeXml(message)}</Message></Error></Errors><RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>`;
  return { status, body };
}

function matches(name: string, pattern: string): boolean {
  return new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
  ).test(name);
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
