// kraftwerk, typed in a project, with the real ssh and a real receiver.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesWith, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';
import { type Outcome, outcome, type TestKey } from '../actors/ssh.ts';

/** As scripts/kraftwerk starts it, without a look whether it is to be built. */
const KRAFTWERK = fileURLToPath(new URL('../../build/receiver.mjs', import.meta.url));

let receiver: TestReceiver;
let alice: Pusher;
let stranger: TestKey;
beforeAll(async () => {
  receiver = await startReceiver();
  stranger = receiver.home.key('stranger');
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'version.txt': 'one' });
  await alice.deploy({ 'version.txt': 'two' });
});
afterAll(() => receiver.cleanUp());

/** What spawn gets: kraftwerk in alice's work tree, where ssh is told about the receiver as her git is. */
function typed(args: readonly string[], { key = receiver.admin, below = '' } = {}) {
  const env = {
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    HOME: alice.folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_SSH_COMMAND: receiver.sshCommand(key).join(' '),
  };
  return [process.execPath, [KRAFTWERK, ...args], { cwd: join(alice.work, below), env }] as const;
}

function kraftwerk(...args: string[]): Promise<Outcome> {
  return outcome(spawn(...typed(args)));
}

async function body(): Promise<string> {
  return (await get(receiver, 'blog-stage.localhost')).body;
}

describe('in a project', () => {
  it('commands find the receiver and the target by the git remotes', async () => {
    mkdirSync(join(alice.work, 'deep', 'down'), { recursive: true });
    expect(await outcome(spawn(...typed(['status', '-r', 'stage'], { below: 'deep/down' })))).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^target +blog\/stage\nstate +running\nrelease +v2\n/),
      stderr: '',
    });
    const { stdout } = await kraftwerk('-r', 'stage', 'releases', '--json');
    expect(JSON.parse(stdout)).toMatchObject([{ release: 2 }, { release: 1 }]);
    expect(await kraftwerk('whoami')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^name +alice\n/) });
    expect((await kraftwerk('apps')).stdout).toContain('blog/stage');
    expect((await kraftwerk('logs', 'blog', '-n', '1')).stdout.split('\n')).toHaveLength(2);
    expect(await kraftwerk('dumps', '-r', 'stage')).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^no dumps yet/),
    });
    expect(await kraftwerk('dumps', '--destroyed')).toMatchObject({ code: 0, stderr: 'no dumps of destroyed sites\n' });
  });

  it('which of several targets is asked, with what can be typed instead', async () => {
    expect(await kraftwerk('restart')).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'error: restart: which target? There are 2 git remotes\n' +
        '  live: blog/live on receiver\n  stage: blog/stage on receiver\n' +
        'hint: kraftwerk restart -r live\nhint: kraftwerk restart -r stage\n',
    });
  });

  it('rollback goes back and forward, told as over ssh', async () => {
    const back = await kraftwerk('rollback', 'v1', '-r', 'stage');
    expect(back).toMatchObject({ code: 0, stderr: expect.stringContaining('-----> Switch      v1 serves') });
    expect(await body()).toBe('one');
    expect(await kraftwerk('rollback', 'v2', '--remote=stage')).toMatchObject({ code: 0 });
    expect(await body()).toBe('two');
  });

  it('the receiver’s exit codes and errors come through', async () => {
    expect(await kraftwerk('logs', 'shop/stage')).toMatchObject({
      code: 4,
      stdout: '',
      stderr: expect.stringMatching(/^error: shop\/stage: no such project, or not for your key\n/),
    });
    expect(await kraftwerk('logs', '-r', 'stage', '-n', 'many')).toMatchObject({ code: 2 });
    expect(await kraftwerk('rollback', '-r', 'stage', 'it\'s "x"')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('got "it\'s \\"x\\""'),
    });
  });

  it('what is read from stdin reaches the receiver, and a name that is typed confirms', async () => {
    const ci = receiver.home.key('ci');
    const added = await outcome(spawn(...typed(['keys:add', 'ci', '--role', 'read', 'blog/stage'])), ci.line);
    expect(added).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^success: ci may come in: read, blog\/stage/),
    });
    expect(await kraftwerk('keys:remove', 'ci')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: keys:remove: nothing done: not confirmed\n/),
    });
    const [node, words, options] = typed(['keys:remove', 'ci']);
    const line = [node, ...words].map((word) => `'${word}'`).join(' ');
    const terminal = spawn('script', ['-qec', line, '/dev/null'], options);
    let said = '';
    terminal.stdout.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
    await waitFor('the question', () => said.includes('Type ci to go on: '));
    terminal.stdin.write('ci\r');
    expect(await once(terminal, 'close')).toEqual([0, null]);
    const left = await kraftwerk('keys');
    expect(left.stdout).not.toMatch(/^ci /m);
    expect(left.stdout).toMatch(/ configuration +20[0-9-]{8}$/m);
  });

  it('logs are followed until Ctrl-C, and no ssh stays behind', async () => {
    const child = spawn(...typed(['logs', '-f', '-r', 'stage']));
    const ended = once(child, 'close');
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
    await waitFor('the log', () => said.includes('web starts'));
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString('utf8')));
    child.kill('SIGINT');
    const [code] = (await ended) as [number | null];
    expect({ code, complaint }).toEqual({ code: 130, complaint: expect.not.stringContaining('error:') });
    await waitFor('ssh to end', () => processesWith(receiver.home.folder).length === 0);
  });

  it('a key that the receiver does not know is told what to do', async () => {
    expect(await outcome(spawn(...typed(['whoami'], { key: stranger })))).toMatchObject({
      code: 255,
      stdout: '',
      stderr: expect.stringMatching(
        /^kraftwerk@127\.0\.0\.1: Permission denied \(publickey\)\.\r?\nerror: ssh gave up: kraftwerk@receiver .*\nhint: what ssh tries: ssh -F \S+ -i \S+ -v kraftwerk@receiver whoami\n/,
      ),
    });
  });

  it('remote add makes a remote that deploys', async () => {
    alice.git(['remote', 'remove', 'live']);
    expect(await kraftwerk('logs', '-n', '0')).toMatchObject({ code: 0 });
    expect(await kraftwerk('remote', 'add', 'live', 'receiver')).toEqual({
      code: 0,
      stdout: '  git push live master\n',
      stderr: 'live is kraftwerk@receiver:blog/live. To deploy to it:\n\n',
    });
    expect(await alice.push('live')).toMatchObject({ code: 0 });
    expect((await kraftwerk('status', '-r', 'live')).stdout).toMatch(/^target +blog\/live\nstate +running\n/);
    expect((await kraftwerk('remote')).stdout).toBe(
      'REMOTE  TARGET      RECEIVER\nlive    blog/live   receiver\nstage   blog/stage  receiver\n',
    );
  });
});
