// The copy of dumps in a store that speaks S3: OpenStack Swift, real, on this machine, and ways to it that break.
// Long because: one store, which takes seconds to start, serves all of it.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { CreateBucketCommand, ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { createObjectStore, type ObjectStore } from '../../receiver/backups/object-store.ts';
import { makeBytes, openWay, type S3Server, startS3Server, VISITOR, type Way, WRITER } from '../actors/s3-server.ts';

const BUCKET = 'dumps';
const MIB = 1024 * 1024;
const PART = 5 * MIB;
const BIG = 50 * MIB + 12_345;
/** What a stream of Node and the chunk under way hold besides the two parts. */
const SLACK = 2 * MIB;

let server: S3Server;
let admin: S3Client;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  server = await startS3Server({ bucketPage: 3 });
  admin = new S3Client({
    endpoint: server.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: WRITER.accessKeyId, secretAccessKey: WRITER.secretAccessKey },
  });
  await admin.send(new CreateBucketCommand({ Bucket: BUCKET }));
});
afterAll(async () => {
  admin?.destroy();
  await server?.stop();
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

interface StoreOptions {
  prefix?: string;
  endpoint?: string;
  bucket?: string;
  credentials?: typeof WRITER;
  idleMs?: number;
}

function openStore(options: StoreOptions = {}): ObjectStore {
  const {
    prefix = 'live',
    endpoint = server.endpoint,
    bucket = BUCKET,
    credentials = WRITER,
    idleMs = 30_000,
  } = options;
  const place = { bucket, prefix, endpoint, region: 'us-east-1', pathStyle: true };
  const store = createObjectStore(place, credentials, { partBytes: PART, idleMs, attempts: 3 });
  closers.push(() => store.close());
  return store;
}

async function openBrokenWay(): Promise<Way> {
  const way = await openWay(server.port);
  closers.push(() => way.close());
  return way;
}

async function refusalOf(action: Promise<unknown>): Promise<KraftwerkError> {
  const error = await action.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof KraftwerkError) return error;
  throw error ?? new Error('nothing was refused');
}

async function countUnfinished(): Promise<number> {
  return (await admin.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }))).Uploads?.length ?? 0;
}

