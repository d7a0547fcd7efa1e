// Maintenance: every visitor of every node gets the admin's page and 503, whatever he asks for; deploys, restarts and crashes
// change nothing of that, and whoever opens the site again has lost no request. Nightly: killed at more points.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listProcesses } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { type Answer, get, startLoad } from '../actors/site.ts';
import type { Outcome } from '../actors/ssh.ts';
import { itSome } from '../actors/thorough.ts';

const HOST = 'blog-stage.localhost';
const YAML = 'wsgi: app\nsrc: .\nworkers: 2\nservices: [files]\naliases: [old-{env}.localhost]\n';
const ENVIRONMENTS = `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [web1, web2], router: lb, domain: "{project}.localhost"}
`;

let receiver: TestReceiver;
let alice: Pusher;
let failpoint: string;

beforeAll(async () => {
  receiver = await startReceiver({
    environments: ENVIRONMENTS,
    nodes: ['web1', 'web2', 'lb'],
    folders: ['templates'],
    config: 'templates: [./templates]',
  });
  failpoint = join(receiver.folder, 'failpoint');
  await restart();
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'version.txt': 'one', 'kraftwerk.yaml': YAML.replace('{env}', 'stage') });
  await alice.deploy({ 'kraftwerk.yaml': 'wsgi: app\nsrc: .\nworkers: 2\n' }, 'live');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

const restart = (): Promise<void> => receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });

const maintenance = (target: string, ...words: string[]): Promise<Outcome> =>
  receiver.ssh('maintenance', target, ...words);

async function good(...words: string[]): Promise<Outcome> {
  const outcome = await receiver.ssh(...words);
  expect({ words, code: outcome.code, stderr: outcome.code === 0 ? '' : outcome.stderr }).toEqual({
    words,
    code: 0,
    stderr: '',
  });
  return outcome;
}

function expectClosed({ body, headers, status }: Answer, page = 'Back soon'): void {
  expect({ status, retry: headers['retry-after'], cache: headers['cache-control'] }).toEqual({
    status: 503,
    retry: '300',
    cache: 'no-store',
  });
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  expect(body).toContain(page);
}

/** nginx's workers, which a reload replaces. */
function workers(): number[] {
  const master = Number(readFileSync(join(receiver.node, 'run/nginx.pid'), 'utf8'));
  return listProcesses().flatMap(({ parent, pid }) => (parent === master ? [pid] : []));
}

