// Who may come in over HTTP, and what is sent there by nobody's client. Most of it once ended a server, or moved a branch.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type Asked,
  basic,
  createHttpUser,
  FETCH,
  HTTP_ON,
  type HttpUser,
  moveRef,
  PUSH,
  pkt,
  type Reply,
} from '../actors/http.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { QUICK } from '../actors/refusal.ts';
import { agreement, get } from '../actors/site.ts';

let receiver: TestReceiver;
let web: HttpUser;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver({ config: HTTP_ON });
  web = await createHttpUser(receiver);
  alice = createPusher(receiver, 'blog');
  alice.git(['remote', 'set-url', 'live', web.url('blog/live.git')]);
  await alice.deploy({ 'kraftwerk.yaml': QUICK, 'version.txt': 'one' }, 'live');
  await alice.deploy({ 'version.txt': 'two' }, 'live');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver.cleanUp();
});
afterEach(() => web.expectWell());

describe('who may come in', () => {
  it('nobody without a token: the request that moved a branch of node-git-server alone', async () => {
    const before = agreement(receiver, 'blog/live');
    const old = alice.git(['rev-parse', 'HEAD~1']);
    const body = moveRef(alice.head(), old);
    const attempts: Asked[] = [
      { user: null },
      { headers: { Authorization: 'Basic' } },
      { headers: { Authorization: 'Basic ' } },
      { headers: { Authorization: 'Basic %%%' } },
      { headers: { Authorization: `Bearer ${web.token}` } },
      { user: '', password: '' },
      { user: 'alice', password: '' },
    ];
    for (const attempt of attempts) {
      const user = attempt.user ?? null;
      const headers = { ...PUSH, 'X-Forwarded-For': '192.0.2.1', ...attempt.headers };
      const answered = await web.ask('POST', '/blog/live.git/git-receive-pack', { ...attempt, user, headers, body });
      expect({ status: answered.status, asks: answered.headers['www-authenticate'] }).toEqual({
        status: 401,
        asks: 'Basic realm="kraftwerk", charset="UTF-8"',
      });
    }
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('with a token the same request goes the way of every push', async () => {
    const before = agreement(receiver, 'blog/live');
    const answered = await web.ask('POST', '/blog/live.git/git-receive-pack', {
      headers: PUSH,
      body: moveRef('1'.repeat(40), alice.head(), 'refs/notes/x'),
    });
    expect(answered.status).toBe(200);
    expect(answered.body).toContain('ng refs/notes/x');
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('a token that is wrong, of another name, expired, or removed does not', async () => {
    const carol = await receiver.addKey('carol', 'deploy', 'blog');
    const mine = await web.tokenFor(carol, '--days', '1');
    const push = async (user: string, password: string): Promise<string> => {
      const { code, output } = await alice.push(web.url('blog/live', user, password));
      expect(code, output).not.toBe(0);
      return /^remote: error: (.*)$/m.exec(output)?.[1]?.trim() ?? output;
    };
    alice.commit({ 'version.txt': 'carol' });
    const wrong = `${mine.slice(0, -1)}${mine.endsWith('0') ? '1' : '0'}`;
    expect(await push('carol', wrong)).toBe('no such token for that name');
    expect(await push('alice', mine)).toBe('no such token for that name');
    expect(await alice.push(web.url('blog/live', 'carol', mine))).toMatchObject({ code: 0 });

    await receiver.stop();
    const db = new DatabaseSync(join(receiver.data, 'journal.db'));
    const id = mine.split('_')[1] ?? '';
    db.prepare('UPDATE tokens SET expires_at = ? WHERE id = ?').run(new Date(Date.now() - 1000).toISOString(), id);
    db.close();
    await receiver.restart();
    alice.git(['remote', 'set-url', 'live', web.url('blog/live.git')]);
    alice.commit({ 'version.txt': 'too late' });
    expect(await push('carol', mine)).toBe('your token has expired');

    const other = await web.tokenFor(carol);
    expect(await receiver.sshAs(carol, ['tokens:remove', other.split('_')[1] ?? ''])).toMatchObject({ code: 0 });
    expect(await push('carol', other)).toBe('no such token for that name');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
  });

  it('the token of a removed key does not, nor does it come back with the key', async () => {
    const dave = await receiver.addKey('dave', 'read', 'blog');
    const mine = await web.tokenFor(dave);
    const look = async (): Promise<number> =>
      (await web.ask('GET', '/blog/live/info/refs?service=git-upload-pack', { user: 'dave', password: mine })).status;
    expect(await look()).toBe(200);
    await receiver.ssh('keys:remove', 'dave', '--confirm', 'dave');
    expect(await look()).toBe(401);
    await receiver.sshAs(receiver.admin, ['keys:add', 'dave', '--role', 'admin'], dave.line);
    expect(await look()).toBe(401);
  });

  it('a key that may read clones and does not push; what it may not see does not exist', async () => {
    const bob = createPusher(receiver, 'hidden');
    await bob.deploy({ 'kraftwerk.yaml': QUICK });
    bob.cleanUp();
    const erin = await receiver.addKey('erin', 'read', 'blog/live');
    const mine = await web.tokenFor(erin);
    const clone = join(alice.folder, 'erin');
    expect(await alice.tryGit(['clone', '-q', web.url('blog/live', 'erin', mine), clone])).toMatchObject({ code: 0 });
    const before = agreement(receiver, 'blog/live');
    alice.commit({ 'version.txt': 'erin' });
    const refused = await alice.push(web.url('blog/live', 'erin', mine));
    expect(refused.output).toContain('remote: error: git push blog/live: your key erin has role read, which may not');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    const as = { user: 'erin', password: mine };
    const body = moveRef(alice.head(), alice.git(['rev-parse', 'HEAD~1']));
    expect(await web.ask('POST', '/blog/live/git-receive-pack', { ...as, headers: PUSH, body })).toMatchObject({
      status: 403,
    });
    const [unseen, absent] = await Promise.all(
      ['hidden', 'absent'].map((name) => web.ask('GET', `/${name}/stage/info/refs?service=git-upload-pack`, as)),
    );
    expect(unseen?.status).toBe(404);
    expect(unseen?.body.replaceAll('hidden', 'absent')).toBe(absent?.body);
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('an address that guesses has to wait; others have not', async () => {
    const guess = (): Promise<Reply> =>
      web.ask('GET', '/blog/live/info/refs?service=git-upload-pack', {
        password: `kw_00000000_${'0'.repeat(48)}`,
        headers: { 'X-Forwarded-For': '198.51.100.7, 203.0.113.9' },
      });
    const statuses = [];
    for (let turn = 0; turn < 12; turn++) statuses.push((await guess()).status);
    expect(statuses).toEqual([...Array.from({ length: 10 }, () => 401), 429, 429]);
    expect(Number((await guess()).headers['retry-after'])).toBeGreaterThan(0);
    expect(await web.ask('GET', '/blog/live/info/refs?service=git-upload-pack')).toMatchObject({ status: 200 });
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
      ['GET', `http://${web.address()}/blog/live/info/refs?service=git-upload-pack`],
      ['GET', '/blog/live/git-receive-pack'],
      ['POST', '/blog/live/info/refs?service=git-upload-pack'],
      ['POST', '/blog/live/git-upload-archive'],
      ['POST', '/blog/live/git-receive-pack/x'],
      ['PUT', '/blog/live/git-receive-pack'],
      ['DELETE', '/healthz'],
    ] as const) {
      const { status } = await web.ask(method, path);
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
      // In node-git-server such a line takes an expression six seconds, in which nothing else happens.
      ['git-receive-pack', { headers: PUSH, body: `${pkt('a'.repeat(65_000))}0000` }, 200],
      ['git-receive-pack', { body: moveRef(alice.head(), alice.head()) }, 400],
      ['git-receive-pack', { headers: PUSH, body: '0000' }, 200],
      ['git-upload-pack', { headers: FETCH, body: '0000' }, 200],
      ['git-receive-pack', { headers: { ...PUSH, 'Content-Encoding': 'gzip' }, body: gzipSync('0000') }, 200],
    ];
    const begin = performance.now();
    for (const [service, asked, status] of cases) {
      const answered = await web.ask('POST', `/blog/live.git/${service}`, asked);
      expect({ service, status: answered.status, body: answered.body }).toMatchObject({ service, status });
    }
    expect(performance.now() - begin).toBeLessThan(4_000);
    // A list as it should be, then gzip that breaks off: git has begun, and ends.
    const whole = gzipSync(Buffer.concat([Buffer.from(moveRef(alice.head(), '2'.repeat(40))), randomBytes(100_000)]));
    const headers = { ...PUSH, 'Content-Encoding': 'gzip' };
    await web.ask('POST', '/blog/live.git/git-receive-pack', { headers, body: whole.subarray(0, 60_000) });
    await web.ask('POST', '/blog/live.git/git-upload-pack', { headers: FETCH, body: junk });
    await web.ask('POST', '/blog/live.git/git-upload-pack', { headers: FETCH, body: 'a'.repeat(200_000) });
    expect(agreement(receiver, 'blog/live')).toEqual(before);
  });

  it('is survived: a client that goes away in the middle of the pack leaves no lock', async () => {
    const before = agreement(receiver, 'blog/live');
    const [host = '', port] = web.address().split(':');
    const socket = connect(Number(port), host);
    socket.on('error', () => undefined);
    const list = moveRef(alice.head(), '3'.repeat(40));
    socket.write(
      `POST /blog/live.git/git-receive-pack HTTP/1.1\r\nHost: ${web.address()}\r\nAuthorization: ${basic('alice', web.token)}\r\n` +
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
    const child = spawn('git', ['push', '-q', web.url('blog/live')], {
      cwd: alice.work,
      detached: true,
      stdio: 'ignore',
    });
    const begun = receiver.log.length;
    const pushes = (url: unknown): boolean => /git-receive-pack$/.test(String(url));
    await receiver.logged('http.accepted', (line) => line.method === 'POST' && pushes(line.url), begun);
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    alice.git(['reset', '-q', '--hard', good]);
    await alice.push('live', 'master', { args: ['-f'] });
    expect(agreement(receiver, 'blog/live').commit).toBe(good);
  });

  it('is survived: half requests and other protocols', async () => {
    const [host = '', port] = web.address().split(':');
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
