// The way of a push that goes well: what the pusher sees, what serves, what is kept.
// Nightly: the second push by itself, which nearly all other tests have, too.
import { cpSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get, readRef, repositoryOf } from '../actors/site.ts';
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

function pusher(project: string, ...more: [site?: Parameters<typeof createPusher>[2]]): Pusher {
  const made = createPusher(receiver, project, ...more);
  pushers.push(made);
  return made;
}

/** Times, ports and ids of one run, told apart by kind only. */
/** A slow machine adds heartbeats. */
function withoutNumbers(lines: readonly string[]): string[] {
  const told = lines.filter((line) => !/^ {7}still /.test(line));
  return told.map((line) =>
    line
      .replace(/[0-9]+\.[0-9]s/g, '0.0s')
      .replace(/ +0\.0s/g, ' 0.0s')
      .replace(/in [0-9]+ ms/g, 'in 0 ms')
      .replace(/:[0-9]{4,5}\b/g, ':PORT')
      .replace(/ [0-9a-f]{7} /g, ' COMMIT '),
  );
}

describe('a project', () => {
  it('comes up with its first push, and the pusher sees each step', async () => {
    const alice = pusher('blog');
    alice.commit({}, 'Add checkout');
    const { code, lines } = await alice.push('stage');
    expect({ code, lines: withoutNumbers(lines) }).toEqual({
      code: 0,
      lines: [
        '-----> blog/stage  COMMIT "Add checkout"',
        '-----> Config      kraftwerk.yaml ok 0.0s',
        '-----> Packages    none asked for 0.0s',
        '-----> Start       gunicorn app x2 0.0s',
        '-----> Health      GET / 200 in 0 ms 0.0s',
        '-----> Switch      v1 serves 0.0s',
        'success: v1 live in 0.0s   http://blog-stage.localhost:PORT',
      ],
    });
    expect(await get(receiver, 'blog-stage.localhost')).toMatchObject({ status: 200, body: 'one' });
    expect(agreement(receiver, 'blog/stage')).toEqual({ release: 1, commit: alice.head() });
  });

  it.runIf(thorough)('serves the new version after the second push, and the old process goes', async () => {
    const alice = pusher('second');
    await alice.deploy();
    const { pid } = JSON.parse((await get(receiver, 'second-stage.localhost', '/python')).body) as { pid: number };
    await alice.deploy({ 'version.txt': 'two' });
    expect((await get(receiver, 'second-stage.localhost')).body).toBe('two');
    expect(agreement(receiver, 'second/stage')).toEqual({ release: 2, commit: alice.head() });
    await waitFor('the old process to end', () => !existsSync(`/proc/${pid}`));
  });

  it('has the byte code of all its modules soon after it serves, in folders that nothing is added to', async () => {
    const alice = pusher('bytes');
    await alice.deploy();
    for (const release of ['v1', 'v2']) {
      if (release === 'v2') await alice.deploy({ 'other.py': 'X = 1\n' });
      const cache = join(receiver.node, 'web/bytes-stage/releases', release, '__pycache__');
      const modules = release === 'v1' ? ['app'] : ['app', 'other'];
      await waitFor('the byte code', () => {
        const names = readdirSync(cache).filter((name) => name.endsWith('.pyc'));
        return modules.every((module) => names.some((name) => name.startsWith(`${module}.cpython-`)));
      });
      await waitFor('the folder to be sealed', () => (statSync(cache).mode & 0o777) === 0o555);
    }
  });

  it('stands on stage and live beside each other, each with its own version and variables', async () => {
    const alice = pusher('both');
    await alice.deploy();
    await alice.deploy({ 'version.txt': 'two' }, 'live');
    expect((await get(receiver, 'both-stage.localhost')).body).toBe('one');
    expect((await get(receiver, 'both.localhost')).body).toBe('two');
    expect(agreement(receiver, 'both/stage').release).toBe(1);
    expect(agreement(receiver, 'both/live')).toEqual({ release: 1, commit: alice.head() });
  });

  it('deploys from main as from master, and HEAD follows the branch', async () => {
    const alice = pusher('branches');
    await alice.deploy();
    alice.git(['checkout', '-q', '-b', 'main']);
    await alice.deploy({ 'version.txt': 'from main' });
    expect((await get(receiver, 'branches-stage.localhost')).body).toBe('from main');
    expect(agreement(receiver, 'branches/stage')).toEqual({ release: 2, commit: alice.head() });
    const { stdout } = await alice.tryGit(['ls-remote', '--symref', 'stage', 'HEAD']);
    expect(stdout).toBe(`ref: refs/heads/main\tHEAD\n${alice.head()}\tHEAD\n`);
  });

  it('goes to the default environment when the remote names none', async () => {
    const alice = pusher('nameless');
    alice.commit();
    expect(await alice.push('kraftwerk@receiver:nameless.git')).toMatchObject({ code: 0 });
    expect(agreement(receiver, 'nameless/stage').release).toBe(1);
  });

  it('that kraftwerk init makes deploys as it is', async () => {
    const made = await receiver.kraftwerk('init', 'fresh');
    expect(made).toMatchObject({ code: 0 });
    const alice = pusher('fresh', {});
    cpSync(join(receiver.folder, 'fresh'), alice.work, { recursive: true, filter: (path) => !path.includes('/.git/') });
    await alice.deploy();
    const { status, body } = await get(receiver, 'fresh-stage.localhost');
    expect({ status, named: body.includes('fresh') }).toEqual({ status: 200, named: true });
    expect((await get(receiver, 'fresh-stage.localhost', '/static/style.css')).status).toBe(200);
  });
});

