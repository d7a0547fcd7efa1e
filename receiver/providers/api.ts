// One provider's HTTP API: time limits, bounded retries, byte caps, and every failure in words, never with a token.
import type { z } from 'zod';
import { parseAnswer, parseJson, readRetryAfter, unknownAnswer } from './answers.ts';
import { type Environment, readToken } from './credentials.ts';
import { explainLoss, MAX_BODY_BYTES, REQUEST_LIMIT_MS } from './losses.ts';
import { isMissing, ProviderError } from './provider.ts';

const TRIES = 5;
const FIRST_PAUSE_MS = 250;
const MAX_WAIT_MS = 120_000;
const SHOWN_CHARACTERS = 500;

/** What time is to a provider; tests have a faster one. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Rejects when `signal` is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** What every provider is made with. */
export interface ApiContext {
  clock: Clock;
  /** Told before a pause: one line for people. */
  say(line: string): void;
  /** Ctrl-C. */
  signal: AbortSignal;
}

export interface ApiRequest {
  method: 'GET' | 'POST' | 'DELETE';
  url: URL;
  headers: Record<string, string>;
  body: string | null;
}

export interface ApiOptions {
  /** `Hetzner Cloud` */
  title: string;
  /** Headers that prove who asks, made anew for every try. */
  authorize(request: ApiRequest): Record<string, string>;
  /** None of these is ever shown. */
  secrets: readonly string[];
  /** What to do about 401: which variable, where to get a token. */
  tokenHint: readonly string[];
  /** The provider's own words in the body of an error. */
  readError(body: string): ProviderWords;
}

export interface ProviderWords {
  code: string | null;
  /** With the field, where the provider names one. Null: none were found. */
  message: string | null;
  /** Overrides what the status says. */
  kind?: 'busy' | 'token' | 'forbidden' | 'refused' | 'missing';
}

export interface Call {
  method: ApiRequest['method'];
  url: URL;
  /** In messages; default: method and path. */
  label?: string;
  /** Sent as JSON, unless it is text. */
  body?: unknown;
  headers?: Record<string, string>;
  /** Doing it twice comes to the same: a lost answer is tried again. Default: all but POST. */
  isIdempotent?: boolean;
}

/** A path and its query -> where that is at the provider. */
export type At = (path: string, query?: Readonly<Record<string, string>>) => URL;

export function createAt(endpoint: string): At {
  return (path, query = {}) => {
    const url = new URL(`${endpoint}${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url;
  };
}

export interface Api {
  /** The body of a good answer as text. @throws ProviderError */
  send(call: Call): Promise<string>;
  /** A good answer's JSON, checked. @throws ProviderError */
  json<T extends z.ZodType>(call: Call, schema: T): Promise<z.output<T>>;
  get<T extends z.ZodType>(url: URL, schema: T): Promise<z.output<T>>;
  /** Null for 404. */
  getIfThere<T extends z.ZodType>(url: URL, schema: T): Promise<z.output<T> | null>;
  /** Ends well for 404: gone is gone. */
  remove(url: URL): Promise<void>;
}

export interface TokenApiOptions extends Pick<ApiOptions, 'title' | 'tokenHint' | 'readError'> {
  /** The environment variable that holds the token. */
  variable: string;
}

/** An API that is asked with `Authorization: Bearer TOKEN`. @throws ProviderError `provider.token` */
export function createTokenApi(env: Environment, options: TokenApiOptions, context: ApiContext): Api {
  const token = readToken(env, options.variable, options.title, options.tokenHint);
  const authorize = (): Record<string, string> => ({ authorization: `Bearer ${token}` });
  return createApi({ ...options, authorize, secrets: [token] }, context);
}

/**
 * The address that requests go to, without a `/` at its end.
 * @throws ProviderError `provider.endpoint`: a token is sent over https only, or to this machine itself
 */
export function parseEndpoint(text: string, origin: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isLoopback = url !== null && /^(?:127(?:\.[0-9]+){3}|\[::1\]|localhost)$/.test(url.hostname);
  if (url === null || !(url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback))) {
    throw new ProviderError('provider.endpoint', `${origin}: expected an address that begins with https://`, {
      exit: 'usage',
    });
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new ProviderError('provider.endpoint', `${origin}: expected an address without user, query and fragment`, {
      exit: 'usage',
    });
  }
  return url.href.replace(/\/+$/, '');
}

