// The end of a project: nothing of it is left on its nodes and in the receiver but a last dump, which holds all that was ever
// taken in; its neighbours notice nothing; and whatever is killed in between, it comes to this end.
// In CI killed after the point of no return; nightly at all points, and more of nodes that left the environment.
// Long because: the end of a project, and whatever cuts it off, are one story.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesWith, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get, readRef, repositoryOf } from '../actors/site.ts';
import { type SiteData, siteData } from '../actors/site-data.ts';
import type { Outcome } from '../actors/ssh.ts';
import { itSome, thorough } from '../actors/thorough.ts';

const HOST = 'blog-stage.localhost';
const ENVIRONMENTS = `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [try], domain: "{project}.localhost"}
  wide: {nodes: [web1, web2], router: try, suffix: -wide, domain: "{project}-wide.localhost"}
`;
/** A service without data, which fails where a file says so. */
const FLAKY = {
  'service.yaml': 'description: fails when it is told to\nrootless: true\n',
  'setup.sh': 'mkdir -p "$SITE_ROOT/flaky"\n',
  'destroy.sh': `if [[ -e $SITE_ROOT/../fail-destroy ]]; then echo "error: told to fail" >&2; exit 1; fi
rm -rf "$SITE_ROOT/flaky"
`,
};
const yaml = (...services: string[]): string =>
  `wsgi: app:application\nsrc: .\nworkers: 2\nservices: [${services.join(', ')}]\n`;

let receiver: TestReceiver;
let alice: Pusher;
let failpoint: string;
let stage: SiteData;

beforeAll(async () => {
  receiver = await startReceiver({
    environments: ENVIRONMENTS,
    nodes: ['web1', 'web2'],
    folders: ['templates/services/flaky'],
    config: 'templates: [./templates]',
  });
  failpoint = join(receiver.folder, 'failpoint');
  for (const [name, text] of Object.entries(FLAKY))
    writeFileSync(join(receiver.folder, 'templates/services/flaky', name), text);
  await restart();
  alice = createPusher(receiver, 'blog');
  alice.git(['remote', 'add', 'wide', 'kraftwerk@receiver:blog/wide']);
  stage = siteData(join(receiver.node, 'web/blog-stage'));
  alice.commit({ 'kraftwerk.yaml': yaml('files', 'sqlite', 'flaky') });
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

const restart = (): Promise<void> => receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });

async function good(...words: string[]): Promise<Outcome> {
  const outcome = await receiver.ssh(...words);
  expect({ words, code: outcome.code, stderr: outcome.code === 0 ? '' : outcome.stderr }).toEqual({
    words,
    code: 0,
    stderr: '',
  });
  return outcome;
}

const destroy = (target: string, ...words: string[]): Promise<Outcome> =>
  receiver.ssh('destroy', target, '--confirm', target, ...words);

/** A project with data; its first push where there is nothing of it. */
async function deploy(): Promise<void> {
  await alice.deploy({ 'kraftwerk.yaml': yaml('files', 'sqlite', 'flaky') }, 'stage');
  stage.upload('photo.jpg', 'a photo');
  stage.note('first');
}

/** Files and folders of a node that bear an instance's name, its dumps aside. */
function traces(node: string, instance: string): string[] {
  const found: string[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (path === join(node, 'web/.destroyed')) continue;
      if (entry.name.split('.').includes(instance)) found.push(path.slice(node.length + 1));
      else if (entry.isDirectory()) walk(path);
    }
  };
  walk(node);
  return found;
}

/** What is left of a destroyed target of the first node: nothing. */
async function expectGone(): Promise<void> {
  await waitFor('it to be destroyed', async () => (await receiver.ssh('status', 'blog/stage')).code === 4);
  expect(traces(receiver.node, 'blog-stage')).toEqual([]);
  await expect(get(receiver, HOST)).rejects.toThrow();
  await waitFor('its processes to end', () => processesWith('--name blog-stage').length === 0);
  expect(existsSync(repositoryOf(receiver, 'blog/stage'))).toBe(false);
  const projects = JSON.parse((await good('projects', '--json')).stdout) as { target: string }[];
  expect(projects.map(({ target }) => target)).not.toContain('blog/stage');
}

