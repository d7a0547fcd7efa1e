// Reading what a provider answers: JSON against a schema, lists page by page, how long to wait. Pure.
import { z } from 'zod';
import { ProviderError } from './provider.ts';

const MAX_PAGES = 100;

/** Undefined for what is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @throws ProviderError `provider.answer` with the place of the first thing that is not as it should be */
export function parseAnswer<T extends z.ZodType>(schema: T, value: unknown, where: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = findCause(result.error.issues, []);
  const place = path.length === 0 ? '' : `${z.core.toDotPath(path)}: `;
  throw unknownAnswer(where, `${place}${message}`);
}

/** The first issue; of alternatives the one that came furthest. */
function findCause(
  issues: readonly z.core.$ZodIssue[],
  prefix: PropertyKey[],
): { path: PropertyKey[]; message: string } {
  const [issue] = issues;
  if (issue === undefined) return { path: prefix, message: 'not as expected' };
  const path = [...prefix, ...issue.path];
  if (issue.code !== 'invalid_union') return { path, message: issue.message };
  const causes = issue.errors.map((inner) => findCause(inner, path));
  return causes.reduce((best, one) => (one.path.length >= best.path.length ? one : best), {
    path,
    message: issue.message,
  });
}

export function unknownAnswer(where: string, what: string): ProviderError {
  return new ProviderError('provider.answer', `${where}: an answer that kraftwerk does not understand: ${what}`, {
    hint: 'is there a newer version of kraftwerk? If not, please report it',
    outcome: 'unknown',
  });
}

/** All pages. `next`: what the next one is asked for with, null at the end. */
export async function collectPages<T, C>(
  first: C,
  fetchPage: (cursor: C) => Promise<{ items: readonly T[]; next: C | null }>,
): Promise<T[]> {
  const all: T[] = [];
  let cursor: C | null = first;
  for (let page = 0; cursor !== null; page += 1) {
    if (page >= MAX_PAGES)
      throw new ProviderError('provider.answer', `more than ${MAX_PAGES} pages in one list`, { outcome: 'unknown' });
    const { items, next }: { items: readonly T[]; next: C | null } = await fetchPage(cursor);
    all.push(...items);
    cursor = next;
  }
  return all;
}

/**
 * In milliseconds; null: nothing usable is said. The moments in `RateLimit-Reset` are no help: at some providers the limit
 * is full again then, and some requests are allowed long before.
 * @param header seconds, or a date
 * @see https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after
 */
export function readRetryAfter(header: string | null, nowMs: number): number | null {
  if (header === null) return null;
  const ms = /^[0-9]{1,9}$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return ms > 0 ? ms : null;
}
