/** The same for many, a few at a time. Pure. */

/** Nodes that are worked on at once. */
export const FAN_OUT = 8;

/** Like `Promise.allSettled` over `items`, in their order, but with at most `limit` under way. */
export async function allBounded<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
  limit = FAN_OUT,
): Promise<PromiseSettledResult<R>[]> {
  const results: PromiseSettledResult<R>[] = [];
  const waiting = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of waiting) {
      try {
        results[index] = { status: 'fulfilled', value: await work(item, index) };
      } catch (reason) {
        results[index] = { status: 'rejected', reason };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
