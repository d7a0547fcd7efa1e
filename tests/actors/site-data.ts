/** Actor: the data of a site on a rootless node, looked at and changed from outside: uploads, and an SQLite database. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const DATA_YAML = `wsgi: app:application
services: [files, sqlite]
`;

/** @param site its folder on the node: `NODE/web/blog-stage` */
export function siteData(site: string) {
  const uploads = join(site, 'uploads');
  const database = join(site, 'data', 'db.sqlite3');

  function sql(text: string): string {
    const script = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.executescript(sys.argv[2]) and "")';
    return execFileSync('/usr/bin/python3', ['-I', '-c', script, database, text], { encoding: 'utf8' }).trim();
  }

  return {
    site,
    uploads,
    sql,
    upload(name: string, text: string): void {
      mkdirSync(dirname(join(uploads, name)), { recursive: true });
      // As those who take uploads do it: a file is written once, and never into.
      writeFileSync(join(uploads, `.${name.replaceAll('/', '_')}`), text);
      renameSync(join(uploads, `.${name.replaceAll('/', '_')}`), join(uploads, name));
    },
    /** All notes of a table, by name. */
    notes(): string[] {
      const script =
        'import sqlite3, sys, json; print(json.dumps([r[0] for r in sqlite3.connect(sys.argv[1]).execute("select text from notes order by text")]))';
      return JSON.parse(
        execFileSync('/usr/bin/python3', ['-I', '-c', script, database], { encoding: 'utf8' }),
      ) as string[];
    },
    note(text: string): void {
      sql(`create table if not exists notes (text); insert into notes values ('${text}');`);
    },
    /** Of every byte and every name of uploads, and of what is in the database. */
    digest(): string {
      const hash = createHash('sha256');
      const walk = (folder: string): void => {
        for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
          const path = join(folder, name);
          hash.update(`${path.slice(uploads.length)}\0`);
          if (lstatSync(path).isDirectory()) walk(path);
          else hash.update(readFileSync(path));
        }
      };
      walk(uploads);
      hash.update(this.notes().join('\n'));
      return hash.digest('hex');
    },
    /** What is left beside the data: of loads and dumps that have not ended. */
    leftovers(): string[] {
      const beside = readdirSync(site).filter((name) => /\.(?:part|new|old|gone)$/.test(name));
      const dumps = existsSync(join(site, 'dump')) ? readdirSync(join(site, 'dump')) : [];
      return [...beside, ...dumps.filter((name) => name.startsWith('.'))].sort();
    },
  };
}

export type SiteData = ReturnType<typeof siteData>;
