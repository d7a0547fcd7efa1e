// A kraftwerk.yaml that cannot be deployed: all that is wrong is named, nothing that serves is touched.
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { createVictim, QUICK, type Victim } from '../actors/refusal.ts';
import { agreement, get } from '../actors/site.ts';

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

describe('a push is refused', () => {
  it('without kraftwerk.yaml', () =>
    alice.breaks(
      { 'kraftwerk.yaml': null },
      { rejected: 'kraftwerk.yaml is missing', error: 'kraftwerk.yaml: missing in the root of the project' },
    ));

  it('with a link or a folder of this name, with too large a file, and with one in Latin-1', async () => {
    const notAFile = { rejected: 'kraftwerk.yaml is not a file' };
    await alice.breaks(
      { 'kraftwerk.yaml': null, 'kraftwerk.yaml/wsgi': '' },
      { ...notAFile, error: 'kraftwerk.yaml: expected a file, got a folder' },
    );
    alice.write({ 'kraftwerk.yaml': null });
    symlinkSync('app.py', join(alice.work, 'kraftwerk.yaml'));
    await alice.breaks({}, { ...notAFile, error: 'kraftwerk.yaml: expected a file, got a link' });
    const bad = { rejected: 'kraftwerk.yaml has an error' };
    await alice.breaks(
      { 'kraftwerk.yaml': `${QUICK}#${'x'.repeat(3_000_000)}\n` },
      { ...bad, error: `kraftwerk.yaml:1:1 at most 65536 bytes are allowed, got ${3_000_002 + QUICK.length}` },
    );
    await alice.breaks(
      { 'kraftwerk.yaml': Buffer.from(`# Gr\xf6\xdfe\n${QUICK}`, 'latin1') },
      { ...bad, error: 'kraftwerk.yaml:1:5 expected UTF-8, got the byte 0xf6' },
    );
  });

  it('with a kraftwerk.yaml that is no YAML', () =>
    alice.breaks(
      { 'kraftwerk.yaml': 'wsgi: [app\n' },
      { rejected: 'kraftwerk.yaml has an error', error: 'kraftwerk.yaml:2:1 not YAML: deficient indentation' },
    ));

  it('with unknown keys and wrong types, all named at once, each with its place', async () => {
    const { lines } = await alice.breaks(
      { 'kraftwerk.yaml': 'wsgi: app\nenviroment: {}\nworkers: two\nhealthcheck: {pth: /}\nservices: [flies]\n' },
      {
        rejected: 'kraftwerk.yaml has 4 errors',
        error: 'kraftwerk.yaml:2:1 unknown key "enviroment", did you mean',
      },
    );
    expect(lines.filter((line) => line.startsWith('error: '))).toHaveLength(4);
    expect(
      lines.filter((line) => line.startsWith('error: ')).map((line) => /:([0-9]:[0-9]+) /.exec(line)?.[1]),
    ).toEqual(['2:1', '3:10', '4:15', '5:12']);
  });

  it('with a wsgi whose module does not exist', () =>
    alice.breaks(
      { 'kraftwerk.yaml': 'wsgi: blog.wsgi\nsrc: .\n' },
      { rejected: 'no module blog.wsgi', error: 'kraftwerk.yaml:1:1 wsgi: no module blog.wsgi in the project' },
    ));

  it('with a wsgi whose callable does not exist', () =>
    alice.breaks(
      { 'kraftwerk.yaml': QUICK.replace('wsgi: app', 'wsgi: app:nothing') },
      { rejected: 'wsgi callable not found', error: /./ },
    ));

  it('with a static folder and a requirements file that are not in the tree', () =>
    alice.breaks(
      { 'kraftwerk.yaml': `${QUICK}requirements: needs.txt\nstatic: {/static: statik}\n` },
      {
        rejected: 'kraftwerk.yaml does not fit the tree',
        error: 'kraftwerk.yaml:5:1 requirements: no file needs.txt',
        says: ['error: kraftwerk.yaml:6:10 static: no folder statik, did you mean'],
      },
    ));

  it('with a pushed virtualenv', () =>
    alice.breaks(
      { 'venv/bin/python': '#!/bin/sh\n', '.venv/pyvenv.cfg': 'home = /usr/bin\n' },
      {
        rejected: 'kraftwerk.yaml does not fit the tree',
        error: 'venv/: a virtualenv is in the repository; each node makes its own',
        says: [/^hint: git rm -r -q --cached venv && echo venv\//],
      },
    ));

  it('with a domain that another project has: first come keeps it', async () => {
    const bob = await createVictim(receiver, 'other');
    await bob.breaks(
      { 'kraftwerk.yaml': `${QUICK}domain: [new.localhost, blog-stage.localhost]\n` },
      {
        rejected: 'blog-stage.localhost belongs to blog/stage',
        error: 'the domain blog-stage.localhost belongs to blog/stage',
        says: ['hint: environments:', 'hint:   stage:'],
      },
    );
    expect((await get(receiver, 'blog-stage.localhost')).body).toMatch(/^(one|good)/);
    bob.cleanUp();
  });

  it('and a first push that is refused leaves no project behind', async () => {
    const bob = createPusher(receiver, 'never', { 'kraftwerk.yaml': 'nonsense: true\n' });
    bob.commit();
    expect(await bob.push()).toMatchObject({ code: 1, rejected: 'kraftwerk.yaml has an error' });
    expect((await bob.tryGit(['ls-remote', 'stage'])).stderr).toMatch(
      /^fatal: remote error: never\/stage: no such project/m,
    );
    bob.git(['rm', '-q', 'kraftwerk.yaml']);
    await bob.deploy({
      'kraftwerk.yaml': QUICK,
      'app.py': 'def application(e, s):\n    s("200 OK", [])\n    return [b"yes"]\n',
    });
    expect((await get(receiver, 'never-stage.localhost')).body).toBe('yes');
    expect(agreement(receiver, 'never/stage').release).toBe(1);
    bob.cleanUp();
  });
});
