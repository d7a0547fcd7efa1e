// Scheduled work: due times, what was missed, one run at a time, and the end. Time stands still until a test moves it.
import { expect, test } from 'vitest';
import { findCronProblem, nextTime } from '../../receiver/backups/cron.ts';
import { createSchedules, type ScheduledWork } from '../../receiver/backups/schedule.ts';

const MINUTE_MS = 60_000;
const START = local(3, 0);

/** Of the machine's time zone, as cron expressions are. */
function local(hour: number, minute: number, second = 0, day = 10): Date {
  return new Date(2026, 5, day, hour, minute, second);
}

function stage(options: { last?: Record<string, Date>; works: Partial<ScheduledWork>[]; start?: Date }) {
  let now = (options.start ?? START).getTime();
  let timers: { at: number; callback: () => void }[] = [];
  const last = new Map(Object.entries(options.last ?? {}));
  const told: string[] = [];
  const stamp = (): string => new Date(now).toTimeString().slice(0, 8);
  const schedules = createSchedules({
    works: options.works.map(({ environment = 'live', kind = 'backup', cron = '17 3 * * *', run }) => ({
      environment,
      kind,
      cron,
      run: async (signal) => {
        told.push(`${stamp()} ${kind} ${environment}`);
        await run?.(signal);
      },
    })),
    lastRun: (key) => last.get(key) ?? null,
    setLastRun: (key, at) => last.set(key, at),
    onFailed: (key, error) => told.push(`${stamp()} ${key} failed: ${(error as Error).message}`),
    clock: {
      now: () => new Date(now),
      startTimer(callback, delayMs) {
        const timer = { at: now + delayMs, callback };
        timers.push(timer);
        return () => {
          timers = timers.filter((other) => other !== timer);
        };
      },
    },
  });
  return {
    schedules,
    told,
    last,
    timers: () => timers.length,
    setClock: (date: Date) => {
      const jump = date.getTime() - now;
      now = date.getTime();
      // Timers count what goes by, whatever the clock says.
      for (const timer of timers) timer.at += jump;
    },
    async passUntil(end: Date) {
      for (;;) {
        const next = timers.toSorted((a, b) => a.at - b.at)[0];
        if (next === undefined || next.at > end.getTime()) break;
        timers = timers.filter((timer) => timer !== next);
        now = next.at;
        next.callback();
        // Promises of the run that may have begun: none of them waits for time.
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      now = end.getTime();
    },
  };
}

test('work is done at each due time', async () => {
  const { told, passUntil, schedules } = stage({ works: [{ cron: '*/20 * * * *' }] });
  expect(schedules.dueAt('backup live')).toEqual(local(3, 20));
  await passUntil(local(4, 10));
  expect(told).toEqual(['03:20:00 backup live', '03:40:00 backup live', '04:00:00 backup live']);
});

test('works of the same minute start seconds apart, always in the same order', async () => {
  const works = [{}, { environment: 'stage' }, { kind: 'drill' }];
  for (const _ of [1, 2]) {
    const { told, passUntil } = stage({ works });
    await passUntil(local(4, 0));
    expect(told).toEqual(['03:17:00 backup live', '03:17:05 backup stage', '03:17:10 drill live']);
  }
});

test('many works of one minute start within that minute', async () => {
  const { told, passUntil } = stage({
    works: Array.from({ length: 30 }, (_, index) => ({ environment: `e${index}` })),
  });
  await passUntil(local(3, 18));
  expect(told).toHaveLength(30);
});

test.each<[string, Record<string, Date>, string[]]>([
  ['two days', { 'backup live': local(3, 17, 0, 8) }, ['03:00:30 backup live']],
  ['one due time', { 'backup live': local(3, 16, 59, 9) }, ['03:00:30 backup live']],
  ['nothing', { 'backup live': local(3, 17, 40, 9) }, []],
  ['nothing, at its first start ever', {}, []],
  ['nothing, with a last run that is yet to come', { 'backup live': local(3, 17, 0, 20) }, []],
])('a receiver that missed %s makes up for it once', async (_, last, expected) => {
  const { told, passUntil } = stage({ last, works: [{}] });
  await passUntil(local(3, 16));
  expect(told).toEqual(expected);
  await passUntil(local(3, 18));
  expect(told).toEqual([...expected, '03:17:00 backup live']);
});

test('what becomes due while it is being made up for is done once', async () => {
  const { told, passUntil } = stage({
    start: local(3, 16, 50),
    last: { 'backup live': local(3, 17, 0, 8) },
    works: [{}],
  });
  await passUntil(local(4, 0));
  expect(told).toEqual(['03:17:00 backup live']);
});

test('the first start ever counts as seen to, so that the first miss is noticed', () => {
  const { last } = stage({ works: [{}] });
  expect(last.get('backup live')).toEqual(START);
});

test('a due time that comes during a run is left out', async () => {
  const first = Promise.withResolvers<void>();
  const { told, last, passUntil, schedules } = stage({ works: [{ cron: '*/10 * * * *', run: () => first.promise }] });
  await passUntil(local(3, 34));
  expect(told).toEqual(['03:10:00 backup live']);
  expect(schedules.dueAt('backup live')).toBeNull();
  expect(last.get('backup live')).toEqual(START);
  first.resolve();
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(last.get('backup live')).toEqual(local(3, 34));
  await passUntil(local(3, 40));
  expect(told).toEqual(['03:10:00 backup live', '03:40:00 backup live']);
});

test('another kind of the same environment, and another environment, do not wait for it', async () => {
  const run = () => new Promise<void>(() => {});
  const { told, passUntil } = stage({
    works: [{ run }, { kind: 'drill', cron: '20 3 * * *' }, { environment: 'stage' }],
  });
  await passUntil(local(4, 0));
  expect(told).toEqual(['03:17:00 backup live', '03:17:10 backup stage', '03:20:05 drill live']);
});

test('a run that fails is told of, and done again at the next due time', async () => {
  const run = () => Promise.reject(new Error('disk full'));
  const { told, passUntil } = stage({ works: [{ cron: '*/30 * * * *', run }] });
  await passUntil(local(4, 0));
  expect(told).toEqual([
    '03:30:00 backup live',
    '03:30:00 backup live failed: disk full',
    '04:00:00 backup live',
    '04:00:00 backup live failed: disk full',
  ]);
});

test('stop waits for what is at work, and begins nothing more', async () => {
  const first = Promise.withResolvers<void>();
  const { told, last, timers, passUntil, schedules } = stage({
    works: [{ run: () => first.promise }, { environment: 'stage', cron: '30 3 * * *' }],
  });
  await passUntil(local(3, 20));
  let isStopped = false;
  const stopped = schedules.stop().then(() => {
    isStopped = true;
  });
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(isStopped).toBe(false);
  first.resolve();
  await stopped;
  expect(timers()).toBe(0);
  await passUntil(local(4, 0));
  expect(told).toEqual(['03:17:00 backup live']);
  expect(last.get('backup live')).toEqual(local(3, 20));
});

test('a run that ends early because of stop is made up for by the next start', async () => {
  const run = (signal: AbortSignal) =>
    new Promise<void>((_, reject) =>
      signal.addEventListener('abort', () => reject(new Error('stopped')), { once: true }),
    );
  const before = stage({ works: [{ run }] });
  await before.passUntil(local(3, 20));
  await before.schedules.stop();
  expect(before.told).toEqual(['03:17:00 backup live', '03:20:00 backup live failed: stopped']);

  const after = stage({ start: local(3, 25), last: Object.fromEntries(before.last), works: [{}] });
  await after.passUntil(local(4, 0));
  expect(after.told).toEqual(['03:25:30 backup live']);
});

test.each<[string, Date, Date, string[]]>([
  ['forward over a due time', local(3, 40), local(3, 42), ['03:41:00 backup live']],
  ['back by a day', local(3, 0, 0, 9), local(3, 18, 0, 9), ['03:17:00 backup live']],
])('a clock that is set %s does not mislead it for long', async (_, to, until, expected) => {
  const { told, setClock, passUntil } = stage({ works: [{}] });
  setClock(to);
  await passUntil(until);
  expect(told).toEqual(expected);
});

test('no timer is longer than a minute', async () => {
  const delays: number[] = [];
  createSchedules({
    works: [{ environment: 'live', kind: 'drill', cron: '0 5 1 1 *', run: () => Promise.resolve() }],
    lastRun: () => null,
    setLastRun: () => {},
    onFailed: () => {},
    clock: {
      now: () => START,
      startTimer(_, delayMs) {
        delays.push(delayMs);
        return () => {};
      },
    },
  });
  expect(delays).toEqual([MINUTE_MS]);
});

test.each<[string, string | null]>([
  ['17 3 * * *', null],
  ['*/5 0-6 1,15 * MON-FRI', null],
  ['0 0 29 2 *', null],
  ['@daily', null],
  ['@reboot', 'it is no name that cron knows'],
  ['', 'it has 0 of five fields'],
  ['0 0 0 * * *', 'it has 6 of five fields'],
  ['60 * * * *', 'invalid value for minute: 60'],
  ['0 0 31 4 *', 'that day never comes'],
])('cron expression "%s"', (expression, problem) => {
  expect(findCronProblem(expression)).toBe(problem);
});

test('the next time is always later', () => {
  expect(nextTime('17 3 * * *', local(3, 17))).toEqual(local(3, 17, 0, 11));
  expect(nextTime('17 3 * * *', local(3, 16, 59))).toEqual(local(3, 17));
});
