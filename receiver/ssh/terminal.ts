/** What a terminal driver does, for clients with a pty: their own terminal is raw, so echo and line ends are ours. */
import { Transform } from 'node:stream';

const INTERRUPT = 0x03;
const END_OF_FILE = 0x04;
const BACKSPACE = 0x08;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const KILL_LINE = 0x15;
const DELETE = 0x7f;
const MAX_LINE_BYTES = 64 * 1024;

/** `\n` becomes `\r\n`; an existing `\r\n` stays. */
export function toTerminalLines(chunk: Buffer): Buffer {
  return chunk.includes(LINE_FEED) ? Buffer.from(chunk.toString('latin1').replace(/\r?\n/g, '\r\n'), 'latin1') : chunk;
}

export interface TerminalInputOptions {
  echo(bytes: Buffer): void;
  /** Ctrl-C. */
  interrupt(): void;
  /** Whether what is typed is for a terminal elsewhere, and goes there as it is. */
  raw(): boolean;
}

/** Typed bytes -> whole lines that end in `\n`; Ctrl-D on an empty line ends the input. */
export function terminalInput({ echo, interrupt, raw }: TerminalInputOptions): Transform {
  let line: number[] = [];
  let ended = false;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (raw()) return done(null, line.length === 0 ? chunk : Buffer.concat([Buffer.from(line.splice(0)), chunk]));
      const echoed: number[] = [];
      for (const byte of ended ? [] : chunk) {
        if (byte === INTERRUPT) {
          echo(Buffer.from('^C\n'));
          line = [];
          interrupt();
        } else if (byte === END_OF_FILE) {
          if (line.length > 0) this.push(Buffer.from(line));
          else ended = true;
          line = [];
          if (ended) this.push(null);
          if (ended) break;
        } else if (byte === CARRIAGE_RETURN || byte === LINE_FEED) {
          this.push(Buffer.from([...line, LINE_FEED]));
          line = [];
          echoed.push(LINE_FEED);
        } else if (byte === BACKSPACE || byte === DELETE) {
          // A character of UTF-8 is one on the screen and up to four here.
          while (line.length > 0 && ((line.at(-1) ?? 0) & 0xc0) === 0x80) line.pop();
          if (line.pop() !== undefined) echoed.push(BACKSPACE, 0x20, BACKSPACE);
        } else if (byte === KILL_LINE) {
          const characters = line.filter((part) => (part & 0xc0) !== 0x80).length;
          for (let at = 0; at < characters; at += 1) echoed.push(BACKSPACE, 0x20, BACKSPACE);
          line = [];
        } else if (byte >= 0x20 && line.length < MAX_LINE_BYTES) {
          line.push(byte);
          echoed.push(byte);
        }
      }
      if (echoed.length > 0) echo(Buffer.from(echoed));
      done();
    },
    flush(done) {
      if (!ended && line.length > 0) this.push(Buffer.from(line));
      done();
    },
  });
}
