// kraftwerk destroy-node: deletes a server that create-node has made, and its line in /etc/hosts.
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { readHosts, replaceHostsLine, writeHostsLine } from '../hosts-file.ts';
import { findServer } from '../providers/create-server.ts';
import { type ProviderDefaults, readDefaults } from '../providers/defaults.ts';
import { createProvider } from '../providers/find-provider.ts';
import type { Provider, Server } from '../providers/provider.ts';
import { apiContext, hostsAccess, realWorld, type World, withInterrupt } from '../providers/world.ts';
import { parseOptions, usageError } from './parse-options.ts';

const OPTIONS = {
  provider: { type: 'string' },
  'location-id': { type: 'string' },
  id: { type: 'string' },
  confirm: { type: 'string' },
  config: { type: 'string' },
  json: { type: 'boolean' },
} as const;

const GONE_LIMIT_MS = 5 * 60_000;
const POLL_MS = 3000;

export async function run(argv: string[]): Promise<number> {
  return await withInterrupt((signal) => destroyNode(argv, realWorld(readSurroundings(), signal)));
}

/** @param world what the command may touch: tests bring their own */
export async function destroyNode(argv: string[], world: World): Promise<number> {
  const { values, positionals } = parseOptions('destroy-node', argv, OPTIONS, 1);
  const [name] = positionals;
  if (name === undefined) throw usageError('destroy-node', 'which server?');
  const { console } = world;
  const defaults = readDefaults(values.config, world.surroundings);
  const isOther = values.provider !== undefined && defaults.provider !== null && values.provider !== defaults.provider;
  const location = values['location-id'] ?? (isOther ? null : defaults.locationId);
  const settings = { env: world.surroundings.env, location };
  const provider = createProvider(values.provider ?? defaults.provider, settings, apiContext(world));
  if (provider.isRegional && (location ?? provider.defaultLocation) === null)
    throw usageError('destroy-node', `${provider.title} is asked region by region: name it with --location-id`);

  const server = await findTarget(provider, name, values.id ?? null);
  const hasLine = replaceHostsLine(readHosts(world.hostsFile), name, null) !== readHosts(world.hostsFile);
  if (server === null) {
    const error = missing(provider, name, location);
    if (!hasLine) throw error;
    console.say(error.message);
  } else {
    await confirm(provider, server, values.confirm, world);
    await provider.destroy(server.id);
    await waitUntilGone(provider, server, world);
  }
  const isRemoved = hasLine && (await removeLine(name, world));
  if (values.json) {
    const report = { node: name, provider: provider.name, id: server?.id ?? null, hosts_line_removed: isRemoved };
    console.print(`${JSON.stringify(report, null, 2)}\n`);
  }
  warnOfConfiguration(name, defaults, world);
  return EXIT_CODES.ok;
}

/** @throws KraftwerkError `node.foreign` for one without our label, unless its id was named */
async function findTarget(provider: Provider, name: string, id: string | null): Promise<Server | null> {
  if (id !== null) {
    const server = await provider.get(id);
    if (server === null || server.isGone) return null;
    if (server.name === name) return server;
    throw new KraftwerkError(
      'node.other',
      `${provider.title}: the server ${id} is called ${server.name}, not ${name}`,
      {
        hint: 'nothing was deleted',
        exit: 'denied',
      },
    );
  }
  try {
    return await findServer(provider, name);
  } catch (error) {
    if (!(error instanceof KraftwerkError) || error.code !== 'node.foreign') throw error;
    const [foreign] = await provider.find(name);
    throw new KraftwerkError(error.code, `${error.message}: nothing was deleted`, {
      hint: `if it is to go all the same: kraftwerk destroy-node ${name} --provider ${provider.name} --id ${foreign?.id ?? 'ID'}`,
      exit: 'denied',
    });
  }
}

function missing(provider: Provider, name: string, location: string | null): KraftwerkError {
  const where = provider.isRegional ? ` in ${location ?? provider.defaultLocation}` : '';
  return new KraftwerkError('node.missing', `${provider.title} has no server ${name}${where}`, {
    hint: 'another provider: --provider NAME; another account: another token',
    exit: 'denied',
  });
}

async function confirm(
  provider: Provider,
  server: Server,
  given: string | undefined,
  { console }: World,
): Promise<void> {
  const { id, name, plan, location, address, state } = server;
  const what = [`id ${id}`, plan, location, address ?? 'no address', state].join(', ');
  console.say(`${provider.title}: ${name} (${what}) will be deleted with all of its data`);
  if (given === undefined && !console.isTerminal) {
    throw new KraftwerkError('confirm.refused', 'destroy-node: nothing deleted: not confirmed', {
      hint: `kraftwerk destroy-node ${name} --confirm ${name}`,
      exit: 'usage',
    });
  }
  const typed = given ?? (await console.ask(`Type ${name} to go on:`));
  if (typed === name) return;
  const shown = JSON.stringify(typed.slice(0, 60));
  throw new KraftwerkError('confirm.refused', `destroy-node: nothing deleted: expected ${name}, got ${shown}`, {
    exit: 'usage',
  });
}

async function waitUntilGone(provider: Provider, { id, name }: Server, world: World): Promise<void> {
  const { clock, console, signal } = world;
  const start = clock.now();
  for (;;) {
    const server = await provider.get(id);
    if (server === null || server.isGone) break;
    const elapsed = `${Math.round((clock.now() - start) / 1000)}s`;
    if (clock.now() - start >= GONE_LIMIT_MS) {
      throw new KraftwerkError(
        'node.slow',
        `${name} (id ${id}) was told to go, and is still ${server.state} after ${elapsed}`,
        {
          hint: 'the same command again looks for it',
        },
      );
    }
    console.say(`still going: ${server.state} … ${elapsed}`);
    await clock.sleep(POLL_MS, signal);
  }
  console.say(`${name} (id ${id}) is deleted`);
}

async function removeLine(name: string, world: World): Promise<boolean> {
  try {
    await writeHostsLine(name, null, hostsAccess(world));
    world.console.say(`${world.hostsFile}: the line of ${name} is removed`);
    return true;
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    world.console.say(`warning: ${error.message}: remove the line that ends with "# kraftwerk: ${name}"`);
    return false;
  }
}

function warnOfConfiguration(name: string, { file, nodes, environments }: ProviderDefaults, { console }: World): void {
  const used = [...environments].filter(([, names]) => names.includes(name)).map(([environment]) => environment);
  if (nodes.includes(name) || used.length > 0) {
    const where = used.length === 0 ? '' : `, in ${used.join(', ')}`;
    console.say(`warning: ${file} still names the node ${name}${where}`);
  }
}
