/** Dump and load of a site's data in a box, beside the programs that do nothing else. */
import { spawn } from 'node:child_process';
import { type DataBox, yaml } from '../../tests/actors/data-box.ts';
import { outcome } from '../../tests/actors/ssh.ts';
import { median, type Row } from './report.ts';
import { time } from './time.ts';

const TARGET = 'blog/live';
const USER = 'web-blog';
const LIMIT = 1.1;
/** A row of the table with its part of the indexes, as measured. */
const ROW_BYTES = 400;
/** Where the plain programs work: on the disk of the data, so that they can link. */
const PLAIN = '/web/.plain';
const OLD_MS = 125_000;

/** The programs themselves, not Debian's wrapper of them: that is how the service's scripts call them, too. */
const AS = `
programs=$(echo /usr/lib/postgresql/*/bin)
as_site() { setpriv --reuid ${USER} --regid ${USER} --init-groups --no-new-privs "$programs/$1" -h /run/postgresql -w "\${@:2}"; }
as_server() { setpriv --reuid postgres --regid postgres --init-groups "$programs/$1" -h /run/postgresql -w "\${@:2}"; }
`;
/** Nothing is left to be written of what was before. */
const QUIET = 'as_server psql -Xqc CHECKPOINT; sync';

/** A shell script of root's, however long it takes. @returns stdout @throws when it exits with anything but 0 */
async function inBox({ box }: DataBox, script: string): Promise<string> {
  const child = spawn('ssh', ['-F', box.sshConfig, box.name, 'bash --norc -s']);
  const { code, stdout, stderr } = await outcome(child, `set -euo pipefail; cd /\n${AS}\n${script}`);
  if (code !== 0) throw new Error(`exit code ${code} of:\n${script}\n${stderr}`);
  return stdout;
}

/** Times scripts in the box, one after the other, without what it takes to get there. @returns milliseconds of each */
async function laps(here: DataBox, scripts: readonly string[]): Promise<number[]> {
  const lines = scripts.map((script) => `${script}\nnow=\${EPOCHREALTIME/./}; echo $((now - last)) >&3; last=$now`);
  const said = await inBox(here, `exec 3>&1 >&2; last=\${EPOCHREALTIME/./}\n${lines.join('\n')}`);
  return said
    .trim()
    .split('\n')
    .map((text) => Number(text) / 1000);
}

let filledAt = 0;

export async function fillUploads(here: DataBox, count: number, say: (text: string) => void): Promise<void> {
  say(`${count} uploads`);
  const script = `
import os
for at in range(${count}):
    if at % 100 == 0:
        folder = f"/web/blog/uploads/{at // 100}"
        os.mkdir(folder)
    with open(f"{folder}/{at}.jpg", "wb") as file:
        file.write(os.urandom(20000))
`;
  await inBox(here, `setpriv --reuid ${USER} --regid ${USER} --init-groups python3 -Ic '${script}'; sync`);
  filledAt = performance.now();
}

export interface Filled {
  /** `1.1 GB PostgreSQL, 10000 uploads` */
  text: string;
}

/** Percent of all rows: a site has a few large tables and some small ones. */
const TABLES = [30, 20, 15, 10, 10, 8, 4, 3];

/** Tables of texts, which compress to a third, with two indexes each. */
export async function fillDatabase(here: DataBox, megabytes: number, say: (text: string) => void): Promise<Filled> {
  say(`${megabytes} MB of PostgreSQL`);
  await here.alice.deploy({ 'kraftwerk.yaml': yaml('files', 'postgres') }, 'live');
  const rows = Math.round((megabytes * 1024 * 1024) / ROW_BYTES);
  const tables = TABLES.map((percent, at) => ({ name: `post${at + 1}`, rows: Math.round((rows * percent) / 100) }));
  const parts = [1, 2, 4, 8, 16, 32, 64].map((step) => `md5((n / ${step})::text)`);
  const said = await inBox(
    here,
    `# It would work in the midst of whatever is measured then.
as_server psql -Xqc 'ALTER SYSTEM SET autovacuum = off' -c 'SELECT pg_reload_conf()' >/dev/null
as_site psql -Xq -v ON_ERROR_STOP=1 -d ${USER} <<'SQL' >/dev/null
${tables
  .map(
    (table) => `CREATE TABLE ${table.name} AS SELECT n AS id, md5('slug' || n) AS slug, ${parts.join(' || ')} AS body
  FROM generate_series(1, ${table.rows}) n;
ALTER TABLE ${table.name} ADD PRIMARY KEY (id);
CREATE INDEX ON ${table.name} (slug);`,
  )
  .join('\n')}
VACUUM ANALYZE;
SQL
${QUIET}
as_site psql -XAtq -d ${USER} -c 'SELECT pg_database_size(current_database())'
find /web/blog/uploads -type f | wc -l`,
  );
  const [bytes = 0, uploads = 0] = said.trim().split('\n').map(Number);
  const text = `${(bytes / 1024 / 1024).toFixed(0)} MB PostgreSQL, ${uploads} uploads`;
  const left = OLD_MS - (performance.now() - filledAt);
  say(`${text}${left > 0 ? `; ${(left / 1000).toFixed(0)} s until the uploads are old` : ''}`);
  if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
  return { text };
}

