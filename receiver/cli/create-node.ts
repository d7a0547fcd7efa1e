// kraftwerk create-node: orders a server at a provider, waits for it, and leads on to /etc/hosts, setup-node and the configuration.
import { existsSync } from 'node:fs';
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { quoteWord } from '../exec-line.ts';
import { findHostnameProblem } from '../hostname.ts';
import { findForeignLine, formatHostsLine, readHosts, writeHostsLine } from '../hosts-file.ts';
import { printPairs } from '../print-table.ts';
import {
  type Choice,
  chooseServer,
  describePlan,
  printImages,
  printLocations,
  printPlans,
} from '../providers/choices.ts';
import { renderUserData } from '../providers/cloud-init.ts';
import { askYesNo } from '../providers/console.ts';
import { findServer, orderServer } from '../providers/create-server.ts';
import {
  isDefaultKey,
  type NamedKey,
  type ProviderDefaults,
  readDefaults,
  readPublicKey,
} from '../providers/defaults.ts';
import { createProvider } from '../providers/find-provider.ts';
import { formatPrice, type Price, type Provider, type Server } from '../providers/provider.ts';
import { waitForServer } from '../providers/wait-for-server.ts';
import { apiContext, hostsAccess, realWorld, type World, withInterrupt } from '../providers/world.ts';
import type { CliCommand } from './command.ts';
import { parseOptions, usageError } from './parse-options.ts';

const OPTIONS = {
  provider: { type: 'string' },
  'size-id': { type: 'string' },
  'image-id': { type: 'string' },
  'location-id': { type: 'string' },
  pubkey: { type: 'string' },
  config: { type: 'string' },
  yes: { type: 'boolean' },
  hosts: { type: 'boolean' },
  setup: { type: 'boolean' },
  'list-plans': { type: 'boolean' },
  'list-images': { type: 'boolean' },
  'list-locations': { type: 'boolean' },
  json: { type: 'boolean' },
} as const;

export async function run(argv: string[], commands: readonly CliCommand[]): Promise<number> {
  return await withInterrupt((signal) => createNode(argv, commands, realWorld(readSurroundings(), signal)));
}

type Values = ReturnType<typeof parseOptions<typeof OPTIONS>>['values'];

/** @param world what the command may touch: tests bring their own */
export async function createNode(argv: string[], commands: readonly CliCommand[], world: World): Promise<number> {
  const { values, positionals } = parseOptions('create-node', argv, OPTIONS, 1);
  const defaults = readDefaults(values.config, world.surroundings);
  const name = values.provider ?? defaults.provider;
  // Ids of one provider mean nothing to another.
  const isOther = values.provider !== undefined && defaults.provider !== null && values.provider !== defaults.provider;
  const own: ProviderDefaults = isOther ? { ...defaults, imageId: null, sizeId: null, locationId: null } : defaults;
  const location = values['location-id'] ?? own.locationId;
  const settings = { env: world.surroundings.env, location };
  if (values['list-plans'] || values['list-images'] || values['list-locations'])
    return await list(createProvider(name, settings, apiContext(world)), location, values, world);

  const node = parseNodeName(positionals[0]);
  const provider = createProvider(name, settings, apiContext(world));
  const key = readPublicKey(values.pubkey, own.pubkey, world.surroundings);
  const there = await findServer(provider, node);
  if (there !== null) world.console.say(describeThere(provider, there));
  const { server: found, choice } =
    there === null ? await orderNew(provider, node, key, own, values, world) : { server: there, choice: null };
  const server = await finish(provider, found, world);

  const inHosts = await offerHostsLine(node, server.address, values.hosts === true, world);
  const isKnown = inHosts || (await world.lookUp(node)) === server.address;
  const setupArgs = [
    ...(isKnown ? [node] : [server.address, '--as', node]),
    ...identityOf(key),
    ...(values.config === undefined ? [] : ['--config', values.config]),
  ];
  const next = ['kraftwerk', 'setup-node', ...setupArgs].map(quoteWord).join(' ');
  if (values.json) {
    const report = { node, ...describeResult(provider, server, choice), hosts_line: inHosts, next };
    world.console.print(`${JSON.stringify(report, null, 2)}\n`);
  }
  if (await isSetupWanted(values, world)) {
    const code = await setupNode(setupArgs, commands);
    if (code !== null) return code;
  }
  if (!values.json) printConfiguration(node, server.address, own, world);
  world.console.say(`next: ${next}`);
  return EXIT_CODES.ok;
}

