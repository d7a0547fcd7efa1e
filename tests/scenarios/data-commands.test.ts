// dump, dumps, load and sync-services by the real ssh client, on a rootless node: what was dumped comes back byte for byte,
// on the same target and on another one, and through a file.
// Nightly: sync-services to another node, too, where the archive goes in CI.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';
import { DATA_YAML, type SiteData, siteData } from '../actors/site-data.ts';
import { thorough } from '../actors/thorough.ts';

const NAME = /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d$/;
const ENVIRONMENTS = `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [try], domain: "{project}.localhost", protected: true}
  other: {nodes: [second], suffix: -other, domain: "{project}-other.localhost"}
`;

let receiver: TestReceiver;
let alice: Pusher;
let stage: SiteData;
let live: SiteData;

beforeAll(async () => {
  receiver = await startReceiver({ environments: ENVIRONMENTS, nodes: ['second'] });
  alice = createPusher(receiver, 'blog');
  alice.git(['remote', 'add', 'other', 'kraftwerk@receiver:blog/other']);
  await alice.deploy({ 'kraftwerk.yaml': DATA_YAML }, 'stage');
  await alice.deploy({}, 'live');
  await alice.deploy({}, 'other');
  stage = siteData(join(receiver.node, 'web/blog-stage'));
  live = siteData(join(receiver.node, 'web/blog'));
  for (const site of [stage, live]) {
    site.upload('photos/one.jpg', `one of ${site.site}`);
    site.note(`first of ${site.site}`);
  }
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

async function good(...words: string[]): Promise<string> {
  const { code, stderr, stdout } = await receiver.ssh(...words);
  expect({ words, code, stderr: code === 0 ? '' : stderr }).toEqual({ words, code: 0, stderr: '' });
  return stdout;
}

async function dumpOf(target: string, ...options: string[]): Promise<string> {
  const name = (await good('dump', target, ...options)).trim();
  expect(name).toMatch(NAME);
  return name;
}

function change(site: SiteData): void {
  site.upload('photos/one.jpg', 'changed');
  site.upload('photos/two.jpg', 'new');
  site.note('later');
}

describe('a dump', () => {
  it('is told step by step, and listed with size, services and reason', async () => {
    const { code, stderr, stdout } = await receiver.ssh('dump', 'blog/stage');
    expect(code).toBe(0);
    expect(stdout.trim()).toMatch(NAME);
    expect(stderr).toMatch(/^-----> Dump {8}files .*sqlite .* \d\.\ds$/m);
    expect(stderr).toMatch(/^success: dump \S+, \d+.* in \d+\.\ds$/m);
    const table = await good('dumps', 'blog/stage');
    expect(table).toMatch(/^dump +age +size +services +release +why +proven$/m);
    expect(table).toMatch(new RegExp(`^${stdout.trim()} .* files, sqlite +v1 +asked for +never$`, 'm'));
    const [first] = JSON.parse(await good('dumps', 'blog/stage', '--json')) as { name: string; bytes: number }[];
    expect(first).toMatchObject({ name: stdout.trim(), destroyed: false });
    expect(first?.bytes).toBeGreaterThan(20);
  });

  it('comes back byte for byte, and what was there before it is kept', async () => {
    const before = stage.digest();
    const name = await dumpOf('blog/stage');
    change(stage);
    const after = stage.digest();
    const { code, stderr } = await receiver.ssh('load', 'blog/stage', name);
    expect({ code, stderr: stderr.split('\n').filter((line) => line.startsWith('error')) }).toEqual({
      code: 0,
      stderr: [],
    });
    expect(stage.digest()).toBe(before);
    await waitFor('the old data to be gone', () => stage.leftovers().length === 0);
    expect((await get(receiver, 'blog-stage.localhost')).status).toBe(200);
    const backup = /before it: load blog\/stage\s+(\S+)/.exec(stderr.replaceAll(/\n\s+/g, ' '))?.[1] ?? '';
    expect(backup).toMatch(NAME);
    await good('load', 'blog/stage', backup, '--no-backup', '--confirm', 'blog/stage');
    expect(stage.digest()).toBe(after);
  });

  it('of one service is loaded alone', async () => {
    const notes = stage.notes();
    const name = await dumpOf('blog/stage', '--only', 'sqlite');
    stage.note('only this');
    stage.upload('stays.txt', 'stays');
    await good('load', 'blog/stage', name);
    expect(stage.notes()).toEqual(notes);
    const asked = await receiver.ssh('load', 'blog/stage', name, '--only', 'files');
    expect(asked).toMatchObject({ code: 4, stderr: expect.stringContaining('holds sqlite, and not files') as string });
  });

  it('leaves as an archive and comes back from a file, on another node', async () => {
    const archive = await receiver.sshAs(receiver.admin, ['dump', 'blog/stage', '--download'], '');
    expect(archive.code).toBe(0);
    const file = join(receiver.folder, 'blog.tar');
    const taken = await fetchArchive();
    writeFileSync(file, taken);
    const other = siteData(join(receiver.nodeAt('second').node, 'web/blog-other'));
    other.note('gone soon');
    const loaded = await receiver.sshAs(receiver.admin, ['load', 'blog/other', '--upload'], taken);
    expect(loaded.code, loaded.stderr).toBe(0);
    expect(other.digest()).toBe(stage.digest());
    // Cut anywhere, it is refused, and nothing has changed.
    const digest = other.digest();
    for (const bytes of [0, 100, 600, taken.length >> 1, taken.length - 1500]) {
      const cut = await receiver.sshAs(receiver.admin, ['load', 'blog/other', '--upload'], taken.subarray(0, bytes));
      expect({ bytes, code: cut.code }).toEqual({ bytes, code: 1 });
      expect(cut.stderr).toMatch(/^error: /m);
      expect(other.digest()).toBe(digest);
      await waitFor('the old data to be gone', () => other.leftovers().length === 0);
    }
  });

  async function fetchArchive(): Promise<Buffer> {
    const { spawnSync } = await import('node:child_process');
    const [command = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
    const result = spawnSync(command, [...args, 'receiver', 'dump', 'blog/stage', '--download'], {
      maxBuffer: 1 << 28,
    });
    expect(result.status).toBe(0);
    return result.stdout;
  }

  it('that is not there, is no name, or is asked for by one who may not: says so', async () => {
    const bob = await receiver.addKey('bob', 'read', 'blog');
    expect(await receiver.ssh('load', 'blog/stage', '2020-01-01T00:00:00')).toMatchObject({
      code: 4,
      stderr: expect.stringMatching(/^error: blog\/stage has no dump 2020-01-01T00:00:00$/m) as string,
    });
    expect(await receiver.ssh('load', 'blog/stage', 'yesterday')).toMatchObject({ code: 2 });
    expect(await receiver.ssh('load', 'blog/stage')).toMatchObject({ code: 2 });
    expect(await receiver.ssh('dump', 'blog/stage', '--only', 'redis')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('has no service redis with data') as string,
    });
    expect(await receiver.sshAs(bob, ['dump', 'blog/stage'])).toMatchObject({ code: 4 });
    expect(await receiver.sshAs(bob, ['load', 'blog/stage', '2020-01-01T00:00:00'])).toMatchObject({ code: 4 });
    expect(await receiver.sshAs(bob, ['dumps', 'blog/stage'])).toMatchObject({ code: 0 });
    expect(await receiver.sshAs(bob, ['dumps', '--destroyed'])).toMatchObject({ code: 4 });
  });
});

describe('sync-services', () => {
  it('brings the data of one target into another, which is dumped first', async () => {
    const before = stage.digest();
    await good('sync-services', 'blog/live', 'blog/stage');
    expect(stage.digest()).not.toBe(before);
    expect(stage.notes()).toEqual(live.notes());
    expect(stage.digest().length).toBe(64);
    const backup = (
      JSON.parse(await good('dumps', 'blog/stage', '--json')) as { name: string; parts: { reason: string }[] }[]
    ).find(({ parts }) => parts[0]?.reason === 'load');
    await good('load', 'blog/stage', backup?.name ?? '');
    expect(stage.digest()).toBe(before);
  });

  it.runIf(thorough)('reaches another node', async () => {
    const other = siteData(join(receiver.nodeAt('second').node, 'web/blog-other'));
    await good('sync-services', 'blog/live', 'blog/other');
    expect(other.notes()).toEqual(live.notes());
  });

  it('goes into a protected environment only when its name is typed', async () => {
    const before = live.digest();
    expect(await receiver.ssh('sync-services', 'blog/stage', 'blog/live')).toMatchObject({
      code: 2,
      stderr:
        'the data of blog/live is about to be replaced: live is protected\n' +
        'error: sync-services: nothing done: not confirmed\n' +
        'hint: ssh kraftwerk@HOST sync-services blog/stage blog/live --confirm blog/live\n',
    });
    expect(await receiver.ssh('rollback', 'blog/live', '--with-data')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        'hint: ssh kraftwerk@HOST rollback blog/live --with-data --confirm blog/live\n',
      ) as string,
    });
    expect(live.digest()).toBe(before);
    await good('sync-services', 'blog/stage', 'blog/live', '--confirm', 'blog/live');
    expect(live.notes()).toEqual(stage.notes());
  });

  it('runs the scrub command in the target, whose failure puts the old data back', async () => {
    const scrub =
      'python3 -c "import os, sqlite3; c = sqlite3.connect(os.environ[\\"SQLITE_DATABASE\\"]); c.execute(\\"delete from notes\\"); c.commit(); print(\\"scrubbed\\")"';
    await alice.deploy({ 'kraftwerk.yaml': `${DATA_YAML}scrub: '${scrub}'\n` }, 'stage');
    live.note('personal');
    const synced = await receiver.ssh('sync-services', 'blog/live', 'blog/stage');
    expect(synced).toMatchObject({ code: 0 });
    expect(synced.stderr).toContain('scrubbed');
    expect(stage.notes()).toEqual([]);
    expect(live.notes()).toContain('personal');

    await alice.deploy({ 'kraftwerk.yaml': `${DATA_YAML}scrub: 'echo broken; exit 3'\n` }, 'stage');
    stage.note('mine');
    const before = stage.digest();
    const failed = await receiver.ssh('sync-services', 'blog/live', 'blog/stage');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/^error: the scrub command "echo broken; exit 3" ended with exit code\s+3$/m);
    expect(failed.stderr.replaceAll(/\n\s+/g, ' ')).toContain('nothing has changed: the data is what it was before');
    expect(stage.digest()).toBe(before);
    expect((await get(receiver, 'blog-stage.localhost')).status).toBe(200);
  });

  it('says what cannot be: the same target, another project', async () => {
    expect(await receiver.ssh('sync-services', 'blog/live', 'blog/live')).toMatchObject({ code: 2 });
  });
});

