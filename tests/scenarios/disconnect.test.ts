// The pusher's connection ends in the middle: before the switch the deploy is given up, after it the deploy is finished.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listProcesses, processesIn, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';

const HOST = 'blog-stage.localhost';
let receiver: TestReceiver;
let alice: Pusher;
let failpoint: string;

beforeAll(async () => {
  receiver = await startReceiver();
  failpoint = join(receiver.folder, 'failpoint');
  await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'version.txt': 'first' });
});
afterAll(async () => {
  alice.cleanUp();
  rmSync(failpoint, { force: true });
  await receiver.cleanUp();
});

/** git and its ssh in a group of their own, to be ended as Ctrl-C or a closed laptop would. */
function startPush(): { child: ChildProcess; output: () => string; hangUp(): Promise<void> } {
  const child = spawn('git', ['push', 'stage', 'master'], {
    cwd: alice.work,
    detached: true,
    env: {
      PATH: process.env.PATH,
      HOME: receiver.folder,
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_SSH_COMMAND: receiver.sshCommand(receiver.admin).join(' '),
    },
  });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const closed = once(child, 'close');
  return {
    child,
    output: () => output,
    async hangUp() {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      await closed;
    },
  };
}

/** An agent may end between being listed and being looked at. */
function isHalted(pid: number): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function expectServes(body: string): Promise<void> {
  expect((await get(receiver, HOST)).body).toBe(body);
  const { commit } = agreement(receiver, 'blog/stage');
  expect(alice.git(['show', `${commit}:version.txt`])).toBe(body);
}

/** What runs for this receiver with `text` in its command line. */
function running(text: string) {
  return processesIn(receiver.node).filter(({ argv }) => argv.some((word) => word.includes(text)));
}

async function expectNothingRuns(text: string): Promise<void> {
  await waitFor('what the push has started to end', () => receiver.agents().length === 0 && running(text).length === 0);
}

describe('the client goes away', () => {
  it('while a build command runs: it is ended with all its children, and the old version serves', async () => {
    const build = 'sh -c "sleep 4711 & sleep 4712"';
    const manifest = readFileSync(join(alice.work, 'kraftwerk.yaml'), 'utf8');
    alice.commit({ 'kraftwerk.yaml': `${manifest}build: '${build}'\n`, 'version.txt': 'second' });
    const push = startPush();
    await waitFor('the build', () => running('4712').length > 0);
    const from = receiver.log.length;
    await push.hangUp();
    const failed = await receiver.logged('deploy.failed', undefined, from);
    expect(failed.code).toBe('deploy.aborted');
    await expectNothingRuns('471');
    await expectServes('first');
    await alice.deploy({ 'kraftwerk.yaml': manifest, 'version.txt': 'third' });
    await expectServes('third');
  });

  it('while pip waits for an index that never answers: it hears that it waits, and pip is ended', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    // The project's own requirements name the index: the test's wheels do not count there.
    alice.commit({
      'requirements.txt': `--index-url http://127.0.0.1:${port}/simple\nnever-heard-of-it\n`,
      'version.txt': 'fourth',
    });
    await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}`, PIP_NO_INDEX: '0' });
    const push = startPush();
    await waitFor('a heartbeat', () => /still .* … [0-9]+s/.test(push.output()), 60_000);
    const from = receiver.log.length;
    await push.hangUp();
    await receiver.logged('deploy.failed', undefined, from);
    await expectNothingRuns('never-heard-of-it');
    expect(
      listProcesses().filter(({ argv }) => argv.includes('pip') && argv.some((word) => word.startsWith(receiver.node))),
    ).toEqual([]);
    silent.close();
    await expectServes('third');
    await alice.deploy({ 'requirements.txt': null, 'version.txt': 'fifth' });
    await expectServes('fifth');
  });

  it('after the switch: the deploy is finished, and the ref has moved', async () => {
    alice.commit({ 'version.txt': 'sixth' });
    writeFileSync(failpoint, 'activate:activate.current:1:stop');
    const push = startPush();
    const stopped = (): number | undefined => receiver.agents().find(isHalted);
    const agent = await waitFor('the agent to halt', stopped);
    rmSync(failpoint);
    await push.hangUp();
    const from = receiver.log.length;
    process.kill(agent, 'SIGCONT');
    await receiver.logged('deploy.done', undefined, from);
    await expectServes('sixth');
    expect(alice.git(['ls-remote', 'stage', 'refs/heads/master'])).toContain(alice.head());
  });
});
