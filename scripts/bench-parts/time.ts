/** How long something takes. */

/** @returns milliseconds */
export async function time(body: () => unknown): Promise<number> {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
}