export function createApi(options: ApiOptions, { clock, say, signal }: ApiContext): Api {
  const { title } = options;
  const hide = (text: string): string =>
    options.secrets.reduce((shown, secret) => (secret === '' ? shown : shown.replaceAll(secret, '***')), text);

  async function send(call: Call): Promise<string> {
    const isIdempotent = call.isIdempotent ?? call.method !== 'POST';
    const where = describeCall(title, call);
    for (let attempt = 1; ; attempt += 1) {
      const result = await sendOnce(call, where);
      if (typeof result === 'string') return result;
      const { error, waitMs, wasHandled } = result;
      const mayRepeat = !wasHandled || isIdempotent;
      if (waitMs === null || !mayRepeat || attempt >= TRIES) throw error;
      const pauseMs = waitMs > 0 ? waitMs : FIRST_PAUSE_MS * 2 ** attempt;
      if (pauseMs > MAX_WAIT_MS) throw error;
      say(`${error.message}; trying again in ${formatPause(pauseMs)}`);
      await clock.sleep(pauseMs, signal);
    }
  }

  async function sendOnce(call: Call, where: string): Promise<string | Failure> {
    const body = call.body === undefined ? null : typeof call.body === 'string' ? call.body : JSON.stringify(call.body);
    const request: ApiRequest = {
      method: call.method,
      url: call.url,
      headers: {
        accept: 'application/json',
        'user-agent': 'kraftwerk',
        ...(body !== null && { 'content-type': 'application/json' }),
        ...call.headers,
      },
      body,
    };
    let status: number;
    let headers: Headers;
    let text: string;
    try {
      const response = await fetch(request.url, {
        method: request.method,
        headers: { ...request.headers, ...options.authorize(request) },
        body: request.body,
        // Followed, it would carry the token to whoever it names.
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]),
      });
      ({ status, headers } = response);
      text = await readBody(response);
    } catch (cause) {
      signal.throwIfAborted();
      return describeLoss(where, cause);
    }
    if (status >= 200 && status < 300) return text;
    return describeAnswer(where, status, headers, text);
  }

  function describeLoss(where: string, cause: unknown): Failure {
    const { why, wasHandled } = explainLoss(cause);
    const error = new ProviderError('provider.down', `${where}: ${hide(why)}`, {
      hint: 'is this machine online? Then try again',
      outcome: wasHandled ? 'unknown' : 'refused',
    });
    return { error, waitMs: 0, wasHandled };
  }

  function describeAnswer(where: string, status: number, headers: Headers, text: string): Failure {
    const words = options.readError(text);
    const said = hide((words.message ?? text.trim().split('\n')[0] ?? '').slice(0, SHOWN_CHARACTERS));
    const kind = words.kind ?? kindOf(status);
    const fail = (code: string, message: string, more: object = {}): ProviderError =>
      new ProviderError(code, message, { status, providerCode: words.code, ...more });
    const answer = `${where}: ${said === '' ? `answered ${status}` : said} (${status})`;
    if (kind === 'token')
      return fatal(fail('provider.token', `${title} does not accept the token: ${said}`, { hint: options.tokenHint }));
    if (kind === 'forbidden')
      return fatal(
        fail('provider.forbidden', answer, { hint: `may this token do that? ${options.tokenHint[0] ?? ''}` }),
      );
    if (kind === 'busy') {
      const waitMs = readRetryAfter(headers.get('retry-after'), clock.now()) ?? 0;
      const error = fail('provider.busy', `${title} asks for fewer requests (${status})`, {
        hint: waitMs > MAX_WAIT_MS ? `try again in ${formatPause(waitMs)}` : 'try again in a minute',
      });
      return { error, waitMs, wasHandled: false };
    }
    if (status >= 500 && kind === null) {
      const error = fail('provider.down', answer, {
        hint: `${title} has trouble; try again later`,
        outcome: 'unknown',
      });
      return { error, waitMs: 0, wasHandled: true };
    }
    const isMissing = kind === 'missing';
    const options404 = isMissing ? { status: 404, exit: 'denied' } : {};
    return fatal(fail(isMissing ? 'provider.missing' : 'provider.refused', answer, options404));
  }

  async function json<T extends z.ZodType>(call: Call, schema: T): Promise<z.output<T>> {
    const value = parseJson(await send(call));
    const where = describeCall(title, call);
    if (value === undefined) throw unknownAnswer(where, 'expected JSON');
    return parseAnswer(schema, value, where);
  }

  const get = <T extends z.ZodType>(url: URL, schema: T): Promise<z.output<T>> => json({ method: 'GET', url }, schema);

  return {
    send,
    json,
    get,
    async getIfThere(url, schema) {
      try {
        return await get(url, schema);
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    async remove(url) {
      try {
        await send({ method: 'DELETE', url });
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    },
  };
}

function describeCall(title: string, { method, url, label }: Call): string {
  return `${title}: ${label ?? `${method} ${url.pathname}`}`;
}

interface Failure {
  error: ProviderError;
  /** Null: trying again is of no use; 0: when it suits us. */
  waitMs: number | null;
  /** The provider may have acted on it. */
  wasHandled: boolean;
}

function fatal(error: ProviderError): Failure {
  return { error, waitMs: null, wasHandled: true };
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw Object.assign(new Error('too long'), { code: 'ERR_TOO_LONG' });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function kindOf(status: number): ProviderWords['kind'] | null {
  if (status === 401) return 'token';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'missing';
  if (status === 429) return 'busy';
  return status >= 500 ? null : 'refused';
}

function formatPause(ms: number): string {
  return ms < 1000 ? `${ms} ms` : ms < 120_000 ? `${Math.ceil(ms / 1000)} s` : `${Math.ceil(ms / 60_000)} min`;
}
