// A bare server to "push here" as the page says, with the npm of the distribution, and a site with databases, on Debian 13;
// nightly on Debian 12, too. Debian's npm recommends a compiler, and then addons of ssh2 come, made for another Node.js than ours.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Box, boxesAvailable, makeImage, startBox, useBoxes } from '../actors/box.ts';
import { type NpmRegistry, startNpmRegistry } from '../actors/npm-registry.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import type { TestReceiver } from '../actors/receiver.ts';
import { type Outcome, outcome, SshHome, type TestKey } from '../actors/ssh.ts';
import { SUITE } from '../actors/suite.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const { name: PACKAGE } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { name: string };
const SLOW_MS = 600_000;
const HOST = 'blog.example.com';
const PORT = '2222';

/** Adds to both databases what it is asked to, and tells what they hold. */
const SITE = {
  'kraftwerk.yaml': 'wsgi: app:application\nhealthcheck: {path: /, timeout: 20}\nservices: [postgres, redis]\n',
  'app.py': `
import os
import psycopg2, redis

def application(environ, start_response):
    add = environ["QUERY_STRING"]
    store = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    with psycopg2.connect(os.environ["DATABASE_URL"]) as db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS rows (text text)")
        if add:
            cursor.execute("INSERT INTO rows VALUES (%s)", (add,))
            store.rpush("list", add)
        cursor.execute("SELECT text FROM rows ORDER BY text")
        rows = [row[0] for row in cursor.fetchall()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{rows} {store.lrange('list', 0, -1)}".encode()]
`,
};

/** `apt-get install nodejs npm`, and of what that recommends all that matters: the compiler. */
const withNpm = (): Promise<string> =>
  makeImage('npm', [], async (box) => {
    await box.run(['apt-get', '-qq', 'update']);
    await box.run([
      ...['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', 'install', '-qq', '-y', '--no-install-recommends'],
      ...['-o', 'Dpkg::Options::=--force-unsafe-io', 'nodejs', 'npm', 'build-essential'],
    ]);
  });

describe.skipIf(boxesAvailable() !== null)(`a bare server of ${SUITE}`, () => {
  useBoxes();
  let folder: string;
  let home: SshHome;
  let admin: TestKey;
  let registry: NpmRegistry;
  let box: Box;
  let alice: Pusher;
  const cleanUps: (() => void)[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-packed-'));
    home = new SshHome();
    admin = home.key('ada');
    // Builds what is older than its source.
    execFileSync(join(ROOT, 'scripts/kraftwerk'), ['version'], { stdio: 'pipe' });
    execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], { cwd: ROOT });
    execFileSync('sh', ['-c', 'mv *.tgz kraftwerk.tgz'], { cwd: folder });
    registry = await startNpmRegistry();
    box = await startBox({ name: 'vps', from: await withNpm() });
    await box.run(['tee', '/root/ada.pub'], admin.line);
  }, SLOW_MS);
  afterAll(() => {
    for (const clean of cleanUps) clean();
    registry?.close();
    home?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const ssh = (): string[] => [
    ...['ssh', '-F', '/dev/null', '-i', admin.path, '-p', PORT],
    ...['StrictHostKeyChecking=yes', `UserKnownHostsFile=${join(home.folder, 'known_hosts')}`]
      .concat(['IdentitiesOnly=yes', 'IdentityAgent=none', 'BatchMode=yes', 'LogLevel=ERROR'])
      .flatMap((option) => ['-o', option]),
  ];

  /** A command of the receiver's. */
  function command(...words: string[]): Promise<Outcome> {
    const [program = '', ...args] = ssh();
    return outcome(spawn(program, [...args, `kraftwerk@${box.address}`, ...words]));
  }

  function get(path = '/'): Promise<string> {
    return new Promise((resolve, reject) => {
      const headers = { Host: HOST };
      const asked = request({ host: box.address, path, headers, agent: false, timeout: 20_000 }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => {
          body += chunk.toString('utf8');
        });
        response.on('end', () => resolve(`${response.statusCode} ${body}`));
      });
      asked.on('timeout', () => asked.destroy(new Error('no answer')));
      asked.on('error', reject);
      asked.end();
    });
  }

  it(
    'installs the package with its own npm; the command runs',
    async () => {
      await box.copyIn(join(folder, 'kraftwerk.tgz'), '/root/kraftwerk.tgz');
      await box.run(['npm', 'config', 'set', 'registry', `http://host:${registry.port}/`]);
      await box.run(['npm', 'install', '-g', '/root/kraftwerk.tgz']);
      // With the addons that a compiler makes of it: whoever loads them into another Node.js ends in SIGSEGV.
      const modules = `/usr/local/lib/node_modules/${PACKAGE}/node_modules`;
      await box.run(['test', '-f', `${modules}/ssh2/lib/protocol/crypto/build/Release/sshcrypto.node`]);
      expect(await box.ssh(['kraftwerk', 'version'])).toEqual({
        code: 0,
        stdout: expect.stringMatching(/^kraftwerk \d+\.\d+\.\d+\n$/) as string,
        stderr: '',
      });
    },
    SLOW_MS,
  );

  it(
    'becomes a receiver by one command, and takes a site with databases',
    async () => {
      const made = await box.ssh([
        ...['kraftwerk', 'setup-receiver', '--domain', 'example.com', '--admin-key', '/root/ada.pub'],
      ]);
      expect(made.code, made.stderr).toBe(0);
      expect(made.stdout).toContain(`git remote add live ssh://kraftwerk@${box.address}:${PORT}/blog/live\n`);
      const key = await box.run(['ssh-keygen', '-y', '-f', '/var/lib/kraftwerk/host_key']);
      writeFileSync(join(home.folder, 'known_hosts'), `[${box.address}]:${PORT} ${key}`);
      const receiver = {
        admin,
        sshCommand: ssh,
        onCleanUp: (clean: () => void) => cleanUps.push(clean),
        tail: () => '',
      };
      alice = createPusher(receiver as unknown as TestReceiver, 'blog', SITE);
      alice.git(['remote', 'remove', 'live']);
      alice.git(['remote', 'add', 'live', `ssh://kraftwerk@${box.address}:${PORT}/blog/live`]);
      const { code, output } = await alice.deploy({}, 'live');
      expect(code, output).toBe(0);
      expect(output).toMatch(/success: v1 live in /);
      expect(await get('/?first')).toBe("200 ['first'] ['first']");
    },
    SLOW_MS,
  );

  it(
    "dumps the site's data, and loads it again",
    async () => {
      const dumped = await command('dump', 'blog/live');
      expect(dumped.code, dumped.stderr).toBe(0);
      const name = /success: dump (\S+),/.exec(dumped.stderr)?.[1] ?? '';
      expect(await get('/?second')).toBe("200 ['first', 'second'] ['first', 'second']");
      const loaded = await command('load', 'blog/live', name, '--confirm', 'blog/live');
      expect(loaded.code, loaded.stderr).toBe(0);
      expect(await get()).toBe("200 ['first'] ['first']");
      const { code, output } = await alice.deploy({ 'version.txt': 'two\n' }, 'live');
      expect(code, output).toBe(0);
      expect(await get()).toBe("200 ['first'] ['first']");
    },
    SLOW_MS,
  );
});