async function list(provider: Provider, location: string | null, values: Values, world: World): Promise<number> {
  const place = location ?? provider.defaultLocation;
  const asked = [values['list-plans'], values['list-images'], values['list-locations']].filter(Boolean).length;
  if (asked > 1) throw usageError('create-node', 'one list at a time');
  if (!values['list-locations'] && place === null && provider.isRegional)
    throw usageError('create-node', `${provider.title} has other ones in each region: name one with --location-id`);
  const [items, text] = values['list-plans']
    ? await provider.plans(place, null).then((all) => [all, printPlans(all)] as const)
    : values['list-images']
      ? await provider.images(place, null).then((all) => [all, printImages(all)] as const)
      : await provider.locations().then((all) => [all, printLocations(all)] as const);
  world.console.print(values.json ? `${JSON.stringify(items, null, 2)}\n` : text);
  if (!values.json && values['list-plans'])
    world.console.say(
      `prices of ${provider.title}${place === null ? ', the lowest of all locations' : ` in ${place}`}, ${provider.priceNote}`,
    );
  return EXIT_CODES.ok;
}

function parseNodeName(name: string | undefined): string {
  if (name === undefined) throw usageError('create-node', 'which name is the server to have?');
  const problem =
    findHostnameProblem(name) ??
    (/^[0-9.]+$/.test(name) ? 'expected a name, not an address' : null) ??
    (name !== name.toLowerCase() || name.length > 63 ? 'expected at most 63 of a-z 0-9 - and dots' : null) ??
    (/^(?:localhost|broadcasthost|ip6-.*)$/.test(name) ? `${name} is this machine's own` : null);
  if (problem !== null) throw usageError('create-node', `NAME: ${problem}`);
  return name;
}

function describeThere({ title }: Provider, { id, name, plan, location, state }: Server): string {
  return `${title} has ${name} already (id ${id}, ${plan}, ${location}, ${state}): nothing is ordered`;
}

async function orderNew(
  provider: Provider,
  name: string,
  key: NamedKey,
  defaults: ProviderDefaults,
  values: Values,
  world: World,
): Promise<{ server: Server; choice: Choice }> {
  const wanted = {
    location: values['location-id'] ?? defaults.locationId,
    plan: values['size-id'] ?? defaults.sizeId,
    image: values['image-id'] ?? defaults.imageId,
  };
  const choice = await chooseServer(provider, wanted, name);
  const { plan, image, location } = choice;
  const rows: [string, string][] = [
    ['server', name],
    ['provider', provider.title],
    ['size', `${plan.id}, ${describePlan(plan)}`],
    ['image', `${image.id}, ${image.description}`],
    ['location', `${location.id}, ${location.description}`],
    ['root key', `${key.fingerprint} ${key.comment} (${key.file ?? 'as written'})`],
    ['price', `${formatPrice(plan.price)}, ${provider.priceNote}`],
  ];
  for (const line of printPairs(rows).trimEnd().split('\n')) world.console.say(line);
  await confirmPrice(values, world);
  const context = apiContext(world);
  const prepared = await provider.prepare(key.line);
  const order = {
    ...{ name, plan: plan.id, image: image.id, location: location.id, prepared },
    ...{ publicKey: key.line, userData: renderUserData(key.line) },
  };
  const server = await orderServer(provider, order, context).catch((error: unknown) => {
    throw world.signal.aborted ? interrupted(name, provider, 'may have been made') : error;
  });
  world.console.say(`ordered: id ${server.id}`);
  return { server, choice };
}

