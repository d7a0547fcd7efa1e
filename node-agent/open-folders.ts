/** Folders of the machine in which every user may leave something, and what is removed from there. */
import type { Account } from './accounts.ts';
import type { System } from './system.ts';

/**
 * Where every user may leave something. They are root's, and sticky: an entry there can be exchanged by its owner alone. So we
 * may remove by path what belongs to a user who has no process left.
 */
const OPEN_FOLDERS = ['/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue', '/run/lock', '/var/crash'];
const JOBS = '/var/spool/cron/atjobs';
/** What would run, or wait, for a user of that name: root's folders. */
const BY_NAME = ['/var/spool/cron/crontabs', '/var/mail', '/var/lib/systemd/linger'];
/** Who may not have jobs, and the program that heeds it. @see crontab(1), at(1) */
const DENIED = [
  { file: '/etc/cron.deny', program: '/usr/bin/crontab' },
  { file: '/etc/at.deny', program: '/usr/bin/at' },
];

/** A job comes back every minute, with no release and no build around it: sites and builds have none. */
export function denyJobs(system: System, users: readonly string[]): void {
  for (const { file, program } of DENIED) {
    if (!system.exists(program)) continue;
    const denied = (system.readText(file) ?? '').split('\n');
    const missing = users.filter((user) => !denied.includes(user));
    if (missing.length === 0) continue;
    // One write behind what is there: another site's deploy may do the same.
    system.append(file, missing.map((user) => `${user}\n`).join(''));
    for (const user of missing) system.remove(`/var/spool/cron/crontabs/${user}`);
  }
}

/** What a user without a process has left in folders that are open to all. Names are bytes: they need not be text. */
export function removeOpen(system: System, user: string, { uid }: Account): void {
  for (const folder of BY_NAME) if (system.stat(`${folder}/${user}`) !== null) system.remove(`${folder}/${user}`);
  for (const folder of [...OPEN_FOLDERS, JOBS]) {
    if (system.stat(folder) === null) continue;
    for (const name of [...system.bytes.names(Buffer.from(folder))])
      if (system.bytes.stat(Buffer.concat([Buffer.from(`${folder}/`), name]))?.uid === uid)
        system.bytes.remove(folder, name);
  }
}
