// The machine goes down and comes up again: exactly what served serves, what was stopped stays stopped.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { isAlive, processesIn, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';

let receiver: TestReceiver;
const pushers: Pusher[] = [];
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(async () => {
  for (const pusher of pushers) pusher.cleanUp();
  await receiver.cleanUp();
});

/** Everything of the node ends at once, as when the power is cut. */
async function cutPower(): Promise<void> {
  await receiver.kill9({ agents: true });
  await waitFor('everything to be dead', () => {
    const left = processesIn(receiver.node);
    for (const { pid } of left) process.kill(pid, 'SIGKILL');
    return left.length === 0;
  });
}

function masters(instance: string): number {
  const all = processesIn(receiver.node).filter(({ argv }) => argv.includes('--name') && argv.includes(instance));
  return all.filter(({ parent }) => !all.some(({ pid }) => pid === parent)).length;
}

it('brings back the release that served, once, and leaves stopped what was stopped', async () => {
  const [blog, shop] = ['blog', 'shop'].map((name) => createPusher(receiver, name)) as [Pusher, Pusher];
  pushers.push(blog, shop);
  await blog.deploy({ 'version.txt': 'one' });
  await blog.deploy({ 'version.txt': 'two' });
  await shop.deploy({ 'version.txt': 'shop' });
  expect((await receiver.ssh('stop', 'shop/stage')).code).toBe(0);

  await cutPower();
  await receiver.restart();

  await waitFor('the site', async () => (await get(receiver, 'blog-stage.localhost')).body === 'two');
  expect(agreement(receiver, 'blog/stage')).toMatchObject({ release: 2 });
  await waitFor('one process', () => masters('blog-stage') === 1);
  expect(masters('shop-stage')).toBe(0);
  const down = await get(receiver, 'shop-stage.localhost');
  expect([down.status, down.headers['retry-after']]).toEqual([503, '10']);

  expect((await receiver.ssh('start', 'shop/stage')).code).toBe(0);
  expect((await get(receiver, 'shop-stage.localhost')).body).toBe('shop');
  await blog.deploy({ 'version.txt': 'three' });
  expect((await get(receiver, 'blog-stage.localhost')).body).toBe('three');
});

it('a web process that dies is started again by itself', async () => {
  const before = JSON.parse((await get(receiver, 'blog-stage.localhost', '/python')).body) as { pid: number };
  process.kill(before.pid, 'SIGKILL');
  // Its workers may answer for a moment, as orphans.
  await waitFor('another process', () => masters('blog-stage') === 1 && !isAlive(before.pid));
  await waitFor('an answer', async () => (await get(receiver, 'blog-stage.localhost')).body === 'three');
});
