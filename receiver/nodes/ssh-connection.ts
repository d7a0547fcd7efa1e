/** One connection to a node's sshd: starts programs on it, and says when it is lost. */
import type { ClientCallback } from 'ssh2';
import type { AgentChannel } from './connector.ts';
import { connectPinned, explain, type PinnedClient, type PinnedOptions } from './host-key-pin.ts';
import { openAgentChannel, type SshAgentChannel } from './ssh-channel.ts';

export interface ConnectionLimits {
  /** Programs at once. sshd's MaxSessions is 10, and one that hangs keeps its place for a while. */
  channels: number;
  /** Nothing heard for so long, pings unanswered: the connection is lost. */
  silenceMs: number;
  /** The same, while an answer to a new channel is waited for. */
  answerMs: number;
}

export interface SshConnection {
  /** Whether it may start programs, now or when others have ended. */
  isOpen(): boolean;
  /** Whether one more program can be started now. */
  hasRoom(): boolean;
  isIdle(): boolean;
  /** @throws NoChannel */
  run(command: string): Promise<AgentChannel>;
  /** Ends the connection and with it what runs. */
  close(): Promise<void>;
}

/** This connection starts nothing more; another one may. */
export class NoChannel extends Error {}

export interface ConnectionListener {
  /** A program has ended. */
  released(): void;
  /** Called once, however it has ended. */
  ended(why: string): void;
}

const TICKS_OF_SILENCE = 7;
/** An answer may wait behind an upload over a slow link, as long as anything comes back at all. */
const MAX_ANSWER_MS = 60_000;

/** @throws what `connectPinned` throws */
export async function openConnection(
  options: PinnedOptions,
  limits: ConnectionLimits,
  listener: ConnectionListener,
): Promise<SshConnection> {
  return watchConnection(await connectPinned(options), limits, listener);
}

function watchConnection(pinned: PinnedClient, limits: ConnectionLimits, listener: ConnectionListener): SshConnection {
  const { client, socket } = pinned;
  const running = new Set<SshAgentChannel>();
  const starting = new Set<(error: NoChannel) => void>();
  let gone = false;
  let refuses = false;

  const lose = (why: string): void => {
    if (gone) return;
    gone = true;
    clearInterval(heartbeat);
    socket.destroy();
    for (const reject of starting) reject(new NoChannel(why));
    for (const channel of running) channel.lost();
    listener.ended(why);
  };
  // Ticks, not a clock: a machine that has slept must not find all its connections dead.
  let heard = socket.bytesRead;
  let silentTicks = 0;
  const heartbeat = setInterval(() => {
    silentTicks = socket.bytesRead === heard ? silentTicks + 1 : 0;
    heard = socket.bytesRead;
    if (silentTicks >= TICKS_OF_SILENCE) lose('no answer to its pings');
  }, limits.silenceMs / TICKS_OF_SILENCE);
  heartbeat.unref();
  client.once('error', (error) => lose(explain(error)));
  client.once('end', () => lose('closed by the other side'));
  client.once('close', () => lose('closed by the other side'));

  const count = (): number => running.size + starting.size;
  const released = (): void => {
    if (refuses && count() === 0) client.end();
    listener.released();
  };

  return {
    isOpen: () => !gone && !refuses,
    hasRoom: () => !gone && !refuses && count() < limits.channels,
    isIdle: () => count() === 0,
    run(command) {
      return new Promise((resolve, reject) => {
        let before = socket.bytesRead;
        let waitedMs = 0;
        const settle = (): boolean => {
          clearInterval(timer);
          return starting.delete(fail);
        };
        const fail = (error: NoChannel): void => {
          if (!settle()) return;
          reject(error);
          released();
        };
        const timer = setInterval(() => {
          waitedMs += limits.answerMs;
          const silent = socket.bytesRead === before;
          before = socket.bytesRead;
          if (!silent && waitedMs < MAX_ANSWER_MS) return;
          // It may be dead, or a machine with too much to do: what runs there already is left to the heartbeat.
          refuses = true;
          if (running.size === 0) lose('no answer');
          else fail(new NoChannel('no answer'));
        }, limits.answerMs);
        starting.add(fail);
        const onChannel: ClientCallback = (error, channel) => {
          if (error) {
            refuses = true;
            fail(new NoChannel(error.message));
          } else if (settle()) {
            const agent = openAgentChannel(channel, () => {
              running.delete(agent);
              released();
            });
            running.add(agent);
            resolve(agent);
          } else {
            channel.close();
          }
        };
        try {
          client.exec(command, onChannel);
        } catch (error) {
          fail(new NoChannel((error as Error).message));
        }
      });
    },
    async close() {
      if (gone) return;
      refuses = true;
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      client.end();
      const timer = setTimeout(() => lose('closed'), 500);
      await closed;
      clearTimeout(timer);
      lose('closed');
    },
  };
}
