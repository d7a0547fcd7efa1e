// The throw-away servers that the tests of nodes stand on: what such a test relies on holds.
// In CI that one starts, is reached and is cut off; nightly what only nightly tests need of it, too.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Box, boxesAvailable, makeImage, startBox, useBoxes } from '../actors/box.ts';
import { waitFor } from '../actors/processes.ts';
import { outcome } from '../actors/ssh.ts';
import { SUITE } from '../actors/suite.ts';
import { thorough } from '../actors/thorough.ts';

const BOX = fileURLToPath(new URL('../../scripts/box', import.meta.url));

/** A server that a node might be made of, though a small one. */
const withRunit = (): Promise<string> =>
  makeImage('runit', [], async (box) => {
    await box.run(['apt-get', '-q', 'update']);
    await box.run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', 'runit', 'runit-run']);
  });

/** Whether somebody takes a connection to port 22 of `address`, seen from `box`. */
async function reaches(box: Box, address: string): Promise<boolean> {
  const script = 'exec 3<>"/dev/tcp/$1/22"';
  return (await box.exec(['timeout', '3', 'bash', '-c', script, 'bash', address])).code === 0;
}

const answers = async (box: Box): Promise<boolean> => (await box.ssh(['true'])).code === 0;

describe.skipIf(boxesAvailable() !== null)('a box', () => {
  useBoxes();
  let folder: string;
  let box: Box;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-box-test-'));
    box = await startBox({ name: 'bare', disk: '1G' });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is a bare Debian server: systemd, sshd, an address and a disk of its own, and little else', async () => {
    expect(await box.run(['systemctl', 'is-system-running', '--wait'])).toBe('running\n');
    expect(await box.run(['hostname'])).toBe(`${box.name}\n`);
    expect(await box.run(['cat', '/proc/1/comm'])).toBe('systemd\n');
    expect(await box.run(['cat', '/etc/os-release'])).toContain(`VERSION_CODENAME=${SUITE}\n`);
    expect(Number((await box.run(['df', '--output=size', '/'])).split('\n')[1])).toBeLessThan(1 << 20);
    for (const program of ['python3', 'curl', 'sudo', 'nginx', 'runsv', 'ip'])
      expect(await box.ssh(['which', program]), program).toMatchObject({ code: 1 });
  });

  it('hands argv, stdin, stdout, stderr and exit code through as they are', async () => {
    const words = ["it's", '$HOME', '', 'a b\n"c"'];
    const printed = words.map((word) => `[${word}]`).join('');
    expect(await box.run(['printf', '[%s]', ...words])).toBe(printed);
    expect(await box.exec(['printf', '[%s]', ...words])).toEqual({ code: 0, stdout: printed, stderr: '' });
    const outcomeOfCat = { code: 1, stdout: 'in', stderr: 'cat: /nothing: No such file or directory\n' };
    expect(await box.ssh(['cat', '-', '/nothing'], 'in')).toEqual(outcomeOfCat);
    expect(await box.exec(['cat', '-', '/nothing'], 'in')).toEqual(outcomeOfCat);
    await expect(box.run(['false'])).rejects.toThrow(/^false \(in bare-\w+\): exit code 1$/);
  });

  it('takes files and folders', async () => {
    mkdirSync(join(folder, 'a folder'));
    writeFileSync(join(folder, 'a folder', 'a file'), 'text');
    await box.copyIn(join(folder, 'a folder'), '/srv/there');
    expect(await box.run(['cat', '/srv/there/a file'])).toBe('text');
  });

  it('reaches no other machine, and installs packages all the same', async () => {
    await box.run(['apt-get', '-q', 'update']);
    await box.run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', 'iproute2']);
    expect(await box.ssh(['ip', 'route', 'get', '192.0.2.1'])).toMatchObject({
      code: 2,
      stderr: 'RTNETLINK answers: Network is unreachable\n',
    });
  });

  it('is silent while the cable is out, and answers when it is back', async () => {
    await box.cut();
    expect(await answers(box)).toBe(false);
    expect(await box.exec(['hostname'])).toMatchObject({ code: 0, stdout: `${box.name}\n` });
    await box.restore();
    expect(await answers(box)).toBe(true);
  });

  it.runIf(thorough)('accepts connections and says nothing while it hangs', async () => {
    await box.hang();
    const socket = connect(22, box.address);
    let said = '';
    socket.on('data', (text) => {
      said += text;
    });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    expect(await answers(box)).toBe(false);
    expect(said).toBe('');
    await box.restore();
    await waitFor('what sshd had to say', () => said.startsWith('SSH-2.0-'));
    socket.destroy();
  });

  it.runIf(thorough)('has a slow line when told so', async () => {
    const file = join(folder, 'half a megabyte');
    writeFileSync(file, Buffer.alloc(1 << 19, 'x'));
    await box.rate('2mbit');
    const start = performance.now();
    await box.copyIn(file, '/srv/file');
    expect(performance.now() - start).toBeGreaterThan(1500);
    await box.restore();
  });

  it.runIf(thorough)('loses what power takes and keeps what was on its disk', async () => {
    await box.run(['touch', '/run/gone', '/srv/kept']);
    await box.kill();
    expect(await answers(box)).toBe(false);
    await box.up();
    expect((await box.ssh(['ls', '/run/gone', '/srv/kept'])).stdout).toBe('/srv/kept\n');
  });

  it.runIf(thorough)('reboots with the same host key and address', async () => {
    const boot = ['cat', '/proc/sys/kernel/random/boot_id'];
    const before = await box.run(boot);
    await box.run(['touch', '/run/gone', '/srv/kept']);
    await box.reboot();
    expect((await box.ssh(['ls', '/run/gone', '/srv/kept'])).stdout).toBe('/srv/kept\n');
    expect(await box.run(boot)).not.toBe(before);
  });

  it.runIf(thorough)(
    'has a copy with an identity of its own; the two can be parted from each other alone',
    async () => {
      await box.run(['touch', '/srv/before']);
      const twin = await box.clone({ name: 'twin' });
      await box.run(['touch', '/srv/after']);
      expect((await twin.ssh(['ls', '/srv/before', '/srv/after'])).stdout).toBe('/srv/before\n');
      expect(await twin.run(['hostname'])).toBe(`${twin.name}\n`);
      expect([twin.address, twin.hostKey]).not.toEqual([box.address, box.hostKey]);
      expect(await twin.run(['cat', '/etc/machine-id'])).not.toBe(await box.run(['cat', '/etc/machine-id']));
      expect(await reaches(box, twin.address)).toBe(true);
      await box.cut(twin);
      expect(await reaches(box, twin.address)).toBe(false);
      expect(await answers(box)).toBe(true);
      await box.restore();
      expect(await reaches(box, twin.address)).toBe(true);
    },
  );

  it.runIf(thorough)('starts from an image with what was set up, on a small disk that can be full', async () => {
    const image = await withRunit();
    expect(await withRunit()).toBe(image);
    const small = await startBox({ name: 'small', from: image, disk: '64M' });
    await waitFor('runit', async () => (await small.ssh(['systemctl', 'is-active', 'runit'])).code === 0);
    expect(await small.ssh(['dd', 'if=/dev/zero', 'of=/srv/big', 'bs=1M'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('No space left on device') as string,
    });
    expect(await answers(small)).toBe(true);
  });

  it.runIf(thorough)('takes no more memory than it may', async () => {
    const small = await startBox({ name: 'forgetful', memory: '128M' });
    // It keeps the whole of a line that never ends.
    const hog = await small.ssh(['sh', '-c', 'tail -n 1 /dev/zero; echo "$?"']);
    expect(hog.stdout).toBe('137\n');
    expect(await answers(small)).toBe(true);
  });

  it('ends with the process that it was started for, though that is killed', async () => {
    const owner: ChildProcess = spawn('sleep', ['600'], { stdio: 'ignore' });
    const name = `orphan-${process.pid}`;
    const list = async (): Promise<string> => (await outcome(spawn(BOX, ['list']))).stdout;
    try {
      await outcome(spawn(BOX, ['up', name, '--owner', String(owner.pid)]));
      expect(await list()).toContain(`${name} `);
    } finally {
      owner.kill('SIGKILL');
    }
    await waitFor('it to be gone', async () => !(await list()).includes(`${name} `));
  });

  it('is not touched by an installation whose net has the same number', async () => {
    const env = { ...process.env, BOX_HOME: join(folder, 'other'), BOX_NET: `10.78.${box.address.split('.')[2]}` };
    expect(await outcome(spawn(BOX, ['up', 'bare'], { env }))).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /^box: boxes of \S+ are there, in a net whose third number is \d+, too: set BOX_NET/,
      ) as string,
    });
    expect(existsSync(join(folder, 'other'))).toBe(false);
    expect(await answers(box)).toBe(true);
  });

  it('is not started under the name of another', async () => {
    await expect(startBox({ name: 'bare' })).rejects.toThrow(/^box: bare-\w+ exists$/);
    expect(await answers(box)).toBe(true);
  });
});
