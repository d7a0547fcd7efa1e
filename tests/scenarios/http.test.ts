// git over HTTP with the real client: what works over SSH works the same.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createHttpUser, HTTP_ON, type HttpUser } from '../actors/http.ts';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { QUICK } from '../actors/refusal.ts';
import { agreement, get, readRef, repositoryOf } from '../actors/site.ts';

let receiver: TestReceiver;
let web: HttpUser;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver({ config: HTTP_ON });
  web = await createHttpUser(receiver);
  alice = createPusher(receiver, 'blog');
  alice.git(['remote', 'set-url', 'live', web.url('blog/live.git')]);
  await alice.deploy({ 'kraftwerk.yaml': QUICK, 'version.txt': 'one' }, 'live');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver.cleanUp();
});
afterEach(() => web.expectWell());

describe('with a token', () => {
  it('a push deploys, with the transcript while it runs', async () => {
    alice.commit({ 'version.txt': 'two' });
    const { code, lines } = await alice.push('live');
    expect({ code, first: lines[0]?.slice(0, 18), last: lines.at(-1) }).toEqual({
      code: 0,
      first: '-----> blog/live  ',
      last: expect.stringMatching(/^success: v2 live in /) as string,
    });
    expect(lines.some((line) => line.startsWith('-----> Switch'))).toBe(true);
    expect((await get(receiver, 'blog.localhost')).body).toBe('two');
    expect(agreement(receiver, 'blog/live')).toEqual({ release: 2, commit: alice.head() });
  });

  it('a push that fails is rejected with the reason in git’s own line', async () => {
    const good = alice.head();
    alice.commit({ 'kraftwerk.yaml': 'nonsense: 1\n' });
    const { code, rejected, lines } = await alice.push('live');
    expect({ code, rejected }).toEqual({ code: 1, rejected: 'kraftwerk.yaml has an error; v2 still live' });
    expect(lines).toContain('error: kraftwerk.yaml:1:1 unknown key "nonsense"');
    alice.git(['reset', '-q', '--hard', good]);
    expect(agreement(receiver, 'blog/live')).toEqual({ release: 2, commit: good });
  });

  it('what the deploy says arrives while it runs', async () => {
    const bob = createPusher(receiver, 'live_lines');
    const wait = 'for i in $(seq 400); do test -e "$SITE_ROOT/go" && exit 0; sleep 0.05; done; exit 1';
    bob.commit({ 'kraftwerk.yaml': `${QUICK}release: ${JSON.stringify(wait)}\n` });
    const child = spawn('git', ['push', web.url('live_lines/stage'), 'master'], { cwd: bob.work });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    // The release command waits for this test, and this test for what was said before it.
    await waitFor('the line of a step', () => said.includes('remote: -----> Packages'));
    writeFileSync(join(receiver.node, 'web', 'live_lines-stage', 'go'), '');
    expect(await ended).toBe(0);
    bob.cleanUp();
  });

  it('push options arrive', async () => {
    alice.git(['commit', '-q', '--allow-empty', '-m', 'Plan it']);
    expect(await alice.push('live', 'master', { options: ['plan'] })).toMatchObject({ code: 1, rejected: 'plan only' });
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
  });

  it('a large push comes in pieces, after a look whether it may', async () => {
    const good = alice.head();
    alice.commit({ 'static/large.txt': randomBytes(3 * 1024 * 1024).toString('base64') });
    expect(await alice.push('live')).toMatchObject({ code: 0 });
    alice.git(['reset', '-q', '--hard', good]);
    expect(await alice.push('live', 'master', { args: ['-f'] })).toMatchObject({ code: 0 });
  });

  it('clone and fetch, by both versions of the protocol and with or without .git', async () => {
    for (const [index, version] of ['0', '1', '2'].entries()) {
      const clone = join(alice.folder, `clone-${index}`);
      const path = index === 0 ? 'blog/live' : 'blog/live.git';
      expect(
        await alice.tryGit(['-c', `protocol.version=${version}`, 'clone', '-q', web.url(path), clone]),
      ).toMatchObject({
        code: 0,
        stderr: '',
      });
      expect(alice.git(['-C', clone, 'rev-parse', 'HEAD'])).toBe(alice.head());
      const release = ['-C', clone, 'fetch', '-q', 'origin', 'refs/kraftwerk/releases/v1'];
      expect(await alice.tryGit(['-c', `protocol.version=${version}`, ...release])).toMatchObject({ code: 0 });
    }
    const shallow = join(alice.folder, 'shallow');
    expect(await alice.tryGit(['clone', '-q', '--depth=1', web.url('blog/live'), shallow])).toMatchObject({ code: 0 });
  });

  it('an unchanged push says so', async () => {
    expect(await alice.push('live')).toMatchObject({ code: 0, output: 'Everything up-to-date\n' });
  });

  it('a first push makes the project; looking at it does not', async () => {
    const bob = createPusher(receiver, 'shop');
    bob.commit({ 'kraftwerk.yaml': QUICK });
    const asked = await web.ask('GET', '/shop/stage.git/info/refs?service=git-receive-pack');
    expect(asked.status).toBe(200);
    expect(existsSync(join(receiver.data, 'repositories', 'shop'))).toBe(false);
    expect(await bob.tryGit(['clone', web.url('shop/stage')])).toMatchObject({
      stderr: expect.stringContaining('remote: error: shop/stage: no such project, or not for your key') as string,
    });
    expect(await bob.push(web.url('shop/stage.git'))).toMatchObject({ code: 0 });
    expect(agreement(receiver, 'shop/stage')).toEqual({ release: 1, commit: bob.head() });
    bob.cleanUp();
  });

  it('a refused first push leaves nothing', async () => {
    const bob = createPusher(receiver, 'nothing');
    bob.commit({ 'kraftwerk.yaml': 'nonsense: 1\n' });
    expect((await bob.push(web.url('nothing/stage'))).rejected).toBe('kraftwerk.yaml has an error');
    expect(readdirSync(join(receiver.data, 'repositories', 'nothing'))).toEqual([]);
    bob.cleanUp();
  });

  it('pushes over SSH and HTTP to one target take turns', async () => {
    const bob = createPusher(receiver, 'turns');
    await bob.deploy({ 'kraftwerk.yaml': `${QUICK}release: sleep 2\n` });
    const first = bob.commit({ 'version.txt': 'first' });
    const agents = receiver.agents();
    const running = bob.push('stage');
    await waitFor('the deploy to begin', () => receiver.agents().some((pid) => !agents.includes(pid)));
    bob.git(['commit', '-q', '--allow-empty', '-m', 'Second']);
    const waiting = await bob.push(web.url('turns/stage'));
    expect(waiting.output).toContain('waiting for alice: git push');
    expect((await running).code).toBe(0);
    // It was told the refs before it waited: it is refused, and told to fetch, rather than taken for what it is not.
    expect(waiting).toMatchObject({ code: 1, rejected: 'fetch first; v2 still live' });
    expect(waiting.lines).toContain('hint: git pull --rebase stage master');
    expect(agreement(receiver, 'turns/stage').commit).toBe(first);
    expect(await bob.push(web.url('turns/stage'))).toMatchObject({ code: 0 });
    expect(agreement(receiver, 'turns/stage').commit).toBe(bob.head());
    bob.cleanUp();
  });
});

