// A bucket of an S3-compatible store: streams in and out in bounded memory, and nothing half stays behind.
import { addAbortSignal, Readable } from 'node:stream';
import type { S3Client, UploadPartCommandOutput } from '@aws-sdk/client-s3';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { CopyConfig } from '../config-backups.ts';
import type { AwsCredentials } from '../providers/sigv4.ts';
import { placeOf, type StoreRequest, toStoreError } from './object-store-errors.ts';
import { collectParts } from './parts.ts';

export interface StoredObject {
  /** Without the prefix of the configuration. */
  key: string;
  bytes: number;
  modified: Date;
}

/** All throw KraftwerkError `store.*`. Keys are below the prefix of the configuration. */
export interface ObjectStore {
  /**
   * The object is there as a whole when this resolves, and what was there before stays when it does not. The length need not be
   * known. What `source` fails with is `store.source`, a KraftwerkError of its own is thrown as it is.
   */
  put(key: string, source: Readable, signal?: AbortSignal): Promise<{ bytes: number }>;
  /** The stream fails when it ends too early. Who does not read it to its end destroys it. */
  get(key: string, signal?: AbortSignal): Promise<Readable>;
  /** All whose key begins with `prefix`, by key. */
  list(prefix: string): Promise<StoredObject[]>;
  /** No error when it is not there. */
  remove(key: string): Promise<void>;
  /** Closes idle connections. */
  close(): void;
}

export interface ObjectStoreLimits {
  /** The same for all parts, as some stores demand; at least 5 MiB, as all do. Twice as much is held in memory. */
  partBytes: number;
  connectMs: number;
  /** Without a byte in either direction. */
  idleMs: number;
  /** Tries of one request. */
  attempts: number;
}

const DEFAULT_LIMITS: ObjectStoreLimits = {
  partBytes: 16 * 1024 * 1024,
  connectMs: 10_000,
  idleMs: 60_000,
  attempts: 3,
};
/** @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_PARTS = 10_000;
/** A failed upload is cleared away for so long; what waits for its end has waited long enough. */
const CLEAN_UP_MS = 30_000;

type Sdk = typeof import('@aws-sdk/client-s3');
interface Connection {
  sdk: Sdk;
  client: S3Client;
  /** For bodies that are read as slowly as their reader likes. */
  reader: S3Client;
}

export function createObjectStore(
  store: CopyConfig,
  credentials: AwsCredentials,
  limits: Partial<ObjectStoreLimits> = {},
): ObjectStore {
  const { partBytes, connectMs, idleMs, attempts } = { ...DEFAULT_LIMITS, ...limits };
  let connection: Promise<Connection> | null = null;

  // 35 MB of memory and a quarter of a second: only for those who have a copy, and not at start.
  const connect = (): Promise<Connection> => {
    connection ??= import('@aws-sdk/client-s3').then((sdk) => {
      const createClient = (timeouts: object): S3Client =>
        new sdk.S3Client({
          region: store.region,
          ...(store.endpoint !== null && { endpoint: store.endpoint }),
          forcePathStyle: store.pathStyle,
          credentials: {
            accessKeyId: credentials.accessKeyId,
            secretAccessKey: credentials.secretAccessKey,
            ...(credentials.sessionToken !== null && { sessionToken: credentials.sessionToken }),
          },
          maxAttempts: attempts,
          // The checksums that newer AWS clients add are refused by older stores; the signature covers the body already.
          requestChecksumCalculation: 'WHEN_REQUIRED',
          responseChecksumValidation: 'WHEN_REQUIRED',
          requestHandler: { connectionTimeout: connectMs, ...timeouts },
        });
      return {
        sdk,
        client: createClient({ socketTimeout: idleMs }),
        reader: createClient({ socketTimeout: 0, requestTimeout: idleMs, throwOnRequestTimeout: true }),
      };
    });
    return connection;
  };

  const toKey = (key: string): string => (store.prefix === '' ? key : `${store.prefix}/${key}`);
  const about = (verb: string, key: string): StoreRequest => ({ verb, key: toKey(key), store });

  /** Runs one request, or several; whatever it throws is told with its place. */
  const attempt = async <T>(request: StoreRequest, body: (connection: Connection) => Promise<T>): Promise<T> => {
    try {
      return await body(await connect());
    } catch (error) {
      throw toStoreError(error, request);
    }
  };

  return {
    put: (key, source, signal) => {
      const request = about('put', key);
      // It may fail before anybody reads it.
      source.on('error', () => {});
      if (signal) addAbortSignal(signal, source);
      return attempt(request, async ({ sdk, client }) => {
        try {
          return await upload(sdk, client, { request, source, partBytes, signal });
        } finally {
          source.destroy();
        }
      });
    },

    get: (key, signal) => {
      const request = about('get', key);
      return attempt(request, async ({ sdk, reader }) => {
        const command = new sdk.GetObjectCommand({ Bucket: store.bucket, Key: request.key });
        const answer = await reader.send(command, signal ? { abortSignal: signal } : {});
        if (!(answer.Body instanceof Readable)) throw new TypeError(`get ${key}: no stream`);
        const body = signal ? addAbortSignal(signal, answer.Body) : answer.Body;
        body.on('error', () => {});
        const context = { request, idleMs, length: answer.ContentLength ?? null };
        const stream = Readable.from(readBody(body, context), { objectMode: false });
        // Also when nobody has begun to read it.
        return stream.once('close', () => body.destroy());
      });
    },

    list: (prefix) =>
      attempt(about('list', prefix), async ({ sdk, client }) => {
        const found: StoredObject[] = [];
        const pages = sdk.paginateListObjectsV2({ client }, { Bucket: store.bucket, Prefix: toKey(prefix) });
        for await (const { Contents } of pages) {
          for (const { Key = '', Size = 0, LastModified = new Date(0) } of Contents ?? [])
            found.push({ key: Key.slice(toKey('').length), bytes: Size, modified: LastModified });
        }
        return found;
      }),

    remove: (key) =>
      attempt(about('remove', key), async ({ sdk, client }) => {
        await client.send(new sdk.DeleteObjectCommand({ Bucket: store.bucket, Key: toKey(key) }));
      }),

    close() {
      void connection?.then(({ client, reader }) => {
        client.destroy();
        reader.destroy();
      });
    },
  };
}

