// What comes over HTTP, before anything is done with it: routes, credentials, lists of refs. And tokens.
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { pktLine, pktRejection, readSection, sideband } from '../../receiver/git/pkt-line.ts';
import { parsePushHead, readPushHead } from '../../receiver/http/body.ts';
import { clientAddress, createAttempts, createHttpLogin, isLoopback, parseBasic } from '../../receiver/http/login.ts';
import { parseRoute } from '../../receiver/http/route.ts';
import type { StoredKey } from '../../receiver/keys.ts';
import { createToken, findToken, isExpired, type StoredToken } from '../../receiver/tokens.ts';

describe('routes', () => {
  it.each([
    ['GET', '/healthz', { kind: 'health' }],
    ['HEAD', '/healthz', { kind: 'health' }],
    ['GET', '/blog/live.git/info/refs?service=git-upload-pack', 'advertise upload-pack blog/live'],
    ['GET', '/blog/live/info/refs?service=git-receive-pack', 'advertise receive-pack blog/live'],
    ['GET', '/blog.git/info/refs?service=git-receive-pack', 'advertise receive-pack blog'],
    ['POST', '/blog/live.git/git-receive-pack', 'serve receive-pack blog/live'],
    ['POST', '/blog/live/git-upload-pack', 'serve upload-pack blog/live'],
    ['POST', '/info/refs/git-upload-pack', 'serve upload-pack info/refs'],
  ])('%s %s', (method, url, expected) => {
    const route = parseRoute(method, url);
    const shown = route?.kind === 'git' ? `${route.step} ${route.service} ${route.path}` : route;
    expect(shown).toEqual(expected);
  });

  it.each([
    ['GET', ''],
    ['GET', '/'],
    ['POST', '/healthz'],
    ['GET', '/healthz?x'],
    ['GET', '/blog/live/info/refs'],
    ['GET', '/blog/live/info/refs?service=git-upload-pack '],
    ['GET', '/blog/live/info/refs?service=upload-pack'],
    ['GET', '/a/b/c/info/refs?service=git-upload-pack'],
    ['GET', '/blog/live.git.git/info/refs?service=git-upload-pack'],
    ['GET', '/../live/info/refs?service=git-upload-pack'],
    ['GET', '/blog/./info/refs?service=git-upload-pack'],
    ['GET', '/blog%2flive/info/refs?service=git-upload-pack'],
    ['GET', '/BLOG/live/info/refs?service=git-upload-pack'],
    ['GET', `/${'a'.repeat(29)}/info/refs?service=git-upload-pack`],
    ['GET', '/blog/live/git-receive-pack'],
    ['POST', '/blog/live/git-receive-pack?x'],
    ['POST', '/blog/live/git-receive-pack\n'],
    ['PUT', '/blog/live/git-receive-pack'],
  ])('%s %s is nothing', (method, url) => {
    expect(parseRoute(method, url)).toBeNull();
  });
});

describe('credentials', () => {
  const encode = (text: string): string => Buffer.from(text).toString('base64');

  it.each([
    [`Basic ${encode('alice:secret')}`, { user: 'alice', password: 'secret' }],
    [`basic  ${encode('a@b:x:y')} `, { user: 'a@b', password: 'x:y' }],
    [`Basic ${encode(':')}`, { user: '', password: '' }],
    ['Basic', null],
    ['Basic ', null],
    ['Basic %%%', null],
    [`Basic ${encode('alice')}`, null],
    [`Basic ${encode('alice:secret')} more`, null],
    [`Basic ${'A'.repeat(3000)}`, null],
    [`Bearer ${encode('alice:secret')}`, null],
    ['', null],
  ])('%s', (header, expected) => {
    expect(parseBasic(header)).toEqual(expected);
  });

  it.each([
    ['192.0.2.1', undefined, '192.0.2.1'],
    ['192.0.2.1', '203.0.113.9', '192.0.2.1'],
    ['127.0.0.1', undefined, '127.0.0.1'],
    ['127.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['::1', '198.51.100.7, 2001:db8::1', '2001:db8::1'],
    ['::ffff:127.0.0.1', 'nonsense', '::ffff:127.0.0.1'],
  ])('the client behind %s that forwards for %s', (peer, forwarded, expected) => {
    expect(clientAddress(peer, { ...(forwarded !== undefined && { 'x-forwarded-for': forwarded }) })).toBe(expected);
  });

  it('loopback is this machine alone', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'].map(isLoopback)).toEqual([true, true, true, true]);
    expect(['0.0.0.0', '::', '1127.0.0.1', '10.0.0.1', '::1:1'].map(isLoopback)).not.toContain(true);
  });

  it('ten failed attempts a minute, then none until the minute is over; by address', () => {
    let now = 0;
    const attempts = createAttempts(() => now);
    for (let turn = 0; turn < 9; turn++) attempts.failed('192.0.2.1');
    expect(attempts.waitS('192.0.2.1')).toBe(0);
    now = 20_000;
    attempts.failed('192.0.2.1');
    expect([attempts.waitS('192.0.2.1'), attempts.waitS('192.0.2.2')]).toEqual([40, 0]);
    now = 60_000;
    expect(attempts.waitS('192.0.2.1')).toBe(0);
    attempts.failed('192.0.2.1');
    expect(attempts.waitS('192.0.2.1')).toBe(0);
  });
});