describe('on', () => {
  it('closes all of the site at once and without a reload, and off opens it', async () => {
    const uploaded = await get(receiver, HOST, '/upload?name=a.txt', { method: 'POST', body: 'uploaded' });
    expect(uploaded.status).toBe(201);
    const before = workers();
    const on = await good('maintenance', 'blog/stage', 'on');
    expect(on.stderr).toMatch(/^success: blog\/stage is in maintenance: visitors see its page$/m);
    const paths = ['/', '/x/y?z=1', '/static/site.css', '/uploads/a.txt', '/missing'];
    for (const path of paths) expectClosed(await get(receiver, HOST, path));
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
      expectClosed(await get(receiver, HOST, '/', { method, body: 'x' }));
    expect((await get(receiver, HOST, '/', { method: 'HEAD' })).status).toBe(503);
    await good('maintenance', 'blog/stage', 'off');
    expect(workers()).toEqual(before);
    expect((await get(receiver, HOST, '/uploads/a.txt')).body).toBe('uploaded');
    expect(await get(receiver, HOST)).toMatchObject({ status: 200, body: 'one' });
    // What the site itself answers, and the page's own name, are the site's.
    expect(await get(receiver, HOST, '/?status=503')).toMatchObject({ status: 503, body: 'one' });
    expect((await get(receiver, HOST, '/maintenance.html')).body).toBe('one');
    expect((await get(receiver, HOST, '/.kraftwerk-maintenance')).status).toBe(404);
    expect(readdirSync(join(receiver.node, 'web/blog-stage')).filter((name) => name.includes('maintenance'))).toEqual(
      [],
    );
  });

  it('is told by maintenance, status and projects, for people and programs', async () => {
    expect((await good('maintenance', 'blog/stage')).stdout).toBe('off\n');
    await good('maintenance', 'blog/stage', 'on');
    expect((await good('maintenance', 'blog/stage')).stdout).toMatch(/^on since \S+Z by alice\n$/);
    expect(JSON.parse((await good('maintenance', 'blog/stage', '--json')).stdout)).toMatchObject({
      target: 'blog/stage',
      maintenance: true,
      by: 'alice',
    });
    const { stderr, stdout } = await good('status', 'blog/stage');
    expect(stdout).toMatch(/^state +running, maintenance$/m);
    expect(stdout).toMatch(/^maintenance +since \S+Z by alice$/m);
    expect(stderr).toBe('');
    expect(JSON.parse((await good('status', 'blog/stage', '--json')).stdout)).toMatchObject({
      state: 'running',
      maintenance: true,
      nodes: [{ maintenance: true }],
      warnings: [],
    });
    expect((await good('projects')).stdout).toMatch(/^blog\/stage +v1 +running, maintenance /m);
    await good('maintenance', 'blog/stage', 'off');
    expect(JSON.parse((await good('status', 'blog/stage', '--json')).stdout)).toMatchObject({ maintenance: false });
  });

  it('twice, and off twice, is no error; another word, or a key that may only read, is', async () => {
    for (const word of ['on', 'on', 'off', 'off']) await good('maintenance', 'blog/stage', word);
    expect(await maintenance('blog/stage', 'maybe')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: maintenance: expected on or off, got "maybe"$/m) as string,
    });
    const bob = await receiver.addKey('bob', 'read', 'blog');
    expect(await receiver.sshAs(bob, ['maintenance', 'blog/stage'])).toMatchObject({ code: 0, stdout: 'off\n' });
    expect(await receiver.sshAs(bob, ['maintenance', 'blog/stage', 'on'])).toMatchObject({ code: 4 });
    expect((await get(receiver, HOST)).status).toBe(200);
  });

  it('outlives deploys, which say so, a rollback, a restart, and the end of receiver and node', async () => {
    await good('maintenance', 'blog/stage', 'on');
    alice.commit({ 'version.txt': 'two' });
    const pushed = await alice.push('stage');
    expect(pushed.code).toBe(0);
    expect(pushed.lines.join('\n')).toContain(
      'warning: blog/stage is in maintenance: visitors see its page\nhint: ssh kraftwerk@HOST maintenance blog/stage off\n',
    );
    expectClosed(await get(receiver, HOST));
    await good('rollback', 'blog/stage', 'v1');
    expectClosed(await get(receiver, HOST));
    await good('restart', 'blog/stage');
    await good('stop', 'blog/stage');
    expectClosed(await get(receiver, HOST));
    await good('start', 'blog/stage');
    await receiver.kill9();
    expect((await receiver.kraftwerk('stop-node', 'try')).code).toBe(0);
    await restart();
    expectClosed(await get(receiver, HOST));
    expect((await good('maintenance', 'blog/stage')).stdout).toMatch(/^on since/);
    alice.commit({ 'app.py': 'import nothing_of_that_name\n' });
    expect((await alice.push('stage')).code).toBe(1);
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expectClosed(await get(receiver, HOST));
    await good('maintenance', 'blog/stage', 'off');
    expect((await get(receiver, HOST)).body).toBe('one');
  });

  it("shows the admin's own page, and a node's own before it", async () => {
    const put = (folder: string, text: string): void => {
      const file = join(receiver.folder, 'templates', folder, 'project/maintenance.html');
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    };
    put('.', '<p>ours: <%= it.project %> in <%= it.environment %></p>\n');
    put('nodes/web2', '<p>of web2</p>\n');
    await good('maintenance', 'blog/stage', 'on');
    expectClosed(await get(receiver, HOST), '<p>ours: blog in stage</p>');
    await good('maintenance', 'blog/live', 'on');
    expectClosed(await get(receiver.nodeAt('web1'), 'blog.localhost'), '<p>ours: blog in live</p>');
    expectClosed(await get(receiver.nodeAt('web2'), 'blog.localhost'), '<p>of web2</p>');
    for (const target of ['blog/stage', 'blog/live']) await good('maintenance', target, 'off');
    rmSync(join(receiver.folder, 'templates/project'), { recursive: true });
    rmSync(join(receiver.folder, 'templates/nodes'), { recursive: true });
  });

  it("gives an older kraftwerk's nginx file the new one first", async () => {
    const file = join(receiver.node, 'etc/nginx/sites-enabled/blog-stage');
    const notes = join(receiver.node, 'web/blog-stage/.kraftwerk/v1/site');
    const current = readFileSync(file, 'utf8');
    const older = current.replace(/^ {2}# `maintenance[\s\S]*?^ {2}location = [\s\S]*?^ {2}\}\n\n/m, '');
    expect(older).not.toContain('maintenance.html');
    for (const one of [file, notes]) writeFileSync(one, older);
    process.kill(Number(readFileSync(join(receiver.node, 'run/nginx.pid'), 'utf8')), 'SIGHUP');
    await good('maintenance', 'blog/stage', 'on');
    expectClosed(await get(receiver, HOST));
    expect([readFileSync(file, 'utf8'), readFileSync(notes, 'utf8')]).toEqual([current, current]);
    await good('maintenance', 'blog/stage', 'off');
  });

  const CLOSING = ['receiver:maintenance.noted', 'maintenance:maintenance.file', 'maintenance:publish'] as const;
  const OPENING = ['maintenance:maintenance.open', 'maintenance:remove'] as const;
  const KILLED = ['receiver:maintenance.noted', 'maintenance:remove'] as const;
  itSome([...CLOSING, ...OPENING], KILLED)(
    'is closed or open, and can be asked again, after a kill at %s',
    async (at) => {
      const word = CLOSING.some((one) => one === at) ? 'on' : 'off';
      await good('maintenance', 'blog/stage', word === 'on' ? 'off' : 'on');
      writeFileSync(failpoint, `${at}:1:kill\n`);
      const killed = await maintenance('blog/stage', word);
      rmSync(failpoint);
      expect(killed.code).not.toBe(0);
      if (at.startsWith('receiver')) await restart();
      const status = JSON.parse((await receiver.ssh('status', 'blog/stage', '--json')).stdout) as {
        warnings: string[];
      };
      // Where journal and node do not agree, status says so.
      const closed = (await get(receiver, HOST)).status === 503;
      const noted = (await maintenance('blog/stage')).stdout.startsWith('on');
      expect(status.warnings.length).toBe(closed === noted ? 0 : 1);
      await good('maintenance', 'blog/stage', word);
      if (word === 'on') expectClosed(await get(receiver, HOST));
      await good('maintenance', 'blog/stage', 'off');
      expect((await get(receiver, HOST)).status).toBe(200);
    },
  );
});

