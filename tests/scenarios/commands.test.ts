import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';
import type { TestKey } from '../actors/ssh.ts';
import { thorough } from '../actors/thorough.ts';

let receiver: TestReceiver;
const pushers: Pusher[] = [];
beforeAll(async () => {
  receiver = await startReceiver();
});
afterEach(() => {
  for (const pusher of pushers.splice(0)) pusher.cleanUp();
});
afterAll(() => receiver.cleanUp());

/** A project of its own for each test, with as many releases as there are texts. */
async function deployed(project: string, ...texts: string[]): Promise<Pusher> {
  const pusher = createPusher(receiver, project);
  pushers.push(pusher);
  for (const text of texts) await pusher.deploy({ 'version.txt': text });
  return pusher;
}

async function json<T>(...words: string[]): Promise<T> {
  const { stdout } = await receiver.ssh(...words, '--json');
  return JSON.parse(stdout) as T;
}

async function body(project: string): Promise<string> {
  return (await get(receiver, `${project}-stage.localhost`)).body;
}

interface StatusJson {
  state: string;
  release: number;
  commit: string;
  processes: { release: number; does: string; pid: number }[];
  warnings: string[];
}

function residentKiB(pid: number | null): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** ssh as it is, to be listened to and to be killed. */
function follow(...words: string[]) {
  const [command = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
  const child = spawn(command, [...args, 'receiver', ...words]);
  const seen = { text: '' };
  child.stdout.on('data', (chunk: Buffer) => (seen.text += chunk.toString('utf8')));
  return { child, seen, ended: once(child, 'close') };
}

describe('what there is', () => {
  it('status, ps, projects and releases tell of a deployed target', async () => {
    const alice = await deployed('tells', 'one', 'two');
    const status = await receiver.ssh('status', 'tells/stage');
    expect(status).toMatchObject({ code: 0, stderr: '' });
    expect(status.stdout).toMatch(
      new RegExp(
        `^target +tells/stage\nstate +running\nrelease +v2\ncommit +${alice.head().slice(0, 7)} Change it\n` +
          'deployed +20..-..-..T..:..:..Z by alice\nbranch +master\n' +
          `url +http://tells-stage.localhost:${receiver.httpPort}\nnodes +try\n\nPROCESS +RELEASE +DOES .*\n`,
      ),
    );
    expect(await json<StatusJson>('status', 'tells')).toMatchObject({
      target: 'tells/stage',
      state: 'running',
      busy: null,
      release: 2,
      commit: alice.head(),
      deployedBy: 'alice',
      deployedHow: 'push',
      warnings: [],
      lastFailure: null,
    });
    const processes = await json<{ process: string; release: number; does: string; workers: number }[]>('ps', 'tells');
    expect(processes.filter(({ does }) => does === 'serves')).toMatchObject([
      { node: 'try', process: 'web', release: 2, workers: 2 },
    ]);
    const projects = await json<{ target: string }[]>('projects');
    expect(projects.find(({ target }) => target === 'tells/stage')).toMatchObject({ release: 2, state: 'running' });
    expect(await json('releases', 'tells')).toMatchObject([
      { release: 2, result: 'current', by: 'alice', subject: 'Change it' },
      { release: 1, result: 'ok' },
    ]);
  });

  it('a key sees only its own projects, and a foreign one is as unknown as one that is not there', async () => {
    await deployed('mine', 'one');
    await deployed('theirs', 'one');
    const bob: TestKey = await receiver.addKey('bob', 'read', 'mine');
    const projects = await receiver.sshAs(bob, ['apps', '--json']);
    expect((JSON.parse(projects.stdout) as { target: string }[]).map(({ target }) => target)).toEqual(['mine/stage']);
    expect(await receiver.sshAs(bob, ['status', 'mine'])).toMatchObject({ code: 0 });
    for (const project of ['theirs', 'nothing']) {
      for (const command of ['status', 'logs', 'rollback']) {
        expect(await receiver.sshAs(bob, [command, `${project}/stage`])).toMatchObject({
          code: 4,
          stderr: expect.stringContaining(`error: ${project}/stage: no such project, or not for your key`),
        });
      }
    }
    for (const command of ['rollback', 'deploy', 'restart', 'stop', 'start']) {
      expect(await receiver.sshAs(bob, [command, 'mine']), command).toMatchObject({ code: 4 });
    }
  });

  it('a failed deploy shows in releases and status, and its own log is kept', async () => {
    const alice = await deployed('fails', 'one');
    alice.commit({ 'app.py': 'import nothing_of_that_name\napplication = None\n' });
    expect((await alice.push()).code).not.toBe(0);
    expect(await json('releases', 'fails')).toMatchObject([
      { release: 2, result: 'failed', commit: alice.head(), subject: 'Change it' },
      { release: 1, result: 'current' },
    ]);
    const status = await receiver.ssh('status', 'fails');
    expect(status.stdout).toMatch(/^failed +v2 .* by alice: v2 not deployed/m);
    const log = await receiver.ssh('logs', 'fails', '--deploy', 'v2');
    expect(log.stdout).toContain("ModuleNotFoundError: No module named 'nothing_of_that_name'");
    expect(log.stdout).toContain('hint: v1 is still serving.');
    // A crash of several workers may say a lot.
    const lines = await receiver.ssh('logs', 'fails', '--release', 'v2', '-n', '10000');
    expect(lines.stdout).toMatch(/^\S+Z web v2 ==> v2 web starts\n/);
    expect(lines.stdout).not.toContain(' v1 ');
  });
});

describe('going back and forth', () => {
  it('rollback serves the release before; ref, journal and node agree, and no number is used up', async () => {
    const alice = await deployed('back', 'one', 'two', 'three');
    const done = await receiver.ssh('rollback', 'back');
    expect(done).toMatchObject({ code: 0, stdout: '' });
    expect(done.stderr).toMatch(/^success: v2 live again in /m);
    expect(await body('back')).toBe('two');
    expect(agreement(receiver, 'back/stage')).toEqual({ release: 2, commit: alice.git(['rev-parse', 'HEAD~1']) });
    expect(await receiver.ssh('rollback', 'back', 'v3')).toMatchObject({ code: 0 });
    expect(await body('back')).toBe('three');
    expect(agreement(receiver, 'back/stage')).toEqual({ release: 3, commit: alice.head() });
    expect(await receiver.ssh('rollback', 'back', 'v3')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^error: back\/stage: v3 is the current release already\nhint: /),
    });
    expect(await receiver.ssh('rollback', 'back', 'v9')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('hint: kept: v3, v2, v1\n'),
    });
    expect(await receiver.ssh('rollback', 'back', '2')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('hint: did you mean v2?'),
    });
    await alice.deploy({ 'version.txt': 'four' });
    expect(agreement(receiver, 'back/stage').release).toBe(4);
  });

  it('deploy makes the current release, an earlier one or a commit anew', async () => {
    const alice = await deployed('again', 'one', 'two');
    const first = alice.git(['rev-parse', 'HEAD~1']);
    expect(await receiver.ssh('deploy', 'again')).toMatchObject({ code: 0, stdout: '' });
    expect(agreement(receiver, 'again/stage')).toEqual({ release: 3, commit: alice.head() });
    expect(await receiver.ssh('deploy', 'again', 'v1')).toMatchObject({ code: 0 });
    expect(await body('again')).toBe('one');
    expect(agreement(receiver, 'again/stage')).toEqual({ release: 4, commit: first });
    const byCommit = await receiver.ssh('deploy', 'again', alice.head().slice(0, 8));
    expect(byCommit.stderr).toMatch(/^success: v5 live in /m);
    expect(await body('again')).toBe('two');
    expect(agreement(receiver, 'again/stage')).toEqual({ release: 5, commit: alice.head() });
    expect(await receiver.ssh('deploy', 'again', 'abcdef12')).toMatchObject({ code: 4 });
    expect(await receiver.ssh('deploy', 'again', 'master')).toMatchObject({ code: 2 });
  });

  it('two at once: the second is told who is at work', async () => {
    const alice = await deployed('busy', 'one');
    alice.commit({ 'kraftwerk.yaml': 'wsgi: app\nsrc: .\nworkers: 1\nrelease: sleep 3\n' });
    const from = receiver.log.length;
    const push = alice.push();
    await waitFor('the push to hold the target', async () => (await json<{ busy: unknown }>('status', 'busy')).busy);
    const refused = await receiver.ssh('restart', 'busy');
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/^error: busy\/stage is busy \(alice: git push, since \d+ s\)\n/);
    expect((await push).code).toBe(0);
    expect(receiver.log.slice(from).some(({ event }) => event === 'deploy.failed')).toBe(false);
  });
});

