// Waits until a new server has an address and its SSH answers, with a line every few seconds and a time limit.
import net from 'node:net';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Clock } from './api.ts';
import { type Provider, ProviderError, type Server } from './provider.ts';

const LIMIT_MS = 10 * 60_000;
const POLL_MS = 3000;
const HEARTBEAT_MS = 6000;
/** How long a server that was just ordered may not be listed yet. */
const UNSEEN_MS = 60_000;
const PROBE_LIMIT_MS = 5000;
const SSH_PORT = 22;

export interface WaitContext {
  clock: Clock;
  signal: AbortSignal;
  say(line: string): void;
  isSshOpen(address: string): Promise<boolean>;
}

/** @throws KraftwerkError `node.slow` after ten minutes, `node.gone` */
export async function waitForServer(
  provider: Provider,
  ordered: Server,
  { clock, signal, say, isSshOpen }: WaitContext,
): Promise<Server & { address: string }> {
  const { id, name } = ordered;
  const start = clock.now();
  let heartbeat = start;
  let seen = start;
  for (;;) {
    const { server, state } = await look(provider, id);
    const now = clock.now();
    if (server !== null || state !== null) seen = now;
    if (server?.isGone || now - seen > UNSEEN_MS) {
      throw new KraftwerkError(
        'node.gone',
        `${name} (id ${id}) is gone from ${provider.title}: ${server?.state ?? 'not listed'}`,
      );
    }
    // It goes to /etc/hosts, and to other programs.
    if (server !== null && server.address !== null && !net.isIPv4(server.address)) {
      const got = JSON.stringify(server.address.slice(0, 60));
      throw new KraftwerkError('provider.answer', `${provider.title}: ${name}: expected an IPv4 address, got ${got}`);
    }
    if (server?.isRunning && server.address !== null && (await isSshOpen(server.address)))
      return { ...server, address: server.address };
    const what = state ?? describe(server);
    const elapsed = `${Math.round((clock.now() - start) / 1000)}s`;
    if (clock.now() - start >= LIMIT_MS) {
      throw new KraftwerkError('node.slow', `${name} (id ${id}) is not ready after ${elapsed}: ${what}`, {
        hint: [
          'the server is there, and costs: the same command again goes on waiting',
          `kraftwerk destroy-node ${name} deletes it`,
        ],
      });
    }
    if (clock.now() - heartbeat >= HEARTBEAT_MS) {
      heartbeat = clock.now();
      say(`still waiting: ${what} … ${elapsed}`);
    }
    await clock.sleep(POLL_MS, signal);
  }
}

/** `state`: what is to be said instead, when the provider could not be asked. */
async function look(provider: Provider, id: string): Promise<{ server: Server | null; state: string | null }> {
  try {
    return { server: await provider.get(id), state: null };
  } catch (error) {
    // A provider that has trouble for a while does not end the waiting.
    const passes = error instanceof ProviderError && /^provider\.(?:down|busy)$/.test(error.code);
    if (!passes) throw error;
    return { server: null, state: error.message };
  }
}

function describe(server: Server | null): string {
  if (server === null) return 'not listed yet';
  return server.address === null
    ? `${server.state}, no address yet`
    : `${server.state} at ${server.address}, SSH does not answer yet`;
}

/** A port that is open is not enough: only a server that says `SSH-` is up. @see https://www.rfc-editor.org/rfc/rfc4253#section-4.2 */
export function probeSsh(address: string, port: number = SSH_PORT): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port });
    const timer = setTimeout(() => settle(false), PROBE_LIMIT_MS);
    let heard = '';
    const settle = (isOpen: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(isOpen);
    };
    socket.on('error', () => settle(false));
    socket.on('close', () => settle(false));
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1');
      if (/^SSH-/m.test(heard)) settle(true);
      else if (heard.length > 8192) settle(false);
    });
  });
}
