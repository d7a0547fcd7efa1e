// git over HTTP with the real client, and what is sent there by nobody's client.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { QUICK } from '../actors/refusal.ts';
import { agreement, get, readRef, repositoryOf } from '../actors/site.ts';
import type { TestKey } from '../actors/ssh.ts';

let receiver: TestReceiver;
let alice: Pusher;
let token: string;
let web: string;

beforeAll(async () => {
  receiver = await startReceiver({ config: 'http: {host: 127.0.0.1, port: 0}' });
  web = String(receiver.log.find(({ event }) => event === 'receiver.ready')?.http);
  token = await tokenFor(receiver.admin);
  alice = createPusher(receiver, 'blog');
  alice.git(['remote', 'set-url', 'live', url('blog/live.git')]);
  await alice.deploy({ 'kraftwerk.yaml': QUICK, 'version.txt': 'one' }, 'live');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver.cleanUp();
});
afterEach(async () => {
  // Whatever has happened: it is the same process, and it answers.
  expect(await receiver.ssh('whoami')).toMatchObject({ code: 0 });
  expect(await ask('GET', '/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
  expect(JSON.stringify(receiver.log)).not.toMatch(/kw_[0-9a-f]{8}_/);
});

async function tokenFor(key: TestKey, ...options: string[]): Promise<string> {
  const made = await receiver.sshAs(key, ['tokens:add', ...options]);
  expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^kw_[0-9a-f]{8}_[0-9a-f]{48}\n$/) as string });
  return made.stdout.trim();
}

function url(path: string, user = 'alice', password = token): string {
  return `http://${user}:${password}@${web}/${path}`;
}

interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

interface Asked {
  user?: string | null;
  password?: string;
  headers?: Record<string, string>;
  body?: Buffer | string;
}

