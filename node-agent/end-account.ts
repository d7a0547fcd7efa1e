/** What is left of a destroyed site's user outside of the site's folders: processes, files in open places, the user itself. */
import { type Account, parseAccounts, readAccounts } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { waitUntil } from './processes.ts';
import { KraftwerkError } from './protocol.ts';
import { DEFAULT_PATH, type RunResult, type System } from './system.ts';

const COMMAND_LIMIT_MS = 60_000;
const OWN_LIMIT_MS = 5_000;
const END_LIMIT_MS = 20_000;
/**
 * Where every user may leave something. They are root's, and sticky: an entry there can be exchanged by its owner alone. So we
 * may remove by path what belongs to a user who has no process left.
 */
const OPEN_FOLDERS = ['/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue', '/run/lock', '/var/crash'];
/** What would run, or wait, for a user of that name: root's folders, too. */
const BY_NAME = ['/var/spool/cron/crontabs', '/var/mail', '/var/lib/systemd/linger'];
const JOBS = '/var/spool/cron/atjobs';

/** The site's user, as far as there is one; not one of that name who is somebody else. */
function accountOf(system: System, { owner, site }: SiteLayout): Account | null {
  const found = owner === null ? undefined : readAccounts(system).users.get(owner.user);
  return found === undefined || found.home !== site || found.uid === 0 ? null : found;
}

/**
 * Ends all processes of the site's user, for good.
 * @param which `own`: those that a service's unit keeps running are left to its destroy.sh
 * @throws KraftwerkError `destroy.processes`
 */
export async function endProcesses(system: System, site: SiteLayout, which: 'own' | 'all'): Promise<void> {
  const account = accountOf(system, site);
  if (account === null) return;
  const running = (): number[] =>
    processesOf(system, account).filter((pid) => which === 'all' || !isUnits(system, site, pid));
  const ended = (): boolean => {
    const pids = running();
    // All are halted before the first is ended: none can start another meanwhile.
    for (const name of ['SIGSTOP', 'SIGKILL'] as const) for (const pid of pids) system.signal(pid, name);
    return pids.length === 0;
  };
  // What comes again and again may be kept running by a service: its destroy.sh is next, and then all are looked at.
  if ((await waitUntil(system, ended, which === 'own' ? OWN_LIMIT_MS : END_LIMIT_MS)) || which === 'own') return;
  throw new KraftwerkError('destroy.processes', `processes of ${site.owner?.user} on the node do not end`, {
    step: 'Remove',
    hint: `on the node: ps -fu ${site.owner?.user}`,
  });
}

/** Real, effective, saved or of the file system: whoever has the number as one of them can take it up. */
function processesOf(system: System, { uid }: Account): number[] {
  return system
    .list('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => {
      const status = system.readText(`/proc/${pid}/status`) ?? '';
      const dead = /^State:\s+[ZX]/m.test(status);
      const uids = /^Uid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
      return !dead && uids.includes(String(uid));
    })
    .map(Number);
}

/** `kraftwerk-redis@blog.service` and the like. */
function isUnits(system: System, { instance }: SiteLayout, pid: number): boolean {
  const groups = (system.readText(`/proc/${pid}/cgroup`) ?? '').split(/[\n/]/);
  return groups.some((name) => /^kraftwerk-[a-z0-9_-]+@[^/]+\.service$/.test(name) && name.includes(`@${instance}.`));
}

/** Files in places that are open to all, and what keeps to a user's number without a file. The user has no process left. */
export async function removeTraces(system: System, site: SiteLayout): Promise<void> {
  const account = accountOf(system, site);
  if (account === null || site.owner === null) return;
  for (const folder of [...OPEN_FOLDERS, JOBS]) {
    for (const name of system.list(folder)) {
      if (system.stat(`${folder}/${name}`)?.uid === account.uid) system.remove(`${folder}/${name}`);
    }
  }
  for (const folder of BY_NAME) {
    const path = `${folder}/${site.owner.user}`;
    if (system.stat(path) !== null) system.remove(path);
  }
  await removeShared(system, account);
}

const SHARED = [
  { file: '/proc/sysvipc/shm', id: 'shmid', option: '--shmem-id' },
  { file: '/proc/sysvipc/sem', id: 'semid', option: '--semaphore-id' },
  { file: '/proc/sysvipc/msg', id: 'msqid', option: '--queue-id' },
] as const;

/** System V's shared memory, semaphores and queues. */
async function removeShared(system: System, { uid }: Account): Promise<void> {
  for (const { file, id, option } of SHARED) {
    const [head = [], ...rows] = (system.readText(file) ?? '').split('\n').map((line) => line.trim().split(/\s+/));
    const [atId, owners] = [head.indexOf(id), [head.indexOf('uid'), head.indexOf('cuid')]];
    for (const row of rows) {
      if (owners.some((at) => at >= 0 && row[at] === String(uid)))
        await command(system, ['ipcrm', option, row[atId] ?? '']);
    }
  }
}

/** The user, its group, and the group of the gate. @throws KraftwerkError `node.user` */
export async function removeAccounts(system: System, site: SiteLayout): Promise<void> {
  if (site.owner === null) return;
  const { gate, user } = site.owner;
  if (accountOf(system, site) !== null) {
    const { code, tail } = await command(system, ['userdel', user]);
    // 6: somebody else was quicker.
    if (code !== 0 && code !== 6)
      throw new KraftwerkError('node.user', `userdel ${user} ended with exit code ${code}: ${tail.join(' ')}`, {
        step: 'Remove',
        hint: `on the node: ps -fu ${user}; userdel ${user}`,
      });
  }
  system.failpoint('destroy.user');
  const { groups, users } = parseAccounts(system.readText('/etc/passwd') ?? '', system.readText('/etc/group') ?? '');
  for (const name of [user, gate]) {
    // A group that has become somebody's own in the meantime is theirs.
    const gid = groups.get(name)?.gid;
    if (gid === undefined || [...users.values()].some((other) => other.gid === gid)) continue;
    await command(system, ['groupdel', name]);
  }
}

function command(system: System, argv: readonly string[]): Promise<RunResult> {
  return system.run(argv, { cwd: '/', env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' }, timeoutMs: COMMAND_LIMIT_MS });
}
