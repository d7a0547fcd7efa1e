// Every built-in service against the real server of Debian 12, its scripts run as docs/services.md says: sites do not
// reach each other's data, what is dumped can be loaded, and whatever goes wrong on the way leaves the data as it was.
// Long because: one box with all servers serves every service.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Options } from '../../receiver/service-schema.ts';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { spread } from '../actors/failing-script.ts';
import {
  type Service,
  type ServiceBox,
  type Site,
  type Step,
  startServiceBox,
  templatesOf,
} from '../actors/service-box.ts';
import { exampleOfDocs, writeFolder } from '../actors/service-folders.ts';
import { AMQP, BUILT_IN_KITS, type Kit, MEMCACHED, SPOOL } from '../actors/service-kits.ts';
import { POSTGRES } from '../actors/suite.ts';
import { thorough } from '../actors/thorough.ts';

/** One is the other's beginning, one differs in what a database takes for any character, one is as long as can be. */
const SITES = ['blog', 'blog-stage', 'blog_stage', 'blog2', 'a-site_with-28-characters_xx'];
/** Who is after whose data. */
const PAIRS = [
  ['blog2', 'blog'],
  ['blog_stage', 'blog-stage'],
] as const;
type AnyKit = typeof MEMCACHED;
const NO_ROOM =
  /^error: no room: [\d.]+[MG]B are needed on the disk of \S+, [\d.]+[KMG]?B are free\nhint: make room on the node, then try again\n/;
const DATA_KITS = [...BUILT_IN_KITS, SPOOL];
/** Cut off before each command, full disks, power cuts: they take many minutes. */
const some = (commands: number, count: number): number[] => spread(commands, thorough ? commands : count);

