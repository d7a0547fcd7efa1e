// Deploys that follow each other at once: what retires the old process of one must leave the trial of the next alone.
// This has happened: a release was stopped between its health check and its switch, and the site answered 503.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, startLoad } from '../actors/site.ts';

const HOST = 'blog-stage.localhost';
let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'version.txt': 'first' });
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

it('push, restart, rollback, deploy, without a pause: all succeed, and no request is lost', async () => {
  const visitors = startLoad(receiver, HOST, '/', 50);
  for (let turn = 1; turn <= 4; turn++) {
    await alice.deploy({ 'version.txt': `turn ${turn}` });
    for (const command of ['restart', 'rollback', 'deploy']) {
      const done = await receiver.ssh(command, 'blog/stage');
      expect(done.stderr).toMatch(/^success: /m);
    }
  }
  const { failures } = await visitors.stop(100);
  expect(failures).toEqual([]);
  expect(agreement(receiver, 'blog/stage').release).toBe(9);
});
