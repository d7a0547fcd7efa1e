/** What dump and load of a site's data cost, against the programs that do nothing else: both in one box, in turn. */
import { boxesAvailable } from '../../tests/actors/box.ts';
import { type ServiceBox, startServiceBox } from '../../tests/actors/service-box.ts';
import { median, type Row } from './report.ts';

const ROUNDS = 2;
const AS_SITE = 'setpriv --reuid web-blog --regid web-blog --init-groups';
const AS_POSTGRES = 'setpriv --reuid postgres --regid postgres --init-groups';

async function time(body: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
}

interface Pair {
  ours: () => Promise<unknown>;
  plain: () => Promise<unknown>;
  /** After each of both. */
  tidy: () => Promise<unknown>;
}

/** In turn, and the other first in every other round: what one leaves in caches helps them alike. @returns milliseconds */
async function compare({ ours, plain, tidy }: Pair, rounds = ROUNDS): Promise<{ ours: number; plain: number }> {
  const times: { ours: number[]; plain: number[] } = { ours: [], plain: [] };
  for (let round = 0; round < rounds; round++) {
    const both = [async () => times.ours.push(await time(ours)), async () => times.plain.push(await time(plain))];
    for (const one of round % 2 === 0 ? both : both.toReversed()) {
      await one();
      await tidy();
    }
  }
  return { ours: median(times.ours), plain: median(times.plain) };
}

async function measurePostgres(node: ServiceBox, say: (text: string) => void): Promise<Row[]> {
  const postgres = node.site('blog').service('postgres');
  const dump = '/web/blog/dump/ours';
  const plain = '/web/blog/dump-plain/plain';
  say('a database of 1 GB');
  await node.asRoot(
    `install -d -o web-blog -m 0700 /web/blog/dump-plain; cd /; ${AS_POSTGRES} psql -Xqc 'ALTER SYSTEM SET autovacuum = off' -c 'SELECT pg_reload_conf()' >/dev/null`,
  );
  await postgres.setUp();
  await postgres.use(`psql -Xqw -v ON_ERROR_STOP=1 -d "$POSTGRES_DATABASE" <<'SQL'
    CREATE TABLE post AS SELECT n AS id, repeat(md5(n::text), 7) AS body FROM generate_series(1, 3700000) n;
    ALTER TABLE post ADD PRIMARY KEY (id);
    VACUUM ANALYZE;
SQL`);
  const bytes = Number(
    await postgres.use('psql -XAtqw -d "$POSTGRES_DATABASE" -c "SELECT pg_database_size(current_database())"'),
  );
  const checkpoint = `cd /; ${AS_POSTGRES} psql -Xqc CHECKPOINT`;
  await node.asRoot(checkpoint);

  say(`${(bytes / 1e9).toFixed(1)} GB: dump, beside pg_dump -Fc`);
  const dumps = await compare({
    ours: () => postgres.dump(dump),
    plain: () => node.asRoot(`cd /; ${AS_SITE} pg_dump -Fc -h /run/postgresql web-blog >${plain}`),
    tidy: () =>
      node.asRoot(`for i in ${dump} ${plain}; do [ ! -e $i ] || { rm -rf $i.last; mv -T $i $i.last; }; done; sync`),
  });
  say('load, beside pg_restore');
  const loads = await compare({
    ours: () => postgres.load(['new', 'swap'], `${dump}.last`),
    plain: () =>
      node.asRoot(
        `cd /; ${AS_POSTGRES} createdb -T template0 -O web-blog plain; ${AS_SITE} pg_restore -h /run/postgresql -d plain ${plain}.last`,
      ),
    tidy: async () => {
      await postgres.load(['back']);
      await node.asRoot(`cd /; ${AS_POSTGRES} dropdb --if-exists plain; ${checkpoint}; sync`);
    },
  });
  return [
    { what: 'dump of 1 GB PostgreSQL', value: dumps.ours, unit: 'ms' },
    { what: '  times pg_dump -Fc', value: dumps.ours / dumps.plain, unit: '', limit: 1.1 },
    { what: 'load of it, up to the swap', value: loads.ours, unit: 'ms', note: 'with ANALYZE' },
    { what: '  times createdb, pg_restore', value: loads.ours / loads.plain, unit: '', limit: 1.1 },
  ];
}

async function measureFiles(node: ServiceBox, say: (text: string) => void): Promise<Row[]> {
  const files = node.site('blog').service('files');
  const [uploads, dump, plain] = ['/web/blog/uploads', '/web/blog/dump/files', '/web/blog/dump/plain'];
  say('10,000 uploads: dump and load, beside cp -al');
  await files.setUp();
  await files.use(
    'cd "$UPLOADS_PATH"; for i in $(seq 100); do mkdir $i; for j in $(seq 100); do head -c 20000 /dev/zero >$i/$j; done; done',
  );
  await node.asRoot('sync');
  const dumps = await compare(
    {
      ours: () => files.dump(dump),
      plain: () => node.asRoot(`cp -al ${uploads} ${plain}`),
      tidy: () =>
        node.asRoot(`rm -rf ${plain}; [ ! -e ${dump} ] || { rm -rf ${dump}.last; mv -T ${dump} ${dump}.last; }; sync`),
    },
    6,
  );
  const loads = await compare(
    {
      ours: () => files.load(['new', 'swap'], `${dump}.last`),
      // As a load has to: first on the disk, then in its place.
      plain: () => node.asRoot(`cp -al ${dump}.last/tree ${plain}; sync -f ${plain}; mv ${plain} ${plain}.new; sync`),
      tidy: async () => {
        await files.load(['back']);
        await node.asRoot(`rm -rf ${plain} ${plain}.new; sync`);
      },
    },
    6,
  );
  return [
    { what: 'dump of 10,000 uploads', value: dumps.ours, unit: 'ms' },
    { what: '  times cp -al', value: dumps.ours / dumps.plain, unit: '', limit: 1.1 },
    { what: 'load of them, up to the swap', value: loads.ours, unit: 'ms' },
    { what: '  times cp -al and sync', value: loads.ours / loads.plain, unit: '', limit: 1.1 },
  ];
}

/** @throws when there can be no boxes here */
export async function measureServicesInBoxes(say: (text: string) => void): Promise<Row[]> {
  const missing = boxesAvailable();
  if (missing !== null) throw new Error(`boxes cannot run here: ${missing}`);
  say('a box with all services: minutes where it has to be made first');
  const node = await startServiceBox({ name: 'measure', disk: '12G' });
  try {
    await node.makeSite('blog');
    const files = await measureFiles(node, say);
    return [...(await measurePostgres(node, say)), ...files];
  } finally {
    await node.box.down();
  }
}