describe('several nodes behind a router', () => {
  const live = (): Promise<Answer> => get(receiver.nodeAt('lb'), 'blog.localhost');

  it('show the page through it, and none is taken for dead: afterwards no request fails', async () => {
    await good('maintenance', 'blog/live', 'on');
    for (let turn = 0; turn < 12; turn++) expectClosed(await live());
    expectClosed(await get(receiver.nodeAt('lb'), 'blog.localhost', '/', { method: 'POST', body: 'x' }));
    await good('maintenance', 'blog/live', 'off');
    const load = startLoad(receiver.nodeAt('lb'), 'blog.localhost', '/environ', 100);
    const roots = new Set<string>();
    for (let turn = 0; turn < 20; turn++)
      roots.add(
        (JSON.parse((await get(receiver.nodeAt('lb'), 'blog.localhost', '/environ')).body) as { SITE_ROOT: string })
          .SITE_ROOT,
      );
    expect((await load.stop()).failures).toEqual([]);
    expect(roots.size).toBe(2);
  });

  it('are all closed, or an error names the one that is not', async () => {
    // Something is in the page's place on web2.
    const place = join(receiver.nodeAt('web2').node, 'web/blog/maintenance.html');
    mkdirSync(join(place, 'in-the-way'), { recursive: true });
    const on = await maintenance('blog/live', 'on');
    expect(on.code).toBe(1);
    expect(on.stderr).toMatch(/^error: node web2: /m);
    expect(on.stderr.replaceAll(/\n\s+/g, ' ')).toContain(
      'hint: the other nodes are closed; again: ssh kraftwerk@HOST maintenance blog/live on',
    );
    expectClosed(await get(receiver.nodeAt('web1'), 'blog.localhost'));
    rmSync(place, { recursive: true });
    const { stderr } = await receiver.ssh('status', 'blog/live');
    expect(stderr).toContain('warning: node web2 is open to visitors, the journal says maintenance\n');
    expect(stderr).toContain('hint: to make all agree: ssh kraftwerk@HOST maintenance blog/live on\n');
    // A deploy closes what is open.
    await good('restart', 'blog/live');
    expectClosed(await get(receiver.nodeAt('web2'), 'blog.localhost'));
    await good('maintenance', 'blog/live', 'off');
    expect((await live()).status).toBe(200);
  });
});