describe.skipIf(boxesAvailable() !== null)('services', () => {
  useBoxes();
  let node: ServiceBox;
  const example = writeFolder(exampleOfDocs());
  afterAll(() => rmSync(example, { recursive: true }));
  const sites = new Map<string, Site>();
  beforeAll(async () => {
    node = await startServiceBox({ name: 'services', templates: templatesOf(example) });
    await node.asRoot(`cat >/usr/local/share/amqp.py <<'END'\n${AMQP}\nEND\nchmod 0644 /usr/local/share/amqp.py`);
    for (const instance of SITES) sites.set(instance, await node.makeSite(instance));
  }, 900_000);

  const serviceOf = (kit: AnyKit, instance = 'blog'): Service =>
    (sites.get(instance) as Site).service(kit.service, kit.options);
  const digest = (kit: Kit, instance = 'blog'): Promise<string> =>
    serviceOf(kit, instance).use(`set -- ${instance}\n${kit.digest}`);
  const dumpOf = (kit: Kit, which: string, instance = 'blog'): string =>
    `/web/${instance}/dump/${kit.service}.${which}`;
  /** What is there, also of a load that was not ended. */
  const there = (kit: AnyKit): Promise<string> => node.asRoot(kit.there);

  async function load(kit: Kit, steps: readonly Step[], which = 'first', instance = 'blog'): Promise<void> {
    await serviceOf(kit, instance).load(steps, dumpOf(kit, which));
  }

  /** For all of them, also where one fails: what goes on beside the next test would be told as that one's failure. */
  async function forAll<K extends AnyKit>(kits: readonly K[], run: (kit: K) => Promise<unknown>): Promise<void> {
    for (const end of await Promise.allSettled(kits.map(run))) if (end.status === 'rejected') throw end.reason;
  }

  /** As an error says it. */
  async function part(kit: AnyKit, what: string, run: (kit: never) => Promise<void>): Promise<void> {
    try {
      await run(kit as never);
    } catch (error) {
      if (error instanceof Error) error.message = `${kit.service} ${what}: ${error.message}`;
      throw error;
    }
  }

  async function isSetUpOnce(kit: AnyKit): Promise<void> {
    const setUp = async (instances: readonly string[]): Promise<void> => {
      const said = await Promise.all(instances.map((instance) => serviceOf(kit, instance).setUp()));
      expect(said).toEqual(instances.map(() => ''));
    };
    const traces = (): Promise<string> =>
      node.asRoot(`${kit.there}; ${kit.traces ?? ''}
        find /web/*/.kraftwerk/services/${kit.service} /etc/systemd/system/kraftwerk-${kit.service}@.service -printf '%p %i %C@\n' 2>/dev/null || true`);
    await setUp(SITES);
    const before = await traces();
    await setUp(['blog', 'blog_stage']);
    expect(await traces()).toEqual(before);
    for (const instance of SITES) expect(await serviceOf(kit, instance).health(), instance).toMatchObject({ code: 0 });
  }

  async function isOutOfReach(kit: AnyKit): Promise<void> {
    for (const [attacker, owner] of PAIRS) {
      const victim = serviceOf(kit, owner);
      const variables = Object.entries({ ...(await victim.variables()), FOLDER: `/web/${owner}` })
        .map(([name, value]) => `export V_${name}='${value}'`)
        .join('\n');
      for (const { what, script, denied, nobody } of kit.attacks) {
        const tried = await serviceOf(kit, attacker).tryUse(`${variables}\n${script}`);
        expect(tried.code, `${what}: ${tried.stdout}`).not.toBe(0);
        expect(tried.stdout + tried.stderr, what).toMatch(denied);
        // What others are told is not that there is nothing.
        if (nobody) continue;
        const own = await victim.tryUse(`${variables}\n${script}`);
        expect(own.code, `${what}, by itself: ${own.stdout}${own.stderr}`).toBe(0);
      }
    }
  }

  /** Makes two dumps, `first` and `second`, and leaves what is in the first. */
  async function comesBack(kit: Kit): Promise<{ first: string; second: string }> {
    const service = serviceOf(kit);
    const first = await digest(kit);
    await service.dump(dumpOf(kit, 'first'));
    expect(await digest(kit)).toBe(first);
    await service.use(kit.change);
    const second = await digest(kit);
    expect(second).not.toBe(first);
    await service.dump(dumpOf(kit, 'second'));

    // Each step may come again, when an agent does not know whether it was done.
    await load(kit, ['new', 'new']);
    expect(await digest(kit), 'loaded').toBe(second);
    // It asks for an end before the next.
    expect(await service.tryLoad('done')).toMatchObject({ code: 1 });
    await load(kit, ['swap', 'swap']);
    expect(await digest(kit), 'swapped').toBe(first);
    expect(await service.health()).toMatchObject({ code: 0 });
    expect(await service.tryLoad('new', dumpOf(kit, 'second'))).toMatchObject({ code: 1 });
    await load(kit, ['back', 'back']);
    expect(await digest(kit), 'taken back').toBe(second);
    await load(kit, ['new', 'swap', 'done', 'done', 'back']);
    expect(await digest(kit), 'done').toBe(first);
    await service.setUp();
    expect(await digest(kit), 'set up again').toBe(first);
    return { first, second };
  }

  async function refusesWhatIsNoDump(kit: Kit): Promise<void> {
    const service = serviceOf(kit);
    const before = [await digest(kit), await there(kit)];
    for (const [what, make] of Object.entries(kit.wrong)) {
      const wrong = dumpOf(kit, 'wrong');
      await node.asRoot(`DUMP=${dumpOf(kit, 'first')} WRONG=${wrong}; rm -rf "$WRONG"; ${make}`);
      const tried = await service.tryLoad('new', wrong);
      expect(tried, what).toMatchObject({ code: expect.toBeOneOf([1, 65]) as number });
      expect(tried.stderr, what).toMatch(/^error: /m);
      if (what === 'nothing' || what.startsWith('of ')) expect(tried, what).toMatchObject({ code: 65 });
      // There is nothing to swap in.
      expect(await service.tryLoad('swap'), what).toMatchObject({ code: 1 });
      expect(await digest(kit), what).toBe(before[0]);
      await service.load(['back']);
      expect(await there(kit), what).toBe(before[1]);
    }
    expect(await digest(kit)).toBe(before[0]);
    expect(await service.tryLoad('everything')).toMatchObject({ code: 1 });
  }

  async function isNotDisturbed(kit: Kit): Promise<void> {
    const wait: Readonly<Record<string, string>> = {
      postgres: `psql -XAtd "$POSTGRES_DATABASE" -c "SELECT pg_sleep(4), 'still there'"`,
      mariadb: `mariadb -BN -u "$MARIADB_USER" "$MARIADB_DATABASE" -e "SELECT SLEEP(4), 'still there'"`,
      redis: `{ sleep 4; echo 'ECHO "still there"'; } | redis-cli -s "$REDIS_SOCKET"`,
    };
    const script = wait[kit.service];
    if (script === undefined) return;
    const [said] = await Promise.all([serviceOf(kit).use(script), load(kit, ['new', 'back'], 'second')]);
    expect(said).toContain('still there');
  }

  /** Each step, cut off before each of its commands, and then gone on with in each way that there is. */
  async function isWholeWhereverItIsCutOff(kit: Kit, data: { first: string; second: string }): Promise<void> {
    const service = serviceOf(kit);
    const second = dumpOf(kit, 'second');
    const remained = await there(kit);
    const cut = async (step: Step, command: number): Promise<void> => {
      const killed = await service.cutLoad(step, second, command);
      // A script that waits for a server has some commands more or fewer: then the step has ended, and all below holds as well.
      const waits = step === 'new' && command > commands.new * 0.8;
      expect(killed || waits, `${step} has a command ${command}`).toBe(true);
    };
    const isAsBefore = async (what: string): Promise<void> => {
      expect(await digest(kit), what).toBe(data.first);
      expect(await there(kit), what).toBe(remained);
    };
    const commands = {
      new: await service.countLoad('new', second),
      swap: await service.countLoad('swap'),
      back: await service.countLoad('back'),
    };
    await isAsBefore('not cut off');

    for (const command of some(commands.new, 2)) {
      await cut('new', command);
      expect(await digest(kit), `new, before ${command}`).toBe(data.first);
      // What is half made is not taken for a whole one.
      if ((await service.tryLoad('swap')).code === 0)
        expect(await digest(kit), `new, before ${command}, swap`).toBe(data.second);
      await load(kit, ['back']);
      await isAsBefore(`new, before ${command}, back`);
    }
    for (const command of some(commands.swap, 2)) {
      await load(kit, ['new'], 'second');
      await cut('swap', command);
      await load(kit, ['swap']);
      expect(await digest(kit), `swap, before ${command}, swap`).toBe(data.second);
      await load(kit, ['back', 'new'], 'second');
      await cut('swap', command);
      await load(kit, ['back']);
      await isAsBefore(`swap, before ${command}, back`);
    }
    for (const command of some(commands.back, 1)) {
      await load(kit, ['new', 'swap'], 'second');
      await cut('back', command);
      await load(kit, ['back']);
      await isAsBefore(`back, before ${command}, back`);
    }
    await load(kit, ['new', 'swap'], 'second');
    for (const command of [0, ...some(await service.countLoad('done'), 1)]) {
      if (command > 0) {
        await load(kit, ['new', 'swap'], 'second');
        await cut('done', command);
        await load(kit, ['done']);
      }
      expect(await digest(kit), `done, before ${command}, done`).toBe(data.second);
      await load(kit, ['new', 'swap', 'done']);
      await isAsBefore(`done, before ${command}`);
    }
    expect(await service.health()).toMatchObject({ code: 0 });
  }

  describe('of all kinds', { concurrent: true }, () => {
    it.each([...DATA_KITS, MEMCACHED])(
      '$service',
      async (kit) => {
        await part(kit, 'is set up, and the second time changes nothing', isSetUpOnce);
        if ('fill' in kit)
          await Promise.all(SITES.map((instance) => serviceOf(kit, instance).use(`set -- ${instance}\n${kit.fill}`)));
        await part(kit, 'is out of reach of every other site', isOutOfReach);
        if (!('fill' in kit)) return;
        let data = { first: '', second: '' };
        await part(kit, 'brings every byte of a dump back, and goes back to what was before', async (any: Kit) => {
          data = await comesBack(any);
        });
        await part(kit, 'refuses what it cannot load', refusesWhatIsNoDump);
        await part(kit, 'does not disturb the site before the swap', isNotDisturbed);
        if (thorough)
          await part(kit, 'is whole wherever a step is cut off', (any: Kit) => isWholeWhereverItIsCutOff(any, data));
      },
      thorough ? 3_600_000 : 1_200_000,
    );
  });

  it.runIf(thorough)(
    'leave data as it was when the disk is full',
    async () => {
      const big: Readonly<Record<string, string>> = {
        postgres: `psql -Xqw -d "$POSTGRES_DATABASE" -c "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 30) AS text FROM generate_series(1, 100000) n"`,
        mariadb: `mariadb -u "$MARIADB_USER" "$MARIADB_DATABASE" -e "CREATE TABLE big AS SELECT seq, REPEAT(MD5(seq), 30) AS text FROM seq_1_to_100000"`,
        redis: `for i in $(seq 10); do head -c 1000000 /dev/urandom | redis-cli -x -s "$REDIS_SOCKET" SET "big:$i"; done >/dev/null`,
        files:
          'dd if=/dev/urandom of="$UPLOADS_PATH/huge" bs=1M count=60 status=none; touch -d "1 hour" "$UPLOADS_PATH/huge"',
        sqlite: `python3 -c 'import os, sqlite3; db = sqlite3.connect(os.environ["SQLITE_DATABASE"]); db.execute("CREATE TABLE big (body)"); db.executemany("INSERT INTO big VALUES (?)", ((os.urandom(1 << 20),) for _ in range(60))); db.commit()'`,
      };
      const kits = DATA_KITS.filter((kit) => big[kit.service] !== undefined);
      const before = new Map<string, string>();
      await forAll(kits, async (kit) => {
        await serviceOf(kit).use(big[kit.service] ?? '');
        await serviceOf(kit).dump(dumpOf(kit, 'big'));
        before.set(kit.service, await digest(kit));
      });
      // Else it frees what it has written ahead in the middle of it.
      await node.asRoot(
        'for i in 1 2; do setpriv --reuid postgres --regid postgres --init-groups psql -Xqc CHECKPOINT; done',
      );
      await node.asRoot(
        `fallocate -l "$(df --output=size,used -BM / | awk 'END { print $1 - $2 - 45 }')M" /var/filler`,
      );
      try {
        for (const kit of kits) {
          const source = dumpOf(kit, 'big');
          // Uploads are linked, as long as they are the site's and nobody writes to them.
          if (kit.service === 'files')
            await node.asRoot(`cd ${source}/tree; find . -type f -printf '%P\\0' >../copied`);
          const foreseen = await serviceOf(kit).tryLoad('new', source);
          expect(foreseen, kit.service).toMatchObject({ code: 1 });
          expect(foreseen.stderr, kit.service).toMatch(NO_ROOM);
          // As if it had not been known before.
          if (!(await node.asRoot(`ls ${source}`)).includes('facts')) continue;
          await node.asRoot(`sed -i s/^bytes=.*/bytes=1/ ${source}/facts`);
          const met = await serviceOf(kit).tryLoad('new', source);
          expect(met, kit.service).toMatchObject({ code: expect.toBeOneOf([1, 69]) as number });
          expect(met.stderr, kit.service).toMatch(/^error: /m);
          await serviceOf(kit).load(['back']);
        }
      } finally {
        await node.asRoot('rm /var/filler');
      }
      await forAll(kits, async (kit) => {
        expect(await digest(kit), kit.service).toBe(before.get(kit.service));
        await load(kit, ['new', 'swap', 'done']);
        await node.asRoot(`rm -r ${dumpOf(kit, 'big')}`);
      });
    },
    720_000,
  );

  it.runIf(thorough)('say before they begin that 3 GB do not fit', async () => {
    for (const service of ['postgres', 'mariadb']) {
      const kit = DATA_KITS.find((any) => any.service === service) as Kit;
      const source = dumpOf(kit, 'huge');
      await node.asRoot(
        `cp -r ${dumpOf(kit, 'second')} ${source}; sed -i s/^bytes=.*/bytes=3221225472/ ${source}/facts`,
      );
      const before = [await digest(kit), await there(kit)];
      const tried = await serviceOf(kit).tryLoad('new', source);
      expect(tried, service).toMatchObject({ code: 1, stderr: expect.stringMatching(NO_ROOM) as string });
      expect(tried.stderr).toContain(service === 'postgres' ? ' 4.1GB are needed ' : ' 4.6GB are needed ');
      expect([await digest(kit), await there(kit)], service).toEqual(before);
      await node.asRoot(`rm -r ${source}`);
    }
  });

  it.runIf(thorough)('do not take a dump for made that the disk has no room for', async () => {
    await node.asRoot(`mkdir /web/blog/dump/small && mount -t tmpfs -o size=8k,mode=0700 small /web/blog/dump/small`);
    const target = '/web/blog/dump/small/dump';
    try {
      await forAll([...DATA_KITS], async (kit) => {
        const state = [await digest(kit), await there(kit)];
        // One after the other would take all of them longer than this.
        const own = `${target}.${kit.service}`;
        await node.asRoot('[ -e /web/blog/dump/small/full ] || head -c 8192 /dev/zero >/web/blog/dump/small/full');
        const tried = await serviceOf(kit).tryDump(own);
        expect(tried, kit.service).not.toMatchObject({ code: 0 });
        expect(tried.stderr, kit.service).toMatch(/No space left on device/);
        expect([await digest(kit), await there(kit)], kit.service).toEqual(state);
      });
    } finally {
      await node.asRoot('umount /web/blog/dump/small; rmdir /web/blog/dump/small');
    }
  });

  it('say that a server is down, and change nothing', async () => {
    const units: Readonly<Record<string, string>> = {
      postgres: `postgresql@${POSTGRES}-main`,
      mariadb: 'mariadb',
      redis: 'kraftwerk-redis@blog',
      rabbitmq: 'rabbitmq-server',
    };
    const kits = DATA_KITS.filter(({ service }) => units[service] !== undefined);
    await forAll(kits, async (kit) => {
      const before = await digest(kit);
      await node.asRoot(`systemctl stop ${units[kit.service]}`);
      const isDown = ({ code, stderr }: { code: number | null; stderr: string }, what: string): void => {
        expect([code, stderr], `${kit.service} ${what}`).toEqual([
          69,
          expect.stringMatching(/^error: \w+ does not answer.*\nhint: on the node: (?:systemctl|journalctl) .*\n$/s),
        ]);
      };
      expect(await serviceOf(kit).health(), kit.service).not.toMatchObject({ code: 0 });
      isDown(await serviceOf(kit).tryDump(dumpOf(kit, 'none')), 'dump');
      // A Redis that is down is started by its set-up, and is not needed before the swap.
      if (kit.service !== 'redis') {
        isDown(await serviceOf(kit).trySetUp(), 'setup');
        for (const step of ['new', 'swap', 'back', 'done'])
          isDown(await serviceOf(kit).tryLoad(step, dumpOf(kit, 'first')), step);
      }
      await node.asRoot(`rm -rf ${dumpOf(kit, 'none')}; systemctl start ${units[kit.service]}`);
      // With a server that has just been started, scripts wait.
      await serviceOf(kit).setUp();
      expect(await digest(kit), kit.service).toBe(before);
    });
  }, 480_000);

  it.runIf(thorough)(
    'are whole after a power cut, in the middle of a load, too',
    async () => {
      const digests = (): Promise<string[]> => Promise.all(DATA_KITS.map((kit) => digest(kit)));
      const before = await digests();
      // Some are about to swap when the power goes, some are half way through it, some load still.
      await forAll(DATA_KITS, async (kit) => {
        const service = serviceOf(kit);
        const second = dumpOf(kit, 'second');
        const news = await service.countLoad('new', second);
        if (DATA_KITS.indexOf(kit) % 2 === 0) return service.hangLoad('new', second, news - 3);
        const swaps = await service.countLoad('swap');
        await load(kit, ['back', 'new'], 'second');
        await service.hangLoad('swap', '', swaps - 1);
      });
      await node.box.kill();
      await node.box.up();
      await node.asRoot('install -d -m 0711 /run/kraftwerk; systemctl is-system-running --wait >/dev/null || true');
      await forAll(DATA_KITS, (kit) => load(kit, ['back']));
      expect(await digests()).toEqual(before);
      for (const kit of [...DATA_KITS, MEMCACHED])
        for (const instance of SITES)
          expect(await serviceOf(kit, instance).health(), `${kit.service} of ${instance}`).toMatchObject({ code: 0 });
      await forAll(DATA_KITS, (kit) => load(kit, ['new', 'swap', 'done']));
    },
    720_000,
  );

  describe('postgres', () => {
    const postgres = (options: Options): Service => (sites.get('blog2') as Site).service('postgres', options);

    it('gives extensions that are safe, and says whom to ask for others', async () => {
      expect(await postgres({ extensions: ['citext', 'unaccent'] }).setUp()).toBe('');
      expect(
        await postgres({}).use('psql -XAtd "$POSTGRES_DATABASE" -c "SELECT extname FROM pg_extension ORDER BY 1"'),
      ).toBe('citext\nhstore\npg_trgm\nplpgsql\nunaccent');
      const dangerous = await postgres({ extensions: ['file_fdw'] }).trySetUp();
      expect(dangerous).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(
          "error: the extension file_fdw would let the site act as the database's superuser",
        ) as string,
      });
      expect((await postgres({ extensions: ['postgis'] }).trySetUp()).stderr).toMatch(
        new RegExp(`^error: PostgreSQL ${POSTGRES} has no extension postgis on this node\nhint: `),
      );
    });

    it('holds a site to its connections', async () => {
      await postgres({ connections: 2 }).setUp();
      const many = await postgres({}).tryUse(
        'for i in 1 2 3; do psql -Xd "$POSTGRES_DATABASE" -c "SELECT pg_sleep(2)" & done; wait',
      );
      expect(many.stderr).toContain('too many connections for role "web-blog2"');
      await postgres({}).setUp();
    });

    it('takes back the rights that a role must not have', async () => {
      await node.asRoot(
        `cd /; setpriv --reuid postgres --regid postgres --init-groups psql -Xqc 'ALTER ROLE "web-blog2" SUPERUSER CREATEDB' -c 'GRANT CONNECT ON DATABASE postgres TO PUBLIC'`,
      );
      await postgres({}).setUp();
      expect(
        await postgres({}).use(
          `psql -XAtd "$POSTGRES_DATABASE" -c "SELECT rolsuper, rolcreatedb, has_database_privilege('postgres', 'CONNECT') FROM pg_roles WHERE rolname = current_user"`,
        ),
      ).toBe('f|f|f');
    });

    it('looks for nothing where a site may have put something else', async () => {
      const kit = BUILT_IN_KITS.find(({ service }) => service === 'postgres') as Kit;
      const isSuperuser = (): Promise<string> =>
        node.asRoot(
          `cd /; setpriv --reuid postgres --regid postgres --init-groups psql -XAtc "SELECT rolsuper FROM pg_roles WHERE rolname = 'web-blog2'"`,
        );
      await postgres({}).setUp();
      await postgres({}).use(`psql -Xqd "$POSTGRES_DATABASE" <<'SQL'
CREATE SCHEMA evil;
CREATE FUNCTION evil.take() RETURNS name LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN EXECUTE 'ALTER ROLE "web-blog2" SUPERUSER'; END IF;
  RETURN 'citext'; END $$;
CREATE VIEW evil.pg_extension AS SELECT evil.take() AS extname;
CREATE VIEW evil.pg_available_extension_versions AS SELECT evil.take() AS name, true AS trusted, null::name AS schema;
ALTER DATABASE "web-blog2" SET search_path = evil, pg_catalog;
SQL`);
      await postgres({ extensions: ['citext'] }).trySetUp();
      expect(await isSuperuser()).toBe('f');
      await postgres({}).load(['new', 'back'], dumpOf(kit, 'first'));
      expect(await isSuperuser()).toBe('f');
      await postgres({}).use(
        `psql -Xqd "$POSTGRES_DATABASE" -c 'ALTER DATABASE "web-blog2" RESET search_path' -c 'DROP SCHEMA evil CASCADE' 2>/dev/null`,
      );
    });

    it('is not set up on a server that trusts everybody', async () => {
      const hba = `/etc/postgresql/${POSTGRES}/main/pg_hba.conf`;
      await node.asRoot(`cp -p ${hba} /root; echo 'host all all 10.0.0.0/8 trust' >>${hba}`);
      expect(await postgres({}).trySetUp()).toMatchObject({
        code: 3,
        stderr: expect.stringContaining('trusts whoever connects') as string,
      });
      await node.asRoot(`mv /root/pg_hba.conf ${hba}`);
      await postgres({}).setUp();
    });
  });

  describe('files', () => {
    const files = (options: Options = {}): Service => (sites.get('blog2') as Site).service('files', options);
    const target = '/web/blog2/dump/files';

    it('links what was written once, and copies what is written in place', async () => {
      await files().use('cd "$UPLOADS_PATH"; echo one >once; echo one >again; touch -d "+2 hours" again');
      await files().dump(target);
      await files().use('cd "$UPLOADS_PATH"; echo two >>again');
      expect(
        await node.asRoot(`cd ${target}; cat tree/again; stat -c %h tree/once tree/again; tr '\\0' '\\n' <copied`),
      ).toBe('one\n2\n1\nagain');
      await files().load(['new'], target);
      // What the site writes to is never a dump's.
      expect(await node.asRoot('stat -c %h /web/blog2/uploads.new/once /web/blog2/uploads.new/again')).toBe('3\n1');
      await files().load(['back']);
      await files({ dump: 'copy' }).dump(`${target}.copy`);
      expect(await node.asRoot(`stat -c %h ${target}.copy/tree/once; rm -r ${target} ${target}.copy`)).toBe('1');
    });

    it('gives a site nothing that it could not read before', async () => {
      await node.asRoot('install -m 0600 /dev/null /web/blog2/uploads/secret');
      expect(await files().tryDump(target)).toMatchObject({
        code: 1,
        stderr: 'error: secret: belongs to another user, and the site may not read it\n',
      });
      await node.asRoot(`rm -r ${target} /web/blog2/uploads/secret`);
    });

    it('leaves out sockets and pipes, and says so', async () => {
      await files().use('cd "$UPLOADS_PATH"; mkfifo pipe');
      expect(await files().dump(target)).toBe('1 sockets, pipes or devices in /web/blog2/uploads are left out');
      await files().use('rm "$UPLOADS_PATH/pipe"');
      await node.asRoot(`rm -r ${target}`);
    });

    it('follows no links, however quickly they are exchanged for folders', async () => {
      await node.asRoot('mkdir -p /root/prey/deep && echo prey >/root/prey/file && echo prey >/root/prey/deep/file');
      const swap = `
import os, sys, time
os.chdir(sys.argv[1])
os.makedirs("many/deep", exist_ok=True)
for n in range(300): open(f"many/{n}", "w").write("own")
open("many/file", "w").write("own"); open("many/deep/file", "w").write("own")
end = time.time() + 4
while time.time() < end:
    os.rename("many", "aside"); os.symlink("/root/prey", "many"); os.unlink("many"); os.rename("aside", "many")
`;
      const swapping = files().use(`python3 -c '${swap}' "$UPLOADS_PATH"`);
      const tries = async (): Promise<number> => {
        let whole = 0;
        for (const end = performance.now() + 3500; performance.now() < end; ) {
          if ((await files().tryDump(target)).code === 0) whole += 1;
          expect(await node.asRoot(`grep -rl prey ${target} || true; rm -rf ${target}`)).toBe('');
        }
        return whole;
      };
      const [whole] = await Promise.all([tries(), swapping]);
      expect(whole).toBeGreaterThan(0);
      expect(await node.asRoot('find /root/prey -type f | wc -l')).toBe('2');
    }, 120_000);
  });

  it("take another target's dump", async () => {
    const takeIt = async (kit: Kit): Promise<void> => {
      const stage = await digest(kit, 'blog-stage');
      const live = await digest(kit);
      await load(kit, ['new', 'swap'], 'first', 'blog-stage');
      expect(await digest(kit, 'blog-stage'), kit.service).not.toBe(stage);
      await serviceOf(kit, 'blog-stage').use(kit.change);
      expect(await digest(kit), kit.service).toBe(live);
      await load(kit, ['back'], '', 'blog-stage');
      expect(await digest(kit, 'blog-stage'), kit.service).toBe(stage);
    };
    await forAll(DATA_KITS, takeIt);
  }, 480_000);

  it('destroy what is theirs, and nothing else', async () => {
    const all = [...DATA_KITS, MEMCACHED];
    const rest = ['blog-stage', 'blog2'];
    const digests = (kit: Kit): Promise<string[]> => Promise.all(rest.map((instance) => digest(kit, instance)));
    const destroyIt = async (kit: AnyKit): Promise<void> => {
      const before = 'fill' in kit ? await digests(kit as Kit) : [];
      // In the middle of a load, too.
      if ('fill' in kit) await load(kit as Kit, ['new', 'swap']);
      await serviceOf(kit).destroy();
      await serviceOf(kit).destroy();
      if ('fill' in kit) expect(await digests(kit as Kit)).toEqual(before);
      for (const instance of rest)
        expect(await serviceOf(kit, instance).health(), `${kit.service} of ${instance}`).toMatchObject({ code: 0 });
      expect(await there(kit)).not.toMatch(/web-blog\b(?![-_2])|\/web\/blog\//);
    };
    await forAll(all, destroyIt);
    expect(
      await node.asRoot(
        `ls -A /web/blog; ls /tmp; ls -d /run/kraftwerk-*/blog 2>/dev/null || pgrep -lu web-blog || true`,
      ),
    ).toMatch(/^\.kraftwerk\ndump(?:\nsystemd-private-.*)*$/);
    const makeItAgain = async (kit: AnyKit): Promise<void> => {
      await serviceOf(kit).setUp();
      expect(await serviceOf(kit).health(), kit.service).toMatchObject({ code: 0 });
      if ('fill' in kit) await load(kit as Kit, ['new', 'swap', 'done']);
    };
    await forAll(all, makeItAgain);
  }, 720_000);
});
