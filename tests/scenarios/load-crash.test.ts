// The receiver is killed, and a service fails, at every step of a load. Whatever happens: when the receiver is ready (again)
// the data is what it was, or all of it is the new one, the site serves, and the next load works.
// In CI before and after the swap, and a service that fails in it and on the way back; nightly at every step.
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isAlive, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';
import { type SiteData, siteData } from '../actors/site-data.ts';
import { outcome } from '../actors/ssh.ts';
import { itSome, thorough } from '../actors/thorough.ts';

const HOST = 'blog-stage.localhost';
/** A second service, which fails at the step that a file names. */
const FLAKY = {
  'service.yaml': 'description: fails when it is told to\nrootless: true\ndata: true\n',
  'setup.sh': 'exit 0\n',
  'destroy.sh': 'exit 0\n',
  'dump.sh': 'mkdir "$DUMP_TARGET"; echo flaky >"$DUMP_TARGET/word"\n',
  'load.sh': `step=$1
while [[ -e $SITE_ROOT/../hold-$step ]]; do sleep 0.05; done
if [[ -e $SITE_ROOT/../fail-$step ]]; then echo "error: told to fail at $step" >&2; exit 1; fi
`,
};

let receiver: TestReceiver;
let alice: Pusher;
let data: SiteData;
let failpoint: string;
let dump: string;
let dumped: string;

beforeAll(async () => {
  receiver = await startReceiver({ folders: ['templates/services/flaky'], config: 'templates: [./templates]' });
  failpoint = join(receiver.folder, 'failpoint');
  for (const [name, text] of Object.entries(FLAKY))
    writeFileSync(join(receiver.folder, 'templates/services/flaky', name), text);
  await restart();
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'kraftwerk.yaml': 'wsgi: app:application\nservices: [files, sqlite, flaky]\n' });
  data = siteData(join(receiver.node, 'web/blog-stage'));
  data.upload('one.txt', 'one');
  data.note('one');
  dump = (await receiver.ssh('dump', 'blog/stage')).stdout.trim();
  dumped = data.digest();
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

const restart = (): Promise<void> => receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });

let count = 0;
function change(): string {
  count += 1;
  data.upload('one.txt', `changed ${count}`);
  data.note(`later ${count}`);
  return data.digest();
}

async function expectServes(): Promise<void> {
  expect((await get(receiver, HOST)).status).toBe(200);
  await waitFor('the old data to be gone', () => data.leftovers().length === 0);
  const { code, stderr } = await receiver.ssh('status', 'blog/stage');
  expect({ code, stderr }).toMatchObject({ code: 0 });
}

/** The next one works: where it is not asked in CI, the next test finds out. */
async function expectLoads(): Promise<void> {
  const loaded = await receiver.ssh('load', 'blog/stage', dump);
  expect({ code: loaded.code, error: /^error.*$/m.exec(loaded.stderr)?.[0] }).toEqual({ code: 0, error: undefined });
  expect(data.digest()).toBe(dumped);
}

describe('a receiver that is killed', () => {
  const BACK = ['begun', 'after-new', 'new', 'swapping', 'quiet', 'after-swap', 'swapped'] as const;
  const FORTH = ['done', 'after-done'] as const;
  itSome([...BACK, ...FORTH], ['swapping', 'done'])('at load.%s', async (at) => {
    const before = change();
    writeFileSync(failpoint, `receiver:load.${at}:1:kill\n`);
    const pid = Number(receiver.pid);
    await receiver.ssh('load', 'blog/stage', dump);
    // The last of them comes after the answer.
    await waitFor('the receiver to be killed', () => !isAlive(pid));
    rmSync(failpoint);
    await restart();
    expect(data.digest()).toBe(FORTH.some((one) => one === at) ? dumped : before);
    await expectServes();
    await expectLoads();
    await expectServes();
  });
});

describe('a rollback with its data', () => {
  it('that is killed when the old release serves keeps the data that goes with it', async () => {
    const before = change();
    const body = (await get(receiver, HOST)).body;
    await alice.deploy({
      'kraftwerk.yaml':
        'wsgi: app:application\nservices: [files, sqlite, flaky]\nrelease: rm "$UPLOADS_PATH/one.txt"\n',
      'version.txt': 'migrated',
    });
    expect(data.digest()).not.toBe(before);
    writeFileSync(failpoint, 'receiver:done:1:kill\n');
    const pid = Number(receiver.pid);
    await receiver.ssh('rollback', 'blog/stage', '--with-data');
    await waitFor('the receiver to be killed', () => !isAlive(pid));
    rmSync(failpoint);
    await restart();
    expect({ body: (await get(receiver, HOST)).body, data: data.digest() }).toEqual({ body, data: before });
    await expectServes();
  });
});

