/** Folders of the machine in which every user may leave something, and what is removed from there. */
import type { Account } from './accounts.ts';
import type { System } from './system.ts';

/**
 * Where every user may leave something. They are root's, and sticky: an entry there can be exchanged by its owner alone. So we
 * may remove by path what belongs to a user who has no process left.
 */
const OPEN_FOLDERS = ['/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue', '/run/lock', '/var/crash'];
const JOBS = '/var/spool/cron/atjobs';

/** What a user without a process has left in folders that are open to all. Names are bytes: they need not be text. */
export function removeOpen(system: System, { uid }: Account): void {
  for (const folder of [...OPEN_FOLDERS, JOBS]) {
    if (system.stat(folder) === null) continue;
    for (const name of [...system.bytes.names(Buffer.from(folder))])
      if (system.bytes.stat(Buffer.concat([Buffer.from(`${folder}/`), name]))?.uid === uid)
        system.bytes.remove(folder, name);
  }
}