/** By hand, without git's client. `user: null`: nobody. */
function ask(
  method: string,
  path: string,
  { user = 'alice', password = token, headers, body }: Asked = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const [host, port] = web.split(':');
    const known = user === null ? {} : { Authorization: basic(user, password) };
    const asked = request({ host, port, method, path, agent: false, headers: { ...known, ...headers } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
    asked.on('error', reject);
    asked.end(body ?? '');
  });
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

const PUSH = { 'Content-Type': 'application/x-git-receive-pack-request' };
const FETCH = { 'Content-Type': 'application/x-git-upload-pack-request' };

function pkt(payload: string): string {
  return (Buffer.byteLength(payload) + 4).toString(16).padStart(4, '0') + payload;
}

/** A push that needs no pack: it moves a branch to a commit that is there. */
function moveBranch(from: string, to: string, ref = 'refs/heads/master'): string {
  return `${pkt(`${from} ${to} ${ref}\0 report-status side-band-64k agent=hand`)}0000`;
}

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
      expect(await alice.tryGit(['-c', `protocol.version=${version}`, 'clone', '-q', url(path), clone])).toMatchObject({
        code: 0,
        stderr: '',
      });
      expect(alice.git(['-C', clone, 'rev-parse', 'HEAD'])).toBe(alice.head());
      const release = ['-C', clone, 'fetch', '-q', 'origin', 'refs/kraftwerk/releases/v1'];
      expect(await alice.tryGit(['-c', `protocol.version=${version}`, ...release])).toMatchObject({ code: 0 });
    }
    const shallow = join(alice.folder, 'shallow');
    expect(await alice.tryGit(['clone', '-q', '--depth=1', url('blog/live'), shallow])).toMatchObject({ code: 0 });
  });

  it('an unchanged push says so', async () => {
    expect(await alice.push('live')).toMatchObject({ code: 0, output: 'Everything up-to-date\n' });
  });

  it('a first push makes the project; looking at it does not', async () => {
    const bob = createPusher(receiver, 'shop');
    bob.commit({ 'kraftwerk.yaml': QUICK });
    const asked = await ask('GET', '/shop/stage.git/info/refs?service=git-receive-pack');
    expect(asked.status).toBe(200);
    expect(existsSync(join(receiver.data, 'repositories', 'shop'))).toBe(false);
    expect(await bob.tryGit(['clone', url('shop/stage')])).toMatchObject({
      stderr: expect.stringContaining('remote: error: shop/stage: no such project, or not for your key') as string,
    });
    expect(await bob.push(url('shop/stage.git'))).toMatchObject({ code: 0 });
    expect(agreement(receiver, 'shop/stage')).toEqual({ release: 1, commit: bob.head() });
    bob.cleanUp();
  });

  it('a refused first push leaves nothing', async () => {
    const bob = createPusher(receiver, 'nothing');
    bob.commit({ 'kraftwerk.yaml': 'nonsense: 1\n' });
    expect((await bob.push(url('nothing/stage'))).rejected).toBe('kraftwerk.yaml has an error');
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
    const waiting = await bob.push(url('turns/stage'));
    expect(waiting.output).toContain('waiting for alice: git push');
    expect((await running).code).toBe(0);
    expect(waiting.code).toBe(0);
    expect(bob.git(['rev-parse', 'HEAD~1'])).toBe(first);
    expect(agreement(receiver, 'turns/stage')).toEqual({ release: 3, commit: bob.head() });
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

describe('who may come in', () => {
  it('nobody without a token: the request that moved a branch of node-git-server alone', async () => {
    const before = agreement(receiver, 'blog/live');
    const old = alice.git(['rev-parse', 'HEAD~1']);
    const body = moveBranch(alice.head(), old);
    const attempts: Asked[] = [
      { user: null },
      { headers: { Authorization: 'Basic' } },
      { headers: { Authorization: 'Basic ' } },
      { headers: { Authorization: 'Basic %%%' } },
      { headers: { Authorization: `Bearer ${token}` } },
      { user: '', password: '' },
      { user: 'alice', password: '' },
    ];
    for (const attempt of attempts) {
      const user = attempt.user ?? null;
      const headers = { ...PUSH, 'X-Forwarded-For': '192.0.2.1', ...attempt.headers };
      const answered = await ask('POST', '/blog/live.git/git-receive-pack', { ...attempt, user, headers, body });
      expect({ status: answered.status, asks: answered.headers['www-authenticate'] }).toEqual({
        status: 401,
        asks: 'Basic realm="kraftwerk", charset="UTF-8"',
      });
    }
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('with a token the same request goes the way of every push', async () => {
    const before = agreement(receiver, 'blog/live');
    const answered = await ask('POST', '/blog/live.git/git-receive-pack', {
      headers: PUSH,
      body: moveBranch('1'.repeat(40), alice.head(), 'refs/notes/x'),
    });
    expect(answered.status).toBe(200);
    expect(answered.body).toContain('ng refs/notes/x');
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('a token that is wrong, of another name, expired, or removed does not', async () => {
    const carol = await receiver.addKey('carol', 'deploy', 'blog');
    const mine = await tokenFor(carol, '--days', '1');
    const push = async (user: string, password: string): Promise<string> => {
      const { code, output } = await alice.push(url('blog/live', user, password));
      expect(code, output).not.toBe(0);
      return /^remote: error: (.*)$/m.exec(output)?.[1]?.trim() ?? output;
    };
    alice.commit({ 'version.txt': 'carol' });
    const wrong = `${mine.slice(0, -1)}${mine.endsWith('0') ? '1' : '0'}`;
    expect(await push('carol', wrong)).toBe('no such token for that name');
    expect(await push('alice', mine)).toBe('no such token for that name');
    expect(await alice.push(url('blog/live', 'carol', mine))).toMatchObject({ code: 0 });

    await receiver.stop();
    const db = new DatabaseSync(join(receiver.data, 'journal.db'));
    const id = mine.split('_')[1] ?? '';
    db.prepare('UPDATE tokens SET expires_at = ? WHERE id = ?').run(new Date(Date.now() - 1000).toISOString(), id);
    db.close();
    await receiver.restart();
    web = String(receiver.log.findLast(({ event }) => event === 'receiver.ready')?.http);
    alice.git(['remote', 'set-url', 'live', url('blog/live.git')]);
    alice.commit({ 'version.txt': 'too late' });
    expect(await push('carol', mine)).toBe('your token has expired');

    const other = await tokenFor(carol);
    expect(await receiver.sshAs(carol, ['tokens:remove', other.split('_')[1] ?? ''])).toMatchObject({ code: 0 });
    expect(await push('carol', other)).toBe('no such token for that name');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
  });

  it('the token of a removed key does not, nor does it come back with the key', async () => {
    const dave = await receiver.addKey('dave', 'read', 'blog');
    const mine = await tokenFor(dave);
    const look = async (): Promise<number> =>
      (await ask('GET', '/blog/live/info/refs?service=git-upload-pack', { user: 'dave', password: mine })).status;
    expect(await look()).toBe(200);
    await receiver.ssh('keys:remove', 'dave', '--confirm', 'dave');
    expect(await look()).toBe(401);
    await receiver.sshAs(receiver.admin, ['keys:add', 'dave', '--role', 'admin'], dave.line);
    expect(await look()).toBe(401);
  });

  it('a key that may read clones and does not push; what it may not see does not exist', async () => {
    const erin = await receiver.addKey('erin', 'read', 'blog/live');
    const mine = await tokenFor(erin);
    const clone = join(alice.folder, 'erin');
    expect(await alice.tryGit(['clone', '-q', url('blog/live', 'erin', mine), clone])).toMatchObject({ code: 0 });
    const before = agreement(receiver, 'blog/live');
    alice.commit({ 'version.txt': 'erin' });
    const refused = await alice.push(url('blog/live', 'erin', mine));
    expect(refused.output).toContain('remote: error: git push blog/live: your key erin has role read, which may not');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    const as = { user: 'erin', password: mine };
    const body = moveBranch(alice.head(), alice.git(['rev-parse', 'HEAD~1']));
    expect(await ask('POST', '/blog/live/git-receive-pack', { ...as, headers: PUSH, body })).toMatchObject({
      status: 403,
    });
    const [unseen, absent] = await Promise.all(
      ['turns', 'absent'].map((name) => ask('GET', `/${name}/stage/info/refs?service=git-upload-pack`, as)),
    );
    expect(unseen?.status).toBe(404);
    expect(unseen?.body.replaceAll('turns', 'absent')).toBe(absent?.body);
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('an address that guesses has to wait; others have not', async () => {
    const guess = (): Promise<Reply> =>
      ask('GET', '/blog/live/info/refs?service=git-upload-pack', {
        password: `kw_00000000_${'0'.repeat(48)}`,
        headers: { 'X-Forwarded-For': '198.51.100.7, 203.0.113.9' },
      });
    const statuses = [];
    for (let turn = 0; turn < 12; turn++) statuses.push((await guess()).status);
    expect(statuses).toEqual([...Array.from({ length: 10 }, () => 401), 429, 429]);
    expect(Number((await guess()).headers['retry-after'])).toBeGreaterThan(0);
    expect(await ask('GET', '/blog/live/info/refs?service=git-upload-pack')).toMatchObject({ status: 200 });
  });
});

describe('what no client of git sends', () => {
  it('is 404', async () => {
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/blog/live.git'],
      ['GET', '/blog/live.git/HEAD'],
      ['GET', '/blog/live.git/info/refs'],
      ['GET', '/blog/live.git/info/refs?service=git-upload-archive'],
      ['GET', '/blog/live.git/info/refs?service=git-upload-pack&x=1'],
      ['GET', '/blog/live.git/objects/info/packs'],
      ['GET', '/../blog/live.git/info/refs?service=git-upload-pack'],
      ['GET', '/blog/../../etc/info/refs?service=git-upload-pack'],
      ['GET', '/blog/%2e%2e/info/refs?service=git-upload-pack'],
      ['GET', '/blog/..%2flive/info/refs?service=git-upload-pack'],
      ['GET', '//blog/live/info/refs?service=git-upload-pack'],
      ['GET', '/Blog/live/info/refs?service=git-upload-pack'],
      ['GET', `http://${web}/blog/live/info/refs?service=git-upload-pack`],
      ['GET', '/blog/live/git-receive-pack'],
      ['POST', '/blog/live/info/refs?service=git-upload-pack'],
      ['POST', '/blog/live/git-upload-archive'],
      ['POST', '/blog/live/git-receive-pack/x'],
      ['PUT', '/blog/live/git-receive-pack'],
      ['DELETE', '/healthz'],
    ] as const) {
      const { status } = await ask(method, path);
      expect({ method, path, status }).toEqual({ method, path, status: 404 });
    }
  });

  it('is refused before git starts: junk for gzip, for a list of refs, of another type', async () => {
    const before = agreement(receiver, 'blog/live');
    const junk = randomBytes(20_000);
    const cases: [string, Asked, number][] = [
      ['git-receive-pack', { headers: { ...PUSH, 'Content-Encoding': 'gzip' }, body: junk }, 400],
      ['git-upload-pack', { headers: { ...FETCH, 'Content-Encoding': 'gzip' }, body: junk }, 400],
      ['git-receive-pack', { headers: { ...PUSH, 'Content-Encoding': 'deflate' }, body: junk }, 400],
      ['git-receive-pack', { headers: PUSH, body: junk }, 400],
      ['git-receive-pack', { headers: PUSH, body: '' }, 400],
      ['git-receive-pack', { headers: PUSH, body: `${'a'.repeat(65_536)}` }, 400],
      ['git-receive-pack', { body: moveBranch(alice.head(), alice.head()) }, 400],
      ['git-receive-pack', { headers: PUSH, body: '0000' }, 200],
      ['git-upload-pack', { headers: FETCH, body: '0000' }, 200],
      ['git-receive-pack', { headers: { ...PUSH, 'Content-Encoding': 'gzip' }, body: gzipSync('0000') }, 200],
    ];
    for (const [service, asked, status] of cases) {
      const answered = await ask('POST', `/blog/live.git/${service}`, asked);
      expect({ service, status: answered.status, body: answered.body }).toMatchObject({ service, status });
    }
    // A list as it should be, then gzip that breaks off: git has begun, and ends.
    const whole = gzipSync(
      Buffer.concat([Buffer.from(moveBranch(alice.head(), '2'.repeat(40))), randomBytes(100_000)]),
    );
    const headers = { ...PUSH, 'Content-Encoding': 'gzip' };
    await ask('POST', '/blog/live.git/git-receive-pack', { headers, body: whole.subarray(0, 60_000) });
    await ask('POST', '/blog/live.git/git-upload-pack', { headers: FETCH, body: junk });
    await ask('POST', '/blog/live.git/git-upload-pack', { headers: FETCH, body: 'a'.repeat(200_000) });
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('is survived: a client that goes away in the middle of the pack leaves no lock', async () => {
    const before = agreement(receiver, 'blog/live');
    const [host = '', port] = web.split(':');
    const socket = connect(Number(port), host);
    socket.on('error', () => undefined);
    const list = moveBranch(alice.head(), '3'.repeat(40));
    socket.write(
      `POST /blog/live.git/git-receive-pack HTTP/1.1\r\nHost: ${web}\r\nAuthorization: ${basic('alice', token)}\r\n` +
        `Content-Type: ${PUSH['Content-Type']}\r\nContent-Length: 5000000\r\n\r\n${list}PACK\0\0\0\u0002`,
    );
    const begun = receiver.log.length;
    await receiver.logged('http.accepted', () => true, Math.max(0, begun - 1));
    await new Promise((resolve) => socket.write(randomBytes(50_000), resolve));
    socket.resetAndDestroy();
    await alice.deploy({ 'version.txt': 'after the cut' }, 'live');
    expect(agreement(receiver, 'blog/live').release).toBe((before.release ?? 0) + 1);
    expect((await get(receiver, 'blog.localhost')).body).toBe('after the cut');
  });

  it('is survived: git itself, killed while it sends', async () => {
    const good = alice.head();
    alice.commit({ 'static/huge.txt': randomBytes(20 * 1024 * 1024).toString('base64') });
    const child = spawn('git', ['push', '-q', url('blog/live')], { cwd: alice.work, detached: true, stdio: 'ignore' });
    const begun = receiver.log.length;
    const pushes = (url: unknown): boolean => /git-receive-pack$/.test(String(url));
    await receiver.logged('http.accepted', (line) => line.method === 'POST' && pushes(line.url), begun);
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    alice.git(['reset', '-q', '--hard', good]);
    await alice.push('live', 'master', { args: ['-f'] });
    expect(agreement(receiver, 'blog/live').commit).toBe(good);
  });

  it('is survived: half requests and other protocols', async () => {
    const [host = '', port] = web.split(':');
    for (const bytes of [
      'SSH-2.0-x\r\n\r\n',
      'GET /',
      '\0\0\0\0',
      'POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\n',
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(Number(port), host);
        socket.on('error', () => undefined);
        socket.on('close', () => resolve());
        socket.on('data', () => undefined);
        socket.end(bytes);
      });
    }
  });
});

it('tokens are listed without what they are, and only one’s own can be removed', async () => {
  const frank = await receiver.addKey('frank', 'deploy', 'blog');
  const mine = await tokenFor(frank, '--days', '7');
  const listed = await receiver.sshAs(frank, ['tokens']);
  expect(listed.stdout).toMatch(/^ID +KEY +CREATED +EXPIRES +LAST USED\n[0-9a-f]{8} +frank .*\n$/);
  const [foreign = ''] = token.split('_').slice(1);
  expect(await receiver.sshAs(frank, ['tokens:remove', foreign])).toMatchObject({
    code: 4,
    stderr: `error: tokens:remove: no token ${foreign} of yours\nhint: ssh kraftwerk@HOST tokens\n`,
  });
  expect(await receiver.sshAs(frank, ['tokens:remove', mine])).toMatchObject({ code: 2 });
  expect(await receiver.sshAs(frank, ['tokens:add', '--days', '0'])).toMatchObject({ code: 2 });
  const all = JSON.parse((await receiver.ssh('tokens', '--json')).stdout) as { key: string }[];
  expect(new Set(all.map(({ key }) => key))).toEqual(new Set(['alice', 'erin', 'frank']));
  expect(JSON.stringify(all)).not.toContain(mine.split('_')[2]);
});

it('SIGTERM: a running push finishes, /healthz says that the receiver drains, no new push begins', async () => {
  const bob = createPusher(receiver, 'last');
  bob.commit({ 'kraftwerk.yaml': `${QUICK}release: sleep 3\n` });
  const begun = receiver.log.length;
  const running = bob.push(url('last/stage'));
  await receiver.logged('http.accepted', ({ method }) => method === 'POST', begun);
  const stopped = receiver.stop();
  await receiver.logged('receiver.stopping', () => true, begun);
  expect(await ask('GET', '/healthz')).toMatchObject({ status: 503, body: 'draining\n' });
  const refused = await ask('GET', '/blog/live/info/refs?service=git-receive-pack');
  expect(refused).toMatchObject({ status: 503 });
  expect(refused.body).toBe(
    'error: the receiver is about to end and begins nothing new\nhint: try again in a minute\n',
  );
  expect(await running).toMatchObject({ code: 0 });
  expect(await stopped).toBe(0);
  await receiver.restart();
  web = String(receiver.log.findLast(({ event }) => event === 'receiver.ready')?.http);
  expect(agreement(receiver, 'last/stage')).toEqual({ release: 1, commit: bob.head() });
  bob.cleanUp();
});