async function confirmPrice({ yes }: Values, { console }: World): Promise<void> {
  if (yes) return;
  if (!console.isTerminal) {
    throw new KraftwerkError('node.refused', 'create-node: nothing ordered: not confirmed', {
      hint: 'without a terminal, --yes accepts the price',
      exit: 'usage',
    });
  }
  if (await askYesNo(console, 'Order it?')) return;
  throw new KraftwerkError('node.refused', 'create-node: nothing ordered');
}

/** Waits for it; Ctrl-C leaves it where it is, and says so. */
async function finish(provider: Provider, server: Server, world: World): Promise<Server & { address: string }> {
  try {
    const ready = await waitForServer(provider, server, { ...world, say: world.console.say });
    world.console.say(`${ready.name} is up: ${ready.address}, SSH answers`);
    return ready;
  } catch (error) {
    throw world.signal.aborted ? interrupted(server.name, provider, 'is there, and costs') : error;
  }
}

function interrupted(name: string, provider: Provider, what: string): KraftwerkError {
  return new KraftwerkError('node.interrupted', `interrupted: the server ${what}`, {
    hint: [
      'the same command again looks for it and goes on',
      `kraftwerk destroy-node ${name} --provider ${provider.name} deletes it`,
    ],
  });
}

/** @returns whether /etc/hosts has our line */
async function offerHostsLine(name: string, address: string, unasked: boolean, world: World): Promise<boolean> {
  const { console, hostsFile } = world;
  const line = formatHostsLine(name, address);
  const hosts = readHosts(hostsFile);
  if (hosts.split('\n').includes(line)) return true;
  if ((await world.lookUp(name)) === address) return false;
  const foreign = findForeignLine(hosts, name);
  if (foreign !== null) {
    console.say(`warning: ${hostsFile}:${foreign.line} names ${name} as ${foreign.address}: left as it is`);
    return false;
  }
  console.say(`for ${hostsFile}: ${line}`);
  if (!unasked && !(console.isTerminal && (await askYesNo(console, 'Write it there?')))) return false;
  try {
    if (await writeHostsLine(name, address, hostsAccess(world))) console.say(`${hostsFile} has it`);
    return true;
  } catch (error) {
    // The server is up, and has an address: no reason to fail.
    if (!(error instanceof KraftwerkError)) throw error;
    console.say(`warning: ${error.message}`);
    return false;
  }
}

/** setup-node prints the same with the host key that it has pinned. */
function printConfiguration(name: string, address: string, defaults: ProviderDefaults, { console }: World): void {
  if (defaults.nodes.includes(name)) {
    console.say(`${defaults.file} has the node ${name} already`);
    return;
  }
  console.say("for the receiver's configuration, with the host key that setup-node shows:");
  const environment = defaults.environments.size === 0 ? `environments:\n  live: {nodes: [${name}]}\n` : '';
  console.print(`nodes:\n  ${name}: {host: ${address}, host_key: "SHA256:…"}\n${environment}`);
}

function describeResult(provider: Provider, server: Server, choice: Choice | null) {
  const price: Price | null = choice?.plan.price ?? null;
  return {
    provider: provider.name,
    id: server.id,
    address: server.address,
    ordered: choice !== null,
    size_id: server.plan,
    image_id: choice?.image.id ?? null,
    location_id: server.location,
    price,
  };
}

async function isSetupWanted({ setup, json }: Values, { console }: World): Promise<boolean> {
  return setup === true || (!json && console.isTerminal && (await askYesNo(console, 'Set it up as a node now?')));
}

/** For setup-node: the private key beside a public one that ssh would not think of by itself. */
function identityOf({ file }: NamedKey): string[] {
  const identity = file?.replace(/\.pub$/, '') ?? '';
  const isNeeded = file?.endsWith('.pub') && !isDefaultKey(file) && existsSync(identity);
  return isNeeded ? ['--identity', identity] : [];
}

/** Null: there is no such command. */
async function setupNode(argv: string[], commands: readonly CliCommand[]): Promise<number | null> {
  const command = commands.find(({ name }) => name === 'setup-node');
  return command === undefined ? null : await (await command.load()).run(argv, commands);
}
