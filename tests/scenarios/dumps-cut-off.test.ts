// Dumps, loads and archives whose every operation fails once, and whose agent is killed at each: nothing is lost, nothing is left.
// In CI a few operations of a dump, and the agents of all steps of a load; nightly all of them, and those of an import.
import { existsSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { createDumpNode, type DumpNode } from '../actors/dump-node.ts';
import { itSome, someOf, thorough } from '../actors/thorough.ts';

const FIRST = '2026-11-25T10:00:00';
const SECOND = '2026-11-25T11:00:00';
const OPERATIONS = {
  ENOSPC: ['mkdir', 'write', 'publish', 'unpack', 'append', 'link', 'sync', 'spawn', 'remove'],
  // Where it leaves something else than an error does.
  kill: someOf(['publish', 'append', 'link', 'sync'], ['publish', 'append']),
};
type Effect = keyof typeof OPERATIONS;
const LIMIT_MS = 600_000;

let node: DumpNode;
beforeEach(async () => {
  node = createDumpNode();
  node.write({
    'uploads/a.txt': 'a',
    'uploads/deep/b.bin': Buffer.alloc(300_000, 7),
    'ledger/book': 'one\n',
  });
  await node.dump(FIRST);
});
afterEach(() => node.cleanUp());

/** Each operation of `op` once, the first, the second, until there is none: with what `attempt` gives, and what `check` finds. */
async function failEach(
  op: string,
  effect: Effect,
  attempt: () => Promise<unknown>,
  check: (failed: boolean) => Promise<void>,
): Promise<number> {
  let failures = 0;
  for (const operation of OPERATIONS[effect])
    for (let at = 1; ; at++) {
      node.failAt(`${op}:${operation}:${at}:${effect}`);
      const said: unknown = await attempt().then(
        () => null,
        (error: unknown) => error,
      );
      node.failAt(null);
      if (said !== null) failures++;
      await check(said !== null);
      // What cannot be removed is not always a reason to fail: then one more.
      if (said === null && (operation !== 'remove' || at > 1)) break;
    }
  return failures;
}

/** What is there is whole; what is not, a second attempt makes. */
async function dumpAgain(instance: string, attempt: () => Promise<unknown>): Promise<void> {
  if (!existsSync(node.site(instance, 'dump', SECOND))) await attempt();
  await node.load('check', SECOND, { instance });
  expect(node.leftOvers(instance)).toEqual([]);
  rmSync(node.site(instance, 'dump', SECOND), { recursive: true });
}

describe.each(['ENOSPC', 'kill'] as const)('each operation with %s', (effect) => {
  it.runIf(thorough || effect === 'kill')(
    'of a dump',
    async () => {
      const live = node.data();
      const failures = await failEach(
        'dump',
        effect,
        () => node.dump(SECOND),
        async () => {
          expect(node.data()).toEqual(live);
          await dumpAgain('blog', () => node.dump(SECOND));
        },
      );
      expect(failures).toBeGreaterThan(thorough ? (effect === 'kill' ? 6 : 12) : 1);
    },
    LIMIT_MS,
  );

  it.runIf(thorough)(
    'of an import',
    async () => {
      const archive = await node.export(FIRST);
      for (const from of [{ archive }, { instance: 'blog', name: FIRST }]) {
        const failures = await failEach(
          'import',
          effect,
          () => node.import(SECOND, from),
          async () => {
            await dumpAgain('other', () => node.import(SECOND, from));
          },
        );
        expect(failures).toBeGreaterThan(effect === 'kill' ? 4 : 8);
      }
    },
    LIMIT_MS,
  );
});

itSome(['new', 'swap', 'back', 'done'], [])(
  'each operation of the step %s of a load fails once',
  async (step) => {
    const loaded = node.data();
    node.write({ 'uploads/a.txt': 'newer', 'uploads/c': 'c', 'ledger/book': 'two\n' });
    const live = node.data();
    const prepare = { new: [], swap: ['new'], back: ['new', 'swap'], done: ['new', 'swap'] } as const;
    const failures = await failEach(
      'load',
      'ENOSPC',
      async () => {
        const failpoint = node.takeFailpoint();
        for (const before of prepare[step]) await node.load(before, FIRST);
        node.failAt(failpoint);
        await node.load(step, FIRST);
      },
      async () => {
        if (step === 'done') {
          await node.load('done', null);
          expect(node.data()).toEqual(loaded);
          // Back to where it began, by a load.
          node.write({ 'uploads/a.txt': 'newer', 'uploads/c': 'c', 'ledger/book': 'two\n' });
        } else {
          if (step === 'new') expect(node.data()).toEqual(live);
          await node.load('back', null);
          expect(node.data()).toEqual(live);
        }
        expect(node.leftOvers()).toEqual([]);
      },
    );
    expect(failures).toBeGreaterThan(3);
  },
  LIMIT_MS,
);

test('a script whose agent was killed is ended by the next request, wherever it was', async () => {
  const loaded = node.data();
  node.write({ 'uploads/a.txt': 'newer', 'ledger/book': 'two\n' });
  const live = node.data();
  const lost = { code: 'node.lost' };
  for (const at of ['begin', 'dump']) {
    node.tell(`kill ${at}`);
    await expect(node.dump(SECOND)).rejects.toMatchObject(lost);
    expect(node.leftOvers()).toEqual([`.${SECOND}.part`]);
    await node.load('check', FIRST);
    expect(node.leftOvers()).toEqual([]);
  }
  for (const step of ['new', 'swap'] as const)
    for (const at of [`before-${step}`, step]) {
      if (step === 'swap') await node.load('new', FIRST);
      node.tell(`kill ${at}`);
      await expect(node.load(step, FIRST)).rejects.toMatchObject(lost);
      await node.load('back', null);
      expect([node.data(), node.leftOvers()]).toEqual([live, []]);
    }
  for (const at of ['before-back', 'back']) {
    await node.load('new', FIRST);
    await node.load('swap', null);
    node.tell(`kill ${at}`);
    await expect(node.load('back', null)).rejects.toMatchObject(lost);
    await node.load('back', null);
    expect([node.data(), node.leftOvers()]).toEqual([live, []]);
  }
  await node.load('new', FIRST);
  await node.load('swap', null);
  for (const at of ['before-done', 'done']) {
    node.tell(`kill ${at}`);
    await expect(node.load('done', null)).rejects.toMatchObject(lost);
    expect(node.data()).toEqual(loaded);
  }
  await node.load('done', null);
  expect([node.data(), node.leftOvers()]).toEqual([loaded, []]);
  expect(node.sleepers()).toEqual([]);
}, 120_000);

test('new that fails is taken back for all services at once', async () => {
  node.write({ 'uploads/a.txt': 'newer' });
  const live = node.data();
  for (const [order, code] of [
    ['fail new', 'service.failed'],
    ['wrong before-new', 'service.dump'],
    ['away new', 'service.away'],
    ['full new', 'node.disk-full'],
  ] as const) {
    node.tell(order);
    await expect(node.load('new', FIRST)).rejects.toMatchObject({ code, step: 'Load' });
    expect([node.data(), node.leftOvers()]).toEqual([live, []]);
  }
});
