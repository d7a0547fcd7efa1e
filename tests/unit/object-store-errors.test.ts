// What a store and the way to it have to say: each with its code, in words, and with what helps.
import { expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { toStoreError } from '../../receiver/backups/object-store-errors.ts';

const store = {
  bucket: 'dumps',
  prefix: 'live',
  endpoint: 'https://s3.example.com',
  region: 'eu-central-1',
  pathStyle: true,
};
const request = { verb: 'put', key: 'live/1.tar', store };

/** As the client makes them of a store's answer. */
const answer = (name: string, httpStatusCode: number, message = 'said the store') =>
  Object.assign(new Error(message), { name, $metadata: { httpStatusCode } });
const broken = (code: string, message = code) => Object.assign(new Error(message), { code });

test.each<[unknown, string, string]>([
  [answer('NoSuchBucket', 404), 'store.no_bucket', 'there is no bucket dumps'],
  [answer('NotFound', 404), 'store.no_bucket', 'the store finds nothing there: said the store'],
  [answer('NoSuchKey', 404), 'store.no_object', 'there is no such object'],
  [answer('InvalidAccessKeyId', 403), 'store.credentials', 'the store does not know the access key'],
  [answer('SignatureDoesNotMatch', 403), 'store.credentials', 'the secret key is not that of the access key'],
  [answer('ExpiredToken', 400), 'store.credentials', 'the session token is no longer valid'],
  [answer('AccessDenied', 403), 'store.denied', 'the store does not allow it: said the store'],
  [
    answer('RequestTimeTooSkewed', 403),
    'store.clock',
    "the clock of the receiver's machine is wrong: it differs too much from the store's",
  ],
  [
    answer('PermanentRedirect', 301),
    'store.region',
    'the bucket is in another region than eu-central-1 (said the store)',
  ],
  [answer('EntityTooLarge', 400), 'store.too_large', 'the store takes no more: said the store'],
  [answer('InsufficientStorage', 507), 'store.too_large', 'the store is full: said the store'],
  [answer('SlowDown', 503), 'store.busy', 'the store fails (503): said the store'],
  [answer('Odd', 418, 'a\u001b[31mpot'), 'store.failed', 'the store says Odd (418): a [31mpot'],
  [broken('ECONNREFUSED'), 'store.unreachable', 'the store cannot be reached: nothing listens there'],
  [
    Object.assign(new AggregateError([broken('ECONNREFUSED')]), { code: undefined }),
    'store.unreachable',
    'the store cannot be reached: nothing listens there',
  ],
  [broken('ENOTFOUND'), 'store.unreachable', 'the store cannot be reached: its name is not known'],
  [broken('ECONNRESET'), 'store.broken', 'the connection to https://s3.example.com broke off'],
  [
    Object.assign(broken('EPIPE'), { name: 'TimeoutError' }),
    'store.broken',
    'the connection to https://s3.example.com broke off',
  ],
  [broken('ETIMEDOUT'), 'store.timeout', 'the store did not answer in time'],
  [Object.assign(new Error(), { name: 'TimeoutError' }), 'store.timeout', 'the store did not answer in time'],
  [Object.assign(new Error(), { name: 'AbortError' }), 'store.aborted', 'was ended before it was done'],
  [broken('CERT_HAS_EXPIRED', 'expired'), 'store.certificate', 'its certificate is not trusted: expired'],
  [broken('EPROTO'), 'store.unreachable', 'what answers there speaks another protocol'],
  ['text', 'store.failed', 'the store says an error: text'],
])('case %#', (error, code, text) => {
  const told = toStoreError(error, request);
  expect([told.code, told.message]).toEqual([code, `put live/1.tar (bucket dumps at https://s3.example.com): ${text}`]);
  expect(told.hints.length).toBeGreaterThan(0);
  expect(told.cause).toBe(error);
});

test('an error that says all stays as it is', () => {
  const error = new KraftwerkError('dump.failed', 'x');
  expect(toStoreError(error, request)).toBe(error);
});

test('of AWS the region is the place', () => {
  const told = toStoreError(answer('NoSuchKey', 404), { verb: 'get', key: 'a', store: { ...store, endpoint: null } });
  expect(told.message).toBe('get a (bucket dumps at AWS eu-central-1): there is no such object');
});
