/** A request's body: unpacked by us, counted, and looked into before git gets it. */
import type { IncomingMessage } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { readSection } from '../git/pkt-line.ts';

/** Far more than any real list of refs; what follows it, the pack, is not held in memory. */
const MAX_HEAD_BYTES = 4 * 1024 * 1024;

function bad(what: string): KraftwerkError {
  return new KraftwerkError('http.body', `request: ${what}`, { exit: 'usage' });
}

/**
 * Errors on the stream: `http.body` for junk, for more than `maxBytes` unpacked, and when the client goes away.
 * @throws KraftwerkError `http.body` for an unknown encoding
 */
export function openBody(request: IncomingMessage, maxBytes: number): Readable {
  let size = 0;
  const body = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size > maxBytes) done(bad(`larger than ${maxBytes} bytes`));
      else done(null, chunk);
    },
  });
  const fail = (what: string): void => void body.destroy(bad(what));
  body.on('error', () => undefined);
  request.on('error', () => fail('cut off'));
  request.on('close', () => {
    if (!request.complete) fail('cut off');
  });
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding === 'gzip' || encoding === 'x-gzip') {
    const gunzip = createGunzip();
    // Not stream.pipeline: that would close the connection before it has been answered.
    gunzip.on('error', () => fail('not gzip, as its header says'));
    request.pipe(gunzip).pipe(body);
  } else if (encoding === 'identity') request.pipe(body);
  else throw bad(`content-encoding ${JSON.stringify(encoding.slice(0, 20))}: only gzip is known`);
  return body;
}

/** What has been read of a body, at least until `enough`, or all of it. @throws KraftwerkError `http.body` */
export function readHead(body: Readable, enough: (head: Buffer) => boolean): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const settle = (act: () => void): void => {
      body.off('data', onData).off('end', onEnd).off('error', reject);
      body.pause();
      act();
    };
    const onEnd = (): void => settle(() => resolve(head));
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      try {
        if (head.length > MAX_HEAD_BYTES) throw bad('too many refs');
        if (enough(head)) settle(() => resolve(head));
      } catch (error) {
        settle(() => reject(error));
      }
    };
    body.on('data', onData).on('end', onEnd).on('error', reject);
    if (body.errored) settle(() => reject(body.errored));
  });
}

export interface PushHead {
  /** All that has been read: it belongs to git. */
  bytes: Buffer;
  refs: readonly string[];
  /** No list at all: git only looks whether it may send. */
  empty: boolean;
  shallow: boolean;
  /** Whether the client understands lines and a report in git's sideband. */
  sideband: boolean;
}

/** Reads the list of refs that a push begins with. @throws KraftwerkError `http.body` */
export async function readPushHead(body: Readable): Promise<PushHead> {
  const parsed = (head: Buffer): string[] | null => {
    try {
      return readSection(head);
    } catch {
      throw bad('not what git sends');
    }
  };
  const bytes = await readHead(body, (head) => parsed(head) !== null);
  const lines = parsed(bytes);
  if (lines === null) throw bad('the list of refs is cut off');
  return { bytes, ...parsePushHead(lines) };
}

export function parsePushHead(lines: readonly string[]): Omit<PushHead, 'bytes'> {
  const commands = lines.filter((line) => !line.startsWith('shallow '));
  const [first = '', capabilities = ''] = commands[0]?.split('\0') ?? [];
  const words = capabilities.trim().split(' ');
  return {
    refs: [first, ...commands.slice(1)].flatMap(
      (line) => /^[0-9a-f]{40,64} [0-9a-f]{40,64} (.+)$/.exec(line)?.[1] ?? [],
    ),
    empty: lines.length === 0,
    shallow: lines.length > commands.length,
    sideband: words.includes('side-band-64k') && words.some((word) => /^report-status(?:-v2)?$/.test(word)),
  };
}