describe('what was pushed', () => {
  it('can be cloned and fetched, with every kept release', async () => {
    const alice = pusher('history');
    await alice.deploy();
    const first = alice.head();
    await alice.deploy({ 'version.txt': 'two' });
    const clone = join(alice.folder, 'clone');
    expect(await alice.tryGit(['clone', '-q', 'kraftwerk@receiver:history/stage', clone])).toMatchObject({ code: 0 });
    expect(readRef(join(clone, '.git'), 'HEAD')).toBe(alice.head());
    expect(await alice.tryGit(['fetch', '-q', 'stage', 'refs/kraftwerk/releases/v1'])).toMatchObject({ code: 0 });
    expect(alice.git(['rev-parse', 'FETCH_HEAD'])).toBe(first);
  });

  it('is pruned: keep_releases beside the current one stay, on the node and in the repository', async () => {
    const alice = pusher('pruned');
    alice.write({ 'kraftwerk.yaml': 'wsgi: app\nsrc: .\nworkers: 1\nkeep_releases: 1\n' });
    for (const version of ['one', 'two', 'three']) await alice.deploy({ 'version.txt': version });
    const releases = join(receiver.node, 'web', 'pruned-stage', 'releases');
    await waitFor('v1 to go', () => readdirSync(releases).sort().join() === 'v2,v3');
    const repository = repositoryOf(receiver, 'pruned/stage');
    await waitFor('v1 to go from the repository', () => readRef(repository, 'refs/kraftwerk/releases/v1') === null);
    expect(readRef(repository, 'refs/kraftwerk/releases/v2')).not.toBeNull();
    expect((await get(receiver, 'pruned-stage.localhost')).body).toBe('three');
  });

  it('that has not changed is deployed no second time: git has nothing to push', async () => {
    const alice = pusher('again');
    await alice.deploy();
    expect(await alice.push()).toMatchObject({ code: 0, output: 'Everything up-to-date\n' });
    expect(agreement(receiver, 'again/stage').release).toBe(1);
  });

  it('as a tag is stored, and deploys nothing', async () => {
    const alice = pusher('tagged');
    await alice.deploy();
    const tagged = alice.commit({ 'version.txt': 'two' });
    alice.git(['tag', '-a', '-m', 'One', 'v1.0']);
    expect(await alice.push('stage', 'v1.0')).toMatchObject({ code: 0, lines: [] });
    expect(readRef(repositoryOf(receiver, 'tagged/stage'), 'refs/tags/v1.0')).toBe(tagged);
    expect(agreement(receiver, 'tagged/stage').release).toBe(1);
    expect((await get(receiver, 'tagged-stage.localhost')).body).toBe('one');
    expect(await alice.push('stage', ':v1.0')).toMatchObject({ code: 0 });
    expect(readRef(repositoryOf(receiver, 'tagged/stage'), 'refs/tags/v1.0')).toBeNull();
  });
});