describe('tokens', () => {
  const NOW = new Date('2026-11-22T10:20:30Z');
  const key = (name: string, fingerprint: string): StoredKey => ({
    name,
    fingerprint,
    role: 'deploy',
    targets: ['blog'],
    line: '',
    addedAt: '',
    addedBy: '',
  });

  it('are kept as what they cannot be made of again', () => {
    const { token, stored } = createToken('SHA256:a', 30, NOW);
    expect(token).toMatch(/^kw_[0-9a-f]{8}_[0-9a-f]{48}$/);
    expect(stored).toEqual({
      id: token.slice(3, 11),
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      fingerprint: 'SHA256:a',
      createdAt: '2026-11-22T10:20:30.000Z',
      expiresAt: '2026-12-22T10:20:30.000Z',
      lastUsedAt: null,
    });
    const store = { find: (id: string) => (id === stored.id ? stored : undefined) };
    expect(findToken(store, token)).toBe(stored);
    for (const other of ['', token.slice(0, -1), `${token}0`, token.toUpperCase(), ` ${token}`, stored.sha256])
      expect(findToken(store, other)).toBeNull();
    expect(isExpired(stored, new Date('2026-12-22T10:20:29.999Z'))).toBe(false);
    expect(isExpired(stored, new Date('2026-12-22T10:20:30Z'))).toBe(true);
  });

  it('let in whoever has their key’s name, as long as there is the key', () => {
    const { token, stored } = createToken('SHA256:a', 1, NOW);
    const keys = [key('alice', 'SHA256:a'), key('bob', 'SHA256:b')];
    const touched: string[] = [];
    let now = NOW.getTime();
    const login = createHttpLogin({
      keyring: { find: (fingerprint) => keys.find((one) => one.fingerprint === fingerprint) },
      tokens: {
        all: () => [stored],
        find: (id): StoredToken | undefined => (id === stored.id ? stored : undefined),
        add: () => undefined,
        remove: () => true,
        touch: (id) => void touched.push(id),
      },
      nowMs: () => now,
    });
    const as = (user: string, password: string) =>
      login('192.0.2.1', `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`);
    expect(as('alice', token)).toEqual({
      identity: {
        name: 'alice',
        role: 'deploy',
        targets: [{ project: 'blog', environment: '*' }],
        fingerprint: 'SHA256:a',
      },
    });
    expect(touched).toEqual([stored.id]);
    expect(as('bob', token)).toEqual({ refused: 'wrong' });
    expect(as('alice', 'nonsense')).toEqual({ refused: 'wrong' });
    expect(login('192.0.2.1', undefined)).toEqual({ refused: 'missing' });
    expect(login('192.0.2.1', 'Basic')).toEqual({ refused: 'malformed' });
    now += 86_400_000;
    expect(as('alice', token)).toEqual({ refused: 'expired' });
    now = NOW.getTime();
    keys.shift();
    expect(as('alice', token)).toEqual({ refused: 'wrong' });
    expect(touched).toEqual([stored.id]);
  });
});

describe('the list of refs that a push begins with', () => {
  const [old, next] = ['1'.repeat(40), '2'.repeat(40)];
  const caps = '\0 report-status-v2 side-band-64k object-format=sha1';

  it('is read up to its end, however it is cut, and no further', async () => {
    const list = Buffer.concat([
      pktLine(`shallow ${old}`),
      pktLine(`${old} ${next} refs/heads/master${caps}`),
      pktLine(`${old} ${next} refs/tags/a b`),
      Buffer.from('0000PACK'),
    ]);
    const expected = { refs: ['refs/heads/master', 'refs/tags/a b'], empty: false, shallow: true, sideband: true };
    for (const size of [1, 7, list.length]) {
      const body = new PassThrough();
      for (let at = 0; at < list.length; at += size) body.write(list.subarray(at, at + size));
      const { bytes, ...head } = await readPushHead(body);
      body.end();
      const rest: Buffer[] = [];
      for await (const chunk of body) rest.push(chunk as Buffer);
      expect(head).toEqual(expected);
      expect(Buffer.concat([bytes, ...rest])).toEqual(list);
    }
  });

  it('tells what the client can be told', () => {
    const can = (capabilities: string): boolean =>
      parsePushHead([`${old} ${next} refs/heads/x\0${capabilities}`]).sideband;
    expect([can('report-status side-band-64k'), can('side-band-64k'), can('report-status'), can('')]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect(parsePushHead([])).toEqual({ refs: [], empty: true, shallow: false, sideband: false });
  });

  it.each(['', '000', 'zzzz', '0001', '0005', `${pktLine('x').toString()}`, '-001'])(
    'is refused where it is none: %s',
    async (text) => {
      const body = new PassThrough();
      body.end(text);
      await expect(readPushHead(body)).rejects.toMatchObject({ code: 'http.body' });
    },
  );
});

it('packets: a section, the sideband, a rejection in git’s own words', () => {
  expect(readSection(Buffer.from('0006a\n0005b0000rest'))).toEqual(['a', 'b']);
  expect(readSection(Buffer.from('0006a\n'))).toBeNull();
  expect(sideband(2, Buffer.from('hi\n')).toString('latin1')).toBe('0008\x02hi\n');
  expect(sideband(1, Buffer.alloc(60_001)).length).toBe(60_001 + 10);
  expect(pktRejection(['refs/heads/x'], 'busy,\ntry again').toString('latin1')).toBe(
    `003b\x01000eunpack ok\n0024ng refs/heads/x busy, try again\n00000000`,
  );
});
