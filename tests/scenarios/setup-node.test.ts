// A bare server becomes a node, with the admin's own ssh: once, again, mended, refused, cut off half-way.
// Nightly: another receiver, the line in the configuration, a newer agent, a power cut afterwards, and cut off by Ctrl-C or a cable.
// Long because: one file is one story of one command, and each server of it takes half a minute to install.
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadAgentKey } from '../../receiver/nodes/agent-key.ts';
import { fingerprintOfLine } from '../../receiver/setup/trust.ts';
import { type Box, boxesAvailable, startBox, useBoxes } from '../actors/box.ts';
import { type Installation, installPackage } from '../actors/installation.ts';
import type { Outcome } from '../actors/ssh.ts';
import { thorough } from '../actors/thorough.ts';

const INSTALL_LIMIT_MS = 400_000;
/** The promise, of a server on which nothing is to be done. */

const lacking = boxesAvailable();

describe.skipIf(lacking !== null)('setup-node', () => {
  useBoxes();
  let installed: Installation;
  let config: string;
  let bin: string;

  beforeAll(() => {
    installed = installPackage();
    config = join(installed.folder, 'receiver.yaml');
    bin = join(installed.folder, 'bin');
    for (const folder of ['data', 'bin', 'templates/nodes/web/node', 'extra/node'])
      mkdirSync(join(installed.folder, folder), { recursive: true });
    writeFileSync(
      config,
      `# The receiver of this test
data: ./data
admins: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example"]
templates: [./templates]
nodes:
  try: {local: true, root: ./node}

environments:
  stage: {nodes: [try]}
`,
    );
  });
  afterAll(() => installed?.remove());

  /** With an ssh that has the box's configuration, as an admin's ~/.ssh/config is. */
  function setUp(
    box: Box,
    args: readonly string[] = [],
    onText?: (text: string) => void,
    signal?: AbortSignal,
  ): Promise<Outcome> {
    writeFileSync(join(bin, 'ssh'), `#!/bin/sh\nexec /usr/bin/ssh -F '${box.sshConfig}' "$@"\n`);
    chmodSync(join(bin, 'ssh'), 0o755);
    const env = { PATH: `${bin}:${process.env.PATH}`, KRAFTWERK_CONFIG: config };
    return installed.run(['setup-node', box.name, ...args], {
      env,
      ...(onText && { onText }),
      ...(signal && { signal }),
    });
  }

  /** setup-node, until it says `at`; then happens what cuts it off. */
  async function interrupt(
    box: Box,
    at: RegExp,
    how: (abort: AbortController) => void | Promise<void>,
  ): Promise<Outcome> {
    let said = '';
    let done: void | Promise<void> | null = null;
    const abort = new AbortController();
    const outcome = await setUp(
      box,
      [],
      (text) => {
        said += text;
        if (done === null && at.test(said)) done = how(abort);
      },
      abort.signal,
    );
    expect(done, said).not.toBe(null);
    await done;
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toContain('hint: run it again: it goes on where it stopped');
    return outcome;
  }

  /** A file of the built-in templates, said anew by the admin. */
  function override(path: string, text: string): void {
    writeFileSync(join(installed.folder, path), text);
  }

  describe('a bare server', () => {
    let box: Box;
    let dead: Outcome;
    let first: Outcome;
    let keysBefore: string;

    beforeAll(async () => {
      box = await startBox({ name: 'web' });
      await box.run(['sh', '-c', "printf '# mine\\n%s' 'ssh-rsa AAAA not-ended' >>/root/.ssh/authorized_keys"]);
      keysBefore = await box.run(['cat', '/root/.ssh/authorized_keys']);
      // dpkg is in the middle of it, and nothing of that is finished.
      dead = await interrupt(box, /Setting up python3/, () => box.kill());
      await box.up();
      first = await setUp(box, ['--as', 'web']);
    }, INSTALL_LIMIT_MS);

    const line = (): string => `web: {host: "${box.address}", user: root, port: 22, host_key: "${pin()}"}`;
    const pin = (): string => fingerprintOfLine(box.hostKey);
    const agentKey = (): string => loadAgentKey(join(installed.folder, 'data')).publicKey;

    test('that loses its power is told to be lost, and can be gone on with', () => {
      expect(dead.stderr).toMatch(/error: \S+: the connection was lost/);
    });

    test('becomes a node, and the receiver gets in with its own key', () => {
      expect(first.stderr).toContain("-----> Agent       answers to the receiver's key");
      expect(first.stderr).toMatch(/\nsuccess: web is a node; \d+ changes\n/);
      expect(first.stderr).toContain('-----> Host key    known to your ssh');
      expect(first.stderr).toMatch(/\n {7}Setting up nginx /);
      expect(first).toMatchObject({ code: 0, stdout: `${line()}\n` });
    });

    test('has one more line in authorized_keys, for one program', async () => {
      const enrolled = `restrict,command="/usr/local/lib/kraftwerk/agent-login" ${agentKey()} kraftwerk-receiver:`;
      const lines = (await box.run(['cat', '/root/.ssh/authorized_keys'])).split('\n');
      expect(lines.slice(0, -2)).toEqual(keysBefore.split('\n'));
      expect(lines.at(-2)).toContain(enrolled);
      expect(lines.at(-1)).toBe('');
      const { code, stderr } = await installed.run(
        ['setup-node', box.address, '--as', 'web', '--identity', agentKeyFile()],
        {
          env: { KRAFTWERK_CONFIG: config },
        },
      );
      // That key gives no shell, whatever it asks for.
      expect([code, stderr.split('\n').find((text) => text.startsWith('error'))]).toEqual([
        1,
        expect.stringContaining('nobody has confirmed it'),
      ]);
      const shell = await installed.run(
        ['setup-node', box.address, '--as', 'web', '--yes', '--identity', agentKeyFile()],
        { env: { KRAFTWERK_CONFIG: config } },
      );
      expect(shell.stderr).toContain(`error: ${box.address} did not answer as a server with a shell`);
    });

    const agentKeyFile = (): string => join(installed.folder, 'data', 'agent_key');

    test('runs nginx and runit, now and after a reboot, and closes on strangers', async () => {
      for (const unit of ['nginx', 'runit']) {
        expect(await box.run(['systemctl', 'is-enabled', unit])).toBe('enabled\n');
        expect(await box.run(['systemctl', 'is-active', unit])).toBe('active\n');
      }
      expect(await box.run(['stat', '-c', '%a %U:%G', '/web'])).toBe('755 root:root\n');
      await expect(fetch(`http://${box.address}/`)).rejects.toThrow('fetch failed');
    });

    // How quickly: npm run bench -- --nodes.
    test('is left as it is by another run', async () => {
      const stamp = ['find', '/etc', '/usr/local', '/root/.ssh', '/web', '-newer', '/run/before', '-type', 'f'];
      await box.run(['touch', '/run/before']);
      const again = await setUp(box, ['--as', 'web']);
      expect(again.stderr).toContain('success: web is a node; nothing had to be changed');
      expect(again).toMatchObject({ code: 0, stdout: `${line()}\n` });
      expect(await box.run(stamp)).toBe('');
    });

    test.runIf(thorough)('puts its line into the configuration, between what is there', async () => {
      const before = readFileSync(config, 'utf8');
      const { code, stderr } = await setUp(box, ['--as', 'web', '--write']);
      expect([code, stderr]).toEqual([0, expect.stringContaining(`${config} has its line now`)]);
      const rootless = '  try: {local: true, root: ./node}\n';
      expect(readFileSync(config, 'utf8')).toBe(before.replace(rootless, `${rootless}  ${line()}\n`));
      const again = await setUp(box, ['--as', 'web']);
      expect(again.stderr).toContain('-----> Host key    as the configuration says');
      expect(again.stderr).toContain('has it already');
      writeFileSync(config, before);
    });

    test(
      'is mended',
      async () => {
        await box.run([
          ...['sh', '-c'],
          [
            'apt-get -qq -y purge nginx nginx-common >/dev/null 2>&1',
            'echo broken >/usr/local/lib/kraftwerk/agent.mjs',
            'chmod 600 /usr/local/lib/kraftwerk/agent-login',
            'rm /usr/bin/chpst /etc/default/locale /etc/apt/apt.conf.d/60kraftwerk',
            'chmod 777 /web',
            'systemctl disable -q --now runit',
            'sed -i /agent-login/d /root/.ssh/authorized_keys',
          ].join(' && '),
        ]);
        const mended = await setUp(box, ['--as', 'web']);
        expect(mended.code, mended.stderr).toBe(0);
        const changes = mended.stderr.match(/(?<=changed: )\S+( \S+)?/g);
        expect(changes).toEqual(
          expect.arrayContaining([
            'installed 1',
            'mended runit',
            '/web',
            '/usr/local/lib/kraftwerk/agent.mjs',
            '/usr/local/lib/kraftwerk/agent-login (mode',
            '/etc/nginx/conf.d/kraftwerk.conf',
            'runit.service starts',
            'runit.service started',
            '/root/.ssh/authorized_keys',
          ]),
        );
        expect((await setUp(box, ['--as', 'web'])).stderr).toContain('nothing had to be changed');
      },
      INSTALL_LIMIT_MS,
    );

    test("runs the admin's own scripts, the most specific first", async () => {
      override('templates/nodes/web/node/pre_setup.sh', 'step Mine\necho pre of <%= it.host %>\n');
      override('extra/node/post_setup.sh', "step Mine\nchanged 'what I wanted'\n");
      const { code, stderr } = await setUp(box, ['--as', 'web', '--templates', 'extra']);
      expect(code, stderr).toBe(0);
      expect(stderr).toContain(`       pre of ${box.name}\n-----> Mine        nothing to change`);
      expect(stderr).toContain('       changed: what I wanted\n-----> Mine        1 change');
      expect(stderr).toContain('success: web is a node; 1 change\n');
      override('extra/node/post_setup.sh', "echo before\nfail 'it is not to be' 'give up'\n");
      const failed = await setUp(box, ['--as', 'web', '--templates', 'extra']);
      expect(failed.code).toBe(1);
      expect(failed.stderr).toContain(`error: ${box.name}: node/post_setup.sh: it is not to be\n`);
      expect(failed.stderr).toContain('hint: give up\nhint: all of it: /var/log/kraftwerk-setup.log on ');
      override('templates/nodes/web/node/pre_setup.sh', '');
    });

    test.runIf(thorough)('another receiver does not get it, unless it is taken over', async () => {
      const other = join(installed.folder, 'other');
      mkdirSync(other, { recursive: true });
      const { publicKey } = loadAgentKey(other);
      const refused = await setUp(box, ['--receiver-key', publicKey]);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(/error: \S+ cannot become a node: it is a node of another receiver \(\S+\)\n/);
      const taken = await setUp(box, ['--receiver-key', join(other, 'agent_key.pub'), '--take-over']);
      expect(taken.code, taken.stderr).toBe(0);
      const keys = await box.run(['cat', '/root/.ssh/authorized_keys']);
      expect(keys).toContain(publicKey);
      expect(keys).not.toContain(agentKey());
      expect((await setUp(box, ['--as', 'web', '--take-over'])).code).toBe(0);
    });

    test('a host key that is not the one is refused before anybody logs in', async () => {
      const wrong = `SHA256:${'A'.repeat(43)}`;
      const { code, stderr } = await setUp(box, ['--host-key', wrong]);
      expect(code).toBe(1);
      expect(stderr).toContain(`error: ${box.name} shows the host key ${pin()}, not the one of --host-key\n`);
      expect(stderr).not.toContain('Connect');
    });

    test.runIf(thorough)('a newer agent stays', async () => {
      await box.run(['sh', '-c', 'echo 99.0.0 >/usr/local/lib/kraftwerk/agent.version']);
      const { code, stderr } = await setUp(box);
      expect(code).toBe(1);
      expect(stderr).toContain('it has the agent of kraftwerk 99.0.0, which is newer than this');
      expect(await box.run(['cat', '/usr/local/lib/kraftwerk/agent.version'])).toBe('99.0.0\n');
      await box.run(['rm', '/usr/local/lib/kraftwerk/agent.version']);
      expect((await setUp(box, ['--as', 'web'])).stderr).toContain('success: web is a node; 1 change\n');
    });

    test('a broken nginx is told, and not made worse', async () => {
      await box.run(['sh', '-c', 'echo nonsense >/etc/nginx/conf.d/mine.conf']);
      const { code, stderr } = await setUp(box);
      expect(code).toBe(1);
      expect(stderr).toContain("nginx's configuration is broken");
      expect(stderr).toContain('/etc/nginx/conf.d/mine.conf:');
      await box.run(['rm', '/etc/nginx/conf.d/mine.conf']);
    });

    test.runIf(thorough)('comes back after a power cut', async () => {
      await box.kill();
      await box.up();
      expect((await setUp(box, ['--as', 'web'])).stderr).toContain('nothing had to be changed');
    });

    test('is undone by what docs/nodes.md says', async () => {
      const page = readFileSync(new URL('../../docs/nodes.md', import.meta.url), 'utf8');
      const section = page.slice(page.indexOf('## Undo'));
      const commands = section
        .slice(0, section.indexOf('\n## ', 3))
        .split('\n')
        .filter((text) => text.startsWith('    '))
        .map((text) => text.slice(4))
        .join('\n');
      await box.run(['bash', '-eu', '-s'], commands);
      expect(await box.run(['cat', '/root/.ssh/authorized_keys'])).not.toContain('kraftwerk');
      const left = ['find', '/etc', '/usr/local', '/var/lib', '/run', '/web', '-xdev', '-iname', '*kraftwerk*'];
      expect((await box.ssh(left)).stdout).toBe('');
      expect((await box.ssh(['getent', 'group', 'web'])).code).toBe(2);
    });
  });

  describe('a server that will not do', () => {
    let box: Box;
    let packages: string;
    const listPackages = (): Promise<string> => box.run(['dpkg-query', '-W']);

    beforeAll(async () => {
      box = await startBox({ name: 'unfit' });
      packages = await listPackages();
    });

    async function refused(args: readonly string[] = []): Promise<string> {
      const { code, stderr, stdout } = await setUp(box, args);
      expect([code, stdout], stderr).toEqual([1, '']);
      expect(await listPackages()).toBe(packages);
      expect((await box.ssh(['ls', '/usr/local/lib/kraftwerk'])).code).not.toBe(0);
      return stderr;
    }

    test('who is not root is told how root gets in', async () => {
      await box.run([
        'sh',
        '-c',
        'useradd -m ada && mkdir /home/ada/.ssh && cp /root/.ssh/authorized_keys /home/ada/.ssh/ && chown -R ada: /home/ada',
      ]);
      const said = await refused(['--user', 'ada']);
      expect(said).toContain(`error: ${box.name} cannot become a node: ada is not root there\n`);
      expect(said).toContain('cp ~ada/.ssh/authorized_keys /root/.ssh/authorized_keys');
    });

    test('everything is told at once: not Debian, an old Node.js, an old Python, and a program on port 80', async () => {
      await box.run([
        ...['sh', '-c'],
        [
          'cp -P /etc/os-release /root/os-release',
          'rm /etc/os-release && printf \'ID=fedora\\nVERSION_ID=40\\nPRETTY_NAME="Fedora Linux 40"\\n\' >/etc/os-release',
          "printf '#!/bin/sh\\necho v12.22.9\\n' >/usr/local/bin/node",
          "printf '#!/bin/sh\\necho Python 3.8.10\\n' >/usr/bin/python3",
          'chmod 755 /usr/local/bin/node /usr/bin/python3',
          'systemd-run -q systemd-socket-activate -l 80 /bin/cat',
        ].join(' && '),
      ]);
      const said = await refused();
      expect(said.split('\n').filter((text) => /^(error| {2}\S)/.test(text))).toEqual([
        `error: ${box.name} cannot become a node, for 4 reasons`,
        '  its system is Fedora Linux 40',
        '  /usr/bin/python3 is Python 3.8.10, kraftwerk needs 3.9',
        '  /usr/local/bin/node is Node.js v12.22.9, kraftwerk needs 18',
        '  systemd-socket- listens on port 80, which nginx needs',
      ]);
      await box.run(['sh', '-c', 'rm /usr/bin/python3 /usr/local/bin/node && mv /root/os-release /etc/os-release']);
    });

    test('who has no login there is told', async () => {
      await box.run(['mv', '/root/.ssh', '/root/ssh']);
      const { code, stderr } = await setUp(box).finally(() => box.exec(['mv', '/root/ssh', '/root/.ssh']));
      expect([code, stderr]).toEqual([1, expect.stringContaining(`error: ${box.name} does not let root in (`)]);
      expect(await listPackages()).toBe(packages);
    });

    test('a server that is not there is told', async () => {
      await box.kill();
      const { code, stderr } = await setUp(box);
      expect(code).toBe(1);
      expect(stderr).toContain(`error: ${box.name} cannot be reached by ssh (`);
    });

    test.runIf(thorough)('a full disk is told', async () => {
      const small = await startBox({ name: 'small', disk: '200M' });
      const { code, stderr } = await setUp(small);
      expect(code).toBe(1);
      expect(stderr).toMatch(/cannot become a node: \d+ MB are free on \/, kraftwerk needs 1\.5 GB\n/);
    });
  });

  test.runIf(thorough)(
    'what Ctrl-C or a cable has cut off goes on',
    async () => {
      const box = await startBox({ name: 'cut' });
      const left = await interrupt(box, /Setting up/, (abort) => abort.abort());
      expect(left.stderr).toContain(`error: interrupted; what has begun on ${box.name} goes on to its end there\n`);
      const waits = /a set-up that was cut off still runs here: waiting for its end/;
      const cut = await interrupt(box, waits, () => box.cut());
      expect(cut.stderr).toMatch(/error: \S+: the connection was lost/);
      await box.restore();
      const last = await setUp(box);
      expect(last.code, last.stderr).toBe(0);
      expect((await setUp(box)).stderr).toContain('nothing had to be changed');
    },
    2 * INSTALL_LIMIT_MS,
  );

  test('a person is asked about a host key that nothing is known of', async () => {
    // It will not do, but that comes later.
    const box = await startBox({ name: 'asked', disk: '200M' });
    const command = (answer: string): Promise<Outcome> => {
      const args = ['setup-node', box.address, '--identity', box.keyFile, '--as', 'asked'];
      return installed.inTerminal(args, `${answer}\n`, { KRAFTWERK_CONFIG: config });
    };
    const refused = await command('n');
    expect(refused.stdout).toContain(fingerprintOfLine(box.hostKey));
    expect(refused.stdout).toContain('Is it the same? [y/N]');
    expect(refused.stdout).toContain(`error: the host key of ${box.address} was not confirmed; nothing was changed`);
    const confirmed = await command('y');
    expect(confirmed.stdout).toContain('-----> Host key    confirmed');
    expect(confirmed.stdout).toMatch(/cannot become a node: \d+ MB are free on \/, kraftwerk needs 1\.5 GB\r?\n/);
  });
});