describe('a release command', () => {
  const failing = `${DATA_YAML}release: 'python3 -c "import os, sqlite3; c = sqlite3.connect(os.environ[\\"SQLITE_DATABASE\\"]); c.execute(\\"delete from notes\\"); c.commit()" && exit 1'\n`;

  it('that fails half-way tells how to go back, and rollback --with-data does it', async () => {
    stage.note('precious');
    const before = stage.digest();
    alice.commit({ 'kraftwerk.yaml': failing });
    const pushed = await alice.push('stage');
    expect(pushed.rejected).toMatch(/^release command failed; v\d+ still live$/);
    const said = pushed.lines.join('\n');
    expect(said).toMatch(/^-----> Dump {8}files/m);
    expect(said).toContain('ssh kraftwerk@HOST rollback blog/stage --with-data');
    expect(stage.notes()).toEqual([]);
    const back = await receiver.ssh('rollback', 'blog/stage', '--with-data');
    expect(back).toMatchObject({ code: 0 });
    expect(stage.digest()).toBe(before);
    expect((await get(receiver, 'blog-stage.localhost')).status).toBe(200);

    stage.note('written since');
    const since = stage.digest();
    const again = await receiver.ssh('rollback', 'blog/stage', '--with-data');
    expect({ code: again.code, data: stage.digest() }).toEqual({ code: 4, data: since });
    expect(again.stderr.replaceAll(/\n\s+/g, ' ')).toMatch(
      /^error: blog\/stage: its data has been replaced since the last deploy failed/m,
    );
  });

  it('whose site does not start then is told the way back, too, and the dump that is named is the one that comes', async () => {
    stage.note('written later');
    const before = stage.digest();
    alice.commit({ 'kraftwerk.yaml': failing.replace(' && exit 1', ''), 'app.py': 'import nothing_of_this_name\n' });
    const pushed = await alice.push('stage');
    expect(pushed.rejected).toMatch(/; v\d+ still live$/);
    const said = pushed.lines.join(' ').replaceAll(/\s+/g, ' ');
    const dump = /the data was dumped before the command \((\S+)\)/.exec(said)?.[1];
    expect(said).toContain('ssh kraftwerk@HOST rollback blog/stage --with-data');
    expect(stage.notes()).toEqual([]);
    const back = await receiver.ssh('rollback', 'blog/stage', '--with-data');
    expect({ code: back.code, data: stage.digest() }).toEqual({ code: 0, data: before });
    expect(back.stderr.replaceAll(/\s+/g, ' ')).toContain(`serves with the data of ${dump}`);
    alice.git(['reset', '-q', '--hard', 'HEAD^']);
  });

  it('that has migrated is undone with its release', async () => {
    const before = stage.digest();
    const old = (await get(receiver, 'blog-stage.localhost')).body;
    await alice.deploy({ 'kraftwerk.yaml': failing.replace(' && exit 1', ''), 'version.txt': 'migrated' }, 'stage');
    expect(stage.notes()).toEqual([]);
    const back = await receiver.ssh('rollback', 'blog/stage', '--with-data');
    expect({ code: back.code, error: /^error.*$/m.exec(back.stderr)?.[0] }).toEqual({ code: 0, error: undefined });
    expect(stage.digest()).toBe(before);
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe(old);
  });

  it('goes without the dump when the pusher says so', async () => {
    alice.commit({ 'kraftwerk.yaml': `${DATA_YAML}release: 'true'\n` });
    const pushed = await alice.push('stage', 'master', { options: ['no-dump'] });
    expect(pushed.code).toBe(0);
    expect(pushed.output).not.toContain('Dump');
  });
});
