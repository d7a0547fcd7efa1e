/** Which scenarios run: one of each kind in CI, all of them by `npm run test:nightly`; the others are shown as skipped. */
import { it } from 'vitest';

export const thorough = process.env.KRAFTWERK_NIGHTLY === '1';

/** All cases, or the chosen ones. @throws where one is chosen that is not among them: it would never run */
export function someOf<T extends string>(all: readonly T[], chosen: readonly NoInfer<T>[]): readonly T[] {
  const unknown = chosen.filter((one) => !all.includes(one));
  if (unknown.length > 0) throw new Error(`chosen, and not among the cases: ${unknown.join(', ')}`);
  return thorough ? all : all.filter((one) => chosen.includes(one));
}

/** `it.each`, of which only the chosen cases run in CI. */
export function itSome<T extends string>(all: readonly T[], chosen: readonly NoInfer<T>[]) {
  const some = someOf(all, chosen);
  return (name: string, body: (one: T) => unknown, limitMs?: number): void => {
    for (const one of all)
      it.runIf(some.includes(one)).each([one])(name, async (given) => void (await body(given as T)), limitMs);
  };
}
