// Receiver and agent are killed at every phase of a push, and operations of the agent fail one by one. Whatever happens:
// when the receiver is ready (again), ref, journal and `current` agree, one version serves, and the next push works.
// In CI at a few points, before, in and after the switch; nightly at all of them.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesIn, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';
import { itSome } from '../actors/thorough.ts';

const TARGET = 'blog/stage';
const HOST = 'blog-stage.localhost';

let receiver: TestReceiver;
let alice: Pusher;
let failpoint: string;
let version = 0;

beforeAll(async () => {
  receiver = await startReceiver();
  failpoint = join(receiver.folder, 'failpoint');
  await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'version.txt': 'start' });
});
afterAll(async () => {
  alice.cleanUp();
  rmSync(failpoint, { force: true });
  await receiver.cleanUp();
});

/** What every end of every deploy must leave. */
async function expectConsistent(allowed: readonly string[]): Promise<string> {
  const { release, commit } = agreement(receiver, TARGET);
  const { status, body } = await get(receiver, HOST);
  expect(status).toBe(200);
  expect(allowed).toContain(body);
  expect(alice.git(['show', `${commit}:version.txt`])).toBe(body);
  const { body: environ } = await get(receiver, HOST, '/environ');
  expect(JSON.parse(environ)).toMatchObject({ KRAFTWERK_RELEASE: `v${release}` });
  return body;
}

/** Nothing of a cut off deploy goes on: no agent, and one master with its two workers, which carry its command line. */
async function expectNoOrphans(): Promise<void> {
  await waitFor('agents and old processes to end', () => {
    const web = processesIn(receiver.node).filter(({ argv }) => argv.includes('--name') && argv.includes('blog-stage'));
    return receiver.agents().length === 0 && web.length === 3;
  });
}

async function pushThrough(setting: string): Promise<void> {
  const before = (await get(receiver, HOST)).body;
  const next = `version ${++version}`;
  // A comment is enough for a virtualenv of its own.
  alice.commit({ 'version.txt': next, ...(setting.includes('virtualenv') && { 'requirements.txt': `# ${next}\n` }) });
  writeFileSync(failpoint, setting);
  const start = receiver.log.length;
  const pushed = await alice.push('stage');
  const ends = /^receiver|kill-both$/.test(setting);
  if (ends) await waitFor('the receiver to be killed', () => receiver.pid === null);
  else if (setting.startsWith('retire')) await receiver.logged('deploy.retire_failed', undefined, start);
  else expect(pushed.code).not.toBe(0);
  rmSync(failpoint);
  if (ends) await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
  const body = await expectConsistent([before, next]);
  if (pushed.code === 0) expect(body).toBe(next);
  else if (pushed.rejected !== null) expect(body).toBe(before);

  const last = `version ${++version}`;
  const again = await alice.deploy({ 'version.txt': last });
  expect(again.code).toBe(0);
  expect(await expectConsistent([last])).toBe(last);
  await expectNoOrphans();
}

describe('the receiver is killed', () => {
  const PHASES = ['begun', 'prepared', 'activating', 'switched', 'activated', 'ref-moved', 'done'] as const;
  itSome(PHASES, ['switched', 'ref-moved'])('when a deploy is at "%s"', async (phase) => {
    await pushThrough(`receiver:${phase}:1:kill`);
  });
});

const AGENT_PHASES = [
  'prepare:prepare.unpacked',
  'prepare:virtualenv.built',
  'prepare:prepare.packages',
  'prepare:prepare.publish',
  'prepare:prepare.published',
  'prepare:trial',
  'prepare:prepare.started',
  'prepare:prepare.healthy',
  'activate:activate.begin',
  'activate:activate.nginx',
  'activate:activate.run-link',
  'activate:activate.current',
  'retire:retire.drained',
] as const;

describe('the agent is killed', () => {
  const CHOSEN = ['prepare:virtualenv.built', 'activate:activate.current', 'retire:retire.drained'] as const;
  itSome(AGENT_PHASES, CHOSEN)('at %s', async (phase) => {
    await pushThrough(`${phase}:1:kill`);
  });
});

describe('receiver and agent are killed together', () => {
  itSome(AGENT_PHASES, ['activate:activate.run-link'])('at %s', async (phase) => {
    await pushThrough(`${phase}:1:kill-both`);
  });
});

describe('the disk is full', () => {
  itSome(['unpack', 'mkdir', 'write', 'publish', 'symlink'], ['symlink'])(
    'for each %s of a push, one after the other',
    async (operation) => {
      for (let at = 1; ; at++) {
        const before = (await get(receiver, HOST)).body;
        const next = `version ${++version}`;
        alice.commit({ 'version.txt': next });
        writeFileSync(failpoint, `prepare:${operation}:${at}:ENOSPC`);
        const pushed = await alice.push('stage');
        rmSync(failpoint);
        if (pushed.code === 0) {
          expect(at).toBeGreaterThan(1);
          expect(await expectConsistent([next])).toBe(next);
          break;
        }
        expect(pushed.rejected).toMatch(/^disk full; v[0-9]+ still live$/);
        expect(await expectConsistent([before])).toBe(before);
      }
      await expectNoOrphans();
    },
  );

  it('when packages have just been installed', async () => {
    const before = (await get(receiver, HOST)).body;
    alice.commit({ 'requirements.txt': `# ${++version}\n`, 'version.txt': 'never' });
    writeFileSync(failpoint, 'prepare:virtualenv.built:1:ENOSPC');
    const pushed = await alice.push('stage');
    rmSync(failpoint);
    expect(pushed.rejected).toMatch(/^disk full; v[0-9]+ still live$/);
    expect(pushed.lines).toContain('error: the disk of the node is full');
    expect(await expectConsistent([before])).toBe(before);
    const last = `version ${++version}`;
    await alice.deploy({ 'version.txt': last });
    expect(await expectConsistent([last])).toBe(last);
    await expectNoOrphans();
  });
});
