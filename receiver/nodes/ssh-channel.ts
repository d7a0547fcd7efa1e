/** One SSH channel as an agent's pipes, which keep their promises whatever ssh2 1.17 does underneath. */
import { PassThrough, Writable } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import type { AgentChannel } from './connector.ts';

const BUFFER_BYTES = 64 * 1024;
const STDERR_BYTES = 64 * 1024;
/** After a loss: how long what has arrived may still be read. */
const LAST_WORDS_MS = 1_000;

export interface SshAgentChannel extends AgentChannel {
  /** To be called when the connection is gone: ssh2 does not always tell its channels. */
  lost(): void;
}

/** @param onClosed called once, when the channel is closed or given up */
export function openAgentChannel(channel: ClientChannel, onClosed: () => void): SshAgentChannel {
  const stdout = new PassThrough({ highWaterMark: BUFFER_BYTES });
  let exit: string | null = null;
  let closed = false;
  let pending: (() => void) | null = null;
  let tellEnded: (how: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    tellEnded = resolve;
  });

  const stdin = new Writable({
    highWaterMark: BUFFER_BYTES,
    write(chunk: Buffer, _encoding, done) {
      // ssh2 never calls back after the close. Whoever still sends is read to the end and so let go.
      if (closed) return done();
      pending = done;
      channel.write(chunk, () => {
        if (pending !== done) return;
        pending = null;
        done();
      });
    },
    final(done) {
      if (!closed) channel.end();
      done();
    },
    destroy(error, done) {
      // Given up in the middle: the agent must not wait for the rest.
      if (!closed) channel.end();
      done(error);
    },
  });

  /** @param waitMs how long a reader has who is slow; null: all the time */
  const settle = (how: string, waitMs: number | null): void => {
    if (closed) return;
    closed = true;
    pending?.();
    pending = null;
    if (stdout.closed) tellEnded(how);
    stdout.once('close', () => tellEnded(how));
    if (waitMs !== null) setTimeout(() => tellEnded(how), waitMs).unref();
    onClosed();
  };

  for (const stream of [channel, channel.stderr, stdin, stdout]) stream.on('error', () => undefined);
  channel.pipe(stdout);
  // A reader who has gone away must not keep the channel open: without being read it never closes.
  stdout.once('close', () => channel.resume());
  channel.on('exit', (code: number | null, signal?: string) => {
    exit = code === null ? `by ${signal}` : `with exit code ${code}`;
  });
  channel.once('close', () => settle(exit ?? 'because its channel was closed', null));
  return {
    stdin,
    stdout,
    stderr: readStderr(channel.stderr, STDERR_BYTES),
    ended,
    kill() {
      if (closed) return;
      // The agent finds the end of its input, and agent-login ends it if that does not. Signals are refused to a forced command.
      channel.close();
      channel.unpipe(stdout);
      channel.resume();
      stdout.end();
      settle('because the receiver ended it', LAST_WORDS_MS);
    },
    lost: () => settle('because the connection was lost', LAST_WORDS_MS),
  };
}

/** The first `limit` bytes; agent-login's signs of life, NULs, are taken out. All of `source` is read. */
export function readStderr(source: NodeJS.ReadableStream, limit: number): PassThrough {
  const stderr = new PassThrough({ highWaterMark: limit });
  let room = limit;
  source.on('data', (chunk: Buffer) => {
    const text = chunk.includes(0) ? Buffer.from(chunk.filter((byte) => byte !== 0)) : chunk;
    if (text.length === 0 || room === 0) return;
    stderr.write(text.subarray(0, room));
    room = Math.max(0, room - text.length);
  });
  for (const event of ['end', 'close', 'error']) source.once(event, () => stderr.end());
  return stderr;
}
