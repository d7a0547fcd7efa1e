// A dump is named by the second in which it begins; no two of a target have the same name.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-11-22T10:20:30.400Z') });
  vi.resetModules();
});
afterEach(() => void vi.useRealTimers());

/** Names as a receiver gives them that has just been started. */
async function start(): Promise<(target?: string) => Promise<string>> {
  const { nextName } = await import('../../receiver/data/dump.ts');
  return async (target = 'blog/live') => {
    const name = nextName({ nowMs: Date.now }, target);
    await vi.runAllTimersAsync();
    return name;
  };
}

it('two within a second: the second one waits for the next', async () => {
  const next = await start();
  vi.advanceTimersByTime(5_000);
  expect(await next()).toBe('2026-11-22T10:20:35');
  expect(await next('shop/live')).toBe('2026-11-22T10:20:35');
  expect(await next()).toBe('2026-11-22T10:20:36');
});

it('a receiver that was started again within the second does not know of the last one, and takes the next second', async () => {
  expect(await (await start())()).toBe('2026-11-22T10:20:31');
});

it('a clock that was set back a little is waited for, and one that was set back far is believed', async () => {
  const next = await start();
  vi.advanceTimersByTime(5_000);
  await next();
  vi.setSystemTime(Date.parse('2026-11-22T10:20:33.000Z'));
  expect(await next()).toBe('2026-11-22T10:20:36');
  vi.setSystemTime(Date.parse('2026-11-22T09:20:33.000Z'));
  expect(await next()).toBe('2026-11-22T09:20:33');
});