interface DestroyedDump {
  node: string;
  name: string;
  target: string;
  reason: string;
  services: { name: string }[];
}

async function destroyedDumps(): Promise<DestroyedDump[]> {
  return JSON.parse((await good('dumps', '--destroyed', '--json')).stdout) as DestroyedDump[];
}

describe('a project', () => {
  it('is not destroyed by accident: the name is typed, or nothing happens', async () => {
    await deploy();
    expect(await receiver.ssh('destroy', 'blog/stage')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^blog\/stage, with the data of files, sqlite, flaky is about to be destroyed; a last dump is kept$/m,
      ) as string,
    });
    expect(await receiver.ssh('destroy', 'blog/stage', '--confirm', 'blog/live')).toMatchObject({ code: 2 });
    expect(await receiver.ssh('apps:destroy', 'blog/stage', '--confirm', 'blog')).toMatchObject({ code: 2 });
    expect((await get(receiver, HOST)).status).toBe(200);
  });

  it('goes, with all that it had; its neighbours of like names stay as they are', async () => {
    const hostOf = (instance: string): string => `${instance.replace('_', '--')}.localhost`;
    const neighbours = await Promise.all(
      [
        { project: 'blog', environment: 'live', instance: 'blog' },
        { project: 'blog_stage', environment: 'live', instance: 'blog_stage' },
        { project: 'blog-stage2', environment: 'live', instance: 'blog-stage2' },
      ].map(async ({ project, environment, instance }) => {
        const pusher = createPusher(receiver, project);
        await pusher.deploy(
          { 'kraftwerk.yaml': `${yaml('files', 'sqlite')}domain: ${hostOf(instance)}\n`, 'version.txt': instance },
          environment,
        );
        const data = siteData(join(receiver.node, 'web', instance));
        data.upload('one.txt', `of ${instance}`);
        data.note(`of ${instance}`);
        const repository = repositoryOf(receiver, `${project}/${environment}`);
        return { host: hostOf(instance), instance, data, digest: data.digest(), repository };
      }),
    );
    const said = await destroy('blog/stage');
    expect(said).toMatchObject({ code: 0, stdout: '' });
    expect(said.stderr).toMatch(/^-----> Stop {8}stopped /m);
    expect(said.stderr).toMatch(/^-----> Dump {8}files .*sqlite/m);
    expect(said.stderr).toMatch(/^-----> Remove {6}files, sqlite, flaky, folder/m);
    expect(said.stderr).toMatch(/^success: blog\/stage is destroyed after \d+\.\ds$/m);
    expect(said.stderr).toMatch(/^ {6}ssh kraftwerk@HOST load blog\/stage 20\S+$/m);
    await expectGone();
    for (const { data, digest, host, instance, repository } of neighbours) {
      expect(await get(receiver, host)).toMatchObject({ status: 200, body: instance });
      expect(data.digest()).toBe(digest);
      expect(readRef(repository, 'refs/heads/master')).not.toBeNull();
    }
    for (const { instance } of neighbours.slice(1))
      expect(await destroy(`${instance}/live`, '--no-dump')).toMatchObject({ code: 0 });
  });

  it('leaves a last dump, which a new push of its name, at v1 and with nothing in it, can load', async () => {
    const [dump] = await destroyedDumps();
    expect(dump).toMatchObject({
      node: 'try',
      target: 'blog/stage',
      reason: 'destroy',
      services: [{ name: 'files' }, { name: 'sqlite' }],
    });
    const pushed = await alice.deploy({ 'version.txt': 'again' }, 'stage');
    expect(pushed.lines.at(-1)).toMatch(/^success: v1 live in /);
    expect(readdirSync(stage.uploads)).toEqual([]);
    expect(existsSync(join(stage.site, 'data/db.sqlite3'))).toBe(false);
    const releases = JSON.parse((await good('releases', 'blog/stage', '--json')).stdout) as unknown[];
    expect(releases).toHaveLength(1);
    expect((await good('dumps', 'blog/stage')).stdout).toContain('before the end (of a destroyed site)');
    await good('load', 'blog/stage', dump?.name ?? '', '--no-backup', '--confirm', 'blog/stage');
    expect(readFileSync(join(stage.uploads, 'photo.jpg'), 'utf8')).toBe('a photo');
    expect(stage.notes()).toEqual(['first']);
  });

  it('takes in nothing that is not in its last dump', async () => {
    const taken: string[] = [];
    let going = true;
    const visitors = Array.from({ length: 4 }, async (_, visitor) => {
      for (let turn = 0; going; turn++) {
        const name = `${visitor}-${turn}.txt`;
        const path = `/upload?name=${name}`;
        const answer = await get(receiver, HOST, path, { method: 'POST', body: name }).catch(() => null);
        if (answer === null) break;
        if (answer.status === 201) taken.push(name);
      }
    });
    await waitFor('some uploads', () => taken.length > 20);
    const { stdout } = await destroy('blog/stage', '--json');
    going = false;
    await Promise.all(visitors);
    const { dump } = JSON.parse(stdout) as { dump: string };
    await expectGone();
    await alice.deploy({}, 'stage');
    await good('load', 'blog/stage', dump, '--no-backup', '--confirm', 'blog/stage');
    const kept = readdirSync(stage.uploads);
    expect(taken.filter((name) => !kept.includes(name))).toEqual([]);
  });

  it('of which no last dump can be made stays, and serves on', async () => {
    const before = stage.digest();
    const other = join(receiver.folder, 'templates/services/sqlite');
    mkdirSync(other, { recursive: true });
    writeFileSync(join(other, 'dump.sh'), 'echo "error: told to fail" >&2; exit 1\n');
    const failed = await destroy('blog/stage');
    rmSync(other, { recursive: true });
    expect(failed.code).toBe(1);
    const said = failed.stderr.replaceAll(/\n\s+/g, ' ');
    expect(said).toContain('error: sqlite: told to fail');
    expect(said).toContain('hint: nothing is destroyed, and everything is as it was');
    expect(said).toContain('hint: without a last dump: ssh kraftwerk@HOST destroy blog/stage --no-dump');
    expect((await get(receiver, HOST)).status).toBe(200);
    expect(stage.digest()).toBe(before);
    expect((await good('status', 'blog/stage')).stderr).toBe('');
  });

  it('is destroyed by admins, and by keys that are granted it by name', async () => {
    const wide = await receiver.addKey('wide', 'deploy', '*/stage');
    const read = await receiver.addKey('read', 'read', 'blog');
    const words = ['destroy', 'blog/stage', '--confirm', 'blog/stage', '--no-dump'];
    expect(await receiver.sshAs(wide, words)).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('your key wide is not granted the project by name') as string,
    });
    expect(await receiver.sshAs(read, words)).toMatchObject({ code: 4 });
    expect((await get(receiver, HOST)).status).toBe(200);
    const named = await receiver.addKey('named', 'deploy', 'blog');
    const dumps = await destroyedDumps();
    expect(await receiver.sshAs(named, words)).toMatchObject({ code: 0 });
    await expectGone();
    expect(await destroyedDumps()).toEqual(dumps);
  });

  it('is busy while somebody deploys it, and its commands end with it', async () => {
    alice.commit({
      'kraftwerk.yaml': `${yaml('files', 'sqlite', 'flaky')}release: 'while [ ! -e go ]; do sleep 0.1; done'\n`,
    });
    const pushing = alice.push('stage');
    await waitFor('the push to be at work', async () => {
      const { code, stderr } = await destroy('blog/stage');
      return code === 5 && stderr.includes('is busy (alice: git push');
    });
    const tree = await waitFor('the tree', () => {
      const folder = join(receiver.node, 'web/blog-stage/releases');
      const name = existsSync(folder) ? readdirSync(folder).find((one) => one === 'v1') : undefined;
      return name && join(folder, name);
    });
    writeFileSync(join(tree, 'go'), '');
    expect((await pushing).code).toBe(0);
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    const running = receiver.ssh('stab', 'blog/stage', '--', 'sleep', '1234.5');
    await waitFor('the command to run', () => processesWith('1234.5').some(({ argv }) => argv[0] === 'sleep'));
    expect(await destroy('blog/stage', '--no-dump')).toMatchObject({ code: 0 });
    expect((await running).code).not.toBe(0);
    await waitFor('the command to end', () => !processesWith('1234.5').some(({ argv }) => argv[0] === 'sleep'));
    await expectGone();
  });

  it('that has never served goes, too', async () => {
    const bob = createPusher(receiver, 'broken', {
      'kraftwerk.yaml': 'wsgi: app\nsrc: .\n',
      'app.py': 'import nothing_of_it\n\napplication = None\n',
    });
    bob.commit();
    expect((await bob.push('stage')).rejected).toBe('no module named nothing_of_it');
    expect(await destroy('broken/stage')).toMatchObject({ code: 0 });
    expect(traces(receiver.node, 'broken-stage')).toEqual([]);
    expect(existsSync(join(receiver.data, 'repositories/broken'))).toBe(false);
    // Nor is a service in the way that its node could never have.
    bob.commit({ 'kraftwerk.yaml': 'wsgi: app\nsrc: .\nservices: [files, postgres]\n' });
    expect((await bob.push('stage')).rejected).toBe('service postgres needs another node');
    expect(await destroy('broken/stage')).toMatchObject({ code: 0 });
    expect(traces(receiver.node, 'broken-stage')).toEqual([]);
  });
});

