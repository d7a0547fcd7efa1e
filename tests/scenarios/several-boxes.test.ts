// One environment on three servers: what cables, power, slow lines, full disks and wrong clocks do to a push.
// Nightly: on fewer machines, tests/scenarios/several-nodes*.test.ts and ssh-node*.test.ts.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { waitFor } from '../actors/processes.ts';
import type { PushResult } from '../actors/pusher.ts';
import { NAMES, type NodeName, type SeveralBoxes, startSeveralBoxes, TARGET } from '../actors/several-boxes.ts';

const SETUP_LIMIT_MS = 900_000;
/** Until a dead connection is found out, and whoever waits for it has given up. */
const CUT_LIMIT_MS = 300_000;

describe.skipIf(boxesAvailable() !== null)('three servers', () => {
  useBoxes();
  let several: SeveralBoxes;

  beforeAll(async () => {
    several = await startSeveralBoxes({ web3: '400M' });
    await several.alice.deploy({ 'version.txt': several.nextVersion() }, 'live');
  }, SETUP_LIMIT_MS);
  afterAll(() => several?.cleanUp(), SETUP_LIMIT_MS);

  /** After whatever has happened, the next push goes to all of them. */
  async function expectNextPush(): Promise<void> {
    const last = several.nextVersion();
    await several.alice.deploy({ 'version.txt': last }, 'live');
    await several.expectAgreement([last]);
  }

  /** What the receiver could not settle without the node is settled when that is back, without anybody asking for it. */
  async function expectSettled(from: number): Promise<void> {
    await several.receiver.logged('deploy.settled', undefined, from, 120_000);
  }

  it('serve what was pushed', async () => {
    await several.expectAgreement([several.lastVersion()]);
    const { stdout, code } = await several.receiver.ssh('doctor');
    expect([code, stdout]).toEqual([0, 'try: in order\nweb1: in order\nweb2: in order\nweb3: in order\n']);
  });

  it(
    'take the next push, whatever has become of the agents that wait for it',
    async () => {
      const { boxes, endAgents } = several;
      // Warm, then killed while they wait, then gone with their machine.
      await expectNextPush();
      await endAgents('web2');
      await expectNextPush();
      await boxes.web2.reboot();
      await expectNextPush();
    },
    CUT_LIMIT_MS,
  );

  describe('the cable of the second is cut', () => {
    async function pushAndCut(phase: string): Promise<{ pushed: PushResult; before: string; from: number }> {
      const { alice, boxes, failAt, halted, receiver } = several;
      const before = await several.expectAgreement([several.lastVersion()]);
      await failAt('web2', `${phase}:1:stop`);
      alice.commit({ 'version.txt': several.nextVersion() });
      const from = receiver.log.length;
      const pushing = alice.push('live');
      await halted('web2');
      await boxes.web2.cut();
      const pushed = await pushing;
      alice.git(['reset', '-q', '--hard', 'HEAD~1']);
      await failAt('web2', null);
      return { pushed, before, from };
    }

    const PHASES = [
      'prepare:prepare.unpacked',
      'prepare:prepare.healthy',
      'activate:activate.begin',
      'activate:activate.current',
    ] as const;
    it.each(PHASES)(
      'at %s',
      async (phase) => {
        const { pushed, before, from } = await pushAndCut(phase);
        expect(pushed.rejected).toMatch(/web2/);
        expect(pushed.lines.find((line) => line.startsWith('error: '))).toContain('node web2');
        // The others serve what they served, at once.
        expect(await several.expectAgreement([before], ['web1', 'web3'])).toBe(before);
        await several.boxes.web2.restore();
        await expectSettled(from);
        expect(await several.expectAgreement([before])).toBe(before);
        await expectNextPush();
      },
      CUT_LIMIT_MS,
    );

    it(
      'before the push: it is refused at once, with the name',
      async () => {
        const { alice, boxes } = several;
        await boxes.web2.cut();
        alice.commit({ 'version.txt': 'never' });
        const begin = performance.now();
        const pushed = await alice.push('live');
        const seconds = (performance.now() - begin) / 1000;
        alice.git(['reset', '-q', '--hard', 'HEAD~1']);
        expect(pushed.rejected).toMatch(/^node web2 is unreachable; v\d+ still live$/);
        expect(seconds).toBeLessThan(33);
        const { stderr } = await several.receiver.ssh('status', TARGET);
        expect(stderr).toMatch(/^warning: node web2 cannot be asked: /m);
        expect(stderr).toContain('hint: ssh kraftwerk@HOST doctor web2\n');
        await boxes.web2.restore();
        await waitFor('web2 to answer', async () => (await several.receiver.ssh('doctor', 'web2')).code === 0);
        await expectNextPush();
      },
      CUT_LIMIT_MS,
    );
  });

  describe('the second loses its power', () => {
    it.each(['activate:activate.begin', 'activate:activate.current'])(
      'at %s',
      async (phase) => {
        const { alice, boxes, failAt, halted, receiver } = several;
        const before = await several.expectAgreement([several.lastVersion()]);
        await failAt('web2', `${phase}:1:stop`);
        alice.commit({ 'version.txt': several.nextVersion() });
        const from = receiver.log.length;
        const pushing = alice.push('live');
        await halted('web2');
        await boxes.web2.kill();
        const pushed = await pushing;
        alice.git(['reset', '-q', '--hard', 'HEAD~1']);
        expect(pushed.rejected).toMatch(/web2/);
        expect(await several.expectAgreement([before], ['web1', 'web3'])).toBe(before);
        await boxes.web2.up();
        await expectSettled(from);
        await waitFor(
          'web2 to serve again',
          async () => (await several.visit('web2').catch(() => null))?.status === 200,
          60_000,
        );
        expect(await several.expectAgreement([before])).toBe(before);
        await expectNextPush();
      },
      CUT_LIMIT_MS,
    );
  });

  it(
    'the receiver is killed between the first and the second, and the second loses its power meanwhile',
    async () => {
      const { alice, boxes, receiver } = several;
      const before = await several.expectAgreement([several.lastVersion()]);
      const failpoint = join(receiver.folder, 'failpoint');
      writeFileSync(failpoint, 'receiver:switched-1:1:kill');
      const next = several.nextVersion();
      alice.commit({ 'version.txt': next });
      await alice.push('live');
      await waitFor('the receiver to be killed', () => receiver.pid === null);
      rmSync(failpoint);
      await boxes.web2.kill();
      const begin = performance.now();
      const from = receiver.log.length;
      await several.restart();
      // The node that is down does not keep the receiver from its start.
      expect(performance.now() - begin).toBeLessThan(15_000);
      expect(receiver.log.slice(from).some(({ event }) => event === 'deploy.settle_waits')).toBe(true);
      await boxes.web2.up();
      await expectSettled(from);
      await waitFor(
        'web2 to serve again',
        async () => (await several.visit('web2').catch(() => null))?.status === 200,
        60_000,
      );
      // What was on trial there is gone: so it went back everywhere.
      await several.expectAgreement([before, next]);
      await expectNextPush();
    },
    CUT_LIMIT_MS,
  );

  describe('with a router, which is one of them', () => {
    const Host = 'blog-routed.example';

    /** Asks the router and tells who answered. */
    async function whoAnswers(): Promise<string[]> {
      const answered = new Set<string>();
      for (let turn = 0; turn < 20; turn++) {
        const { status, body } = await several.visit('web3', '/who', { Host });
        expect(status).toBe(200);
        answered.add(body.split('-')[0] ?? '');
      }
      return [...answered].sort();
    }

    it('visitors are spread over all of them, and the nodes believe the router alone', async () => {
      const { alice } = several;
      const app = `${alice.git(['show', 'HEAD:app.py'])}
plain = application


def application(environ, start_response):
    if environ["PATH_INFO"] == "/who":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [os.uname().nodename.encode()]
    return plain(environ, start_response)
`;
      alice.git(['remote', 'add', 'routed', 'kraftwerk@receiver:blog/routed']);
      const { lines } = await alice.deploy({ 'app.py': app }, 'routed');
      expect(lines.at(-1)).toMatch(/http:\/\/blog-routed\.example$/);
      expect(await whoAnswers()).toEqual(['web1', 'web2', 'web3']);
      const lie = { Host, 'X-Forwarded-For': '6.6.6.6', 'X-Forwarded-Proto': 'https' };
      const wanted = { HTTP_X_FORWARDED_FOR: '10.77.0.1', HTTP_X_FORWARDED_PROTO: 'http' };
      for (const name of ['web3', 'web1'] as const)
        expect(JSON.parse((await several.visit(name, '/headers', lie)).body)).toMatchObject(wanted);
    });

    it('one that the router cannot reach is passed over', async () => {
      const { web1, web3 } = several.boxes;
      await web3.cut(web1);
      // What was on its way there is lost, and told to be when its time is over.
      await waitFor('it to be passed over', async () => {
        const answered = await whoAnswers().catch(() => []);
        return answered.join() === 'web2,web3';
      });
      expect(await whoAnswers()).toEqual(['web2', 'web3']);
      await web3.restore();
      await waitFor('all to answer', async () => (await whoAnswers()).length === 3);
    });
  });

  it(
    'a slow line makes a push slow, and nothing else',
    async () => {
      const next = several.nextVersion();
      // Half a megabyte that does not shrink, over 100 KB a second.
      const blob = Array.from({ length: 8_000 }, () => Math.random().toString(36).padEnd(60, 'x')).join('\n');
      await several.boxes.web3.rate('800kbit');
      const { lines } = await several.alice.deploy({ 'version.txt': next, 'blob.txt': blob }, 'live');
      await several.boxes.web3.restore();
      expect(lines.filter((line) => line.startsWith('-----> Switch'))).toHaveLength(1);
      await several.expectAgreement([next]);
    },
    CUT_LIMIT_MS,
  );

  it(
    'lost packets are sent again',
    async () => {
      await several.boxes.web2.loss(10);
      const next = several.nextVersion();
      await several.alice.deploy({ 'version.txt': next }, 'live');
      await several.boxes.web2.restore();
      await several.expectAgreement([next]);
    },
    CUT_LIMIT_MS,
  );

  it('a full disk on one of them refuses the push everywhere, and doctor says so', async () => {
    const { alice, boxes, receiver } = several;
    const before = await several.expectAgreement([several.lastVersion()]);
    await boxes.web3.run(['sh', '-c', 'cat /dev/zero >/web/fill 2>/dev/null; sync; true']);
    alice.commit({ 'version.txt': 'never', 'more.txt': 'x'.repeat(300_000) });
    const pushed = await alice.push('live');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expect(pushed.lines).toContain('error: node web3: the disk of the node is full');
    expect(pushed.rejected).toMatch(/^disk full on web3; v\d+ still live$/);
    expect((await receiver.ssh('doctor', 'web3')).stdout).toMatch(/^ {2}disk: 0 MiB of [\d.]+ [MG]iB are free$/m);
    await boxes.web3.run(['rm', '/web/fill']);
    expect(await several.expectAgreement([before])).toBe(before);
    await expectNextPush();
  });

  it('clocks that are a day apart', async () => {
    const change = (name: NodeName, offset: string): Promise<string> =>
      several.boxes[name].run([
        'sh',
        '-c',
        `[ -e /usr/bin/node.real ] || mv /usr/bin/node /usr/bin/node.real
         printf '#!/bin/sh\\nexec env FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f %s /usr/bin/node.real "$@"\\n' "$1" >/usr/bin/node
         chmod 755 /usr/bin/node
         # An agent that rests after its work keeps the clock that it has.
         pkill -x node || true`,
        'sh',
        offset,
      ]);
    await change('web2', '+1d');
    await change('web3', '-1d');
    await expectNextPush();
    const { stdout } = await several.receiver.ssh('doctor');
    expect(stdout).toMatch(/^web2:\n {2}clock: 86[34]\d\d s ahead of the receiver's\n/m);
    expect(stdout).toMatch(/^web3:\n {2}clock: 86[34]\d\d s behind the receiver's\n/m);
    for (const name of ['web2', 'web3'] as const)
      await several.boxes[name].run(['mv', '/usr/bin/node.real', '/usr/bin/node']);
    expect(NAMES).toHaveLength(3);
  });
});
