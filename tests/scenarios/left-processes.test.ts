// Processes that a site leaves behind: whatever leaves its parent ends with its release, on every profile; and "its processes have
// ended" is said only when they have. The system node's half, where one may mean to hide: red-team.test.ts.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesWith, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';

/** How long its children sleep: by that number they are known. */
const MARK = String(4_000_000 + (process.pid % 1_000_000));
const HOST = 'strays-stage.localhost';

/** A site that starts a child of each kind when it is loaded; `SECONDS` is told apart by release. */
const app = (seconds: string): string => `
import os, subprocess

def leave(argv):
    """As a daemon does it: a session of its own, and no parent but init."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(argv[0], argv)
        os._exit(0)
    os.wait()

SLEEP = ['/bin/sleep', '${seconds}']
subprocess.Popen(SLEEP)
subprocess.Popen(SLEEP, start_new_session=True)
leave(SLEEP)

def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'${seconds}']
`;
const KINDS = 3;

let receiver: TestReceiver;
let alice: Pusher;
let version = 0;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'strays');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

/** Deploys a release. @returns the number that its children sleep for */
async function deploy(files: Readonly<Record<string, string>> = {}): Promise<string> {
  const seconds = `${MARK}.${++version}`;
  await alice.deploy({ 'app.py': app(seconds), 'kraftwerk.yaml': YAML, ...files }, 'stage');
  return seconds;
}
const YAML = 'wsgi: app:application\nsrc: .\nworkers: 1\n';
const sleeping = (seconds: string): number => processesWith(seconds).filter(({ argv }) => argv[1] === seconds).length;
const ended = (seconds: string): Promise<true> => waitFor(`the end of ${seconds}`, () => sleeping(seconds) === 0);
const good = async (...words: string[]): Promise<string> => {
  const { code, stderr } = await receiver.ssh(...words);
  expect({ words, code, stderr: code === 0 ? '' : stderr }).toEqual({ words, code: 0, stderr: '' });
  return stderr;
};

describe('what a release has started', () => {
  it('lives as long as it serves, and ends with it when the next one does', async () => {
    const first = await deploy();
    expect(sleeping(first)).toBe(KINDS);
    const second = await deploy();
    await ended(first);
    expect(sleeping(second)).toBe(KINDS);
    expect((await get(receiver, HOST, '/')).body).toBe(second);
  });

  it('ends at stop, comes back at start, and is new after a restart', async () => {
    const now = `${MARK}.${version}`;
    const pids = (): number[] => processesWith(now).map(({ pid }) => pid);
    await good('stop', 'strays/stage');
    expect(sleeping(now)).toBe(0);
    await good('start', 'strays/stage');
    await waitFor('its children', () => sleeping(now) === KINDS);
    const before = pids();
    await good('restart', 'strays/stage');
    await waitFor(
      'the end of the old ones',
      () => pids().every((pid) => !before.includes(pid)) && sleeping(now) === KINDS,
    );
  });

  it('ends when it is taken back, as what its build and its release command have left does', async () => {
    const left = `${MARK}.0`;
    const leave = `(setsid /bin/sleep ${left} </dev/null >/dev/null 2>&1 &)`;
    const now = `${MARK}.${version}`;
    const broken = `${MARK}.${++version}`;
    const text = app(broken).replace('200 OK', '500 No');
    const yaml = `${YAML}build: '${leave}'\nrelease: '${leave}'\nhealthcheck: {path: /, retries: 1}\n`;
    alice.commit({ 'app.py': text, 'kraftwerk.yaml': yaml });
    const { code } = await alice.push('stage');
    expect(code).not.toBe(0);
    expect([sleeping(broken), sleeping(left), sleeping(now)]).toEqual([0, 0, KINDS]);
  });

  it('is not a server that has gone to the background: the push says why', async () => {
    const conf = {
      'gunicorn.conf.py': 'daemon = True\n',
      'kraftwerk.yaml': YAML,
      'app.py': app(`${MARK}.${++version}`),
    };
    alice.commit(conf);
    const { code, output } = await alice.push('stage');
    expect(code).not.toBe(0);
    expect(output).toContain('is there daemon = True in');
    expect(output).toContain('its process went to the background');
    await ended(`${MARK}.${version}`);
    alice.commit({ 'gunicorn.conf.py': null });
  });

  it('ends with the project', async () => {
    const now = await deploy();
    const said = await good('destroy', 'strays/stage', '--confirm', 'strays/stage', '--no-dump');
    expect(said).toContain('its processes have ended');
    expect(sleeping(now)).toBe(0);
    expect(processesWith(MARK)).toEqual([]);
  });
});
