/** One writer per target, in memory, in order of arrival. Taken before git starts, held until it has ended. */
import { KraftwerkError } from '../node-agent/protocol.ts';
import { escapeForTerminal } from './print-table.ts';

export interface Holder {
  by: string;
  what: string;
  /** Milliseconds since the epoch. */
  since: number;
  /** Its work is done and told, and it tidies up. */
  leaves?: true;
}

export interface Lock {
  release(): void;
  /** Instead of `release`: when `rest` has ended, which does not reject. Commands that come meanwhile wait, and are not refused. */
  releaseAfter(rest: Promise<void>, what: string): void;
}

/** Told whom one waits for, at once and now and then. */
export type OnWait = (holder: Holder, waitedMs: number) => void;

const MAX_WAITING = 8;

export type TargetLocks = ReturnType<typeof createTargetLocks>;

export function createTargetLocks(nowMs: () => number) {
  const holders = new Map<string, Holder>();
  const queues = new Map<string, (() => void)[]>();
  const idlers: (() => void)[] = [];

  function grant(target: string, by: string, what: string): Lock {
    holders.set(target, { by, what, since: nowMs() });
    let released = false;
    const free = (): void => {
      holders.delete(target);
      queues.get(target)?.shift()?.();
      if (holders.size === 0) for (const wake of idlers.splice(0)) wake();
    };
    return {
      release(): void {
        if (released) return;
        released = true;
        free();
      },
      releaseAfter(rest, leaving): void {
        if (released) return;
        released = true;
        holders.set(target, { by, what: leaving, since: nowMs(), leaves: true });
        void rest.finally(free);
      },
    };
  }

  return {
    holder: (target: string): Holder | null => holders.get(target) ?? null,
    held: (): number => holders.size,
    /** Resolves when nothing is locked. */
    async idle(): Promise<void> {
      if (holders.size > 0) await new Promise<void>((resolve) => idlers.push(resolve));
    },

    /** For commands: now, or as soon as one that leaves is gone, or not at all. @throws KraftwerkError `target.busy`, `deploy.aborted` */
    async acquireSoon(target: string, by: string, what: string, signal: AbortSignal, onWait: OnWait): Promise<Lock> {
      const leaves = holders.get(target)?.leaves === true && (queues.get(target) ?? []).length === 0;
      return leaves ? this.acquire(target, by, what, signal, onWait) : this.acquireNow(target, by, what);
    },

    /** Now or not at all. @throws KraftwerkError `target.busy` */
    acquireNow(target: string, by: string, what: string): Lock {
      const holder = holders.get(target);
      if (holder === undefined) return grant(target, by, what);
      throw busy(target, holder, nowMs());
    },

    /** For pushes: waits its turn. @throws KraftwerkError `target.busy`, `deploy.aborted` */
    async acquire(target: string, by: string, what: string, signal: AbortSignal, onWait: OnWait): Promise<Lock> {
      const holder = holders.get(target);
      if (holder === undefined) return grant(target, by, what);
      const queue = queues.get(target) ?? [];
      if (queue.length >= MAX_WAITING) throw busy(target, holder, nowMs());
      const begin = nowMs();
      onWait(holder, 0);
      const timer = setInterval(() => onWait(holders.get(target) ?? holder, nowMs() - begin), 10_000);
      try {
        await new Promise<void>((resolve, reject) => {
          const turn = (): void => {
            signal.removeEventListener('abort', leave);
            // Granted here and now, so that nobody slips in between.
            holders.set(target, { by, what, since: nowMs() });
            resolve();
          };
          const leave = (): void => {
            queue.splice(queue.indexOf(turn), 1);
            reject(new KraftwerkError('deploy.aborted', 'the client went away while it waited'));
          };
          queue.push(turn);
          queues.set(target, queue);
          if (signal.aborted) leave();
          else signal.addEventListener('abort', leave, { once: true });
        });
      } finally {
        clearInterval(timer);
      }
      return grant(target, by, what);
    },
  };
}

/** What whoever waits is shown. */
export function describeWait(holder: Holder, waitedMs: number, nowMs: number): string {
  const waited = waitedMs > 0 ? ` … ${Math.round(waitedMs / 1000)}s` : '';
  return `waiting for ${escapeForTerminal(describeHolder(holder, nowMs))}${waited}`;
}

export function describeHolder(holder: Holder, nowMs: number): string {
  return `${holder.by}: ${holder.what}, since ${Math.max(0, Math.round((nowMs - holder.since) / 1000))} s`;
}

function busy(target: string, holder: Holder, nowMs: number): KraftwerkError {
  return new KraftwerkError('target.busy', `${target} is busy (${describeHolder(holder, nowMs)})`, {
    hint: 'try again when it has ended',
    exit: 'busy',
    reason: 'busy, try again',
  });
}
