/** Processes of a site: which there are, which of them nothing supervises, and their end. */
import { readAccounts } from './accounts.ts';
import { type SiteLayout, SLOTS } from './layout.ts';
import { removeOpen } from './open-folders.ts';
import { readService, waitUntil } from './processes.ts';
import { KraftwerkError, type StepName } from './protocol.ts';
import { newestBoot, readCurrent } from './releases.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/** Names the site in the environment of what a deploy runs on a rootless node, where all sites are one user. */
export const JOB_MARK = 'KRAFTWERK_JOB';
/** Names site and boot in the environment of a web process; see templates/project/slot-run. */
const BOOT_MARK = 'KRAFTWERK_BOOT';

const LIMIT_MS = 20_000;
const INIT = 1;
const CLEAR_LOOKS = 3;

interface Process {
  pid: number;
  parent: number;
  /** Real, effective, saved, and of the file system: a process may take up each of them. */
  uids: readonly string[];
}

/** What runs; what has ended and was not waited for does not. @see proc(5), /proc/pid/status */
function readProcesses(system: System): Map<number, Process> {
  const found = new Map<number, Process>();
  for (const name of system.list('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue;
    const status = system.readText(`/proc/${name}/status`) ?? '';
    if (status === '') continue;
    // A first thread that has ended may leave others running.
    if (/^State:\s+[ZX]/m.test(status) && system.list(`/proc/${name}/task`).length <= 1) continue;
    const parent = Number(/^PPid:\s+([0-9]+)/m.exec(status)?.[1] ?? 0);
    const uids = /^Uid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
    found.set(Number(name), { pid: Number(name), parent, uids });
  }
  return found;
}

/** The pids of all that have a user's number in one way or another. */
export function processesOf(system: System, uid: number): number[] {
  return [...readProcesses(system).values()].filter(({ uids }) => uids.includes(String(uid))).map(({ pid }) => pid);
}

/** Those of the agent's own user that were started with a variable of this value, or one that `fits`. */
function markedProcesses(system: System, name: string, fits: (value: string) => boolean): number[] {
  const own = String(system.uid);
  const begin = `${name}=`;
  return [...readProcesses(system).values()].flatMap(({ pid, uids }) => {
    if (!uids.includes(own) || pid === system.pid) return [];
    const variables = system.readProcessEnvironment(pid);
    return variables.some((one) => one.startsWith(begin) && fits(one.slice(begin.length))) ? [pid] : [];
  });
}

/**
 * Ends all processes of a user that runs nothing else, at one blow: the kernel lets none fork meanwhile, and finds what lists of /proc
 * miss.
 * @see kill(2): -1 is every process that the sender may signal, but itself
 */
export async function endUser(system: System, user: string, find: () => number[]): Promise<boolean> {
  const kill = ['chpst', '-u', `${user}:${user}`, '/bin/sh', '-c', 'kill -s KILL -- -1'];
  // Also where none is seen: one that is another process at each look is in no list.
  await system.run(kill, { cwd: '/', env: { PATH: DEFAULT_PATH }, timeoutMs: LIMIT_MS });
  return await endProcesses(system, find);
}

/**
 * Ends all that `find` finds, again and again until there is none at several looks: what forks and ends all the time is easily missed.
 * @returns false when some are left at the end of the time
 */
export async function endProcesses(system: System, find: () => number[], limitMs = LIMIT_MS): Promise<boolean> {
  let clear = 0;
  return await waitUntil(
    system,
    () => {
      const pids = find();
      // All are halted before the first is ended: none can start another meanwhile.
      for (const name of ['SIGSTOP', 'SIGKILL'] as const) for (const pid of pids) system.signal(pid, name);
      clear = pids.length === 0 ? clear + 1 : 0;
      return clear >= CLEAR_LOOKS;
    },
    limitMs,
  );
}

/** Ends whatever a build, pip or a release command has left running, and removes what the builder has left in /tmp and the like. @throws KraftwerkError `build.processes` */
export async function endBuild(system: System, site: SiteLayout, step: StepName): Promise<void> {
  const { owner } = site;
  const builder = owner === null ? undefined : readAccounts(system).users.get(owner.builder);
  if (owner !== null && builder === undefined) return;
  const find = (): number[] =>
    builder === undefined
      ? markedProcesses(system, JOB_MARK, (value) => value === site.site)
      : processesOf(system, builder.uid);
  if (await (owner === null ? endProcesses(system, find) : endUser(system, owner.builder, find))) {
    // A program there with the builder's rights would be at hand for the site.
    if (owner !== null && builder !== undefined) removeOpen(system, owner.builder, builder);
    return;
  }
  throw new KraftwerkError('build.processes', 'processes that the build has started do not end', {
    step,
    hint: owner === null ? 'on the node: ps -ef' : `on the node: ps -fu ${owner.builder}`,
    reason: 'the build does not end',
  });
}

/**
 * Ends the processes of a site that stand in no slot, unit or running command: those that have left their parents, or whose
 * slot is down. A system node finds them by their user, a rootless one by a mark in the environment. The site's lock is held.
 * @throws KraftwerkError `site.processes`
 */
export async function endStrays(system: System, site: SiteLayout, step: StepName): Promise<void> {
  if (await endProcesses(system, () => findStrays(system, site))) return;
  throw new KraftwerkError('site.processes', 'processes that the site has started do not end', {
    step,
    hint: site.owner === null ? 'on the node: ps -ef' : `on the node: ps -fu ${site.owner.user}`,
  });
}

export function findStrays(system: System, site: SiteLayout): number[] {
  if (site.owner === null) {
    const live = new Set(liveBoots(system, site).map((boot) => bootMark(site, boot)));
    return markedProcesses(system, BOOT_MARK, (value) => value.startsWith(bootMark(site, '')) && !live.has(value));
  }
  const user = readAccounts(system).users.get(site.owner.user);
  if (user === undefined || user.home !== site.site || user.uid === 0) return [];
  const all = readProcesses(system);
  const uid = String(user.uid);
  const liveGroups = new Set(SLOTS.flatMap((slot) => ownGroup(system, site, readService(system, site.slot(slot)).pid)));
  /** Whether the topmost process of the same user above one has lost its parent. */
  const orphans = new Map<number, boolean>();
  const isOrphan = (one: Process): boolean => {
    const climbed: number[] = [];
    let answer: boolean | undefined;
    for (let at: Process | undefined = one; answer === undefined; ) {
      const known: boolean | undefined = orphans.get(at.pid);
      const above: Process | undefined = all.get(at.parent);
      climbed.push(at.pid);
      // A circle: a pid was used anew while /proc was read.
      if (known !== undefined) answer = known;
      else if (above === undefined || above.pid === INIT || climbed.at(-2) === above.pid) answer = true;
      else if (!above.uids.includes(uid)) answer = false;
      else at = above;
      if (climbed.length > all.size) answer = true;
    }
    for (const pid of climbed) orphans.set(pid, answer);
    return answer;
  };
  return [...all.values()]
    .filter(({ uids }) => uids.includes(uid))
    .filter(({ pid }) => !isService(system, pid) && !groupOf(system, pid).some((group) => liveGroups.has(group)))
    .filter(isOrphan)
    .map(({ pid }) => pid);
}

/** As templates/project/slot-run writes it. */
function bootMark(site: SiteLayout, boot: string): string {
  return `${site.site}#${boot}`;
}

/** The boots whose process runs now, whether it serves, is on trial or drains. */
function liveBoots(system: System, site: SiteLayout): string[] {
  return SLOTS.flatMap((slot) => {
    if (readService(system, site.slot(slot)).state !== 'run') return [];
    const current = readCurrent(system, site)?.boot;
    const newest = newestBoot(system, site, slot);
    return [...(current?.startsWith(slot) ? [current] : []), ...(newest === null ? [] : [newest])];
  });
}

function groupOf(system: System, pid: number): string[] {
  const line = (system.readText(`/proc/${pid}/cgroup`) ?? '').split('\n').find((one) => one.startsWith('0::'));
  return line === undefined ? [] : [line.slice('0::'.length)];
}

/** The cgroup of a slot's process, where that one is for this very boot: made by its run script, or by systemd for its limits. */
function ownGroup(system: System, site: SiteLayout, pid: number): string[] {
  if (pid === 0) return [];
  return groupOf(system, pid).filter((group) => {
    const name = group.slice(group.lastIndexOf('/') + 1);
    return name.startsWith(`kraftwerk-${site.instance}-`);
  });
}

/** Services that start whatever a user wants: what has come of them is none of their own. */
const STARTERS = ['runit.service', 'cron.service', 'atd.service', 'ssh.service', 'sshd.service'];

/** In a service's unit, the admin's own included: systemd looks after it, and a site cannot get into one. */
function isService(system: System, pid: number): boolean {
  return groupOf(system, pid).some((group) =>
    group.split('/').some((name) => name.endsWith('.service') && !name.startsWith('user@') && !STARTERS.includes(name)),
  );
}

/** `kraftwerk-redis@blog.service` and the like: their destroy.sh ends them. */
export function isUnits(system: System, { instance }: SiteLayout, pid: number): boolean {
  const groups = (system.readText(`/proc/${pid}/cgroup`) ?? '').split(/[\n/]/);
  return groups.some((name) => /^kraftwerk-[a-z0-9_-]+@[^/]+\.service$/.test(name) && name.includes(`@${instance}.`));
}