describe('a service', () => {
  it('goes alone, when nothing asks for it any more; what it had is in a dump', async () => {
    await deploy();
    const refused = await receiver.ssh('destroy', 'blog/stage', '--service', 'sqlite', '--confirm', 'sqlite');
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain('error: blog/stage: v1 asks for sqlite\n');
    const pushed = await alice.deploy({ 'kraftwerk.yaml': yaml('files', 'flaky') }, 'stage');
    expect(pushed.lines.join('\n')).toContain('ssh kraftwerk@HOST destroy blog/stage --service sqlite');
    expect(stage.notes()).toEqual(['first']);
    expect(await receiver.ssh('destroy', 'blog/stage', '--service', 'sqlite', '--confirm', 'blog/stage')).toMatchObject(
      {
        code: 2,
      },
    );
    const gone = await good('destroy', 'blog/stage', '--service', 'sqlite', '--confirm', 'sqlite', '--json');
    const { dump } = JSON.parse(gone.stdout) as { dump: string };
    expect(readdirSync(stage.site)).not.toContain('data');
    expect(existsSync(join(stage.site, '.kraftwerk/services/sqlite'))).toBe(false);
    expect(readFileSync(join(stage.uploads, 'photo.jpg'), 'utf8')).toBe('a photo');
    expect((await get(receiver, HOST)).status).toBe(200);
    const again = await receiver.ssh('destroy', 'blog/stage', '--service', 'sqlite', '--confirm', 'sqlite');
    expect(again).toMatchObject({ code: 4, stderr: expect.stringContaining('has no service sqlite') as string });
    await alice.deploy({ 'kraftwerk.yaml': yaml('files', 'sqlite', 'flaky') }, 'stage');
    await good('load', 'blog/stage', dump, '--only', 'sqlite');
    expect(stage.notes()).toEqual(['first']);
  });
});

