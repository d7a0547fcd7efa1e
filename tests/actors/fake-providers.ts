/** Actors: every provider that create-node knows, as fakes, and a world for its commands to run in. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { ApiContext, Clock } from '../../receiver/providers/api.ts';
import { createProvider } from '../../receiver/providers/find-provider.ts';
import type { Provider, ProviderName } from '../../receiver/providers/provider.ts';
import type { World } from '../../receiver/providers/world.ts';
import { fakeDigitalOcean } from './fake-digitalocean.ts';
import { fakeEc2 } from './fake-ec2.ts';
import { fakeHetzner } from './fake-hetzner.ts';
import { fakeLinode } from './fake-linode.ts';
import { type FakeKind, type FakeProvider, startFake } from './fake-provider-server.ts';
import { fakeVultr } from './fake-vultr.ts';

export const FAKE_KINDS: Readonly<Record<ProviderName, FakeKind>> = {
  hetzner: fakeHetzner,
  digitalocean: fakeDigitalOcean,
  linode: fakeLinode,
  vultr: fakeVultr,
  ec2: fakeEc2,
};

export const PUBLIC_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example';

/** What to order of each. */
export const CHOICES: Readonly<Record<ProviderName, { location: string; plan: string; image: string }>> = {
  hetzner: { location: 'fsn1', plan: 'cx22', image: 'debian-12' },
  digitalocean: { location: 'fra1', plan: 's-1vcpu-1gb', image: 'debian-12-x64' },
  linode: { location: 'eu-central', plan: 'g6-nanode-1', image: 'linode/debian12' },
  vultr: { location: 'ams', plan: 'vc2-1c-1gb', image: '2136' },
  ec2: { location: 'eu-central-1', plan: 't3.micro', image: 'ami-0debian12new' },
};

export function startFakeProvider(name: ProviderName): Promise<FakeProvider> {
  return startFake(FAKE_KINDS[name]);
}

/** A clock that goes on only in pauses, which cost no time and are written down. */
export function fastClock(): Clock & { pauses: number[] } {
  let now = Date.now();
  const pauses: number[] = [];
  return {
    pauses,
    now: () => now,
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      pauses.push(ms);
      now += ms;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

export interface Client {
  provider: Provider;
  context: ApiContext;
  said: string[];
  pauses: number[];
}

export function connectTo(
  name: ProviderName,
  env: Record<string, string>,
  location: string | null = null,
  signal = new AbortController().signal,
): Client {
  const said: string[] = [];
  const clock = fastClock();
  const context: ApiContext = { clock, signal, say: (line) => said.push(line) };
  return { provider: createProvider(name, { env, location }, context), context, said, pauses: clock.pauses };
}

export interface TestWorld extends World {
  folder: string;
  out: string[];
  said: string[];
  asked: string[];
  remove(): void;
}

export interface WorldOptions {
  env: Record<string, string>;
  /** Of ~/.kraftwerk.yaml. */
  config?: string;
  /** For each question in turn; without: no terminal. */
  answers?: string[];
  hosts?: string;
  /** How often SSH does not answer yet. */
  closed?: number;
  signal?: AbortSignal;
}

/** A home with a key, a hosts file, and somebody who answers. */
export function createWorld({
  env,
  config,
  answers,
  hosts = '127.0.0.1 localhost\n',
  closed = 0,
  signal,
}: WorldOptions): TestWorld {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-world-'));
  const hostsFile = join(folder, 'hosts');
  writeFileSync(hostsFile, hosts);
  writeFileSync(join(folder, 'key.pub'), `${PUBLIC_KEY}\n`);
  // Always one, so that this machine's own is never read.
  writeFileSync(join(folder, '.kraftwerk.yaml'), `pubkey: key.pub\n${config ?? ''}`);
  const out: string[] = [];
  const said: string[] = [];
  const asked: string[] = [];
  let left = closed;
  return {
    ...{ folder, hostsFile, out, said, asked },
    surroundings: { env: { ...env, PATH: process.env.PATH }, home: folder, cwd: folder },
    clock: fastClock(),
    signal: signal ?? new AbortController().signal,
    console: {
      isTerminal: answers !== undefined,
      print: (text) => out.push(text),
      say: (line) => said.push(line),
      async ask(question) {
        asked.push(question);
        return answers?.shift() ?? '';
      },
    },
    async isSshOpen() {
      left -= 1;
      return left < 0;
    },
    lookUp: async () => null,
    remove: () => rmSync(folder, { recursive: true }),
  };
}

/** The error of a promise that fails in words. */
export async function errorOf(work: Promise<unknown>): Promise<KraftwerkError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof KraftwerkError) return error;
    throw error;
  }
  throw new Error('no error');
}
