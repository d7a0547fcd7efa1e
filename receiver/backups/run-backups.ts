/** What an environment's `backups` ask for: dumps by schedule, copies of them, and restore drills. */
import type { Config, EnvironmentConfig } from '../config.ts';
import type { BackupsConfig } from '../config-backups.ts';
import { ALL, type Audience, type Choice, type DataServices, findPlaces } from '../data/data-services.ts';
import { listDumps, makeDump } from '../data/dump.ts';
import { proveDump } from '../data/prove.ts';
import { settleOperations } from '../data/settle-operations.ts';
import { type Target, targetName } from '../target.ts';
import type { Lock, TargetLocks } from '../target-locks.ts';
import { copyDump, pruneCopies } from './copies.ts';
import type { ObjectStore } from './object-store.ts';
import { createSchedules, type ScheduledWork, type Schedules } from './schedule.ts';

export interface BackupServices extends DataServices {
  locks: TargetLocks;
  /** Of an environment; null where its backups are not copied. */
  storeOf(environment: string): ObjectStore | null;
}

const BY = 'schedule';

/** Begins at once, and goes on until it is stopped. */
export function startBackups(services: BackupServices, environments: Config['environments']): Schedules {
  const works = [...environments.values()].flatMap((environment) => worksOf(services, environment));
  return createSchedules({
    works,
    lastRun: (key) => services.journal.data.lastRun(key),
    setLastRun: (key, at) => services.journal.data.setLastRun(key, at),
    onFailed: (key, error) => services.log('schedule.failed', { schedule: key, message: String(error) }),
  });
}

function worksOf(services: BackupServices, environment: EnvironmentConfig): ScheduledWork[] {
  const { backups, name } = environment;
  if (backups === null) return [];
  const backup: ScheduledWork = {
    environment: name,
    kind: 'backup',
    cron: backups.schedule,
    run: (signal) =>
      forEachTarget(services, name, 'backup', signal, (target, audience) =>
        backUp(services, target, backups, audience),
      ),
  };
  if (backups.drill === null) return [backup];
  const drill: ScheduledWork = {
    environment: name,
    kind: 'drill',
    cron: backups.drill,
    run: (signal) =>
      forEachTarget(services, name, 'drill', signal, (target, audience) => drillNewest(services, target, audience)),
  };
  return [backup, drill];
}

/** Whoever is busy for longer than that comes last, and then has as long as a large load takes. */
const FIRST_WAIT_MS = 60_000;
const LAST_WAIT_MS = 6 * 3_600_000;

/** One target's trouble is not the others'; nor is one that somebody holds. */
async function forEachTarget(
  services: BackupServices,
  environment: string,
  kind: 'backup' | 'drill',
  signal: AbortSignal,
  body: (target: Target, audience: Audience) => Promise<void>,
): Promise<void> {
  const targets = services.journal
    .targets()
    .filter(({ current, target }) => target.environment === environment && current !== null)
    .map(({ target }) => ({ target, waitMs: FIRST_WAIT_MS }));
  for (const { target, waitMs } of targets) {
    signal.throwIfAborted();
    const name = targetName(target);
    const audience: Audience = { signal, emit: () => undefined };
    try {
      const lock = await acquireWithin(services, name, kind, signal, waitMs);
      if (lock === null) {
        if (waitMs === LAST_WAIT_MS) throw new Error(`it was busy for ${LAST_WAIT_MS / 3_600_000} hours`);
        targets.push({ target, waitMs: LAST_WAIT_MS });
        continue;
      }
      try {
        await settleOperations(services, target, audience);
        await body(target, audience);
        services.journal.data.noteSchedule(target, kind, null);
      } finally {
        lock.release();
      }
    } catch (error) {
      signal.throwIfAborted();
      const message = error instanceof Error ? error.message : String(error);
      services.journal.data.noteSchedule(target, kind, message);
      services.log(`${kind}.failed`, { target: name, message });
    }
  }
}

/** @returns null: somebody else has it still @throws KraftwerkError `target.busy`: too many wait */
async function acquireWithin(
  { locks }: BackupServices,
  name: string,
  kind: 'backup' | 'drill',
  signal: AbortSignal,
  waitMs: number,
): Promise<Lock | null> {
  const late = AbortSignal.timeout(waitMs);
  try {
    return await locks.acquire(name, BY, kind, AbortSignal.any([signal, late]), () => undefined);
  } catch (error) {
    signal.throwIfAborted();
    if (late.aborted) return null;
    throw error;
  }
}

async function backUp(
  services: BackupServices,
  target: Target,
  backups: BackupsConfig,
  audience: Audience,
): Promise<void> {
  const there = findPlaces(services, target, ALL).flatMap((place) => place.services);
  const wanted = there.filter((name) => backups.services?.includes(name) ?? true);
  if (wanted.length === 0) return;
  const choice: Choice = { only: wanted, exclude: [] };
  const dump = await makeDump(services, { target, reason: 'scheduled', choice, keep: backups.keep }, audience);
  const store = services.storeOf(target.environment);
  if (store === null) return;
  await copyDump(services, store, target, dump, audience.signal);
  await pruneCopies(store, target, backups.keep);
}

async function drillNewest(services: BackupServices, target: Target, audience: Audience): Promise<void> {
  const newest = (await listDumps(services, target)).find((dump) => !dump.destroyed);
  if (newest !== undefined) await proveDump(services, target, newest, BY, audience);
}