describe('processes', () => {
  it('restart: a new process takes over, no request is lost, the old one ends', async () => {
    await deployed('fresh', 'one');
    const before = await json<StatusJson>('status', 'fresh');
    let failed = 0;
    let going = true;
    const visitor = (async () => {
      while (going) if ((await get(receiver, 'fresh-stage.localhost')).status !== 200) failed += 1;
    })();
    const done = await receiver.ssh('restart', 'fresh');
    expect(done.stderr).toMatch(/^success: v1 restarted in /m);
    const after = await waitFor('the old process to end', async () => {
      const status = await json<StatusJson>('status', 'fresh');
      return status.processes.length === 1 ? status : null;
    });
    going = false;
    await visitor;
    expect(failed).toBe(0);
    expect(after).toMatchObject({ state: 'running', release: 1, warnings: [] });
    expect(after.processes[0]?.pid).not.toBe(before.processes.find(({ does }) => does === 'serves')?.pid);
  });

  it('stop holds over a restart of the receiver; start shows the health check; a push starts it, too', async () => {
    const alice = await deployed('halt', 'one');
    expect(await receiver.ssh('stop', 'halt')).toMatchObject({ code: 0 });
    expect((await get(receiver, 'halt-stage.localhost')).status).toBe(503);
    expect(await receiver.ssh('ps:stop', 'halt')).toMatchObject({
      code: 0,
      stderr: 'halt/stage: v1 is stopped already\n',
    });
    await receiver.restart();
    expect(await json<StatusJson>('status', 'halt')).toMatchObject({ state: 'stopped', processes: [], warnings: [] });
    expect(await receiver.ssh('ps', 'halt')).toMatchObject({ code: 0, stderr: 'halt/stage: stopped\n' });
    const started = await receiver.ssh('start', 'halt');
    expect(started.stderr).toMatch(/^-----> Health +GET \/ 200 in /m);
    expect(await body('halt')).toBe('one');
    expect(await receiver.ssh('start', 'halt')).toMatchObject({
      code: 0,
      stderr: 'halt/stage: v1 is running already\n',
    });
    await receiver.ssh('stop', 'halt');
    await alice.deploy({ 'version.txt': 'two' });
    expect(await body('halt')).toBe('two');
    expect(await json<StatusJson>('status', 'halt')).toMatchObject({ state: 'running', warnings: [] });
  });
});

