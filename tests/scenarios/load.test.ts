// Visitors do not notice a deploy; nightly, of more deploys.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get, startLoad } from '../actors/site.ts';
import { thorough } from '../actors/thorough.ts';

let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'busy');
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

it('no request fails at 200 per second during good pushes and bad ones', async () => {
  await alice.deploy({ 'version.txt': 'v1' });
  const good = ['v2', 'v4', 'v6', 'v8'].slice(0, thorough ? 4 : 2);
  const load = startLoad(receiver, 'busy-stage.localhost', '/', 200);
  for (const version of good) {
    await alice.deploy({ 'version.txt': version });
    alice.commit({ 'app.py': 'import nothing_of_that_name\napplication = None\n', 'version.txt': 'broken' });
    expect((await alice.push()).code).toBe(1);
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
  }
  const { failures, bodies } = await load.stop(200);
  expect(failures).toEqual([]);
  expect([...bodies.keys()], 'each version serves from its push on').toEqual(['v1', ...good]);
  expect(agreement(receiver, 'busy/stage').release).toBe(2 * good.length);
});

it('a request that is under way when the version changes is finished by the old one', async () => {
  await alice.deploy({ 'version.txt': 'old' });
  const slow = get(receiver, 'busy-stage.localhost', '/?sleep=3');
  await alice.deploy({ 'version.txt': 'new' });
  expect((await get(receiver, 'busy-stage.localhost')).body).toBe('new');
  expect(await slow).toMatchObject({ status: 200, body: 'old' });
});
