// All that create-node and destroy-node touch beside the provider: clock, terminal, /etc/hosts, the network. Tests bring their own.
import { promises as dns } from 'node:dns';
import { setTimeout as sleep } from 'node:timers/promises';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Surroundings } from '../config.ts';
import { HOSTS_FILE, type HostsAccess } from '../hosts-file.ts';
import type { ApiContext, Clock } from './api.ts';
import { type Console, createConsole } from './console.ts';
import { probeSsh } from './wait-for-server.ts';

export interface World {
  surroundings: Surroundings;
  console: Console;
  clock: Clock;
  signal: AbortSignal;
  hostsFile: string;
  isSshOpen(address: string): Promise<boolean>;
  /** As this machine understands the name; null: not at all. */
  lookUp(name: string): Promise<string | null>;
}

export const realClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
};

export function realWorld(surroundings: Surroundings, signal: AbortSignal): World {
  return {
    surroundings,
    console: createConsole(process, signal),
    clock: realClock,
    signal,
    hostsFile: HOSTS_FILE,
    isSshOpen: (address) => probeSsh(address),
    async lookUp(name) {
      try {
        return (await dns.lookup(name, { family: 4 })).address;
      } catch {
        return null;
      }
    },
  };
}

/** Runs a command so that the first Ctrl-C ends it in words, and a second one at once. */
export async function withInterrupt<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onSignal = (): void => controller.abort(new KraftwerkError('node.interrupted', 'interrupted'));
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, onSignal);
  try {
    return await run(controller.signal);
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, onSignal);
  }
}

export function apiContext({ clock, console, signal }: World): ApiContext {
  return { clock, signal, say: console.say };
}

/** Tokens stay here. */
export function hostsAccess({ hostsFile, console, surroundings: { env } }: World): HostsAccess {
  const names = ['PATH', 'HOME', 'USER', 'LOGNAME', 'TERM', 'LANG', 'LC_ALL', 'DISPLAY', 'SUDO_ASKPASS'];
  return {
    file: hostsFile,
    isTerminal: console.isTerminal,
    env: Object.fromEntries(names.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]]))),
  };
}
