// One writer per target, in the order of arrival.
import { describe, expect, it } from 'vitest';
import { createTargetLocks, describeHolder, type Holder } from '../../receiver/target-locks.ts';

const never = new AbortController().signal;

it('lets one in at a time, the others in turn', async () => {
  const locks = createTargetLocks(() => 0);
  const order: string[] = [];
  const first = await locks.acquire('blog/live', 'alice', 'git push', never, () => undefined);
  const waits: string[] = [];
  const others = ['bob', 'carol'].map((name) =>
    locks
      .acquire('blog/live', name, 'git push', never, (holder) => waits.push(`${name} waits for ${holder.by}`))
      .then((lock) => {
        order.push(name);
        lock.release();
      }),
  );
  const other = await locks.acquire('shop/live', 'dave', 'git push', never, () => undefined);
  other.release();
  expect(order).toEqual([]);
  first.release();
  first.release();
  await Promise.all(others);
  expect(order).toEqual(['bob', 'carol']);
  expect(waits).toEqual(['bob waits for alice', 'carol waits for alice']);
  expect(locks.held()).toBe(0);
});

it('tells a command who is at work, and since when', async () => {
  let now = 0;
  const locks = createTargetLocks(() => now);
  const lock = locks.acquireNow('blog/live', 'alice', 'git push');
  now = 12_000;
  expect(() => locks.acquireNow('blog/live', 'bob', 'restart')).toThrow(
    'blog/live is busy (alice: git push, since 12 s)',
  );
  lock.release();
  locks.acquireNow('blog/live', 'bob', 'restart').release();
});

it('forgets who goes away while waiting', async () => {
  const locks = createTargetLocks(() => 0);
  const lock = locks.acquireNow('blog/live', 'alice', 'git push');
  const gone = new AbortController();
  const waiting = locks.acquire('blog/live', 'bob', 'git push', gone.signal, () => undefined);
  gone.abort();
  await expect(waiting).rejects.toThrow('the client went away while it waited');
  const idle = locks.idle();
  lock.release();
  await idle;
  expect(locks.holder('blog/live')).toBeNull();
});

it('does not let a queue grow without end', async () => {
  const locks = createTargetLocks(() => 0);
  locks.acquireNow('blog/live', 'alice', 'git push');
  const gone = new AbortController();
  const waiting = Array.from({ length: 8 }, () =>
    locks.acquire('blog/live', 'bob', 'git push', gone.signal, () => undefined),
  );
  await expect(locks.acquire('blog/live', 'carol', 'git push', never, () => undefined)).rejects.toThrow('is busy');
  gone.abort();
  await Promise.allSettled(waiting);
});

describe('one that only tidies up', () => {
  const soon = (locks: ReturnType<typeof createTargetLocks>, by: string, onWait = (): void => undefined) =>
    locks.acquireSoon('blog/live', by, 'restart', never, onWait);

  it('is waited for by the next command, which is told', async () => {
    let end = (): void => undefined;
    const locks = createTargetLocks(() => 0);
    const lock = await soon(locks, 'alice');
    await expect(soon(locks, 'bob')).rejects.toThrow('blog/live is busy (alice: restart, since 0 s)');
    const rest = new Promise<void>((resolve) => {
      end = resolve;
    });
    lock.releaseAfter(rest, 'load, removing the old data');
    expect(describeHolder(locks.holder('blog/live') as Holder, 3_000)).toBe(
      'alice: load, removing the old data, since 3 s',
    );
    const told: string[] = [];
    const bob = soon(locks, 'bob', () => void told.push('bob waits'));
    expect(told).toEqual(['bob waits']);
    // There is a queue now, which may be of pushes.
    await expect(soon(locks, 'carol')).rejects.toThrow('is busy');
    expect(() => locks.acquireNow('blog/live', 'receiver', 'settling')).toThrow('is busy');
    end();
    (await bob).release();
    expect(locks.held()).toBe(0);
  });

  it('keeps the receiver from stopping, and lets go only once', async () => {
    let end = (): void => undefined;
    const locks = createTargetLocks(() => 0);
    const lock = await soon(locks, 'alice');
    lock.releaseAfter(
      new Promise<void>((resolve) => {
        end = resolve;
      }),
      'load',
    );
    const idle = locks.idle();
    expect(locks.held()).toBe(1);
    end();
    await idle;
    const bob = await soon(locks, 'bob');
    lock.release();
    expect(locks.holder('blog/live')?.by).toBe('bob');
    bob.release();
  });
});