async function hashOf(stream: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

const keysOf = async (store: ObjectStore, prefix: string) => (await store.list(prefix)).map(({ key }) => key);

describe('what is put', () => {
  it.each([
    ['nothing', 0],
    ['a few bytes', 5],
    ['one part', PART],
    ['one part and a byte', PART + 1],
    ['two parts', 2 * PART],
  ])('comes back: %s', async (name, bytes) => {
    const store = openStore();
    const key = `size/${name}`;
    expect(await store.put(key, Readable.from(makeBytes(bytes)))).toEqual({ bytes });
    expect(await hashOf(await store.get(key))).toBe(await hashOf(makeBytes(bytes)));
  });

  it('may be 50 MB of unknown length, of which two parts are in memory at most', async () => {
    const way = await openBrokenWay();
    const store = openStore({ endpoint: way.endpoint });
    let made = 0;
    let ahead = 0;
    function* source() {
      for (const chunk of makeBytes(BIG)) {
        made += chunk.length;
        ahead = Math.max(ahead, made - way.passed['to store']);
        yield chunk;
      }
    }
    expect(await store.put('big', Readable.from(source()))).toEqual({ bytes: BIG });
    expect(ahead).toBeLessThan(2 * PART + SLACK);
    expect(await hashOf(await store.get('big'))).toBe(await hashOf(makeBytes(BIG)));
    expect(await countUnfinished()).toBe(0);
    const [listed] = await store.list('big');
    expect(listed).toEqual({ key: 'big', bytes: BIG, modified: expect.any(Date) });
    expect(Math.abs((listed?.modified.getTime() ?? 0) - Date.now())).toBeLessThan(600_000);
  });

  it('is listed over several pages, below its own prefix alone', async () => {
    const [live, stage] = [openStore({ prefix: 'pages/live' }), openStore({ prefix: 'pages/live-2' })];
    const whole = openStore({ prefix: '' });
    const names = Array.from({ length: 8 }, (_, index) => `blog/${index} ü+&.tar`);
    for (const name of names) await live.put(name, Readable.from(['x']));
    await stage.put('blog/other.tar', Readable.from(['xyz']));
    expect(await keysOf(live, '')).toEqual(names);
    expect(await keysOf(live, 'blog/3')).toEqual(['blog/3 ü+&.tar']);
    expect(await keysOf(live, 'shop')).toEqual([]);
    expect(await keysOf(stage, '')).toEqual(['blog/other.tar']);
    expect(await keysOf(whole, 'pages/')).toHaveLength(9);
  });

  it('is gone when it is removed, as often as one likes', async () => {
    const store = openStore();
    await store.put('gone', Readable.from(['x']));
    await store.remove('gone');
    await store.remove('gone');
    expect(await keysOf(store, 'gone')).toEqual([]);
    const error = await refusalOf(store.get('gone'));
    expect([error.code, error.message]).toEqual([
      'store.no_object',
      `get live/gone (bucket dumps at ${server.endpoint}): there is no such object`,
    ]);
  });
});

describe('an upload that goes wrong', () => {
  it('survives a connection that breaks in the middle of a part', async () => {
    const way = await openBrokenWay();
    const store = openStore({ endpoint: way.endpoint });
    way.breakAfter(PART + 2 * MIB, 'to store', 1);
    await store.put('mended', Readable.from(makeBytes(3 * PART)));
    expect(await hashOf(await store.get('mended'))).toBe(await hashOf(makeBytes(3 * PART)));
  });

  it('leaves no object and no parts when every try breaks', async () => {
    const way = await openBrokenWay();
    const store = openStore({ endpoint: way.endpoint });
    way.breakAfter(PART + 2 * MIB, 'to store', 3);
    const error = await refusalOf(store.put('broken', Readable.from(makeBytes(BIG))));
    expect([error.code, error.message]).toEqual([
      'store.broken',
      `put live/broken (bucket dumps at ${way.endpoint}): the connection to ${way.endpoint} broke off`,
    ]);
    expect(await keysOf(openStore(), 'broken')).toEqual([]);
    expect(await countUnfinished()).toBe(0);
  });

  it('leaves what was there, and says what may be left, when the store is lost for good', async () => {
    const direct = openStore();
    await direct.put('lost', Readable.from(['before']));
    const way = await openBrokenWay();
    way.breakAfter(PART + 2 * MIB, 'to store', Number.POSITIVE_INFINITY);
    const error = await refusalOf(openStore({ endpoint: way.endpoint }).put('lost', Readable.from(makeBytes(BIG))));
    expect([error.code, error.hints.at(-1)]).toEqual([
      'store.broken',
      'parts of the upload may be left: the rule AbortIncompleteMultipartUpload removes them',
    ]);
    expect(String(await buffer(await direct.get('lost')))).toBe('before');
    expect((await direct.list('lost')).map(({ key, bytes }) => [key, bytes])).toEqual([['lost', 6]]);
  });

  it.each([
    ['before its first byte', 0],
    ['in its first part', MIB],
    ['in its third part', 2 * PART + MIB],
  ])('leaves nothing when its source fails %s', async (_, bytes) => {
    const unfinished = await countUnfinished();
    const store = openStore();
    function* source() {
      yield* makeBytes(bytes);
      throw new Error('pg_dump was killed');
    }
    const error = await refusalOf(store.put('cut', Readable.from(source())));
    expect([error.code, error.message]).toEqual([
      'store.source',
      `put live/cut (bucket dumps at ${server.endpoint}): what was to be copied broke off: pg_dump was killed`,
    ]);
    expect(await keysOf(store, 'cut')).toEqual([]);
    expect(await countUnfinished()).toBe(unfinished);
  });

  it('keeps an error of its source that says all already, also of one that has failed before it is read', async () => {
    const cause = new KraftwerkError('dump.failed', 'dump: no space');
    const source = new Readable({ read() {} });
    source.destroy(cause);
    expect(await refusalOf(openStore().put('cut', source))).toBe(cause);
  });

  it('leaves nothing when it is aborted', async () => {
    const unfinished = await countUnfinished();
    const way = await openBrokenWay();
    const store = openStore({ endpoint: way.endpoint });
    const abort = new AbortController();
    function* source() {
      for (const chunk of makeBytes(BIG)) {
        // The store is sent the second part, and the third one is collected.
        if (way.passed['to store'] > PART + MIB) abort.abort();
        yield chunk;
      }
    }
    const stream = Readable.from(source());
    const error = await refusalOf(store.put('aborted', stream, abort.signal));
    expect(error.code).toBe('store.aborted');
    expect(stream.destroyed).toBe(true);
    expect(await keysOf(openStore(), 'aborted')).toEqual([]);
    expect(await countUnfinished()).toBe(unfinished);
  });
});

describe('a download that goes wrong', () => {
  const bytes = 4 * MIB;
  const openDownload = async (idleMs?: number): Promise<{ way: Way; store: ObjectStore }> => {
    await openStore().put('download', Readable.from(makeBytes(bytes)));
    const way = await openBrokenWay();
    return { way, store: openStore({ endpoint: way.endpoint, ...(idleMs && { idleMs }) }) };
  };

  it('is no download that has ended', async () => {
    const { way, store } = await openDownload();
    way.breakAfter(MIB, 'to client', 1);
    const error = await refusalOf(hashOf(await store.get('download')));
    expect(error.message).toBe(
      `get live/download (bucket dumps at ${way.endpoint}): the connection to ${way.endpoint} broke off`,
    );
  });

  it('ends when the store falls silent', async () => {
    const { way, store } = await openDownload(500);
    way.stallAfter(MIB, 'to client');
    const error = await refusalOf(hashOf(await store.get('download')));
    expect(error.code).toBe('store.timeout');
  });

  it('is none where the reader alone is slow', async () => {
    const { store } = await openDownload(200);
    const hash = createHash('sha256');
    let isFirst = true;
    for await (const chunk of await store.get('download')) {
      hash.update(chunk);
      // Time itself is what is tested.
      if (isFirst) await new Promise((resolve) => setTimeout(resolve, 700));
      isFirst = false;
    }
    expect(hash.digest('hex')).toBe(await hashOf(makeBytes(bytes)));
  });

  it('lets go of its connection when nobody reads it', async () => {
    const { store } = await openDownload();
    const abort = new AbortController();
    // The client has 50 connections.
    for (let round = 0; round < 52; round += 1) (await store.get('download')).destroy();
    const aborted = await store.get('download', abort.signal);
    abort.abort();
    expect((await refusalOf(buffer(aborted))).code).toBe('store.aborted');
  });
});

describe('a store that refuses', () => {
  it('says which bucket there is none of', async () => {
    const error = await refusalOf(openStore({ bucket: 'dmups' }).put('x', Readable.from(['x'])));
    expect([error.code, error.message, error.hints]).toEqual([
      'store.no_bucket',
      `put live/x (bucket dmups at ${server.endpoint}): there is no bucket dmups`,
      ['make the bucket, or correct copy.bucket in the configuration'],
    ]);
  });

  it.each([
    ['an access key that it does not know', { ...WRITER, accessKeyId: 'test:nobody' }],
    ['a secret that is another', { ...WRITER, secretAccessKey: 'wrong' }],
  ])('says that it is %s', async (_, credentials) => {
    const error = await refusalOf(openStore({ credentials }).list(''));
    expect(error.code).toBe('store.credentials');
    expect(error.message).not.toContain(credentials.secretAccessKey);
  });

  it('says what a key may not do', async () => {
    const error = await refusalOf(openStore({ credentials: VISITOR }).put('x', Readable.from(['x'])));
    expect(error.code).toBe('store.denied');
  });

  it('says that it cannot be reached', async () => {
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const endpoint = `http://127.0.0.1:${(listener.address() as { port: number }).port}`;
    listener.close();
    await once(listener, 'close');
    const error = await refusalOf(openStore({ endpoint }).list(''));
    expect([error.code, error.message]).toEqual([
      'store.unreachable',
      `list live/ (bucket dumps at ${endpoint}): the store cannot be reached: nothing listens there`,
    ]);
  });

  it('says that it does not answer in time', async () => {
    const way = await openBrokenWay();
    way.stallAfter(0, 'to store');
    const error = await refusalOf(openStore({ endpoint: way.endpoint, idleMs: 300 }).put('x', Readable.from(['x'])));
    expect(error.code).toBe('store.timeout');
  });
});
