// Orders a server once: whatever happens to an answer, and however often this is run, there is one server of that name.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { ApiContext } from './api.ts';
import { type Provider, ProviderError, type Server, type ServerOrder } from './provider.ts';

const MAX_ORDERS = 3;
/** A server that was ordered a moment ago may take some time to be seen. */
const LOOK_PAUSES_MS = [0, 1000, 2000, 4000, 8000, 15_000];

/**
 * The server of that name that kraftwerk has made, or null.
 * @throws KraftwerkError `node.foreign` for one that somebody else has made, `node.ambiguous` for several
 */
export async function findServer(provider: Provider, name: string): Promise<Server | null> {
  const all = (await provider.find(name)).filter(({ isGone }) => !isGone);
  const ours = all.filter(({ isOurs }) => isOurs);
  if (ours.length > 1) {
    throw new KraftwerkError('node.ambiguous', `${provider.title} has ${ours.length} servers ${name}`, {
      lines: ours.map(({ id, state, address }) => `id ${id}  ${state}  ${address ?? 'no address'}`),
      hint: `delete what is too much: kraftwerk destroy-node ${name} --id ID`,
    });
  }
  const [own] = ours;
  if (own !== undefined) return own;
  const [foreign] = all;
  if (foreign === undefined) return null;
  throw new KraftwerkError(
    'node.foreign',
    `${provider.title} has a server ${name} that kraftwerk has not made (id ${foreign.id})`,
    { hint: `take another name, or set it up as it is: kraftwerk setup-node ${foreign.address ?? name} --as ${name}` },
  );
}

/**
 * @param order of a name that `findServer` has not found
 * @throws ProviderError `provider.lost` when nobody knows whether there is a server now
 */
export async function orderServer(provider: Provider, order: ServerOrder, context: ApiContext): Promise<Server> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const server = await provider.create(order);
      // Somebody else may have ordered it in the same moment: better told than paid for.
      if (!provider.refusesTwins) await findServer(provider, order.name).catch(throwAmbiguous);
      return server;
    } catch (error) {
      if (!(error instanceof ProviderError) || !(error.outcome === 'unknown' || isTaken(error))) throw error;
      context.say(`${error.message}: looking whether there is a server now`);
      const found = await lookFor(provider, order.name, context);
      if (found !== null) return found;
      // The name was taken when we asked, and is not any more.
      if (error.outcome !== 'unknown') throw error;
      if (!provider.refusesTwins || attempt >= MAX_ORDERS) throw lost(provider, order.name, error);
      context.say(`there is none: ordering ${order.name} once more`);
    }
  }
}

function throwAmbiguous(error: unknown): void {
  if (error instanceof KraftwerkError && error.code === 'node.ambiguous') throw error;
}

async function lookFor(provider: Provider, name: string, { clock, signal }: ApiContext): Promise<Server | null> {
  for (const pauseMs of LOOK_PAUSES_MS) {
    await clock.sleep(pauseMs, signal);
    const found = await findServer(provider, name);
    if (found !== null) return found;
  }
  return null;
}

/** Hetzner's `uniqueness_error`, Linode's "Label must be unique among your linodes". */
function isTaken({ providerCode, message }: ProviderError): boolean {
  return providerCode === 'uniqueness_error' || /\bmust be unique\b/i.test(message);
}

function lost(provider: Provider, name: string, cause: ProviderError): ProviderError {
  return new ProviderError(
    'provider.lost',
    `${provider.title} did not answer the order of ${name}, and lists no such server so far`,
    {
      hint: [
        'run the same command again in a minute: it looks for the server before it orders one',
        `${provider.title}'s own page shows whether there is one`,
      ],
      outcome: 'unknown',
      cause,
    },
  );
}