interface UploadContext {
  request: StoreRequest;
  source: Readable;
  partBytes: number;
  signal: AbortSignal | undefined;
}

// Own code, because `@aws-sdk/lib-storage` leaves the parts under way when it is aborted, and is gone before it has cleared up.
async function upload(sdk: Sdk, client: S3Client, context: UploadContext): Promise<{ bytes: number }> {
  const { request, source, partBytes, signal } = context;
  const target = { Bucket: request.store.bucket, Key: request.key };
  const options = signal ? { abortSignal: signal } : {};
  const parts: AsyncGenerator<Buffer, void> = readSource(collectParts(source, partBytes), context);
  const first = await parts.next();
  const body = first.done ? Buffer.alloc(0) : first.value;
  if (body.length < partBytes) {
    await client.send(new sdk.PutObjectCommand({ ...target, Body: body }), options);
    return { bytes: body.length };
  }

  const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand(target), options);
  const done: { PartNumber: number; ETag: string | undefined }[] = [];
  let bytes = 0;
  try {
    let part: Buffer | null = body;
    while (part !== null) {
      const PartNumber = done.length + 1;
      if (PartNumber > MAX_PARTS) throw tooLarge(request, partBytes);
      const sent: Promise<UploadPartCommandOutput> = client.send(
        new sdk.UploadPartCommand({ ...target, UploadId, PartNumber, Body: part }),
        options,
      );
      // The next one is collected while this one is on its way.
      const [{ ETag }, next] = await both(sent, parts.next());
      done.push({ PartNumber, ETag });
      bytes += part.length;
      part = next.done ? null : next.value;
    }
    // Without the signal: nobody could tell whether it was done.
    await client.send(
      new sdk.CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts: done } }),
    );
    return { bytes };
  } catch (error) {
    const told = toStoreError(error, request);
    try {
      await client.send(new sdk.AbortMultipartUploadCommand({ ...target, UploadId }), {
        abortSignal: AbortSignal.timeout(CLEAN_UP_MS),
      });
    } catch {
      const hints = [
        ...told.hints,
        'parts of the upload may be left: the rule AbortIncompleteMultipartUpload removes them',
      ];
      throw new KraftwerkError(told.code, told.message, { hint: hints, cause: error });
    }
    throw told;
  }
}

/** Both are over when this is; the first one's error counts. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  // A source that waits for something does not keep an error of the store waiting.
  void second.catch(() => {});
  return [await first, await second];
}

/** Errors of the source are no errors of the store. */
async function* readSource(
  parts: AsyncGenerator<Buffer, void>,
  { request, signal }: UploadContext,
): AsyncGenerator<Buffer, void> {
  try {
    yield* parts;
  } catch (error) {
    if (error instanceof KraftwerkError || signal?.aborted) throw error;
    const reason = (error as Error).message;
    throw new KraftwerkError('store.source', `${placeOf(request)}: what was to be copied broke off: ${reason}`, {
      hint: 'nothing was stored; start it again',
      cause: error,
    });
  }
}

function tooLarge(request: StoreRequest, partBytes: number): KraftwerkError {
  const gigabytes = Math.floor((MAX_PARTS * partBytes) / 1024 ** 3);
  return new KraftwerkError('store.too_large', `${placeOf(request)}: an object has at most ${gigabytes} GiB`, {
    hint: 'backups.services in the configuration says which services are dumped',
  });
}

interface BodyContext {
  request: StoreRequest;
  idleMs: number;
  /** As the store announced it. */
  length: number | null;
}

async function* readBody(body: Readable, { request, idleMs, length }: BodyContext): AsyncGenerator<Buffer> {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let bytes = 0;
  try {
    for (;;) {
      // Counts only while somebody waits for the store, not while a reader takes its time.
      const timer = setTimeout(() => body.destroy(Object.assign(new Error(), { name: 'TimeoutError' })), idleMs);
      const { done, value } = await chunks.next().finally(() => clearTimeout(timer));
      if (done) break;
      bytes += value.length;
      yield value;
    }
    if (length !== null && bytes !== length) throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
  } catch (error) {
    throw toStoreError(error, request);
  } finally {
    body.destroy();
  }
}
