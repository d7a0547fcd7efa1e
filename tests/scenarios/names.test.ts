// Project + suffix is a site's name on a node: `blog-stage` in live and `blog` in stage would be one user, one folder, one database.
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';
import type { TestKey } from '../actors/ssh.ts';

const site = (text: string, more = ''): Record<string, string> => ({
  'kraftwerk.yaml': `wsgi: app\nsrc: .\nworkers: 1\nservices: [files]\n${more}`,
  'app.py': `def application(e, s):\n    s("200 OK", [])\n    return [b"${text}"]\n`,
});

let receiver: TestReceiver;
/** Has `blog-stage` in live, which is a site `blog-stage` on the node. */
let first: Pusher;
/** Has `blog`, whose stage would be the same. */
let second: Pusher;
let bob: TestKey;

beforeAll(async () => {
  receiver = await startReceiver();
  bob = await receiver.addKey('bob', 'deploy', 'blog');
  first = createPusher(receiver, 'blog-stage', site('first'));
  second = createPusher(receiver, 'blog', site('second'));
  await first.deploy({}, 'live');
  second.commit();
});
afterAll(async () => {
  await receiver.cleanUp();
});

/** All that is on the node and could have been touched: paths, inodes, times. */
function nodeState(): string[] {
  const folders = ['web', 'etc', 'run/kraftwerk'].map((name) => join(receiver.node, name));
  return folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => !/\/log\/|\/supervise\/|\.node\.lock$/.test(path))
      .flatMap((path) => {
        const stat = statSync(path, { throwIfNoEntry: false });
        return stat === undefined ? [] : [`${path} ${stat.ino} ${stat.mtimeMs}`];
      }),
  );
}

/** When all is quiet: what a deploy leaves to do, it does after its answer. */
async function quietState(): Promise<string[]> {
  for (let before = nodeState(); ; ) {
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const now = nodeState();
    if (now.join() === before.join()) return now;
    before = now;
  }
}

/** Whether a text stands anywhere in what the receiver keeps. */
function isKept(text: string): boolean {
  const files = readdirSync(receiver.data).filter((name) => name.startsWith('journal.db'));
  return files.some((name) => readFileSync(join(receiver.data, name)).includes(text));
}

describe("a project whose name on the node is another's", () => {
  it('is refused before anything happens there, and its first push leaves nothing behind', async () => {
    const before = await quietState();
    const pushed = await second.push('stage');
    expect(pushed).toMatchObject({ code: 1, rejected: 'the name blog-stage belongs to blog-stage/live' });
    expect(pushed.lines.join(' ').replace(/\s+/g, ' ')).toContain(
      'error: the name blog-stage on node try belongs to blog-stage/live',
    );
    expect(pushed.lines).toContain('hint: git remote set-url stage kraftwerk@HOST:NAME/stage');
    expect(nodeState()).toEqual(before);
    expect(existsSync(join(receiver.data, 'repositories/blog/stage.git'))).toBe(false);
    expect(receiver.log.filter(({ event, target }) => /^deploy/.test(event) && target === 'blog/stage')).toEqual([]);
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('first');
    // A plan asks for the name, too.
    expect((await second.push('stage', 'master', { options: ['plan'] })).rejected).toMatch(
      /^the name blog-stage belongs/,
    );
  });

  it('is told the owner only by a key that may see it', async () => {
    const pushed = await second.push('stage', 'master', { key: bob });
    expect(pushed).toMatchObject({ code: 1, rejected: 'the name blog-stage belongs to another project' });
    expect(pushed.output).not.toContain('blog-stage/live');
  });

  it('may serve where its name is its own', async () => {
    await second.deploy({}, 'live');
    expect((await get(receiver, 'blog.localhost')).body).toBe('second');
  });

  it('reads of a domain as of a name: the owner is told to who may see it, and kept nowhere', async () => {
    second.commit(site('second', 'domain: [blog.localhost, blog-stage.localhost]\n'));
    const asBob = await second.push('live', 'master', { key: bob });
    expect(asBob).toMatchObject({ rejected: 'blog-stage.localhost belongs to another project; v1 still live' });
    expect(asBob.output).not.toContain('blog-stage/live');
    const asAdmin = await second.push('live');
    expect(asAdmin).toMatchObject({ rejected: 'blog-stage.localhost belongs to blog-stage/live; v1 still live' });
    expect([isKept('blog-stage.localhost'), isKept('belongs to blog-stage/live')]).toEqual([true, false]);
    second.commit(site('second'));
  });
});