describe('several nodes', () => {
  /** Files are on one node. */
  const FLAKY_ONLY = { 'kraftwerk.yaml': yaml('flaky') };
  const wide = (name: string): string => receiver.nodeAt(name).node;
  const serves = async (name: string): Promise<boolean> =>
    (await get(receiver.nodeAt(name), 'blog-wide.localhost').catch(() => null))?.status === 200;
  const reconfigure = async (change: (text: string) => string): Promise<void> => {
    writeFileSync(receiver.config, change(readFileSync(receiver.config, 'utf8')));
    await restart();
  };

  it('lose it all, the router too; one that cannot is named, and follows by itself when it can', async () => {
    await alice.deploy(FLAKY_ONLY, 'wide');
    expect(await Promise.all(['web1', 'web2', 'try'].map(serves))).toEqual([true, true, true]);
    const obstacle = join(wide('web2'), 'web/fail-destroy');
    writeFileSync(obstacle, '');
    const failed = await destroy('blog/wide');
    const said = failed.stderr.replaceAll(/\n\s+/g, ' ');
    expect(failed.code).toBe(1);
    expect(said).toContain('error: node web2: flaky: told to fail\n');
    expect(said).toContain('hint: on the other nodes nothing is left of it');
    expect(traces(wide('web1'), 'blog-wide')).toEqual([]);
    expect(traces(wide('web2'), 'blog-wide')).toContain('web/blog-wide');
    expect(await Promise.all(['web1', 'web2'].map(serves))).toEqual([false, false]);
    const pushed = await alice.push('wide');
    expect(pushed.output).toContain('blog/wide is being destroyed: not all of its nodes have answered yet');
    expect(await receiver.ssh('restart', 'blog/wide')).toMatchObject({ code: 5 });
    const from = receiver.log.length;
    rmSync(obstacle);
    await receiver.logged('operation.settled', undefined, from);
    expect(traces(wide('web2'), 'blog-wide')).toEqual([]);
    expect(existsSync(join(receiver.node, 'etc/nginx/sites-enabled/blog-wide.router'))).toBe(false);
    expect((await receiver.ssh('status', 'blog/wide')).code).toBe(4);
  });

  it.runIf(thorough)('that have left the environment lose it, too', async () => {
    await alice.deploy(FLAKY_ONLY, 'wide');
    await reconfigure((text) => text.replace('nodes: [web1, web2], router: try', 'nodes: [web1], router: try'));
    await alice.deploy({ 'version.txt': 'later' }, 'wide');
    expect(await serves('web2')).toBe(true);
    expect(await destroy('blog/wide')).toMatchObject({ code: 0 });
    for (const name of ['web1', 'web2']) expect(traces(wide(name), 'blog-wide')).toEqual([]);
    await reconfigure((text) => text.replace('nodes: [web1], router: try', 'nodes: [web1, web2], router: try'));
  });

  it.runIf(thorough)(
    'that have left it keep its name for it: nobody else gets it there before it is destroyed',
    async () => {
      await alice.deploy(FLAKY_ONLY, 'wide');
      const other = '  other: {nodes: [web2], suffix: -wide, domain: "{project}-wide.localhost"}\n';
      await reconfigure((text) =>
        text
          .replace('nodes: [web1, web2], router: try', 'nodes: [web1], router: try')
          .replace('  wide:', `${other}  wide:`),
      );
      alice.git(['remote', 'add', 'other', 'kraftwerk@receiver:blog/other']);
      alice.commit({ 'version.txt': 'of the other' });
      const refused = await alice.push('other');
      expect(refused.rejected).toBe('the name blog-wide belongs to blog/wide');
      expect((await get(receiver.nodeAt('web2'), 'blog-wide.localhost')).status).toBe(200);
      expect(await destroy('blog/wide')).toMatchObject({ code: 0 });
      expect(traces(wide('web2'), 'blog-wide')).toEqual([]);
      await alice.deploy({}, 'other');
      expect((await get(receiver.nodeAt('web2'), 'blog-wide.localhost')).body).toBe('of the other');
      expect(await destroy('blog/other')).toMatchObject({ code: 0 });
      await reconfigure((text) =>
        text.replace(other, '').replace('nodes: [web1], router: try', 'nodes: [web1, web2], router: try'),
      );
    },
  );

  it.runIf(thorough)('that are not configured any more are named: what they serve stays there', async () => {
    await alice.deploy(FLAKY_ONLY, 'wide');
    const line = '  web2: {local: true, root: ./web2, http_port: 0}\n';
    await reconfigure((text) =>
      text.replace('nodes: [web1, web2], router: try', 'nodes: [web1], router: try').replace(line, ''),
    );
    const { code, stderr } = await destroy('blog/wide');
    expect(code).toBe(0);
    expect(stderr.replaceAll(/\n\s+/g, ' ')).toContain(
      'warning: web2 is not configured any more: what it may have of blog/wide stays, and is still served there',
    );
    expect(await serves('web2')).toBe(true);
    await reconfigure((text) =>
      text
        .replace('nodes: [web1], router: try', 'nodes: [web1, web2], router: try')
        .replace('environments:', `${line}environments:`),
    );
    await alice.deploy(FLAKY_ONLY, 'wide');
    expect(await destroy('blog/wide')).toMatchObject({ code: 0 });
    expect(traces(wide('web2'), 'blog-wide')).toEqual([]);
  });
});

