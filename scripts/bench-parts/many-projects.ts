/** A journal with many projects, made of copies of one target's rows: what the receiver holds of them, without their processes. */
import { DatabaseSync } from 'node:sqlite';

/** The receiver must not run. */
export function copyProjects(journalFile: string, project: string, count: number): void {
  const db = new DatabaseSync(journalFile);
  try {
    db.exec('BEGIN');
    for (const table of ['targets', 'releases']) {
      const columns = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all() as { name: string }[];
      const names = columns.map(({ name }) => name);
      const copy = db.prepare(
        `INSERT INTO ${table} (${names.join()}) SELECT ${names.map((name) => (name === 'project' ? '?1' : name)).join()} FROM ${table} WHERE project = ?2`,
      );
      for (let number = 1; number < count; number++) copy.run(`${project}-${number}`, project);
    }
    db.exec('COMMIT');
  } finally {
    db.close();
  }
}