describe('what a push may not hold, over HTTP as over SSH', () => {
  it('a tag listed first brings no bad branch in', async () => {
    const good = alice.head();
    alice.commit({ 'kraftwerk.yaml': 'nonsense: 1\n' });
    alice.git(['tag', 'a-tag', good]);
    const { code, rejected } = await alice.push('live', 'a-tag master');
    expect({ code, rejected }).toEqual({ code: 1, rejected: 'kraftwerk.yaml has an error; v4 still live' });
    expect(readRef(repositoryOf(receiver, 'blog/live'), 'refs/tags/a-tag')).toBe(good);
    alice.git(['reset', '-q', '--hard', good]);
    expect(agreement(receiver, 'blog/live').commit).toBe(good);
  });

  it('refs outside branches and tags; two branches at once', async () => {
    const before = agreement(receiver, 'blog/live');
    const good = alice.head();
    alice.commit({ 'version.txt': 'never' });
    for (const ref of ['refs/notes/x', 'refs/for/master'])
      expect(await alice.push('live', `HEAD:${ref}`)).toMatchObject({ code: 1, rejected: 'only branches and tags' });
    expect(await alice.push('live', 'HEAD:refs/kraftwerk/releases/v99')).toMatchObject({ code: 1 });
    expect(await alice.push('live', 'master master:main')).toMatchObject({ code: 1, rejected: 'one branch at a time' });
    alice.git(['reset', '-q', '--hard', good]);
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });
});

it('tokens are listed without what they are, and only one’s own can be removed', async () => {
  const frank = await receiver.addKey('frank', 'deploy', 'blog');
  const mine = await web.tokenFor(frank, '--days', '7');
  const listed = await receiver.sshAs(frank, ['tokens']);
  expect(listed.stdout).toMatch(/^ID +KEY +CREATED +EXPIRES +LAST USED\n[0-9a-f]{8} +frank .*\n$/);
  const [foreign = ''] = web.token.split('_').slice(1);
  expect(await receiver.sshAs(frank, ['tokens:remove', foreign])).toMatchObject({
    code: 4,
    stderr: `error: tokens:remove: no token ${foreign} of yours\nhint: ssh kraftwerk@HOST tokens\n`,
  });
  expect(await receiver.sshAs(frank, ['tokens:remove', mine])).toMatchObject({ code: 2 });
  expect(await receiver.sshAs(frank, ['tokens:add', '--days', '0'])).toMatchObject({ code: 2 });
  const all = JSON.parse((await receiver.ssh('tokens', '--json')).stdout) as { key: string }[];
  expect(new Set(all.map(({ key }) => key))).toEqual(new Set(['alice', 'frank']));
  expect(JSON.stringify(all)).not.toContain(mine.split('_')[2]);
});

it('SIGTERM: a running push finishes, /healthz says that the receiver drains, no new push begins', async () => {
  const bob = createPusher(receiver, 'last');
  bob.commit({ 'kraftwerk.yaml': `${QUICK}release: sleep 3\n` });
  const begun = receiver.log.length;
  const running = bob.push(web.url('last/stage'));
  await receiver.logged('http.accepted', ({ method }) => method === 'POST', begun);
  const stopped = receiver.stop();
  await receiver.logged('receiver.stopping', () => true, begun);
  expect(await web.ask('GET', '/healthz')).toMatchObject({ status: 503, body: 'draining\n' });
  const refused = await web.ask('GET', '/blog/live/info/refs?service=git-receive-pack');
  expect(refused).toMatchObject({ status: 503 });
  expect(refused.body).toBe(
    'error: the receiver is about to end and begins nothing new\nhint: try again in a minute\n',
  );
  expect(await running).toMatchObject({ code: 0 });
  expect(await stopped).toBe(0);
  await receiver.restart();
  expect(agreement(receiver, 'last/stage')).toEqual({ release: 1, commit: bob.head() });
  bob.cleanUp();
});