interface Pair {
  what: string;
  /** @returns milliseconds */
  ours(): Promise<number>;
  /** @returns milliseconds: of the programs alone, and of what makes the same of it */
  plain(): Promise<number[]>;
  /** After each of both. */
  tidy(): Promise<unknown>;
  names: { alone: string; more: string };
}

/** In turn, and the other one first in every other round: what one leaves in caches helps both alike. */
async function compare(pair: Pair, rounds: number, say: (text: string) => void): Promise<Row[]> {
  const times = { ours: [] as number[], alone: [] as number[], more: [] as number[] };
  const ours = async (): Promise<void> => {
    times.ours.push(await pair.ours());
    say(`  ${pair.what}: ${seconds(times.ours.at(-1))} s`);
  };
  const plain = async (): Promise<void> => {
    const [alone = Number.NaN, ...others] = await pair.plain();
    times.alone.push(alone);
    times.more.push(others.reduce((sum, ms) => sum + ms, alone));
    say(`  ${pair.names.alone}: ${seconds(alone)} s; then ${others.map(seconds).join(', ')} s: ${pair.names.more}`);
  };
  // The first round is the disk's: whoever first fills so much of it is slower.
  for (let round = -1; round < rounds; round++) {
    if (round === 0) for (const list of Object.values(times)) list.length = 0;
    else if (round < 0) say('  a round that is not counted');
    for (const one of round % 2 === 0 ? [ours, plain] : [plain, ours]) {
      await one();
      await pair.tidy();
    }
  }
  const [mine, alone, more] = [median(times.ours), median(times.alone), median(times.more)];
  const runs = (list: readonly number[]): string => `${list.map(seconds).join(' ')} s`;
  return [
    { what: pair.what, value: mine, unit: 'ms', note: runs(times.ours) },
    { what: `  ${pair.names.alone}`, value: alone, unit: 'ms', note: runs(times.alone) },
    { what: '  times that', value: mine / alone, unit: '', limit: LIMIT },
    { what: `  with ${pair.names.more}`, value: more, unit: 'ms', note: runs(times.more) },
    { what: '  times that', value: mine / more, unit: '' },
  ];
}

function seconds(ms: number | undefined): string {
  return ((ms ?? Number.NaN) / 1000).toFixed(1);
}

let lastDump = '';

/** Both are on this machine's clock from the start of ssh; the plain programs are not charged for the way into the box. */
export async function compareDumps(
  here: DataBox,
  { text }: Filled,
  rounds: number,
  say: (text: string) => void,
): Promise<Row[]> {
  say(`${rounds} rounds: dump, beside pg_dump and cp -al`);
  const keepPlain = `rm -rf ${PLAIN}; install -d -m 0700 ${PLAIN}; ${QUIET}`;
  await inBox(here, keepPlain);
  return compare(
    {
      what: `dump, ${text}`,
      ours: () =>
        time(async () => {
          lastDump = (await here.good('dump', TARGET)).stdout.trim();
        }),
      plain: () =>
        laps(here, [
          `as_site pg_dump --format=custom --dbname=${USER} >${PLAIN}/database.dump; cp -al /web/blog/uploads ${PLAIN}/tree`,
          `sha256sum ${PLAIN}/database.dump`,
          `sync -f ${PLAIN}`,
        ]),
      tidy: () => inBox(here, keepPlain),
      names: { alone: 'pg_dump -Fc, cp -al', more: 'sha256sum, sync' },
    },
    rounds,
    say,
  );
}

/** @returns the rows, and our steps in milliseconds, as its transcript has them */
export async function compareLoads(
  here: DataBox,
  { text }: Filled,
  rounds: number,
  say: (text: string) => void,
): Promise<{ rows: Row[]; steps: Map<string, number[]> }> {
  say(`${rounds} rounds: load, beside pg_restore and cp -al`);
  const steps = new Map<string, number[]>();
  const dump = `/web/blog/dump/${lastDump}`;
  const tidy = `as_server dropdb --if-exists plain; rm -rf ${PLAIN}; install -d -m 0700 ${PLAIN}; ${QUIET}`;
  const rows = await compare(
    {
      what: `load, ${text}`,
      ours: () =>
        time(async () => {
          const { stderr } = await here.good('load', TARGET, lastDump, '--no-backup', '--confirm', TARGET);
          for (const [, step = '', ms] of stderr.matchAll(/^-----> (\S+) .* (\d+\.\d)s$/gm))
            steps.set(step, [...(steps.get(step) ?? []), Number(ms) * 1000]);
        }),
      plain: () =>
        laps(here, [
          `as_server createdb -T template0 -E UTF8 --locale=C.UTF-8 -O ${USER} plain
as_site pg_restore --exit-on-error --no-owner --dbname=plain <${dump}/postgres/database.dump
cp -al ${dump}/files/tree ${PLAIN}/tree`,
          'as_site psql -Xqd plain -c ANALYZE',
          `sync -f ${PLAIN}`,
        ]),
      tidy: () => inBox(here, tidy),
      names: { alone: 'createdb, pg_restore, cp -al', more: 'ANALYZE, sync' },
    },
    rounds,
    say,
  );
  return { rows, steps };
}