describe('logs', () => {
  const NOISY = `import sys
print("\\x1b[31mred\\u202e", file=sys.stderr, flush=True)
def application(environ, start_response):
    for number in range(int(environ["QUERY_STRING"] or 0)):
        sys.stderr.write("line %d %s\\n" % (number, "x" * 200))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"one"]
`;

  it('are shown with time, process and release; nothing in them steers a terminal', async () => {
    const alice = await deployed('noise');
    await alice.deploy({ 'app.py': NOISY });
    const { code, stdout } = await receiver.ssh('logs', 'noise');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^20..-..-..T..:..:..\.\d{3}Z web v1 ==> v1 web starts\n/);
    expect(stdout).toContain(' web v1 \\x1b[31mred\\u{202e}\n');
    const { stdout: lines } = await receiver.ssh('logs', 'noise', '-n', '2', '--json');
    expect(lines.trimEnd().split('\n')).toHaveLength(2);
    expect(JSON.parse(lines.split('\n')[0] ?? '')).toMatchObject({ node: 'try', process: 'web', release: 1 });
    expect(await receiver.ssh('logs', 'noise', '-p', 'wbe')).toMatchObject({
      code: 4,
      stderr: 'error: logs: there is no process wbe\nhint: processes: web\n',
    });
    expect(await receiver.ssh('logs', 'noise', '--release', 'v7')).toMatchObject({ code: 4 });
    expect(await receiver.ssh('logs', 'noise', '-n', 'many')).toMatchObject({ code: 2 });
    expect(await receiver.ssh('logs', 'noise', '-f', '--deploy', 'v1')).toMatchObject({ code: 2 });
  });

  it('-f goes on across a deploy and leaves no agent when the client goes', async () => {
    const alice = await deployed('tail', 'one');
    const tail = follow('logs', 'tail', '-f');
    await waitFor('the first lines', () => tail.seen.text.includes(' web v1 ==> v1 web starts\n'));
    await alice.deploy({ 'version.txt': 'two' });
    await waitFor('the lines of the next release', () =>
      /==> v2 web starts\n[\s\S]* v2 .*gunicorn/.test(tail.seen.text),
    );
    expect(receiver.agents()).not.toEqual([]);
    tail.child.kill('SIGKILL');
    await waitFor('the agent to end', () => receiver.agents().length === 0);
  });

  it.runIf(thorough)('a client that does not read costs no memory, and is let go of', async () => {
    const alice = await deployed('slow');
    await alice.deploy({ 'app.py': NOISY });
    const tail = follow('logs', 'slow', '-f', '-n', '0');
    await waitFor('the agent', () => receiver.agents().length === 1);
    tail.child.stdout.pause();
    const before = residentKiB(receiver.pid);
    for (let turn = 0; turn < 8; turn++) await get(receiver, 'slow-stage.localhost', '/?30000');
    expect(residentKiB(receiver.pid) - before).toBeLessThan(30_000);
    tail.child.kill('SIGKILL');
    tail.child.stdout.destroy();
    await waitFor('the agent to end', () => receiver.agents().length === 0);
  });
});