it('no project gets a domain that is the machine itself, and the place is told', async () => {
  const bad = async (domain: string, error: RegExp): Promise<void> => {
    second.commit(site('second', `domain: ${domain}\n`));
    const pushed = await second.push('live');
    expect(pushed.code).toBe(1);
    expect(pushed.lines.join(' ').replace(/\s+/g, ' ')).toMatch(error);
  };
  await bad(
    '"127.1"',
    /error: kraftwerk\.yaml:5:9 domain: expected a domain name and not what browsers take for an address, got "127\.1"/,
  );
  await bad('localhost', /error: kraftwerk\.yaml:5:9 domain: expected a domain name and not what every machine/);
  await bad('try', /error: kraftwerk\.yaml:5:1 domain: try is the name of the node try, and no project's/);
  expect((await get(receiver, 'blog.localhost')).body).toBe('second');
  second.commit(site('second'));
});

describe('dumps', () => {
  it("of a destroyed site are not the next one's of its name, nor does that one push them out", async () => {
    const made = (await receiver.ssh('dump', 'blog-stage/live')).stdout.trim();
    expect((await receiver.ssh('destroy', 'blog-stage/live', '--confirm', 'blog-stage/live')).code).toBe(0);
    second.commit(site('second'));
    await second.deploy({}, 'stage');
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('second');
    const destroyed = join(receiver.node, 'web/.destroyed/blog-stage');
    expect(existsSync(join(destroyed, made))).toBe(true);
    expect((await receiver.ssh('dumps', 'blog/stage')).stdout).toBe('');
    for (const words of [
      ['load', 'blog/stage', made],
      ['dump', 'blog/stage', made, '--download'],
    ])
      expect(await receiver.ssh(...words)).toMatchObject({
        code: 4,
        stdout: '',
        stderr: expect.stringContaining(`blog/stage has no dump ${made}`),
      });
    // The other way round: the name goes back.
    const other = (await receiver.ssh('dump', 'blog/stage')).stdout.trim();
    expect((await receiver.ssh('destroy', 'blog/stage', '--confirm', 'blog/stage')).code).toBe(0);
    await first.deploy({}, 'live');
    const listed = (await receiver.ssh('dumps', 'blog-stage/live')).stdout;
    expect([listed.includes(made), listed.includes(other)]).toEqual([true, false]);
    expect((await receiver.ssh('load', 'blog-stage/live', made)).code).toBe(0);
  });
});

describe('another suffix', () => {
  it("is another name; the old one stays the target's, and goes with it, dumped like the new one", async () => {
    const setSuffix = async (suffix: string): Promise<void> => {
      const text = readFileSync(receiver.config, 'utf8').replace(
        /live: \{nodes: \[try\],( suffix: \S+,)?/,
        `live: {nodes: [try],${suffix}`,
      );
      writeFileSync(receiver.config, text);
      await receiver.restart();
    };
    const third = createPusher(receiver, 'third', site('third'));
    await third.deploy({}, 'live');
    writeFileSync(join(receiver.node, 'web/third/uploads/old.txt'), 'of the old name');
    await setSuffix(' suffix: -l,');
    third.commit(site('third', 'domain: third-l.localhost\n'));
    await third.deploy({}, 'live');
    expect((await get(receiver, 'third-l.localhost')).body).toBe('third');
    const from = createPusher(receiver, 'third-l', site('from', 'domain: from.localhost\n'));
    await from.deploy({}, 'stage');
    expect((await receiver.ssh('destroy', 'third/live', '--confirm', 'third/live')).code).toBe(0);
    const web = readdirSync(join(receiver.node, 'web'));
    expect([web.includes('third'), web.includes('third-l'), web.includes('third-l-stage')]).toEqual([
      false,
      false,
      true,
    ]);
    const destroyed = join(receiver.node, 'web/.destroyed/third');
    const [name = ''] = readdirSync(destroyed);
    expect(readFileSync(join(destroyed, name, 'files/tree/old.txt'), 'utf8')).toBe('of the old name');
    await setSuffix('');
  });
});

describe('two targets of one name, from a time before names had owners', () => {
  it('the older keeps it; the other is told, refused, and can be given up without touching the site', async () => {
    await receiver.stop();
    const repositories = join(receiver.data, 'repositories');
    cpSync(join(repositories, 'blog-stage/live.git'), join(repositories, 'blog/stage.git'), { recursive: true });
    const db = new DatabaseSync(join(receiver.data, 'journal.db'));
    db.exec(`DROP TABLE claims; PRAGMA user_version = 3;
      INSERT INTO targets SELECT 'blog', 'stage', current, branch, generation, stopped, '2999-01-01T00:00:00.000Z', created_by
        FROM targets WHERE project = 'blog-stage';
      INSERT INTO releases SELECT 'blog', 'stage', release, commit_id, subject, sha256, bytes, spec, created_at, created_by, duration_ms
        FROM releases WHERE project = 'blog-stage';
      INSERT INTO deploys (project, environment, kind, release, commit_id, phase, started_by, started_at)
        SELECT 'blog', 'stage', 'push', 7, commit_id, 'preparing', 'alice', started_at FROM deploys WHERE project = 'blog-stage' LIMIT 1;
      INSERT INTO operations (project, environment, kind, phase, started_by, started_at, detail) VALUES ('blog', 'stage', 'load',
        'loading', 'alice', '2026-01-01', '{"dump": "2026-01-01T00:00:00", "places": [{"node": "try", "services": ["files"]}]}');
      INSERT INTO services SELECT 'blog', 'stage', service, options, node, added_at, asked FROM services WHERE project = 'blog-stage';`);
    db.close();
    const from = receiver.log.length;
    await receiver.restart();
    expect(receiver.log.slice(from).find(({ event }) => event === 'names.conflict')).toMatchObject({
      ...{ name: 'blog-stage', node: 'try', target: 'blog/stage', owner: 'blog-stage/live' },
    });
    // What was cut off waits, and keeps nobody from starting.
    expect(receiver.log.slice(from).map(({ event }) => event)).toEqual(
      expect.arrayContaining(['deploy.settle_failed', 'operation.settle_failed', 'receiver.ready']),
    );
    const before = await quietState();
    const belongs = 'the name blog-stage on node try belongs to blog-stage/live';
    expect((await receiver.ssh('status', 'blog/stage')).stderr).toContain(
      `warning: ${belongs}\nhint: docs/troubleshooting.md`,
    );
    expect((await receiver.sshAs(bob, ['status', 'blog/stage'])).stderr).toContain('belongs to another project');
    expect((await receiver.ssh('projects')).stderr).toContain(`warning: blog/stage: ${belongs}`);
    expect((await receiver.ssh('doctor')).stdout).toContain(
      'blog/stage: the name blog-stage belongs to blog-stage/live here',
    );
    for (const words of [
      ['restart'],
      ['stop'],
      ['deploy'],
      ['dump'],
      ['logs'],
      ['env'],
      ['maintenance', 'on'],
      ['run', '--', 'true'],
    ]) {
      const [name = '', ...more] = words;
      const said = await receiver.ssh(name, 'blog/stage', ...more);
      expect([words, said.code, said.stderr]).toEqual([words, 3, expect.stringContaining(belongs)]);
    }
    expect((await second.push('stage', 'master', { args: ['--force'] })).rejected).toMatch(
      /^the name blog-stage belongs to blog-stage\/live/,
    );
    const gone = await receiver.ssh('destroy', 'blog/stage', '--confirm', 'blog/stage');
    expect(gone).toMatchObject({ code: 0, stderr: expect.stringContaining('no node is touched') });
    expect(nodeState()).toEqual(before);
    expect((await receiver.ssh('status', 'blog/stage')).code).toBe(4);
    expect((await receiver.ssh('status', 'blog-stage/live')).stderr).toBe('');
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('first');
  });
});
