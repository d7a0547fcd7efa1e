// Sites that cannot be installed, started, or that do not answer well: the old one goes on serving.
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { createVictim, QUICK, type Victim } from '../actors/refusal.ts';
import { get } from '../actors/site.ts';
import { thorough } from '../actors/thorough.ts';

let receiver: TestReceiver;
let alice: Victim;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = await createVictim(receiver, 'blog');
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

/** A site that answers as `body` of its function says. */
const app = (body: string, before = ''): string => `import os, signal, sys, threading, time
${before}
def application(environ, start):
${body.replace(/^/gm, '    ')}
`;
const OK = 'start("200 OK", [])\nreturn [b"new"]';

describe('a push is refused', () => {
  it('with a requirement that does not exist: its line and pip’s last words are shown', () =>
    alice.breaks(
      { 'requirements.txt': '# ours\nno-such-thing==9.9\n' },
      {
        rejected: 'pip failed',
        error: 'requirements.txt:2 no-such-thing==9.9: pip could not install it',
        says: [/^ {7}ERROR: No matching distribution found for no-such-thing==9\.9/],
      },
    ));

  it('with a requirement that cannot be read', () =>
    alice.breaks(
      { 'requirements.txt': 'flask\nthis is no requirement\n' },
      { rejected: 'pip failed', error: /^requirements\.txt:2 this is no requirement: pip could not/ },
    ));

  it('with a requirement whose setup fails', () =>
    alice.breaks(
      { 'requirements.txt': './lib\n', 'lib/setup.py': 'raise SystemExit("cannot be built here")\n' },
      { rejected: 'pip failed', error: /pip (failed|could not)/, says: [/cannot be built here/] },
    ));

  it('with an import error: the traceback reaches the pusher', () =>
    alice.breaks(
      { 'app.py': `import missing_thing\n${app(OK)}` },
      {
        rejected: 'no module named missing_thing',
        error: /^v[0-9]+ not deployed: its process ended before it answered$/,
        says: [
          /^ {7}ModuleNotFoundError: No module named 'missing_thing'$/,
          /^hint: is missing_thing in requirements\.txt, or/,
        ],
      },
    ));

  it('with a syntax error', () =>
    alice.breaks(
      { 'app.py': app('start("200 OK", []\nreturn [b""]') },
      { rejected: 'the site cannot be imported', error: /^v[0-9]+ not deployed: /, says: [/SyntaxError/] },
    ));

  it('that answers its health check with 500: its log is shown', () =>
    alice.breaks(
      { 'app.py': app('raise ValueError("no database")') },
      {
        rejected: 'health check answered 500',
        error: /^v[0-9]+ not deployed: its health check answered 500 twice$/,
        says: [/ValueError: no database/, /^hint: v[0-9]+ is still serving\. Log:/],
      },
    ));

  it('that answers with a status that kraftwerk.yaml does not want', () =>
    alice.breaks(
      { 'kraftwerk.yaml': QUICK.replace('path: /,', 'path: /, status: 204,') },
      { rejected: 'health check answered 200', error: /^v[0-9]+ not deployed: its health check answered 200 twice$/ },
    ));

  it('that answers 404 to its health check, with a hint to choose another path', () =>
    alice.breaks(
      { 'kraftwerk.yaml': QUICK.replace('path: /,', 'path: /?status=404,') },
      {
        rejected: 'health check answered 404',
        error: /its health check answered 404 twice$/,
        says: [/^hint: does the site answer GET \/\?status=404\? Choose another:/],
      },
    ));

  it('that answers once, badly, and then never again', () =>
    alice.breaks(
      {
        'kraftwerk.yaml': QUICK.replace('interval: 0.1', 'interval: 0.1, timeout: 0.3'),
        'app.py': app(
          'ASKED.append(1)\ntime.sleep(0 if len(ASKED) == 1 else 5)\nstart("500 No", [])\nreturn [b""]',
          'ASKED = []',
        ),
      },
      { rejected: 'unhealthy', error: /^v[0-9]+ not deployed: its health check did not answer within 0\.3 s,/ },
    ));

  it('that dies after it has answered, within settle', () =>
    alice.breaks(
      {
        'kraftwerk.yaml': QUICK.replace('interval: 0.1', 'interval: 0.1, settle: 20'),
        'app.py': app(`threading.Timer(0.2, os.kill, (os.getppid(), signal.SIGKILL)).start()\n${OK}`),
      },
      { rejected: 'unhealthy', error: /^v[0-9]+ not deployed: its process ended within 20 s of its health/ },
    ));
});

it('a site that ignores SIGTERM is replaced all the same, and ends', async () => {
  const stubborn = await createVictim(receiver, 'stubborn', {
    'kraftwerk.yaml': `${QUICK}timeout: 2\n`,
    'gunicorn.conf.py': `import signal
def when_ready(server):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
`,
  });
  const pid = (JSON.parse((await get(receiver, stubborn.host, '/python')).body) as { pid: number }).pid;
  await stubborn.deploy({ 'version.txt': 'two', 'gunicorn.conf.py': null });
  expect((await get(receiver, stubborn.host)).body).toBe('two');
  await waitFor('the old process to end', () => !existsSync(`/proc/${pid}`), 20_000);
  await stubborn.recovers();
  stubborn.cleanUp();
});

it.runIf(thorough)('a site that never answers is refused after a minute, and its project is as it was', async () => {
  const mute = await createVictim(receiver, 'mute');
  await mute.breaks(
    { 'app.py': app(`time.sleep(100)\n${OK}`) },
    { rejected: 'unhealthy', error: /^v2 not deployed: it did not answer within 60 s of its start$/ },
  );
  mute.cleanUp();
});
