// What visitors get from a site that was pushed: through nginx, gunicorn and the site's environment.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';

let receiver: TestReceiver;
let alice: Pusher;
const HOST = 'blog-stage.localhost';

beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'blog');
  await alice.deploy({
    'kraftwerk.yaml': `wsgi: app
src: .
workers: 2
services: [files]
environ: {COLOUR: green, PORT: 010, UPLOADS_URL: 'a "b" $HOME'}
aliases: [old.localhost, older.localhost]
timeout: 5
`,
    'static/big.css': `/* ${'x'.repeat(20_000)} */\n`,
  });
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

/** Sends bytes as they are. @returns all that comes back until the other side closes */
async function raw(text: string): Promise<string> {
  const socket = connect(receiver.httpPort, '127.0.0.1');
  let answer = '';
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
  socket.write(text);
  await once(socket, 'close');
  return answer;
}

describe('nginx', () => {
  it('serves a static file with ETag and cache headers, and 304 to who has it', async () => {
    const first = await get(receiver, HOST, '/static/style.css');
    expect(first).toMatchObject({
      status: 200,
      body: 'body { color: black }\n',
      headers: {
        'content-type': 'text/css',
        'cache-control': 'public, max-age=3600',
        'x-content-type-options': 'nosniff',
      },
    });
    const etag = String(first.headers.etag);
    expect(await get(receiver, HOST, '/static/style.css', { headers: { 'If-None-Match': etag } })).toMatchObject({
      status: 304,
      body: '',
    });
    await alice.deploy({ 'static/style.css': 'body { color: white }\n' });
    const changed = await get(receiver, HOST, '/static/style.css', { headers: { 'If-None-Match': etag } });
    expect(changed).toMatchObject({ status: 200, body: 'body { color: white }\n' });
  });

  it('closes an unknown Host without an answer', async () => {
    await expect(get(receiver, 'nobody.localhost')).rejects.toThrow('socket hang up');
    expect(await raw('GET / HTTP/1.0\r\n\r\n')).toBe('');
    expect(await raw(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('sends aliases to the canonical domain', async () => {
    for (const host of ['old.localhost', 'older.localhost']) {
      expect(await get(receiver, host, '/a/b?c=d')).toMatchObject({
        status: 301,
        headers: { location: `http://${HOST}:${receiver.httpPort}/a/b?c=d` },
      });
    }
  });

  it('compresses text, not what is small', async () => {
    const accept = { headers: { 'Accept-Encoding': 'gzip' } };
    for (const [path, text] of [
      ['/static/big.css', `/* ${'x'.repeat(20_000)} */\n`],
      ['/big', 'x'.repeat(100_000)],
    ] as const) {
      const { headers, bytes } = await get(receiver, HOST, path, accept);
      expect(headers['content-encoding']).toBe('gzip');
      expect(gunzipSync(bytes).toString()).toBe(text);
    }
    const small = await get(receiver, HOST, '/static/style.css', accept);
    expect(small.headers['content-encoding']).toBeUndefined();
  });

  it('tells the site who asks and how, and believes no visitor who says so himself', async () => {
    const forged = { 'X-Forwarded-For': '6.6.6.6', 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'evil.example' };
    const { body } = await get(receiver, HOST, '/headers', { headers: forged });
    expect(JSON.parse(body)).toMatchObject({
      HTTP_HOST: HOST,
      HTTP_X_REAL_IP: '127.0.0.1',
      HTTP_X_FORWARDED_FOR: '127.0.0.1',
      HTTP_X_FORWARDED_HOST: HOST,
      HTTP_X_FORWARDED_PROTO: 'http',
      'wsgi.url_scheme': 'http',
      SERVER_PROTOCOL: 'HTTP/1.1',
    });
  });

  it('passes a WebSocket upgrade on, and asks for none where there is none', async () => {
    const upgrade = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': 'x' };
    const { body } = await get(receiver, HOST, '/headers', { headers: upgrade });
    expect(JSON.parse(body)).toMatchObject({
      HTTP_UPGRADE: 'websocket',
      HTTP_CONNECTION: 'upgrade',
      HTTP_SEC_WEBSOCKET_KEY: 'x',
    });
    const plain = JSON.parse((await get(receiver, HOST, '/headers')).body) as Record<string, string>;
    expect(plain).toMatchObject({ HTTP_CONNECTION: 'close' });
    expect(plain).not.toHaveProperty('HTTP_UPGRADE');
  });

  it('takes uploads, which every release serves and which never run as a page of the site', async () => {
    const sent = await get(receiver, HOST, '/upload?name=cat.html', { method: 'POST', body: '<script>1</script>' });
    expect(sent.status).toBe(201);
    await alice.deploy({ 'version.txt': 'after the upload' });
    expect(await get(receiver, HOST, '/uploads/cat.html')).toMatchObject({
      status: 200,
      body: '<script>1</script>',
      headers: { 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; sandbox" },
    });
    expect((await get(receiver, HOST, '/uploads/none.html')).status).toBe(404);
  });

  it('serves no file outside the static folder', async () => {
    for (const path of [
      '/static/../app.py',
      '/static/%2e%2e/app.py',
      '/static../app.py',
      '/uploads/../current/app.py',
    ]) {
      const answer = await raw(`GET ${path} HTTP/1.0\r\nHost: ${HOST}\r\n\r\n`);
      expect({ path, leaked: answer.includes('parse_qs') }).toEqual({ path, leaked: false });
    }
  });

  it('gives up on a request that takes longer than timeout, and other visitors are served meanwhile', async () => {
    const slow = get(receiver, HOST, '/?sleep=30');
    expect((await get(receiver, HOST)).status).toBe(200);
    expect((await slow).status).toBeGreaterThanOrEqual(500);
  });
});

describe('the site', () => {
  it('has its variables, and none of the receiver’s', async () => {
    const variables = JSON.parse((await get(receiver, HOST, '/environ')).body) as Record<string, string>;
    const site = join(receiver.node, 'web', 'blog-stage');
    expect(variables).toMatchObject({
      SITE_ROOT: site,
      UPLOADS_PATH: join(site, 'uploads'),
      KRAFTWERK_PROJECT: 'blog',
      KRAFTWERK_ENVIRONMENT: 'stage',
      KRAFTWERK_RELEASE: expect.stringMatching(/^v[0-9]+$/) as string,
      KRAFTWERK_COMMIT: alice.head(),
      LANG: 'C.UTF-8',
      LC_ALL: 'C.UTF-8',
      PYTHONUNBUFFERED: '1',
      COLOUR: 'green',
      PORT: '010',
      UPLOADS_URL: 'a "b" $HOME',
    });
    const foreign = Object.keys(variables).filter((name) =>
      /^(PIP_|KRAFTWERK_(SOCKET|PUSH|CONFIG|FAIL)|SSH_|GIT_)/.test(name),
    );
    expect(foreign).toEqual([]);
  });

  it('runs in its release’s real path, by its own virtualenv', async () => {
    const { cwd, prefix } = JSON.parse((await get(receiver, HOST, '/python')).body) as { cwd: string; prefix: string };
    const variables = JSON.parse((await get(receiver, HOST, '/environ')).body) as { KRAFTWERK_RELEASE: string };
    const release = join(receiver.node, 'web', 'blog-stage', 'releases', variables.KRAFTWERK_RELEASE);
    expect({ cwd, prefix }).toEqual({ cwd: release, prefix: join(release, 'venv') });
  });

  it('comes back by itself when its process is killed', async () => {
    const master = (): string =>
      ['a', 'b']
        .map((slot) => readFileSync(join(receiver.node, `etc/sv/blog-stage.web.${slot}/supervise/pid`), 'utf8'))
        .join('');
    const before = master();
    await get(receiver, HOST, '/?crash=1').catch(() => undefined);
    await waitFor('another process', () => !['', before].includes(master()));
    await waitFor('its answer', () => get(receiver, HOST).then(({ status }) => status === 200));
  });

  it('is found where src says: PYTHONPATH leads there', async () => {
    const bob = createPusher(receiver, 'nested', {
      'kraftwerk.yaml': 'src: code\nwsgi: shop\nworkers: 1\n',
      'code/shop.py':
        'import os\ndef application(environ, start):\n    start("200 OK", [])\n    return [os.environ["PYTHONPATH"].encode()]\n',
    });
    await bob.deploy();
    const releases = join(receiver.node, 'web', 'nested-stage', 'releases');
    expect((await get(receiver, 'nested-stage.localhost')).body).toBe(join(releases, 'v1', 'code'));
    bob.cleanUp();
  });
});
