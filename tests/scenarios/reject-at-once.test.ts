// Several pushes at the same time.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { QUICK } from '../actors/refusal.ts';
import { agreement, get, readCurrentLink } from '../actors/site.ts';
import { thorough } from '../actors/thorough.ts';

let receiver: TestReceiver;
const pushers: Pusher[] = [];
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(async () => {
  for (const pusher of pushers) pusher.cleanUp();
  await receiver.cleanUp();
});

function pusher(...args: Parameters<typeof createPusher>): Pusher {
  const made = createPusher(...args);
  pushers.push(made);
  return made;
}

it('of two pushes to one project the second waits, is told for whom, and then goes by its own history', async () => {
  const alice = pusher(receiver, 'blog');
  await alice.deploy({ 'kraftwerk.yaml': QUICK });
  const bob = pusher(receiver, 'blog', {}, await receiver.addKey('bob', 'deploy', 'blog'));
  bob.git(['fetch', '-q', 'stage', 'master']);
  bob.git(['reset', '-q', '--hard', 'FETCH_HEAD']);
  const begun = receiver.log.length;
  alice.commit({
    'kraftwerk.yaml': `${QUICK}release: touch "$SITE_ROOT/begun"; while ! [ -e "$SITE_ROOT/go" ]; do sleep 0.05; done\n`,
  });
  const first = alice.push();
  const root = `${receiver.node}/web/blog-stage`;
  const { existsSync, writeFileSync } = await import('node:fs');
  await waitFor('the first deploy to run', () => existsSync(`${root}/begun`));
  bob.commit({ 'version.txt': 'by bob' });
  const second = bob.push();
  await receiver.logged('ssh.accepted', ({ fingerprint }) => fingerprint !== receiver.admin.fingerprint, begun);
  writeFileSync(`${root}/go`, '');
  expect(await first).toMatchObject({ code: 0 });
  const { code, output } = await second;
  // The branch has moved meanwhile: git says so, as it would without kraftwerk.
  expect({ code: code === 0, output }).toEqual({
    code: false,
    output: expect.stringMatching(/alice: git push, since [0-9]+ s/) as string,
  });
  expect(agreement(receiver, 'blog/stage')).toEqual({ release: 2, commit: alice.head() });

  bob.git(['fetch', '-q', 'stage', 'master']);
  bob.git(['rebase', '-q', 'FETCH_HEAD']);
  expect(await bob.push()).toMatchObject({ code: 0 });
  expect((await get(receiver, 'blog-stage.localhost')).body).toBe('by bob');
  expect(agreement(receiver, 'blog/stage').commit).toBe(bob.head());
});

it('many projects at once all come up', async () => {
  const many = Array.from({ length: thorough ? 10 : 4 }, (_, index) => pusher(receiver, `many${index}`));
  for (const [index, one] of many.entries()) one.commit({ 'kraftwerk.yaml': QUICK, 'version.txt': `number ${index}` });
  const results = await Promise.all(many.map((one) => one.push()));
  expect(results.filter(({ code }) => code !== 0).map(({ output }) => output)).toEqual([]);
  for (const index of many.keys()) {
    expect((await get(receiver, `many${index}-stage.localhost`)).body).toBe(`number ${index}`);
    expect(agreement(receiver, `many${index}/stage`).release).toBe(1);
  }
});

it('a domain that two new projects want at once goes to one of them', async () => {
  const files = { 'kraftwerk.yaml': `${QUICK}domain: wanted.localhost\n` };
  const two = ['left', 'right'].map((name) => pusher(receiver, name));
  for (const one of two) one.commit({ ...files, 'version.txt': one.project });
  const results = await Promise.all(two.map((one) => one.push()));
  const winner = results.findIndex(({ code }) => code === 0);
  const loser = results[1 - winner];
  expect(results.filter(({ code }) => code === 0)).toHaveLength(1);
  expect(loser?.rejected).toBe(`wanted.localhost belongs to ${two[winner]?.project}/stage`);
  expect((await get(receiver, 'wanted.localhost')).body).toBe(two[winner]?.project);
  expect(readCurrentLink(receiver, `${two[1 - winner]?.project}-stage`)).toBeNull();
});
