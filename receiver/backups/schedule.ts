// Runs what is due by cron, one run per environment and kind at a time, and makes up once for what was missed while down.
import { nextTime } from './cron.ts';

/** Something that is done again and again. */
export interface ScheduledWork {
  environment: string;
  /** `backup`, `drill` */
  kind: string;
  /** A good cron expression, in the time zone of this machine. */
  cron: string;
  /** What it throws goes to `onFailed`. @param signal aborted by `stop`; who ends early because of it throws */
  run(signal: AbortSignal): Promise<void>;
}

export interface ScheduleClock {
  now(): Date;
  /** Calls `callback` once after `delayMs`. Returns what takes that back. */
  startTimer(callback: () => void, delayMs: number): () => void;
}

export interface SchedulesOptions {
  works: readonly ScheduledWork[];
  /** Up to when a work was seen to, by its key, `backup live`; null: it has never been. */
  lastRun(key: string): Date | null;
  setLastRun(key: string, at: Date): void;
  onFailed(key: string, error: unknown): void;
  clock?: ScheduleClock;
}

export interface Schedules {
  /** When a work is next begun; null: it is at work, there is none of that key, or all has been stopped. */
  dueAt(key: string): Date | null;
  /** Begins nothing more, and waits for what is at work. */
  stop(): Promise<void>;
}

/** A receiver that has just started first gets to what it was started for. */
const CATCH_UP_MS = 30_000;
const STAGGER_MS = 5_000;
const STAGGERED = 12;
/** Timers stand still while a machine sleeps and know nothing of a clock that is set: the clock is looked at this often. */
const LONGEST_TIMER_MS = 60_000;

const SYSTEM_CLOCK: ScheduleClock = {
  now: () => new Date(),
  startTimer(callback, delayMs) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

export function scheduleKey({ environment, kind }: Pick<ScheduledWork, 'environment' | 'kind'>): string {
  return `${kind} ${environment}`;
}

/** Begins at once. Works that share a minute start seconds apart, in the order that they stand in. */
export function createSchedules(options: SchedulesOptions): Schedules {
  const clock = options.clock ?? SYSTEM_CLOCK;
  const stopping = new AbortController();
  const schedules = new Map<string, Schedule>();
  for (const [index, work] of options.works.entries()) {
    const key = scheduleKey(work);
    if (schedules.has(key)) throw new TypeError(`schedules: "${key}" is given twice`);
    const staggerMs = (index % STAGGERED) * STAGGER_MS;
    schedules.set(key, startSchedule(work, { ...options, key, clock, staggerMs, signal: stopping.signal }));
  }
  return {
    dueAt: (key) => schedules.get(key)?.dueAt() ?? null,
    async stop() {
      stopping.abort();
      await Promise.all([...schedules.values()].map((schedule) => schedule.stop()));
    },
  };
}

interface Schedule {
  dueAt(): Date | null;
  stop(): Promise<void>;
}

interface ScheduleContext extends SchedulesOptions {
  key: string;
  clock: ScheduleClock;
  staggerMs: number;
  signal: AbortSignal;
}

function startSchedule(work: ScheduledWork, context: ScheduleContext): Schedule {
  const { key, clock, staggerMs, signal } = context;
  let due: Date | null = null;
  let cancelTimer = () => {};
  let running: Promise<void> | null = null;

  const later = (date: Date, ms: number): Date => new Date(date.getTime() + ms);
  const regularDue = (after: Date): Date => later(nextTime(work.cron, after), staggerMs);

  const arm = (): void => {
    if (signal.aborted || due === null) return;
    const now = clock.now();
    if (now < due) {
      // The clock was set back: what had seemed near may be a year away.
      const regular = regularDue(now);
      if (regular < due) due = regular;
      cancelTimer = clock.startTimer(arm, Math.min(due.getTime() - now.getTime(), LONGEST_TIMER_MS));
      return;
    }
    due = null;
    running = runOnce().finally(() => {
      running = null;
      due = regularDue(clock.now());
      arm();
    });
  };

  const runOnce = async (): Promise<void> => {
    try {
      await work.run(signal);
    } catch (error) {
      context.onFailed(key, error);
      // Who was told to end early comes again with the next start.
      if (signal.aborted) return;
    }
    // Its end, not its beginning: what became due meanwhile is seen to as well.
    save(clock.now());
  };

  const save = (at: Date): void => {
    try {
      context.setLastRun(key, at);
    } catch (error) {
      context.onFailed(key, error);
    }
  };

  const now = clock.now();
  const last = context.lastRun(key);
  // From here on it is known what was missed. A time to come was written when the clock was wrong.
  if (last === null || last > now) save(now);
  const isMissed = last !== null && last <= now && nextTime(work.cron, last) <= now;
  due = isMissed ? later(now, CATCH_UP_MS + staggerMs) : regularDue(now);
  arm();

  return {
    dueAt: () => (signal.aborted ? null : due),
    async stop() {
      cancelTimer();
      await running;
    },
  };
}
