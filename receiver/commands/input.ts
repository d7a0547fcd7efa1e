/** Reads what a client sends to a command: all of it, or one line; bounded, and given up when the client goes. */
import type { Readable } from 'node:stream';
import { KraftwerkError } from '../../node-agent/protocol.ts';

const MAX_LINE_BYTES = 64 * 1024;

/**
 * @param what for the message: `public key`
 * @throws KraftwerkError `input.tooLong`, `input.cut`
 */
export async function readInput(stdin: Readable, maxBytes: number, what: string, signal: AbortSignal): Promise<string> {
  return await read(stdin, signal, (text) => {
    if (text.length > maxBytes) {
      throw new KraftwerkError('input.tooLong', `${what}: more than ${maxBytes} bytes on stdin`, { exit: 'usage' });
    }
    return null;
  });
}

/** One line without its end. @throws KraftwerkError `input.tooLong`, `input.cut` */
export async function readLine(stdin: Readable, signal: AbortSignal): Promise<string> {
  return await read(stdin, signal, (text) => {
    const end = text.indexOf('\n');
    if (end < 0 && text.length > MAX_LINE_BYTES) {
      throw new KraftwerkError('input.tooLong', `input: a line of more than ${MAX_LINE_BYTES} bytes`, {
        exit: 'usage',
      });
    }
    return end < 0 ? null : text.slice(0, end).trim();
  });
}

async function read(stdin: Readable, signal: AbortSignal, enough: (text: string) => string | null): Promise<string> {
  const chunks: Buffer[] = [];
  const onAbort = (): void => void stdin.destroy(new Error('aborted'));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk as Buffer);
      const found = enough(Buffer.concat(chunks).toString('utf8'));
      if (found !== null) return found;
    }
    return Buffer.concat(chunks).toString('utf8');
  } catch (cause) {
    if (cause instanceof KraftwerkError) throw cause;
    throw new KraftwerkError('input.cut', 'input: cut off', { cause });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
