/** Waits until the receiver's service answers on its port, and reads in its log how its nodes are. */
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Config } from '../config.ts';

const LOG = '/var/log/kraftwerk/current';
const LIMIT_MS = 120_000;
const POLL_MS = 100;
const BANNER = 'SSH-2.0-kraftwerk';
const BANNER_LIMIT_MS = 3_000;

export interface AwaitOrder {
  config: Config;
  /** Lines of the log that are older are of another start. */
  startedMs: number;
  signal: AbortSignal;
  nowMs(): number;
}

export interface AnsweringReceiver {
  failedNodes: { node: string; message: string }[];
  /** How long it took; null: it ran already. */
  ms: number | null;
}

/** @throws KraftwerkError `setup.receiver` with the end of its log */
export async function waitForReceiver({ config, startedMs, signal, nowMs }: AwaitOrder): Promise<AnsweringReceiver> {
  for (;;) {
    signal.throwIfAborted();
    if ((await findReceiverPort(config)) !== null) break;
    if (nowMs() - startedMs > LIMIT_MS) throw silent(config.ssh.port);
    await new Promise((again) => setTimeout(again, POLL_MS));
  }
  const events = readLog().filter(({ time }) => Date.parse(String(time)) >= startedMs);
  const failedNodes = events
    .filter(({ event }) => event === 'node.failed')
    .map(({ node, message }) => ({ node: String(node), message: String(message) }));
  const ready = events.find(({ event }) => event === 'receiver.ready');
  return { failedNodes, ms: ready === undefined ? null : Date.parse(String(ready.time)) - startedMs };
}

/** The port of the configuration, where a receiver answers on it. */
export async function findReceiverPort(config: Config | null): Promise<number | null> {
  if (config === null) return null;
  const { host, port } = config.ssh;
  const address = ['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host;
  const banner = await readBanner(address, port);
  return banner?.startsWith(BANNER) ? port : null;
}

function silent(port: number): KraftwerkError {
  const lines = existsSync(LOG) ? readFileSync(LOG, 'utf8').trimEnd().split('\n').slice(-8) : [];
  return new KraftwerkError('setup.receiver', `the receiver does not answer on port ${port}`, {
    lines,
    hint: ['its log: tail /var/log/kraftwerk/current', 'its state: sv status kraftwerk'],
  });
}

function readLog(): Record<string, unknown>[] {
  if (!existsSync(LOG)) return [];
  return readFileSync(LOG, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Record<string, unknown>];
      } catch {
        return [];
      }
    });
}

/** What an SSH server says first; null: nobody listens. */
function readBanner(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (banner: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(banner);
    };
    const timer = setTimeout(() => end(null), BANNER_LIMIT_MS);
    socket.once('data', (chunk: Buffer) => end(chunk.toString('latin1')));
    socket.once('error', () => end(null));
    socket.once('end', () => end(null));
  });
}
