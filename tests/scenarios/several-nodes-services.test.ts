// Two servers, one database: the data is on one of them, both use it, nobody else does; and it moves when somebody says so.
// Long because: two servers with databases take a minute to set up, and play all of it.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { LINKED, type LinkedBoxes, type LinkedName, startLinkedBoxes, yaml } from '../actors/linked-boxes.ts';
import { waitFor } from '../actors/processes.ts';
import { readJournal } from '../actors/site.ts';

const SETUP_LIMIT_MS = 900_000;
/** On a busy machine databases take minutes to be installed. */
const LIMIT_MS = 600_000;

describe.skipIf(boxesAvailable() !== null)('services of an environment with two servers', () => {
  useBoxes();
  let linked: LinkedBoxes;

  beforeAll(async () => {
    linked = await startLinkedBoxes();
  }, SETUP_LIMIT_MS);
  afterAll(() => linked?.cleanUp(), SETUP_LIMIT_MS);

  it(
    'both read and write the same rows, from their first deploy on',
    async () => {
      const { alice, get, rows } = linked;
      const { lines } = await alice.deploy({ 'kraftwerk.yaml': yaml('[postgres, redis]') }, 'live');
      const said = lines
        .filter((line) => line.startsWith('-----> Services'))
        .map((line) => line.replace(/ +[\d.]+s$/, ''));
      expect(said).toEqual([
        expect.stringMatching(/^-----> Services {4}postgres, redis ready \(/),
        '-----> Services    postgres, redis of web1 linked to web2',
      ]);
      expect(await rows('web1', '?add=one')).toEqual(['one']);
      expect(await rows('web2', '?add=two')).toEqual(['one', 'two']);
      expect(await rows('web1')).toEqual(['one', 'two']);
      expect(await get('web1', '/count?add=1')).toBe('1');
      expect(await get('web2', '/count?add=1')).toBe('2');
      expect(await get('web1', '/count')).toBe('2');
    },
    LIMIT_MS,
  );

  it('the second has no server of its own, and no secret but a key', async () => {
    const { boxes, get } = linked;
    expect((await boxes.web2.exec(['sh', '-c', 'command -v psql redis-server; ls /run/postgresql'])).stdout).toBe('');
    const environ = JSON.parse(await get('web2', '/environ')) as Record<string, string>;
    expect(environ.DATABASE_URL).toBe('postgresql://web-blog@/web-blog?host=/run/kraftwerk-link/blog/postgres');
    expect(environ.REDIS_URL).toBe('unix:///run/kraftwerk-link/blog/redis/redis.sock?db=0');
  });

  it('a push that changes nothing of it makes no link anew, and says nothing', async () => {
    const { alice, boxes } = linked;
    const pidOf = (): Promise<string> =>
      boxes.web2.run(['systemctl', 'show', '--property=MainPID', '--value', 'kraftwerk-link@blog.postgres.service']);
    const before = await pidOf();
    const { lines } = await alice.deploy({ 'other.txt': 'x' }, 'live');
    expect(lines.filter((line) => line.includes('linked to'))).toEqual([]);
    expect(await pidOf()).toBe(before);
  });

  describe('whoever has the key of the second', () => {
    const KEY = '/web/blog/.ssh/kraftwerk-link';
    const ssh = (address: string, words: string): string =>
      `ssh -F none -i ${KEY} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes -o ConnectTimeout=10 ${words} web-blog@${address}`;
    const asSite = (script: string): string[] => [
      ...['setpriv', '--reuid', 'web-blog', '--regid', 'web-blog', '--init-groups', 'env', '-C', '/tmp', 'sh', '-c'],
      script,
    ];
    /** Connects to a forwarded place, and says what comes of it. */
    const probe = (target: string): string => `python3 -c '
import socket, sys
target = sys.argv[1]
s = socket.socket(socket.AF_UNIX) if target.startswith("/") else socket.socket()
s.settimeout(5)
s.connect(target if target.startswith("/") else ("127.0.0.1", int(target)))
s.sendall(b"PING\\r\\n")
print("got", s.recv(100))
' ${target}`;
    const forwarded = (address: string, forward: string, target: string): string =>
      `${ssh(address, `-N -L ${forward}`)} 2>/tmp/said & pid=$!
       for n in $(seq 100); do ${target.startsWith('/') ? `[ -S ${target} ]` : `ss -ltn | grep -q :${target}`} && break; sleep 0.1; done
       ${probe(target)}; kill $pid; cat /tmp/said; rm -f ${target.startsWith('/') ? target : ''}`;

    beforeAll(async () => {
      const mallory = linked.project('mallory');
      await mallory.deploy({ 'kraftwerk.yaml': yaml('[redis, postgres]') }, 'live');
      // What follows would prove nothing if this did not work.
      const own = await linked.boxes.web2.exec(
        asSite(forwarded(linked.boxes.web1.address, '/tmp/own:/run/kraftwerk-redis/blog/redis.sock', '/tmp/own')),
      );
      expect(own.stdout).toContain("got b'+PONG");
    }, LIMIT_MS);

    it.each<[what: string, words: string]>([
      ['a command', 'true'],
      ['a shell', ''],
      ['sftp', '-s sftp'],
    ])('gets no %s', async (_, words) => {
      const { web1, web2 } = linked.boxes;
      const command = words.startsWith('-s')
        ? `${ssh(web1.address, '')} ${words}`
        : `${ssh(web1.address, '')} ${words}`;
      const { code, stdout } = await web2.exec(asSite(command));
      expect(code).not.toBe(0);
      expect(stdout).not.toMatch(/web-blog|uid=/);
    });

    it.each<[what: string, forward: (address: string) => string, target: string]>([
      ["another site's Redis", () => '/tmp/a:/run/kraftwerk-redis/mallory/redis.sock', '/tmp/a'],
      ['sshd by TCP', () => '9001:127.0.0.1:22', '9001'],
      ['nginx by TCP', () => '9002:127.0.0.1:80', '9002'],
      ["another site's web process", () => '/tmp/b:/web/mallory/current/.run/web.sock', '/tmp/b'],
      ['what else the system has', () => '/tmp/d:/run/dbus/system_bus_socket', '/tmp/d'],
      ["its own site's web process", () => '/tmp/c:/web/blog/current/.run/web.sock', '/tmp/c'],
    ])('does not reach %s', async (_, forward, target) => {
      const { web1, web2 } = linked.boxes;
      const { stdout } = await web2.exec(asSite(forwarded(web1.address, forward(web1.address), target)));
      expect(stdout).not.toContain("got b'+");
      expect(stdout).not.toContain('HTTP/');
      expect(stdout).not.toContain('SSH-2.0');
    });

    it('has nobody listen there', async () => {
      const { web1, web2 } = linked.boxes;
      const { code } = await web2.exec(asSite(`timeout 10 ${ssh(web1.address, '-N -R 9003:127.0.0.1:80')}`));
      expect(code).toBe(255);
    });

    it('is the site itself: no other site can read it', async () => {
      const { web2 } = linked.boxes;
      const as = ['setpriv', '--reuid', 'web-mallory', '--regid', 'web-mallory', '--init-groups'];
      expect((await web2.exec([...as, 'cat', KEY])).code).not.toBe(0);
      expect((await web2.exec([...as, 'ls', '/run/kraftwerk-link/blog/redis'])).code).not.toBe(0);
      expect((await web2.exec(asSite(`echo x >>${KEY}`))).code).not.toBe(0);
      expect((await linked.boxes.web1.exec(asSite('echo x >>/web/blog/.ssh/authorized_keys'))).code).not.toBe(0);
    });

    it('is another database user there: mallory does not get at the rows of blog', async () => {
      const answer = await linked.get('web2', '/rows?add=mine', 'mallory.example');
      expect(JSON.parse(answer)).toEqual(['mine']);
    });
  });

  it(
    'the cable between them is cut: the second says so; when it is back, so are the rows',
    async () => {
      const { boxes, rows, visit } = linked;
      await boxes.web2.cut(boxes.web1);
      await waitFor(
        'the link to be down',
        async () => (await visit('web2', '/rows').catch(() => null))?.status !== 200,
      );
      expect(await rows('web1')).toEqual(['one', 'two']);
      await boxes.web2.restore();
      await waitForRows('web2');
    },
    LIMIT_MS,
  );

  it.each<LinkedName>(['web2', 'web1'])(
    '%s is rebooted, and both have the rows again',
    async (name) => {
      await linked.boxes[name].reboot();
      for (const one of LINKED) await waitForRows(one);
    },
    LIMIT_MS,
  );

  async function waitForRows(name: LinkedName): Promise<void> {
    await waitFor(
      `${name} to have the rows`,
      async () => (await linked.visit(name, '/rows').catch(() => null))?.body === '["one", "two"]',
      90_000,
    );
  }

  describe('what a push says and does not do', () => {
    it('another node: in kraftwerk.yaml moves nothing', async () => {
      const { alice, rows } = linked;
      const { lines } = await alice.deploy({ 'kraftwerk.yaml': yaml('{postgres: {node: web2}, redis: }') }, 'live');
      expect(lines).toContain('warning: postgres stays on web1, though kraftwerk.yaml says web2: a push');
      expect(lines).toContain('hint: ssh kraftwerk@HOST services:move blog/live postgres web2');
      expect(await rows('web2')).toEqual(['one', 'two']);
    });

    it.each<[what: string, services: string, first: string]>([
      [
        'a node that is none of the environment',
        '{postgres: {node: web9}, redis: }',
        'error: kraftwerk.yaml:3:29 services.postgres.node: live has no node',
      ],
      [
        'files, which only one could have',
        '[postgres, redis, files]',
        'error: files: its data is on one node, and live has web1, web2',
      ],
    ])('refuses %s', async (_, services, first) => {
      const { alice } = linked;
      alice.commit({ 'kraftwerk.yaml': yaml(services) });
      const pushed = await alice.push('live');
      alice.git(['reset', '-q', '--hard', 'HEAD~1']);
      expect(pushed.code).toBe(1);
      expect(pushed.lines.join('\n')).toContain(first);
    });

    it('files with node: are there, and nowhere else', async () => {
      const { alice, get } = linked;
      await alice.deploy({ 'kraftwerk.yaml': yaml('{postgres: , redis: , files: {node: web2}}') }, 'live');
      const environs = await Promise.all(
        LINKED.map(async (name) => JSON.parse(await get(name, '/environ')) as Record<string, string>),
      );
      expect(environs.map(({ UPLOADS_PATH }) => UPLOADS_PATH)).toEqual([undefined, '/web/blog/uploads']);
    });
  });

  it(
    'mariadb, whose variables are written on its node, is there for both',
    async () => {
      const { alice, get } = linked;
      const services = '{postgres: , redis: , files: {node: web2}, mariadb: {node: web2}}';
      await alice.deploy({ 'kraftwerk.yaml': yaml(services) }, 'live');
      expect(await get('web1', '/maria?add=one')).toBe('["one"]');
      expect(await get('web2', '/maria?add=two')).toBe('["one", "two"]');
    },
    LIMIT_MS,
  );

  describe('services:move', () => {
    const move = (...words: string[]) => linked.receiver.ssh('services:move', 'blog/live', ...words);
    const homeOf = (service: string): unknown =>
      readJournal(linked.receiver, (db) =>
        db.prepare("SELECT node FROM services WHERE project = 'blog' AND service = ?").get(service),
      )?.node;

    const openOperations = (): unknown =>
      readJournal(linked.receiver, (db) =>
        db.prepare('SELECT count(*) AS open FROM operations WHERE ended_at IS NULL').get(),
      )?.open;

    it(
      'takes every row to the second, and the first reaches them there',
      async () => {
        const { boxes, get, good, rows } = linked;
        const { stderr } = await good('services:move', 'blog/live', 'postgres', 'web2');
        expect(stderr).toContain('success: postgres is on web2 after ');
        expect(stderr).toContain('ssh kraftwerk@HOST services:move blog/live postgres web1 --forget\n');
        for (const name of LINKED) expect(await rows(name)).toEqual(['one', 'two']);
        expect(await rows('web1', '?add=three')).toEqual(['one', 'three', 'two']);
        expect(await rows('web2')).toEqual(['one', 'three', 'two']);
        const environ = JSON.parse(await get('web1', '/environ')) as Record<string, string>;
        expect(environ.DATABASE_URL).toContain('host=/run/kraftwerk-link/blog/postgres');
        // What was there is there, as it was.
        const psql = ['setpriv', '--reuid', 'postgres', '--init-groups', '--regid', 'postgres', 'psql', '-XAtq'];
        const old = await boxes.web1.run([...psql, '-d', 'web-blog', '-c', 'SELECT count(*) FROM note']);
        expect(old.trim()).toBe('2');
      },
      LIMIT_MS,
    );

    it(
      'a push goes on with it there',
      async () => {
        await linked.alice.deploy({ 'other.txt': 'y' }, 'live');
        for (const name of LINKED) expect(await linked.rows(name)).toEqual(['one', 'three', 'two']);
      },
      LIMIT_MS,
    );

    it(
      'and back, over the copy that was left',
      async () => {
        await linked.good('services:move', 'blog/live', 'postgres', 'web1');
        for (const name of LINKED) expect(await linked.rows(name)).toEqual(['one', 'three', 'two']);
        const { stderr } = await linked.good(
          ...['services:move', 'blog/live', 'postgres', 'web2', '--forget', '--confirm', 'blog/live'],
        );
        expect(stderr).toContain('success: the old data of postgres on web2 is removed');
        for (const name of LINKED) expect(await linked.rows(name)).toEqual(['one', 'three', 'two']);
      },
      LIMIT_MS,
    );

    it.each<[what: string, words: string[], message: string]>([
      ['to where it is', ['postgres', 'web1'], 'error: postgres of blog/live is on web1 already'],
      ['to a strange node', ['postgres', 'web9'], 'error: live has no node "web9"'],
      ['of what there is none', ['sqlite', 'web2'], 'error: blog/live has no service sqlite with data'],
      ['of what keeps no data', ['memcached', 'web2'], 'error: blog/live has no service memcached with data'],
      [
        'of the live data, to be forgotten',
        ['postgres', 'web1', '--forget'],
        'error: web1 has the live data of postgres, and no old copy',
      ],
    ])('does nothing %s', async (_, words, message) => {
      const { code, stderr } = await move(...words);
      expect(code).toBe(4);
      expect(stderr.split('\n')[0]).toBe(message);
    });

    it.each(['move.begun', 'move.moving', 'move.quiet', 'move.carried', 'move.switching', 'move.serves', 'move.done'])(
      'the receiver is killed at %s: afterwards all rows are in one place, and both nodes have them',
      async (phase) => {
        const { receiver } = linked;
        const before = homeOf('postgres');
        const to = before === 'web1' ? 'web2' : 'web1';
        const failpoint = join(receiver.folder, 'failpoint');
        writeFileSync(failpoint, `receiver:${phase}:1:kill`);
        await move('postgres', to);
        await waitFor('the receiver to be killed', () => receiver.pid === null, 120_000);
        rmSync(failpoint);
        await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
        // A node that is slow to answer does not keep the receiver from its start: then it is settled a moment later.
        await waitFor('the move to be settled', () => openOperations() === 0, 120_000);
        expect(homeOf('postgres')).toBe(phase === 'move.done' ? to : before);
        for (const name of LINKED) expect(await linked.rows(name)).toEqual(['one', 'three', 'two']);
      },
      LIMIT_MS,
    );

    it(
      'a site that does not come to serve with it there is put back as it was',
      async () => {
        const { alice, receiver } = linked;
        const before = homeOf('postgres');
        const to = before === 'web1' ? 'web2' : 'web1';
        // It wants to be where its data is, and says so when it starts.
        const app = `${alice.git(['show', 'HEAD:app.py'])}
if os.uname().nodename.startswith("${before}") and "kraftwerk-link" in os.environ["DATABASE_URL"]:
    raise RuntimeError("not here")
`;
        await alice.deploy({ 'app.py': app }, 'live');
        const { code, stderr } = await receiver.ssh('services:move', 'blog/live', 'postgres', to);
        expect(code).not.toBe(0);
        expect(stderr).toContain(`hint: nothing has changed: postgres is still on ${before}`);
        expect(homeOf('postgres')).toBe(before);
        for (const name of LINKED) expect(await linked.rows(name)).toEqual(['one', 'three', 'two']);
      },
      LIMIT_MS,
    );

    it(
      'where the node with the data is lost, it begins anew on the other, and a dump that had left comes back',
      async () => {
        const { alice, boxes, get, good, receiver, rows } = linked;
        const lost = homeOf('postgres') as LinkedName;
        const left: LinkedName = lost === 'web1' ? 'web2' : 'web1';
        const [program = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
        const download = ['receiver', 'dump', 'blog/live', '--only', 'postgres', '--download'];
        const archive = execFileSync(program, [...args, ...download], { stdio: ['ignore', 'pipe', 'ignore'] });
        await boxes[lost].kill();
        await receiver.stop();
        const config = readFileSync(receiver.config, 'utf8');
        writeFileSync(receiver.config, config.replace('live: {nodes: [web1, web2],', `live: {nodes: [${left}],`));
        await receiver.restart({ KRAFTWERK_FAILPOINT: `@${join(receiver.folder, 'failpoint')}` });
        const refused = await receiver.ssh('deploy', 'blog/live');
        expect(refused.code).toBe(3);
        const away = readJournal(linked.receiver, (db) =>
          db.prepare("SELECT service FROM services WHERE project = 'blog' AND node = ?").all(lost),
        ) as { service: string }[];
        const said = refused.stderr.replaceAll(/\n\s+/g, ' ');
        expect(said).toMatch(/^error: .*postgres.*: their data is on web\d, which is not among the nodes of live$/m);
        for (const { service } of away) {
          expect(said).toContain(`hint: ssh kraftwerk@HOST services:move blog/live ${service} ${left}\n`);
          const { stderr } = await good(
            ...['services:move', 'blog/live', service, left, '--without-data', '--confirm', 'blog/live'],
          );
          const told = stderr.replaceAll(/\n\s+/g, ' ');
          // The moves that were cut off above have left something.
          if (service === 'postgres') {
            expect(told).toMatch(
              /^postgres of blog\/live is about to begin on web\d with what a move left there at 20/m,
            );
            expect(told).toMatch(
              /success: postgres .*; the next deploy serves what a move left there at .*, then load a/,
            );
          } else {
            expect(told).toContain(
              `success: ${service} belongs on ${left}; the next deploy sets it up there, then load`,
            );
          }
        }
        const gone = `${lost} has left the environment, and may still have its links`;
        expect((await good('deploy', 'blog/live')).stderr.replaceAll(/\n\s+/g, ' ')).toContain(`warning: ${gone}`);
        await rows(left, '?add=not+in+the+dump');
        const words = ['load', 'blog/live', '--upload', '--only', 'postgres'];
        const loaded = await receiver.sshAs(receiver.admin, words, archive);
        expect(loaded.code, loaded.stderr).toBe(0);
        // Nobody waits for the lost node while the site is closed.
        expect(loaded.stderr.replaceAll(/\n\s+/g, ' ')).not.toContain(gone);
        expect(await rows(left)).toEqual(['one', 'three', 'two']);
        const environ = JSON.parse(await get(left, '/environ')) as Record<string, string>;
        expect(environ.DATABASE_URL).not.toContain('kraftwerk-link');
        // It named nodes.
        await alice.deploy({ 'kraftwerk.yaml': yaml('[postgres, redis]') }, 'live');
        expect(await rows(left, '?add=zoe')).toEqual(['one', 'three', 'two', 'zoe']);
      },
      LIMIT_MS,
    );
  });
});
