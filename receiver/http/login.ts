/** Who sends an HTTP request: user is a key's name, password one of its tokens. */
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import type { Identity } from '../access.ts';
import { type Keyring, toIdentity } from '../keys.ts';
import { addressGroup } from '../ssh/limits.ts';
import { findToken, isExpired, type TokenStore } from '../tokens.ts';

export type HttpLogin =
  | { identity: Identity }
  /** `missing`: git asks without a password first, that is no attempt. */
  | { refused: 'missing' | 'malformed' | 'wrong' | 'expired' }
  | { refused: 'limited'; retryAfterS: number };

const MAX_FAILURES = 10;
const WINDOW_MS = 60_000;
const MAX_ADDRESSES = 10_000;

/** Counts failed attempts by address, in a window that begins with the first of them. */
export function createAttempts(nowMs: () => number) {
  const failures = new Map<string, { count: number; since: number }>();
  return {
    failed(address: string): void {
      const group = addressGroup(address);
      const known = failures.get(group);
      if (known !== undefined && nowMs() - known.since < WINDOW_MS) known.count += 1;
      else {
        failures.delete(group);
        failures.set(group, { count: 1, since: nowMs() });
      }
      const [oldest] = failures.keys();
      if (failures.size > MAX_ADDRESSES && oldest !== undefined) failures.delete(oldest);
    },
    /** Seconds that an address has to wait; 0: none. */
    waitS(address: string): number {
      const known = failures.get(addressGroup(address));
      if (known === undefined || known.count < MAX_FAILURES) return 0;
      return Math.max(0, Math.ceil((known.since + WINDOW_MS - nowMs()) / 1000));
    },
  };
}

/** Null: not of the form. */
export function parseBasic(header: string): { user: string; password: string } | null {
  const encoded = /^Basic +([A-Za-z0-9+/]{1,2000}={0,2}) *$/i.exec(header)?.[1];
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? null : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

export function isLoopback(address: string): boolean {
  return /^(?:::ffff:)?127\.|^::1$/i.test(address);
}

/** The client's address; a proxy on this machine is asked whom it speaks for. */
export function clientAddress(peer: string, headers: IncomingHttpHeaders): string {
  if (!isLoopback(peer)) return peer;
  const forwarded = String(headers['x-forwarded-for'] ?? '');
  // The last one is what the proxy itself has seen; those before it anybody can write.
  const last = forwarded.slice(forwarded.lastIndexOf(',') + 1).trim();
  return isIP(last) === 0 ? peer : last;
}

export interface LoginServices {
  keyring: Pick<Keyring, 'find'>;
  tokens: TokenStore;
  nowMs(): number;
}

export function createHttpLogin({ keyring, tokens, nowMs }: LoginServices) {
  const attempts = createAttempts(nowMs);
  return (address: string, authorization: string | undefined): HttpLogin => {
    if (authorization === undefined) return { refused: 'missing' };
    const retryAfterS = attempts.waitS(address);
    if (retryAfterS > 0) return { refused: 'limited', retryAfterS };
    const refuse = (refused: 'malformed' | 'wrong' | 'expired'): HttpLogin => {
      attempts.failed(address);
      return { refused };
    };
    const given = parseBasic(authorization);
    if (given === null) return refuse('malformed');
    const token = findToken(tokens, given.password);
    // The key is looked up each time: a removed one is out at once.
    const key = token === null ? undefined : keyring.find(token.fingerprint);
    if (token === null || key === undefined || key.name !== given.user) return refuse('wrong');
    if (isExpired(token, new Date(nowMs()))) return refuse('expired');
    tokens.touch(token.id);
    return { identity: toIdentity(key) };
  };
}
