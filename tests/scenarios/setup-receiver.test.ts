// One server from nothing to "push here": kraftwerk as npm installs it, one command, then git from somewhere else.
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Box, boxesAvailable, startBox, useBoxes } from '../actors/box.ts';
import { type Installation, installPackage } from '../actors/installation.ts';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import type { TestReceiver } from '../actors/receiver.ts';
import { type Outcome, SshHome, type TestKey } from '../actors/ssh.ts';

const INSTALL_LIMIT_MS = 400_000;
const SITE = { 'kraftwerk.yaml': '', 'wsgi.py': page('one') };

function page(text: string): string {
  return `def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'${text}']
`;
}

const lacking = boxesAvailable();

describe.skipIf(lacking !== null)('setup-receiver', () => {
  useBoxes();
  let installed: Installation;
  let box: Box;
  let home: SshHome;
  let admin: TestKey;
  const cleanUps: (() => void)[] = [];

  beforeAll(async () => {
    installed = installPackage();
    home = new SshHome();
    admin = home.key('ada');
    box = await startBox({ name: 'vps' });
    // npm comes with a Node.js: the distribution's, which is older than what the receiver needs.
    await box.run([
      'sh',
      '-c',
      'apt-get -qq update && apt-get -qq -y --no-install-recommends install nodejs >/dev/null 2>&1',
    ]);
    await installed.copyTo(box);
    await box.run(['tee', '/root/ada.pub'], admin.line);
  }, INSTALL_LIMIT_MS);
  afterAll(() => {
    for (const clean of cleanUps) clean();
    home?.remove();
    installed?.remove();
  });

  const setUp = (...args: string[]): Promise<Outcome> => box.ssh(['kraftwerk', 'setup-receiver', ...args]);

  function pusher(): Pusher {
    const options = [
      ...['StrictHostKeyChecking=yes', `UserKnownHostsFile=${join(home.folder, 'known_hosts')}`, 'IdentitiesOnly=yes'],
      ...['BatchMode=yes', 'IdentityAgent=none', 'LogLevel=ERROR'],
    ];
    const command = ['ssh', '-F', '/dev/null', '-i', admin.path, ...options.flatMap((option) => ['-o', option])];
    const receiver = {
      admin,
      sshCommand: () => command,
      onCleanUp: (clean: () => void) => cleanUps.push(clean),
      tail: () => '',
    };
    return createPusher(receiver as unknown as TestReceiver, 'blog', SITE);
  }

  function get(host: string, from = box): Promise<string> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: from.address, port: 80, headers: { Host: host }, timeout: 10_000 }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => {
          body += chunk.toString('utf8');
        });
        response.on('end', () => resolve(body));
      });
      asked.on('timeout', () => asked.destroy(new Error('no answer')));
      asked.on('error', reject);
      asked.end();
    });
  }

  test('nobody but root may', async () => {
    const { code, stderr } = await box.ssh([
      ...['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'kraftwerk', 'setup-receiver'],
    ]);
    expect([code, stderr]).toEqual([
      1,
      'error: setup-receiver needs root: it installs packages and makes a user\nhint: sudo kraftwerk setup-receiver\n',
    ]);
  });

  test("sshd's port is not taken: it says what to choose, and changes nothing", async () => {
    const before = await box.run(['dpkg-query', '-W']);
    const { code, stderr } = await setUp('--port', '22');
    expect(code).toBe(1);
    expect(stderr).toContain('sshd listens on port 22, where the receiver was to be\n');
    expect(stderr).toContain('hint: leave sshd where it is: kraftwerk setup-receiver --port 2222\n');
    expect(stderr).toMatch(
      /hint: {3}echo 'Port 2200' >\/etc\/ssh\/sshd_config\.d\/\S+ && sshd -t && systemctl restart ssh\n/,
    );
    expect(await box.run(['dpkg-query', '-W'])).toBe(before);
    expect((await box.ssh(['ls', '/etc/kraftwerk.yaml'])).code).not.toBe(0);
  });

  describe('a new receiver', () => {
    let first: Outcome;
    let blog: Pusher;

    beforeAll(async () => {
      first = await setUp('--domain', 'example.com', '--admin-key', '/root/ada.pub');
      blog = pusher();
    }, INSTALL_LIMIT_MS);

    const remote = (environment: string, port = 2222): string =>
      `ssh://kraftwerk@${box.address}:${port}/blog/${environment}`;

    test('is made by one command, which prints what to paste', () => {
      expect(first.code, first.stderr).toBe(0);
      expect(first.stdout.split('\n')).toEqual([
        `  git remote add stage ${remote('stage')}`,
        `  git remote add live ${remote('live')}`,
        '  git push stage master',
        `  ssh -p 2222 kraftwerk@${box.address} help`,
        '',
      ]);
      expect(first.stderr).toContain(`admin: ${admin.fingerprint} ada\n`);
      expect(first.stderr).toMatch(/\nsuccess: the receiver is ready; \d+ changes\n/);
      expect(first.stderr).toContain('sshd has port 22, so the receiver has 2222');
    });

    test('takes pushes, and serves stage and live', async () => {
      const fingerprint = /SHA256:\S{43}\n {7}In a project/.exec(first.stderr)?.[0].slice(0, 50);
      const key = await box.run(['ssh-keygen', '-y', '-f', '/var/lib/kraftwerk/host_key']);
      expect(await box.run(['ssh-keygen', '-lf', '/var/lib/kraftwerk/host_key'])).toContain(fingerprint);
      const hosts = [2222, 222].map((port) => `[${box.address}]:${port} ${key}`).join('');
      writeFileSync(join(home.folder, 'known_hosts'), hosts);
      // The lines that were printed, as they are.
      for (const line of first.stdout.split('\n').slice(0, 2)) {
        const [, ...words] = line.trim().split(' ');
        const [, , name = ''] = words;
        blog.git(['remote', 'remove', name]);
        blog.git(words);
      }
      for (const name of ['stage', 'live']) {
        const { code, output } = await blog.deploy({ 'wsgi.py': page(name) }, name);
        expect(code, output).toBe(0);
      }
      expect(await get('blog-stage.example.com')).toBe('stage');
      expect(await get('blog.example.com')).toBe('live');
    });

    test('runs as a user of its own, who may start the agent and nothing else as root', async () => {
      const service = await box.run(['sh', '-c', 'ps -o user= -p "$(cat /etc/service/kraftwerk/supervise/pid)"']);
      expect(service.trim()).toBe('kraftwerk');
      const as = ['setpriv', '--reuid=kraftwerk', '--regid=kraftwerk', '--init-groups', 'sudo', '-n'];
      expect((await box.ssh([...as, 'id'])).code).toBe(1);
      expect((await box.ssh([...as, '/usr/local/lib/kraftwerk/agent-local', 'x'])).code).toBe(1);
      expect(await box.run(['stat', '-c', '%a %U', '/var/lib/kraftwerk', '/var/lib/kraftwerk/agent_key'])).toBe(
        '700 kraftwerk\n600 kraftwerk\n',
      );
    });

    test('is left as it is by another run, its configuration always', async () => {
      await box.run(['sh', '-c', 'echo "# mine" >>/etc/kraftwerk.yaml']);
      const before = await box.run(['cat', '/etc/kraftwerk.yaml']);
      const pid = await box.run(['cat', '/etc/service/kraftwerk/supervise/pid']);
      const again = await setUp('--domain', 'example.com', '--admin-key', '/root/ada.pub');
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout).toBe(first.stdout);
      expect(again.stderr).toContain('success: the receiver is ready; nothing had to be changed\n');
      expect(again.stderr).not.toContain('warning');
      expect(await box.run(['cat', '/etc/kraftwerk.yaml'])).toBe(before);
      expect(await box.run(['cat', '/etc/service/kraftwerk/supervise/pid'])).toBe(pid);
    });

    test('is mended, and an update restarts it', async () => {
      const program = '/usr/local/lib/node_modules/kraftwerk-paas/build/receiver.mjs';
      await box.run([
        ...['sh', '-c'],
        `rm /etc/sudoers.d/kraftwerk /usr/local/lib/kraftwerk/agent-local && sv down kraftwerk && echo '// newer' >>${program}`,
      ]);
      const mended = await setUp();
      expect(mended.code, mended.stderr).toBe(0);
      expect(mended.stderr.match(/(?<=changed: )\S+( \S+)?/g)).toEqual([
        '/usr/local/lib/kraftwerk/agent-local',
        '/etc/sudoers.d/kraftwerk',
        '/etc/sv/kraftwerk/run',
        'kraftwerk started',
      ]);
      await box.run(['sh', '-c', `echo '// newer still' >>${program}`]);
      const updated = await setUp();
      expect(updated.stderr.match(/(?<=changed: )\S+( \S+)?/g)).toEqual([
        '/etc/sv/kraftwerk/run',
        'kraftwerk restarted',
      ]);
      const { code, output } = await blog.deploy({ 'wsgi.py': page('after the update') });
      expect(code, output).toBe(0);
    });

    test('comes back with the machine', async () => {
      await box.reboot();
      await waitFor(
        'the site to serve',
        async () => (await get('blog.example.com').catch(() => '')) === 'live',
        60_000,
      );
      await waitFor('the receiver to listen', () => listens(2222), 60_000);
      const { code, output } = await blog.deploy({ 'wsgi.py': page('after the reboot') });
      expect(code, output).toBe(0);
      expect(await get('blog-stage.example.com')).toBe('after the reboot');
    });

    test(
      'deploys to another server that it has set up',
      async () => {
        const web = await startBox({ name: 'web' });
        // The admin's agent, for this once.
        await box.copyIn(web.keyFile, '/root/.ssh/id_web');
        const made = await box.ssh([
          ...[
            'kraftwerk',
            'setup-node',
            web.address,
            '--as',
            'web1',
            '--identity',
            '/root/.ssh/id_web',
            '--yes',
            '--write',
          ],
        ]);
        expect(made.code, made.stderr).toBe(0);
        expect(made.stderr).toContain("-----> Agent       answers to the receiver's key");
        expect(made.stderr).toContain('/etc/kraftwerk.yaml has its line now');
        await box.run(['rm', '/root/.ssh/id_web']);
        await box.run(
          ['tee', '-a', '/etc/kraftwerk.yaml'],
          '  prod: {nodes: [web1], domain: "{project}.prod.example"}\n',
        );
        await box.run(['sv', '-w', '60', 'restart', 'kraftwerk']);
        await waitFor('the receiver to listen', () => listens(2222), 60_000);
        blog.git(['remote', 'add', 'prod', remote('prod')]);
        const { code, output } = await blog.deploy({ 'wsgi.py': page('far away') }, 'prod');
        expect(code, output).toBe(0);
        expect(await get('blog.prod.example', web)).toBe('far away');
      },
      INSTALL_LIMIT_MS,
    );

    test('a port below 1024 is no reason to be root', async () => {
      await box.run(['sed', '-i', 's/port: 2222/port: 222/', '/etc/kraftwerk.yaml']);
      const moved = await setUp();
      expect(moved.code, moved.stderr).toBe(0);
      expect(moved.stdout).toContain(remote('stage', 222));
      blog.git(['remote', 'set-url', 'stage', remote('stage', 222)]);
      const { code, output } = await blog.deploy({ 'wsgi.py': page('behind 222') });
      expect(code, output).toBe(0);
    });

    test('a configuration that the receiver cannot use is told with its place', async () => {
      await box.run(['sed', '-i', 's/suffix: -stage/sufix: -stage/', '/etc/kraftwerk.yaml']);
      const { code, stderr } = await setUp();
      expect([code, stderr]).toEqual([3, expect.stringMatching(/^error: \/etc\/kraftwerk\.yaml:\d+:\d+ .*"sufix"/m)]);
      await box.run(['sed', '-i', 's/sufix: -stage/suffix: -stage/', '/etc/kraftwerk.yaml']);
    });

    test('is undone by what docs/install.md says', async () => {
      const text = readFileSync(new URL('../../docs/install.md', import.meta.url), 'utf8');
      const commands = text
        .slice(text.indexOf('## Undo'))
        .split('\n')
        .filter((line) => line.startsWith('    '))
        .map((line) => line.slice(4))
        .join('\n');
      await box.run(['bash', '-eu', '-s'], commands);
      const left = ['find', '/etc', '/var/lib', '/var/log', '/usr/local', '-xdev', '-iname', '*kraftwerk*'];
      const mine = /^\/usr\/local\/(?:lib\/kraftwerk|lib\/node_modules|bin)|^\/etc\/(?:nginx|apt)|kraftwerk-setup/;
      expect((await box.run(left)).split('\n').filter((path) => path !== '' && !mine.test(path))).toEqual([]);
      expect((await box.ssh(['getent', 'passwd', 'kraftwerk'])).code).toBe(2);
    });
  });

  function listens(port: number): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ host: box.address, port });
      socket.once('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
      socket.once('end', () => resolve(false));
    });
  }
});
