/** One channel of a client as three plain streams that keep their promises, whatever ssh2 1.17 does underneath. */

import type { Readable } from 'node:stream';
import { PassThrough, Writable } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import { terminalInput, toTerminalLines } from './terminal.ts';

const OUTPUT_BUFFER_BYTES = 64 * 1024;
/** Twice ssh2's window: more than that in memory, and the client ignores the window. */
const INPUT_LIMIT_BYTES = 4 * 1024 * 1024;

/** Fields of ssh2's Channel that hold a chunk while the window is full. */
interface ChannelInternals {
  _chunk?: Buffer | undefined;
  _chunkcb?: unknown;
  _chunkErr?: Buffer | undefined;
  _chunkcbErr?: unknown;
}

export interface ChannelStreams {
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  /** Aborted when the client is gone, or has typed Ctrl-C in a terminal. */
  signal: AbortSignal;
  /** From now on bytes go through a terminal's client as they are, both ways; or as lines again. */
  setRaw(raw: boolean): void;
  /** All output is on its way, then the exit code, then the end. */
  finish(exitCode: number): Promise<void>;
  /** To be called when the channel or its connection has closed. */
  clientGone(): void;
}

interface Job {
  stream: Writable;
  chunk: Buffer;
  done(): void;
}

/**
 * @param options.terminal the client has a pty
 * @param options.flood called when the client sends more than its window allows
 */
export function openStreams(channel: ServerChannel, options: { terminal: boolean; flood(): void }): ChannelStreams {
  const abort = new AbortController();
  const queue: Job[] = [];
  let busy: Job | null = null;
  let gone = false;
  let raw = false;

  // One write at a time for both streams, and nothing left behind by it: ssh2 keeps the last chunk that had to wait
  // and sends it again when the other stream waits for the window.
  const next = (): void => {
    const job = queue.shift();
    if (job === undefined || busy !== null) {
      if (job !== undefined) queue.unshift(job);
      return;
    }
    busy = job;
    job.stream.write(job.chunk, () => {
      const internals = channel as unknown as ChannelInternals;
      internals._chunk = internals._chunkcb = internals._chunkErr = internals._chunkcbErr = undefined;
      if (busy !== job) return;
      busy = null;
      job.done();
      next();
    });
  };

  const output = (stream: Writable): Writable =>
    new Writable({
      highWaterMark: OUTPUT_BUFFER_BYTES,
      decodeStrings: true,
      write(chunk: Buffer, _encoding, done) {
        // ssh2 never calls back after the close. Output of work that goes on without its client has no reader.
        if (gone) return done();
        queue.push({ stream, chunk: options.terminal && !raw ? toTerminalLines(chunk) : chunk, done });
        next();
      },
    });
  const stdout = output(channel);
  const stderr = output(channel.stderr);

  const stdin = options.terminal
    ? terminalInput({
        echo: (bytes) => stderr.writable && stderr.write(bytes),
        interrupt: () => abort.abort(),
        raw: () => raw,
      })
    : new PassThrough();
  for (const stream of [channel, channel.stderr, stdin, stdout, stderr]) stream.on('error', () => {});
  channel.pipe(stdin);
  guardWindow(channel, options.flood);

  const clientGone = (): void => {
    if (gone) return;
    gone = true;
    const waiting = busy === null ? queue.splice(0) : [busy, ...queue.splice(0)];
    busy = null;
    for (const job of waiting) job.done();
    abort.abort();
    // A cut stream must not look like one that was sent whole.
    if (!stdin.readableEnded && !channel.readableEnded) stdin.destroy(new Error('the client is gone'));
    channel.resume();
  };
  noticeClose(channel, clientGone);

  return {
    stdin,
    stdout,
    stderr,
    signal: abort.signal,
    setRaw(wanted) {
      raw = wanted;
    },
    async finish(exitCode) {
      await Promise.all([endOutput(stdout), endOutput(stderr)]);
      channel.unpipe(stdin);
      channel.resume();
      if (gone) return;
      channel.exit(exitCode);
      channel.end();
    },
    clientGone,
  };
}

function endOutput(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writableFinished || stream.destroyed) return resolve();
    stream.once('finish', resolve);
    stream.once('close', resolve);
    if (!stream.writableEnded) stream.end();
  });
}

/**
 * A client that shares its connection closes the channel alone. ssh2 tells of it only when all input is read, which may be
 * waiting for a command that reads none.
 */
function noticeClose(channel: ServerChannel, closed: () => void): void {
  const push = channel.push.bind(channel);
  channel.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    const more = push(chunk, encoding);
    const { incoming } = channel as unknown as { incoming?: { state?: string } };
    if (chunk === null && incoming?.state === 'closed' && channel.readableLength > 0) closed();
    return more;
  };
}

/** ssh2 accepts data beyond the window as long as any of it was left. */
function guardWindow(channel: ServerChannel, flood: () => void): void {
  const push = channel.push.bind(channel);
  channel.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (channel.readableLength > INPUT_LIMIT_BYTES) flood();
    return push(chunk, encoding);
  };
}
