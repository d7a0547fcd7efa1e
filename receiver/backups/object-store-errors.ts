// What an S3-compatible store, or the way to it, has to say, as an error with place, cause and remedy. Pure.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { CopyConfig } from '../config-backups.ts';

export interface StoreRequest {
  /** `put`, `get`, `list`, `remove` */
  verb: string;
  /** What it is about, prefix included. */
  key: string;
  store: CopyConfig;
}

interface Cause {
  code: string;
  /** Behind the place. */
  text: string;
  hint: string | readonly string[];
}

/** The fields that errors of the client and of Node have, as far as they have them. */
interface Shape {
  name: string;
  message: string;
  code: string;
  status: number | null;
}

/** `put live/1.tar to dumps at https://s3.example.com: …` */
export function toStoreError(error: unknown, request: StoreRequest): KraftwerkError {
  if (error instanceof KraftwerkError) return error;
  const { code, text, hint } = findCause(shapeOf(error), request);
  return new KraftwerkError(code, `${placeOf(request)}: ${text}`, { hint, cause: error });
}

export function placeOf({ verb, key, store }: StoreRequest): string {
  return `${verb} ${key} (bucket ${store.bucket} at ${addressOf(store)})`;
}

function addressOf({ endpoint, region }: CopyConfig): string {
  return endpoint ?? `AWS ${region}`;
}

function findCause(shape: Shape, request: StoreRequest): Cause {
  return ofAnswer(shape, request) ?? ofConnection(shape, request) ?? unknownCause(shape);
}

const CREDENTIALS =
  'look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment of the receiver';

function ofAnswer(shape: Shape, { store, verb }: StoreRequest): Cause | null {
  const { name, message, status } = shape;
  switch (name) {
    case 'NoSuchBucket':
      return {
        code: 'store.no_bucket',
        text: `there is no bucket ${store.bucket}`,
        hint: 'make the bucket, or correct copy.bucket in the configuration',
      };
    case 'NoSuchKey':
      return { code: 'store.no_object', text: 'there is no such object', hint: 'kraftwerk lists what is there: dumps' };
    case 'InvalidAccessKeyId':
      return { code: 'store.credentials', text: 'the store does not know the access key', hint: CREDENTIALS };
    case 'SignatureDoesNotMatch':
      return { code: 'store.credentials', text: 'the secret key is not that of the access key', hint: CREDENTIALS };
    case 'ExpiredToken':
    case 'InvalidToken':
    case 'TokenRefreshRequired':
      return { code: 'store.credentials', text: 'the session token is no longer valid', hint: CREDENTIALS };
    case 'RequestTimeTooSkewed':
    case 'RequestExpired':
      return {
        code: 'store.clock',
        text: "the clock of the receiver's machine is wrong: it differs too much from the store's",
        hint: 'compare and set it: timedatectl',
      };
    case 'PermanentRedirect':
    case 'TemporaryRedirect':
    case 'AuthorizationHeaderMalformed':
    case 'IllegalLocationConstraintException':
      return {
        code: 'store.region',
        text: `the bucket is in another region than ${store.region} (${message})`,
        hint: 'correct copy.region or copy.endpoint in the configuration',
      };
    case 'EntityTooLarge':
    case 'QuotaExceeded':
      return {
        code: 'store.too_large',
        text: `the store takes no more: ${message}`,
        hint: 'make room, or ask for more',
      };
  }
  if (name === 'AccessDenied' || status === 401 || status === 403)
    return {
      code: 'store.denied',
      text: `the store does not allow it: ${message}`,
      hint: 'the access key needs s3:PutObject, GetObject, ListBucket, DeleteObject and AbortMultipartUpload there',
    };
  if (name === 'NotFound' || status === 404)
    return {
      code: verb === 'get' ? 'store.no_object' : 'store.no_bucket',
      text: `the store finds nothing there: ${message}`,
      hint: 'look at copy.bucket, copy.endpoint and copy.path_style in the configuration',
    };
  if (status === 507)
    return { code: 'store.too_large', text: `the store is full: ${message}`, hint: 'make room there' };
  if (name === 'SlowDown' || (status !== null && (status >= 500 || status === 429)))
    return { code: 'store.busy', text: `the store fails (${status ?? name}): ${message}`, hint: 'try it again later' };
  return null;
}

const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'its name is not known',
  EAI_AGAIN: 'no name server answers',
  EHOSTUNREACH: 'there is no way to it',
  ENETUNREACH: 'there is no way to it',
};
const BROKEN = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ERR_STREAM_PREMATURE_CLOSE', 'HPE_INVALID_EOF_STATE']);

function ofConnection({ name, code, message }: Shape, { store }: StoreRequest): Cause | null {
  const address = addressOf(store);
  if (name === 'AbortError' || code === 'ABORT_ERR')
    return { code: 'store.aborted', text: 'was ended before it was done', hint: 'start it again' };
  // Before the next one: the client calls them timeouts, too.
  if (BROKEN.has(code) || message === 'aborted')
    return { code: 'store.broken', text: `the connection to ${address} broke off`, hint: 'try it again' };
  if (name === 'TimeoutError' || code === 'ETIMEDOUT')
    return {
      code: 'store.timeout',
      text: 'the store did not answer in time',
      hint: `is it up, and does a firewall let the receiver through? curl -I ${store.endpoint ?? 'https://s3.amazonaws.com'}`,
    };
  const reason = UNREACHABLE[code];
  if (reason !== undefined)
    return {
      code: 'store.unreachable',
      text: `the store cannot be reached: ${reason}`,
      hint: `look at copy.endpoint in the configuration, and try: curl -I ${store.endpoint ?? 'https://s3.amazonaws.com'}`,
    };
  if (/^(?:CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERR_TLS_)/.test(code))
    return {
      code: 'store.certificate',
      text: `its certificate is not trusted: ${message}`,
      hint: 'a store with a certificate of your own: NODE_EXTRA_CA_CERTS=FILE in the environment of the receiver',
    };
  if (code === 'EPROTO' || code.startsWith('HPE_'))
    return {
      code: 'store.unreachable',
      text: 'what answers there speaks another protocol',
      hint: 'http:// or https:// in copy.endpoint?',
    };
  return null;
}

function unknownCause({ name, message, status }: Shape): Cause {
  return {
    code: 'store.failed',
    text: `the store says ${name || 'an error'}${status === null ? '' : ` (${status})`}: ${message}`,
    hint: 'try it again; the log of the store may say more',
  };
}

function shapeOf(error: unknown): Shape {
  const given = (typeof error === 'object' && error !== null ? error : { message: String(error) }) as {
    name?: unknown;
    message?: unknown;
    code?: unknown;
    Code?: unknown;
    errors?: unknown;
    $metadata?: { httpStatusCode?: number };
  };
  // Node tries the addresses of a name one after the other, and tells of all.
  const inner = Array.isArray(given.errors) ? (given.errors[0] as typeof given | undefined) : undefined;
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const name = text(given.name);
  return {
    // A store's own code that the client has no class for.
    name: name === '' || name === 'Error' || name === 'UnknownError' ? text(given.Code) || name : name,
    // Whatever answers there: not as it is into a terminal, and not without end.
    message: text(given.message || inner?.message)
      .replace(/\p{Cc}+/gu, ' ')
      .slice(0, 300),
    code: text(given.code) || text(inner?.code),
    status: given.$metadata?.httpStatusCode ?? null,
  };
}
