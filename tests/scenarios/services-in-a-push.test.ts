// Services as a pusher meets them, on a real node: asked for in kraftwerk.yaml, installed and set up by the push, dumped,
// loaded, taken from live to stage; and what is left when a server or the power fails in the middle.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { type DataBox, LIVE, STAGE, startDataBox, yaml } from '../actors/data-box.ts';
import { waitFor } from '../actors/processes.ts';

describe.skipIf(boxesAvailable() !== null)('services', () => {
  useBoxes();
  let here: DataBox;
  let failpoint: string;
  beforeAll(async () => {
    here = await startDataBox({ name: 'data' });
    failpoint = join(here.receiver.folder, 'failpoint');
    await here.alice.deploy({}, 'live');
  }, 900_000);
  afterAll(async () => await here?.cleanUp());

  it('come with the push that asks for them first, and the transcript says what was installed', async () => {
    here.alice.commit({ 'kraftwerk.yaml': yaml('files', 'postgres', 'redis') });
    const pushed = await here.alice.push('live');
    expect({ code: pushed.code, output: pushed.code === 0 ? '' : pushed.output }).toEqual({ code: 0, output: '' });
    expect(pushed.lines.join('\n')).toMatch(/^ {7}still installing postgresql … \d+s$/m);
    const services = pushed.lines.join(' ').replaceAll(/\s+/g, ' ');
    // The time stands at the end of the first of its lines.
    expect(services).toMatch(
      /-----> Services files, postgres, redis ready \(installed \S+s postgresql, redis-server\)/,
    );
    await here.get(LIVE, '/rows?add=first');
    expect(await here.get(LIVE, '/count?add')).toBe('1');
    expect(await here.data(LIVE)).toMatchObject({ rows: ['first'], count: 1 });
  }, 300_000);

  it('cost the next project no installation, and a push that changes nothing no set-up', async () => {
    const bob = here.project('shop');
    bob.commit({ 'kraftwerk.yaml': yaml('postgres') });
    const pushed = await bob.push('live');
    expect(pushed.code).toBe(0);
    expect(pushed.output).not.toMatch(/install/);
    await here.box.run(['systemctl', 'stop', 'postgresql']);
    // Nothing is asked of a service whose setup.sh has not changed.
    bob.commit({ 'version.txt': 'two' });
    expect((await bob.push('live')).code).toBe(0);
    bob.commit({ 'version.txt': 'three' });
    const forced = await bob.push('live', 'master', { options: ['override'] });
    expect(forced.rejected).toMatch(/^service postgres failed; v2 still live$/);
    expect(forced.output).toContain('PostgreSQL does not answer');
    await here.box.run(['systemctl', 'start', 'postgresql']);
  }, 300_000);

  it('that are no longer asked for keep their data, and the push says so', async () => {
    here.alice.commit({ 'kraftwerk.yaml': yaml('files', 'postgres') });
    const pushed = await here.alice.push('live');
    expect(pushed.code).toBe(0);
    expect(pushed.lines.join(' ')).toMatch(/warning: redis is no longer asked for; its data stays/);
    expect(pushed.lines.join('\n')).toContain('ssh kraftwerk@HOST destroy blog/live --service redis');
    await here.alice.deploy({ 'kraftwerk.yaml': yaml('files', 'postgres', 'redis') }, 'live');
    expect(await here.get(LIVE, '/count')).toBe('1');
  }, 300_000);

  it('are dumped and loaded together, and go from live to stage', async () => {
    await here.box.run([
      'sh',
      '-c',
      'echo photo >/web/blog/uploads/photo.jpg; chown web-blog /web/blog/uploads/photo.jpg',
    ]);
    const before = await here.data(LIVE);
    expect(before.uploads).toContain('./photo.jpg');
    const dump = (await here.good('dump', 'blog/live')).stdout.trim();
    await here.get(LIVE, '/rows?add=later');
    await here.get(LIVE, '/count?add');
    await here.box.run(['rm', '/web/blog/uploads/photo.jpg']);
    await here.good('load', 'blog/live', dump);
    expect(await here.data(LIVE)).toEqual(before);

    await here.alice.deploy({}, 'stage');
    await here.get(STAGE, '/rows?add=of-stage');
    await here.good('sync-services', 'blog/live', 'blog/stage');
    expect(await here.data(STAGE)).toEqual(before);
    expect(await here.data(LIVE)).toEqual(before);
    // What a site has is its own, also what came from another.
    await here.get(STAGE, '/rows?add=again');
    expect((await here.data(LIVE)).rows).toEqual(before.rows);
  }, 300_000);

  it('whose server is down are told apart from data that is lost', async () => {
    const before = await here.data(LIVE);
    const dump = (await here.good('dump', 'blog/live')).stdout.trim();
    await here.box.run(['systemctl', 'stop', 'postgresql']);
    const dumped = await here.receiver.ssh('dump', 'blog/live');
    expect(dumped.code).toBe(1);
    expect(dumped.stderr).toMatch(/^error: postgres: PostgreSQL does not answer/m);
    const loaded = await here.receiver.ssh('load', 'blog/live', dump, '--no-backup', '--confirm', 'blog/live');
    expect(loaded.code).toBe(1);
    expect(loaded.stderr).toMatch(/^error: postgres: PostgreSQL does not answer/m);
    await here.box.run(['systemctl', 'start', 'postgresql']);
    expect(await here.data(LIVE)).toEqual(before);
    const left = await here.box.run(['sh', '-c', 'ls -A /web/blog/dump | grep "^\\." || true']);
    expect(left.trim()).toBe('');
  }, 300_000);

  it.each([
    ['load.swapped', 'old'],
    ['load.after-new', 'old'],
    ['load.done', 'new'],
  ])(
    'come back whole after a power cut at %s',
    async (at, which) => {
      const dumpedData = await here.data(LIVE);
      const dump = (await here.good('dump', 'blog/live')).stdout.trim();
      await here.get(LIVE, `/rows?add=${at}`);
      await here.get(LIVE, '/count?add');
      const before = await here.data(LIVE);
      writeFileSync(failpoint, `receiver:${at}:1:stop\n`);
      const loading = here.receiver.ssh('load', 'blog/live', dump, '--no-backup', '--confirm', 'blog/live');
      const pid = here.receiver.pid ?? 0;
      await waitFor('the receiver to halt', async () =>
        (await import('node:fs')).readFileSync(`/proc/${pid}/status`, 'utf8').includes('State:\tT'),
      );
      await here.box.kill();
      rmSync(failpoint);
      await here.receiver.kill9();
      await loading;
      await here.box.up();
      const mark = here.receiver.log.length;
      await here.receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
      if (!here.receiver.log.slice(mark).some(({ event }) => event === 'operation.settled'))
        await here.receiver.logged('operation.settled', () => true, mark, 120_000);
      await waitFor(
        'the site to serve',
        async () => (await here.visit(LIVE).catch(() => ({ status: 0 }))).status === 200,
        60_000,
      );
      expect(await here.data(LIVE)).toEqual(which === 'old' ? before : dumpedData);
    },
    400_000,
  );
});
