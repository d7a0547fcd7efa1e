// The end of a project on a real node, with a user, databases and a neighbour whose name begins alike: nothing of it is left,
// not even where everybody may leave something; the neighbour keeps every byte; and who gets its number finds nothing.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { type DataBox, LIVE, startDataBox, yaml } from '../actors/data-box.ts';

const NEIGHBOUR = 'blog2.example';
const SLOW_MS = 600_000;
/** What a site may leave behind: as its user, outside of its folder. */
const LEAVE = `
cd /
umask 022
for folder in /tmp /var/tmp /dev/shm /run/lock; do echo mine >$folder/$0.txt; mkdir -m 777 $folder/$0.d; echo mine >$folder/$0.d/deep; done
ln -s /etc/passwd /tmp/$0.link
mkfifo /tmp/$0.fifo
ipcmk --shmem 4096 --semaphore 1 --queue >/dev/null
setsid sh -c 'trap "" HUP TERM; while :; do sleep 7654; done' </dev/null >/dev/null 2>&1 &
(setsid sh -c ':(){ while :; do sleep 0.05 & wait; done; }; :' </dev/null >/dev/null 2>&1 &)
`;

describe.skipIf(boxesAvailable() !== null)('destroy on a system node', () => {
  useBoxes();
  let here: DataBox;
  beforeAll(async () => {
    here = await startDataBox({ name: 'end' });
    for (const pusher of [here.alice, here.project('blog2')])
      await pusher.deploy({ 'kraftwerk.yaml': yaml('files', 'postgres', 'redis') }, 'live');
    for (const host of [LIVE, NEIGHBOUR]) {
      await here.get(host, `/rows?add=of-${host}`);
      await here.get(host, '/count?add=1');
      const instance = host.replace('.example', '');
      await as(instance, `echo "of ${instance}" >/web/${instance}/uploads/photo.jpg`);
    }
  }, 900_000);
  afterAll(async () => await here?.cleanUp());

  const asRoot = async (command: string): Promise<string> => (await here.box.run(['sh', '-c', command])).trim();
  const as = (instance: string, command: string): Promise<string> =>
    here.box.run(['chpst', '-u', `web-${instance}:web-${instance}:ngx-${instance}:web`, 'sh', '-c', command, instance]);
  const accounts = (): Promise<string> =>
    asRoot("getent passwd | cut -d: -f1 | grep '^web-'; getent group | cut -d: -f1 | grep -E '^(web|ngx)-'");
  const owned = (uid: string): Promise<string> =>
    asRoot(
      `find / -xdev -path /proc -prune -o -uid ${uid} -not -path '/web/.destroyed/*' -print; find /dev/shm /run /tmp -uid ${uid}; ps -o pid= -U ${uid}; awk '$8 == ${uid}' /proc/sysvipc/shm || true`,
    );
  let uid: string;
  let dump: string;

  it(
    'leaves nothing of it but its dump, and all of its neighbour',
    async () => {
      const before = await here.data(NEIGHBOUR);
      expect(before).toMatchObject({ rows: [`of-${NEIGHBOUR}`], count: 1 });
      uid = await asRoot('id -u web-blog');
      for (const instance of ['blog', 'blog2']) await as(instance, LEAVE);
      await asRoot('mkdir -p /var/spool/cron/crontabs && echo "* * * * * true" >/var/spool/cron/crontabs/web-blog');
      expect(await asRoot(`ps -o pid= -u web-blog | wc -l`)).not.toBe('0');
      const { stdout } = await here.good('destroy', 'blog/live', '--confirm', 'blog/live', '--json');
      dump = (JSON.parse(stdout) as { dump: string }).dump;
      expect(await accounts()).toBe('web-blog2\nngx-blog2\nweb-blog2');
      expect(await owned(uid)).toBe('');
      expect(
        await asRoot(
          "find / -xdev -name '*web-blog' -o -xdev -name 'blog.*' -not -path '/proc/*' -not -path '/usr/*' -not -path '/var/lib/*' || true",
        ),
      ).toBe('');
      expect(await asRoot('ls -A /web /web/.destroyed; stat -c "%U %a" /web/.destroyed /web/.destroyed/blog')).toBe(
        '/web:\n.destroyed\nblog2\n\n/web/.destroyed:\nblog\nroot 700\nroot 700',
      );
      expect(await asRoot('ls /run/kraftwerk | grep "^blog\\(\\.\\|$\\)" || true')).toBe('');
      expect(
        await asRoot("ls -A /etc/service /etc/sv /etc/nginx/sites-enabled | grep '^blog\\(\\.\\|$\\)' || true"),
      ).toBe('');
      const databases =
        'cd / && su postgres -c "psql -Atc \\"select datname from pg_database union select rolname from pg_roles\\""';
      expect((await asRoot(databases)).split('\n').filter((name) => name.startsWith('web-'))).toEqual(['web-blog2']);
      expect(await asRoot("systemctl list-units --all --plain --no-legend 'kraftwerk-*@blog.*' | wc -l")).toBe('0');
      await expect(here.visit(LIVE)).rejects.toThrow();
      expect(await here.data(NEIGHBOUR)).toEqual(before);
      expect(await asRoot('cat /tmp/blog2.txt /dev/shm/blog2.d/deep; ps -u web-blog2 -o args= | grep -c 7654')).toBe(
        'mine\nmine\n2',
      );
    },
    SLOW_MS,
  );

  it(
    'comes back with all of its data under a new push, though another user has its number now',
    async () => {
      // useradd takes a freed number when it has no other left.
      await asRoot(
        `useradd --system --no-create-home --shell /usr/sbin/nologin --home-dir /web/shop --user-group --uid ${uid} web-shop`,
      );
      await here.project('shop').deploy({ 'kraftwerk.yaml': yaml('files') }, 'live');
      expect(await asRoot('id -u web-shop')).toBe(uid);
      expect(await as('shop', 'ls /web/.destroyed 2>&1 || true')).toContain('Permission denied');
      const pushed = await here.alice.deploy({}, 'live');
      expect(pushed.lines.at(-1)).toMatch(/^success: v1 live in /);
      expect(await here.data(LIVE)).toEqual({ rows: [], count: 0, uploads: '' });
      await here.good('load', 'blog/live', dump, '--no-backup', '--confirm', 'blog/live');
      expect(await here.data(LIVE)).toMatchObject({ rows: [`of-${LIVE}`], count: 1 });
      expect(await asRoot('cat /web/blog/uploads/photo.jpg; stat -c "%U:%G" /web/blog/uploads/photo.jpg')).toBe(
        'of blog\nweb-blog:www-data',
      );
      expect(await asRoot('find /web/blog -user web-shop')).toBe('');
    },
    SLOW_MS,
  );

  it(
    'ends it after a power cut in the middle',
    async () => {
      await asRoot('systemctl stop postgresql');
      const failed = await here.receiver.ssh('destroy', 'blog/live', '--confirm', 'blog/live', '--no-dump');
      expect(failed.code).toBe(1);
      expect(failed.stderr).toMatch(/^error: postgres: PostgreSQL does not answer/m);
      const from = here.receiver.log.length;
      await here.box.kill();
      await here.box.up();
      await here.receiver.logged('operation.settled', undefined, from, 120_000);
      expect(await accounts()).not.toContain('web-blog\n');
      expect(await asRoot('ls /web')).toBe('blog2\nshop');
      expect((await here.data(NEIGHBOUR)).rows).toEqual([`of-${NEIGHBOUR}`]);
    },
    SLOW_MS,
  );
});
