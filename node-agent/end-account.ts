/** What is left of a destroyed site's user outside of the site's folders: processes, files in open places, the user itself. */
import { type Account, parseAccounts, readAccounts } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { removeOpen } from './open-folders.ts';
import { KraftwerkError } from './protocol.ts';
import { endProcesses, endUser, isUnits, processesOf } from './site-processes.ts';
import { DEFAULT_PATH, type RunResult, type System } from './system.ts';

const COMMAND_LIMIT_MS = 60_000;
const OWN_LIMIT_MS = 5_000;

/** The site's user and the one of its builds, as far as there are; not those of that name who are somebody else. */
function accountsOf(system: System, { owner, site, cache }: SiteLayout): { name: string; account: Account }[] {
  if (owner === null) return [];
  const { users } = readAccounts(system);
  return [
    { name: owner.user, home: site },
    { name: owner.builder, home: cache },
  ].flatMap(({ name, home }) => {
    const found = users.get(name);
    return found === undefined || found.home !== home || found.uid === 0 ? [] : [{ name, account: found }];
  });
}

/**
 * Ends all processes of the site's users, for good.
 * @param which `own`: those that a service's unit keeps running are left to its destroy.sh
 * @returns whether there are none any more; for `all` always
 * @throws KraftwerkError `destroy.processes`
 */
export async function endSite(system: System, site: SiteLayout, which: 'own' | 'all'): Promise<boolean> {
  let all = true;
  for (const { name, account } of accountsOf(system, site)) {
    const find = (): number[] =>
      processesOf(system, account.uid).filter((pid) => which === 'all' || !isUnits(system, site, pid));
    // What comes again and again may be kept running by a service: its destroy.sh is next, and then all are looked at.
    const ended = which === 'all' ? await endUser(system, name, find) : await endProcesses(system, find, OWN_LIMIT_MS);
    if (ended) continue;
    all = false;
    if (which === 'own') continue;
    throw new KraftwerkError('destroy.processes', `processes of ${name} on the node do not end`, {
      step: 'Remove',
      hint: `on the node: ps -fu ${name}`,
    });
  }
  return all;
}

/** Files in places that are open to all, and what keeps to a user's number without a file. The user has no process left. */
export async function removeTraces(system: System, site: SiteLayout): Promise<void> {
  for (const { name, account } of accountsOf(system, site)) {
    removeOpen(system, name, account);
    await removeShared(system, account);
  }
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
  const { builder, gate, user } = site.owner;
  // The site's own last: by it is known whether anything is left to do.
  for (const { name } of accountsOf(system, site).reverse()) {
    const { code, tail } = await command(system, ['userdel', name]);
    // 6: somebody else was quicker.
    if (code !== 0 && code !== 6)
      throw new KraftwerkError('node.user', `userdel ${name} ended with exit code ${code}: ${tail.join(' ')}`, {
        step: 'Remove',
        hint: `on the node: ps -fu ${name}; userdel ${name}`,
      });
  }
  system.failpoint('destroy.user');
  const { groups, users } = parseAccounts(system.readText('/etc/passwd') ?? '', system.readText('/etc/group') ?? '');
  for (const name of [user, builder, gate]) {
    // A group that has become somebody's own in the meantime is theirs.
    const gid = groups.get(name)?.gid;
    if (gid === undefined || [...users.values()].some((other) => other.gid === gid)) continue;
    await command(system, ['groupdel', name]);
  }
}

function command(system: System, argv: readonly string[]): Promise<RunResult> {
  return system.run(argv, { cwd: '/', env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' }, timeoutMs: COMMAND_LIMIT_MS });
}
