/** Tokens: passwords for git over HTTP. Each belongs to a key, has that key's rights, and ends by itself. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

export interface StoredToken {
  /** Eight hexadecimal digits: not secret, what `tokens` shows and `tokens:remove` takes. */
  id: string;
  /** Of the whole token: what is stored cannot be used to come in. */
  sha256: string;
  /** The key's that made it: without that key it is worth nothing. */
  fingerprint: string;
  /** ISO 8601, as the others. */
  createdAt: string;
  expiresAt: string;
  lastUsedAt: string | null;
}

export interface TokenStore {
  all(): StoredToken[];
  find(id: string): StoredToken | undefined;
  add(token: StoredToken): void;
  remove(id: string): boolean;
  touch(id: string): void;
}

export const TOKEN_ID_PATTERN = /^[0-9a-f]{8}$/;
const TOKEN_PATTERN = /^kw_([0-9a-f]{8})_[0-9a-f]{48}$/;
const DAY_MS = 86_400_000;

/** @returns the token, to be shown once, and what is kept of it */
export function createToken(fingerprint: string, days: number, now: Date): { token: string; stored: StoredToken } {
  const id = randomBytes(4).toString('hex');
  const token = `kw_${id}_${randomBytes(24).toString('hex')}`;
  const stored = {
    id,
    sha256: digest(token).toString('hex'),
    fingerprint,
    createdAt: now.toISOString(),
    expiresAt: new Date(now.getTime() + days * DAY_MS).toISOString(),
    lastUsedAt: null,
  };
  return { token, stored };
}

/** The stored token that `given` is, or null. Whether it still counts is another question: `isExpired`. */
export function findToken(store: Pick<TokenStore, 'find'>, given: string): StoredToken | null {
  const stored = store.find(TOKEN_PATTERN.exec(given)?.[1] ?? '');
  // Compared also where nothing is to be found: how long it takes tells nothing.
  const expected = Buffer.from(stored?.sha256 ?? '0'.repeat(64), 'hex');
  const same = timingSafeEqual(digest(given), expected);
  return same && stored !== undefined ? stored : null;
}

export function isExpired({ expiresAt }: Pick<StoredToken, 'expiresAt'>, now: Date): boolean {
  return expiresAt <= now.toISOString();
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
