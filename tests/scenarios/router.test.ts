// A front door for several nodes: a router balances over them, notices one that fails, and follows every deploy.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get, startLoad } from '../actors/site.ts';

const HOST = 'blog.localhost';
const PLAIN = 'wsgi: app\nsrc: .\nworkers: 2\n';
/** A visitor who is not the router. */
const VISITOR = '127.0.0.3';

let receiver: TestReceiver;
let alice: Pusher;
let door: { node: string; httpPort: number };

beforeAll(async () => {
  receiver = await startReceiver({
    nodes: ['web2', 'lb'],
    environments: `
  live: {nodes: [try, web2], router: lb, domain: "{project}.localhost"}
  stage: {nodes: [try], router: try, suffix: -stage, domain: "{project}-stage.localhost"}
`,
  });
  alice = createPusher(receiver, 'blog');
  door = receiver.nodeAt('lb');
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

const routeFile = (): string => join(door.node, 'etc/nginx/sites-enabled/blog.router');

/** Asks several times and tells which nodes answered. */
async function whoAnswers(count = 20): Promise<string[]> {
  const roots = new Set<string>();
  for (let turn = 0; turn < count; turn++) {
    const { status, body } = await get(door, HOST, '/environ');
    expect(status).toBe(200);
    roots.add((JSON.parse(body) as { SITE_ROOT: string }).SITE_ROOT);
  }
  return [...roots].map((root) => root.split('/').at(-3) ?? '').sort();
}

describe('a router', () => {
  it('balances over the nodes, and is where the pusher is sent', async () => {
    const { lines } = await alice.deploy({ 'version.txt': 'one', 'kraftwerk.yaml': PLAIN }, 'live');
    expect(lines.at(-1)).toMatch(new RegExp(`^success: v1 live in .*http://blog\\.localhost:${door.httpPort}$`));
    expect(await whoAnswers()).toEqual(['node', 'web2']);
    const { stdout } = await receiver.ssh('status', 'blog/live');
    expect(stdout).toMatch(/^router +lb$/m);
    expect(stdout).toMatch(new RegExp(`^url +http://blog\\.localhost:${door.httpPort}$`, 'm'));
  });

  it('tells the site who the visitor is, whatever the visitor says', async () => {
    const lie = { 'X-Forwarded-For': '6.6.6.6', 'X-Forwarded-Proto': 'https', 'X-Real-IP': '6.6.6.6' };
    const asked = await get(door, HOST, '/headers', { from: VISITOR, headers: lie });
    expect(JSON.parse(asked.body)).toMatchObject({
      HTTP_X_FORWARDED_FOR: VISITOR,
      HTTP_X_REAL_IP: VISITOR,
      HTTP_X_FORWARDED_PROTO: 'http',
      HTTP_HOST: HOST,
    });
  });

  it('alone is believed by the nodes', async () => {
    const headers = { 'X-Forwarded-For': '6.6.6.6', 'X-Forwarded-Proto': 'https' };
    const node = receiver.nodeAt('web2');
    const direct = await get(node, HOST, '/headers', { from: VISITOR, headers });
    expect(JSON.parse(direct.body)).toMatchObject({ HTTP_X_FORWARDED_FOR: VISITOR, HTTP_X_FORWARDED_PROTO: 'http' });
    // As the router would, if it spoke TLS.
    const routed = await get(node, HOST, '/headers', { headers });
    expect(JSON.parse(routed.body)).toMatchObject({ HTTP_X_FORWARDED_FOR: '6.6.6.6', HTTP_X_FORWARDED_PROTO: 'https' });
  });

  it('loses no request while versions and domains change', async () => {
    const load = startLoad(door, HOST, '/', 100);
    for (const version of ['two', 'three']) await alice.deploy({ 'version.txt': version }, 'live');
    const versions = await load.stop(100);
    // A router whose file changes is reloaded.
    const reload = startLoad(door, HOST, '/', 100, { keep: false });
    const domains = `${PLAIN}domain: [blog.localhost, www.localhost]\naliases: [old.localhost]\n`;
    await alice.deploy({ 'version.txt': 'four', 'kraftwerk.yaml': domains }, 'live');
    const changed = await reload.stop();
    expect([...versions.failures, ...changed.failures]).toEqual([]);
    expect([...versions.bodies.keys(), ...changed.bodies.keys()]).toEqual(['one', 'two', 'three', 'three', 'four']);
    expect((await get(door, 'www.localhost')).body).toBe('four');
    const moved = await get(door, 'old.localhost', '/x?y=1');
    expect([moved.status, moved.headers.location]).toEqual([301, `http://blog.localhost:${door.httpPort}/x?y=1`]);
    await expect(get(door, 'nobody.localhost')).rejects.toThrow();
  });

  it('keeps its route when a deploy fails', async () => {
    const before = readFileSync(routeFile(), 'utf8');
    alice.commit({ 'kraftwerk.yaml': `${PLAIN}domain: other.localhost\n`, 'app.py': 'import nothing_of_that_name\n' });
    expect((await alice.push('live')).code).toBe(1);
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expect(readFileSync(routeFile(), 'utf8')).toBe(before);
    await expect(get(door, 'other.localhost')).rejects.toThrow();
  });

  it('has a domain for itself: another project cannot take it', async () => {
    const bob = createPusher(receiver, 'thief');
    bob.commit({ 'kraftwerk.yaml': `${PLAIN}domain: blog.localhost\n`, 'version.txt': 'mine' });
    expect((await bob.push('live')).rejected).toBe('blog.localhost belongs to blog/live');
  });
});

describe('a node that fails behind a router', () => {
  const slots = (node: string): string[] =>
    ['a', 'b'].map((slot) => join(receiver.nodeAt(node).node, `etc/sv/blog.web.${slot}/supervise/control`));

  it('is passed over while its site does not run: no GET fails', async () => {
    const load = startLoad(door, HOST, '/', 100);
    for (const control of slots('web2')) writeFileSync(control, 'd');
    const status = await waitFor('the site on web2 to be down', async () => {
      const asked = await receiver.ssh('status', 'blog/live');
      return asked.stdout.includes('degraded') && asked;
    });
    expect(await whoAnswers(10)).toEqual(['node']);
    const { failures } = await load.stop();
    expect(failures).toEqual([]);
    expect(status.stdout).toMatch(/^state +degraded$/m);
    expect(status.stdout).toMatch(/^nodes +try, web2 \(down\)$/m);
    expect(status.code).toBe(6);
    const direct = await get(receiver.nodeAt('web2'), HOST, '/', { from: VISITOR });
    expect([direct.status, direct.headers['retry-after']]).toEqual([503, '10']);
  });

  it('comes back by itself', async () => {
    const doctor = await receiver.ssh('doctor', '--fix');
    expect(doctor.stdout).toBe('try: in order\nweb2: in order\nlb: in order\n');
    await waitFor('both nodes to answer', async () => (await whoAnswers(4)).length === 2);
  });

  it('has what ends a worker end two of them at most, a POST one; and none is passed over for it', async () => {
    const died = (): string =>
      ['try', 'web2']
        .map((name) => join(receiver.nodeAt(name).node, 'web/blog/died'))
        .map((file) => (existsSync(file) ? readFileSync(file, 'utf8') : ''))
        .join('');
    const app = `${alice.git(['show', 'HEAD:app.py'])}
plain = application


def application(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        with open(os.environ["SITE_ROOT"] + "/died", "a") as file:
            file.write(environ["REQUEST_METHOD"] + " ")
        os._exit(1)
    return plain(environ, start_response)
`;
    await alice.deploy({ 'app.py': app }, 'live');
    for (const method of ['POST', 'GET', 'GET', 'GET']) {
      const asked = await get(door, HOST, '/die', { method });
      expect([asked.status, asked.headers['retry-after']]).toEqual([503, '10']);
    }
    // A GET that was dropped without a byte of an answer is asked of one other node.
    expect(died().split(' ').sort().join(' ').trim()).toBe('GET GET GET GET GET GET POST');
    expect((await get(door, HOST)).status).toBe(200);
  });

  it('is passed over while its nginx is gone', async () => {
    const load = startLoad(door, HOST, '/', 100);
    expect((await receiver.kraftwerk('stop-node', 'web2')).code).toBe(0);
    for (let turn = 0; turn < 20; turn++) expect((await get(door, HOST, '/', { method: 'POST' })).status).toBe(200);
    expect(await whoAnswers(10)).toEqual(['node']);
    expect((await load.stop()).failures).toEqual([]);
    await receiver.ssh('doctor', 'web2', '--fix');
    await waitFor('both nodes to answer', async () => (await whoAnswers(4)).length === 2);
  });
});

describe('a router that is one of the nodes itself', () => {
  it('serves the domain, with its own site behind it', async () => {
    await alice.deploy({ 'version.txt': 'staged', 'kraftwerk.yaml': PLAIN }, 'stage');
    const asked = await get(receiver, 'blog-stage.localhost', '/headers', { from: VISITOR });
    expect(JSON.parse(asked.body)).toMatchObject({ HTTP_X_FORWARDED_FOR: VISITOR });
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('staged');
    const load = startLoad(receiver, 'blog-stage.localhost', '/', 100);
    await alice.deploy({ 'version.txt': 'staged again' }, 'stage');
    const { failures, bodies } = await load.stop();
    expect(failures).toEqual([]);
    expect([...bodies.keys()]).toEqual(['staged', 'staged again']);
  });
});

it('what the configuration no longer routes goes at the next start, and what is missing comes back', async () => {
  const sites = join(door.node, 'etc/nginx/sites-enabled');
  writeFileSync(routeFile(), '# damaged\n');
  writeFileSync(join(sites, 'gone.router'), '# a project that was routed once\n');
  const doctor = await receiver.ssh('doctor', 'lb');
  expect(doctor.code).toBe(1);
  expect(doctor.stdout).toContain('the route of blog is different');
  expect(doctor.stdout).toContain('the route of gone is superfluous');
  await receiver.restart();
  expect(readdirSync(sites)).toEqual(['blog.router']);
  expect((await get(door, HOST)).status).toBe(200);
  expect(existsSync(routeFile())).toBe(true);
});
