/** The agent's input: lines that are requests, and between them the bytes of an artifact. */
import { PassThrough, type Readable } from 'node:stream';
import { KraftwerkError, LIMITS } from './protocol.ts';

export type Input = ReturnType<typeof openInput>;

const NEWLINE = 10;
/** So much may wait to be read; more when there is no whole line in it yet. */
const WAITING_BYTES = 256 * 1024;

export function openInput(stream: Readable) {
  const gone = new AbortController();
  let ended = false;
  let buffered: Buffer = Buffer.alloc(0);
  let artifact: { sink: PassThrough; missing: number } | null = null;
  let wake: () => void = () => undefined;

  const feedArtifact = (): void => {
    if (artifact === null || buffered.length === 0) return;
    const { sink } = artifact;
    const piece = buffered.subarray(0, artifact.missing);
    buffered = buffered.subarray(piece.length);
    artifact.missing -= piece.length;
    if (!sink.destroyed && !sink.write(piece)) {
      stream.pause();
      sink.once('drain', () => stream.resume());
    }
    if (artifact.missing > 0) return;
    if (!sink.destroyed) sink.end();
    artifact = null;
  };
  const end = (): void => {
    if (ended) return;
    ended = true;
    // Too few bytes: whoever counts them will say so.
    artifact?.sink.end();
    gone.abort();
    wake();
  };
  stream.on('data', (chunk: Buffer) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    feedArtifact();
    // Whoever sends frames faster than they are used has to wait.
    if (artifact === null && buffered.length > WAITING_BYTES && buffered.includes(NEWLINE)) stream.pause();
    wake();
  });
  for (const event of ['end', 'close', 'error']) stream.on(event, end);

  return {
    /** Aborted when nobody is there any more. */
    gone: gone.signal,
    /** The next line without its end; null after the last. What is left of an artifact is dropped. @throws KraftwerkError `protocol.invalid` */
    async readLine(): Promise<string | null> {
      artifact?.sink.destroy();
      if (buffered.length <= WAITING_BYTES || !buffered.includes(NEWLINE)) stream.resume();
      for (let from = 0; ; ) {
        const at = buffered.indexOf(NEWLINE, from);
        if (at !== -1) {
          const line = buffered.toString('utf8', 0, at);
          buffered = buffered.subarray(at + 1);
          return line;
        }
        from = buffered.length;
        if (from > LIMITS.requestBytes) {
          stream.destroy();
          buffered = Buffer.alloc(0);
          throw new KraftwerkError('protocol.invalid', `request: longer than ${LIMITS.requestBytes} bytes`);
        }
        if (ended) {
          if (from === 0) return null;
          buffered = Buffer.alloc(0);
          throw new KraftwerkError('protocol.invalid', 'request: the input ended before a whole line');
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    /** The next `bytes` bytes as a stream, which ends early if the input does. */
    readBytes(bytes: number): Readable {
      const sink = new PassThrough();
      artifact = { sink, missing: bytes };
      if (bytes === 0) {
        artifact = null;
        sink.end();
      }
      feedArtifact();
      if (ended) sink.end();
      return sink;
    },
  };
}