describe('a service that fails', () => {
  itSome(['new', 'swap'], [])('at %s leaves everything as it was', async (step) => {
    const before = change();
    writeFileSync(join(receiver.node, `web/fail-${step}`), '');
    const failed = await receiver.ssh('load', 'blog/stage', dump);
    rmSync(join(receiver.node, `web/fail-${step}`));
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain(`error: flaky: told to fail at ${step}`);
    expect(failed.stderr.replaceAll(/\n\s+/g, ' ')).toContain('nothing has changed: the data is what it was before');
    expect(data.digest()).toBe(before);
    await expectServes();
    if (thorough) await expectLoads();
  });

  it('at back too: the site stays closed, nothing is lost, and it is put back when it can be', async () => {
    const before = change();
    for (const step of ['swap', 'back']) writeFileSync(join(receiver.node, `web/fail-${step}`), '');
    const failed = await receiver.ssh('load', 'blog/stage', dump);
    expect(failed.code).toBe(1);
    expect((await get(receiver, HOST)).status).toBe(503);
    // What a release command would change now is about to be put back.
    const pushed = await alice.push('stage');
    expect({ code: pushed.code, output: pushed.output.replaceAll(/\s+/g, ' ') }).toMatchObject({
      code: 128,
      output: expect.stringContaining('a load of the data of blog/stage was cut off') as string,
    });
    expect((await receiver.ssh('restart', 'blog/stage')).code).toBe(5);
    const mark = receiver.log.length;
    for (const step of ['swap', 'back']) rmSync(join(receiver.node, `web/fail-${step}`));
    await receiver.logged('operation.settled', () => true, mark);
    expect(data.digest()).toBe(before);
    await expectServes();
  });
});

describe('an agent that is killed', () => {
  itSome(['spawn:1', 'spawn:2', 'publish:1', 'remove:1'], ['spawn:2'])('at its operation %s of a load', async (at) => {
    const before = change();
    writeFileSync(failpoint, `load:${at}:kill\n`);
    const failed = await receiver.ssh('load', 'blog/stage', dump, '--no-backup', '--confirm', 'blog/stage');
    rmSync(failpoint);
    if (failed.code !== 0) {
      await restart();
      expect(data.digest()).toBe(before);
    }
    await expectServes();
    if (thorough) await expectLoads();
  });
});

describe('the old data', () => {
  const at = (name: string): string => join(receiver.node, 'web', name);

  // A command waits until the load before has removed what it left.
  beforeEach(async () => {
    expect((await receiver.ssh('restart', 'blog/stage')).code).toBe(0);
  });

  it('is removed when the command has answered; the next one waits for that', async () => {
    change();
    writeFileSync(at('hold-done'), '');
    const loaded = await receiver.ssh('load', 'blog/stage', dump);
    expect(loaded.code, loaded.stderr).toBe(0);
    expect((await get(receiver, HOST)).status).toBe(200);
    const [command = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
    const next = spawn(command, [...args, 'receiver', 'restart', 'blog/stage']);
    const said = await new Promise<string>((resolve) => {
      next.stderr.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    });
    expect(said).toMatch(/^waiting for alice: load, removing the old data, since \d+ s$/m);
    const ended = outcome(next);
    rmSync(at('hold-done'));
    expect((await ended).code).toBe(0);
    expect(data.leftovers()).toEqual([]);
  });

  it('that could not be removed is removed later, and the load has succeeded all the same', async () => {
    change();
    writeFileSync(at('fail-done'), '');
    const mark = receiver.log.length;
    const loaded = await receiver.ssh('load', 'blog/stage', dump);
    expect(loaded.code, loaded.stderr).toBe(0);
    const failed = await receiver.logged('load.rest_failed', () => true, mark);
    expect(failed.message).toContain('told to fail at done');
    rmSync(at('fail-done'));
    await receiver.logged('operation.settled', () => true, mark);
    expect(data.digest()).toBe(dumped);
    await expectServes();
  });
});

it('two loads at once: the second is told who is at it', async () => {
  const outcomes = await Promise.all([
    receiver.ssh('load', 'blog/stage', dump),
    receiver.ssh('load', 'blog/stage', dump),
  ]);
  const codes = outcomes.map(({ code }) => code).sort();
  expect(codes).toEqual([0, 5]);
  const busy = outcomes.find(({ code }) => code === 5);
  expect(busy?.stderr).toMatch(/^error: blog\/stage is busy \(alice: load, since \d+ s\)$/m);
});