describe('killed at', () => {
  const BACK = ['begun', 'stopped', 'dumped'] as const;
  const FORTH = ['destroying', 'nodes', 'route', 'repository', 'forgotten'] as const;
  itSome([...BACK, ...FORTH], ['nodes'])('destroy.%s, the receiver ends it when it starts', async (at) => {
    await deploy();
    const before = stage.digest();
    writeFileSync(failpoint, `receiver:destroy.${at}:1:kill\n`);
    await destroy('blog/stage');
    await waitFor('the receiver to be killed', () => receiver.pid === null);
    rmSync(failpoint);
    await restart();
    if (BACK.some((one) => one === at)) {
      expect((await get(receiver, HOST)).status).toBe(200);
      expect(stage.digest()).toBe(before);
      expect(await destroy('blog/stage', '--no-dump')).toMatchObject({ code: 0 });
    }
    await expectGone();
  });

  const NAMED = ['unlisted', 'unlinked', 'service', 'services', 'dump', 'dumps', 'folder'];
  const COUNTED = [
    ...[1, 2, 4, 6, 8, 12, 16].map((at) => `remove:${at}`),
    ...[1, 2, 3].map((at) => `publish:${at}`),
    ...[1, 2].map((at) => `spawn:${at}`),
  ];
  itSome([...NAMED.map((at) => `destroy.${at}:1`), ...COUNTED], ['destroy.unlinked:1'])(
    '%s, the agent is asked again and ends it',
    async (at) => {
      await deploy();
      let dumps = (await destroyedDumps()).length;
      writeFileSync(failpoint, `destroy:${at}:kill\n`);
      const killed = await destroy('blog/stage');
      rmSync(failpoint);
      if (killed.code !== 0) {
        expect(killed.stderr.replaceAll(/\n\s+/g, ' ')).toContain(
          'it goes on by itself when try can do it, or now: ssh kraftwerk@HOST destroy blog/stage',
        );
        // Nothing new begins on what is half gone.
        const pushed = await alice.push('stage');
        if (pushed.code !== 0) expect(pushed.output).toContain('blog/stage is being destroyed');
        const again = await destroy('blog/stage');
        // It may have come to its end by itself, or be about to.
        expect([0, 4, 5]).toContain(again.code);
        if (pushed.code === 0) dumps++;
      }
      await expectGone();
      expect((await destroyedDumps()).length).toBe(dumps + 1);
    },
  );
});
