/** runit: the node's own runsvdir, a site's two slots, and what they are doing. */
import { limitWords } from './accounts.ts';
import { ask } from './health.ts';
import type { NodeLayout, SiteLayout, Slot } from './layout.ts';
import { SLOTS, socketFromRoot } from './layout.ts';
import { makeLogFolder } from './ownership.ts';
import { type BootName, KraftwerkError, type SiteFiles } from './protocol.ts';
import { DEFAULT_PATH, processStart, type System } from './system.ts';

export interface ServiceState {
  state: 'run' | 'down' | 'finish' | 'absent';
  /** Of the supervised process; 0 when there is none. */
  pid: number;
  uptimeS: number;
  wantsUp: boolean;
}

const ABSENT: ServiceState = { state: 'absent', pid: 0, uptimeS: 0, wantsUp: false };
/** TAI label of the epoch: `supervise/status` counts seconds from there. */
const TAI_EPOCH = 4611686018427387914n;

/**
 * What runsv says of a service folder.
 * @see runit's runsv.c: status is 20 bytes: TAI64N, pid (little endian), paused, want, term, state
 */
export function readService(system: System, folder: string): ServiceState {
  const status = system.readBytes(`${folder}/supervise/status`);
  if (status === null || status.length < 20 || !system.writeFifo(`${folder}/supervise/ok`, '')) return ABSENT;
  const since = Number(status.readBigUInt64BE(0) - TAI_EPOCH);
  const state = (['down', 'run', 'finish'] as const)[status[19] ?? 0] ?? 'down';
  return {
    state,
    pid: status.readUInt32LE(12),
    uptimeS: Math.max(0, Math.round(system.wallClock().getTime() / 1000 - since)),
    wantsUp: status[17] === 'u'.charCodeAt(0),
  };
}

/**
 * Pids of what a process has started, ended ones that it has not waited for included. The kernel's own list: to look through
 * all of /proc costs the more the busier the machine is.
 * @see proc(5), /proc/PID/task/TID/children; gunicorn's master has one thread
 */
export function childrenOf(system: System, pid: number): number[] {
  const words = (system.readText(`/proc/${pid}/task/${pid}/children`) ?? '').split(' ');
  return words.filter((word) => word !== '').map(Number);
}

/** One letter of runsv's control protocol: u, d, o, t, k. */
export function control(system: System, folder: string, letter: 'u' | 'd' | 'o' | 't' | 'k' | 'x'): boolean {
  return system.writeFifo(`${folder}/supervise/control`, letter);
}

/** Waits until `ready` says so, looking closely first; false when the time is over. */
export async function waitUntil(
  system: System,
  ready: () => boolean,
  limitMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const end = system.nowMs() + limitMs;
  for (let pauseMs = 2; !ready(); pauseMs = Math.min(pauseMs * 1.3, 50)) {
    if (system.nowMs() > end || signal?.aborted) return false;
    await system.sleep(pauseMs, signal);
  }
  return true;
}

/** The pid of the node's runsvdir, null when it does not run. */
export function runsvdirPid(system: System, node: NodeLayout): number | null {
  if (node.profile.profile === 'system') return systemRunsvdir(system, node);
  const [pid, start] = (system.readText(node.runsvdirPid) ?? '').trim().split(' ');
  return pid !== undefined && start !== undefined && processStart(Number(pid)) === start ? Number(pid) : null;
}

/** systemd's unit runs it; its other processes are what it supervises. */
function systemRunsvdir(system: System, node: NodeLayout): number | null {
  const unit = system.readText('/sys/fs/cgroup/system.slice/runit.service/cgroup.procs');
  const pids = unit === null ? system.list('/proc').filter((name) => /^[0-9]+$/.test(name)) : unit.trim().split('\n');
  const found = pids.find(
    (pid) =>
      system.readText(`/proc/${pid}/comm`) === 'runsvdir\n' &&
      system.readText(`/proc/${pid}/cmdline`)?.split('\0').includes(node.services),
  );
  return found === undefined ? null : Number(found);
}

/** Starts runsvdir in a session of its own, where it does not run. */
export function ensureRunsvdir(system: System, node: NodeLayout): void {
  if (runsvdirPid(system, node) !== null) return;
  const pid = system.startDaemon(['runsvdir', '-P', node.services, `log: ${'.'.repeat(400)}`], {
    cwd: node.root,
    env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
    log: `${node.log}/runsvdir.log`,
  });
  system.writeFile(node.runsvdirPid, `${pid} ${processStart(pid) ?? ''}\n`);
}

/** Writes the folders of a site's two slots and has them supervised. */
export function ensureSlots(system: System, site: SiteLayout, files: SiteFiles): void {
  let created = false;
  // As the slot's finish script looks for it: all that was started in it ends with it.
  const limit = limitWords(system, files.limits, `kraftwerk-${site.instance}-"$boot"`).join(' ');
  for (const slot of SLOTS) {
    const folder = site.slot(slot);
    system.makeFolder(`${folder}/log`);
    makeLogFolder(system, site, slot);
    const fill = (text: string): string => text.replaceAll('__SLOT__', slot).replaceAll('__LIMIT__', limit);
    system.writeIfChanged(`${folder}/run`, fill(files.slotRun), 0o755);
    system.writeIfChanged(`${folder}/finish`, fill(files.slotFinish), 0o755);
    system.writeIfChanged(`${folder}/log/run`, fill(files.slotLog), 0o755);
    // A new slot waits for its first trial; the mark goes when the site serves, so that it comes back after a reboot.
    if (!system.exists(site.current)) system.writeIfChanged(`${folder}/down`, '');
    if (system.readLink(site.slotLink(slot)) !== folder) {
      system.pointLink(site.slotLink(slot), folder);
      created = true;
    }
  }
  if (created) dateBack(system, site.node);
}

/**
 * runsvdir sleeps a second over a folder that has changed in this very second: so that is dated back. To a second that
 * it has not seen before: it looks for new folders only when the time differs, whoever else makes some meanwhile.
 */
function dateBack(system: System, node: NodeLayout): void {
  system.setModified(node.services, new Date(system.wallClock().getTime() - 10_000 - Math.random() * 1e11));
}

/**
 * Makes runsvdir look at its folder at its next second instead of its next five: it polls the pipe that is its own stderr.
 * A help only: without it all works later.
 * @see runit's runsvdir.c: iopause on the log pipe, then a look at the folder if the last is a second ago
 */
function wakeRunsvdir(system: System, node: NodeLayout): void {
  const pid = runsvdirPid(system, node);
  try {
    if (pid !== null) system.writeFifo(`/proc/${pid}/fd/2`, '.');
  } catch {
    // It finds new folders by itself within five seconds.
  }
}

/** Waits until both slots are supervised. @throws KraftwerkError `node.runit` */
export async function waitForSlots(system: System, site: SiteLayout, signal: AbortSignal): Promise<void> {
  const ready = (): boolean => SLOTS.every((slot) => readService(system, site.slot(slot)).state !== 'absent');
  for (let turn = 0; turn < 100; turn++) {
    if (await waitUntil(system, ready, turn === 0 ? 5 : 150, signal)) return;
    wakeRunsvdir(system, site.node);
  }
  throw new KraftwerkError('node.runit', `runit did not take up ${site.instance}.web.a and .b within 15 s`, {
    step: 'Start',
    hint:
      site.owner === null ? `look at ${site.node.log}/runsvdir.log on the node` : 'on the node: systemctl status runit',
  });
}

/** From now on runsv may start the slots by itself: their script knows which of them is to run. */
export function allowStart(system: System, site: SiteLayout): void {
  for (const slot of SLOTS) if (system.exists(`${site.slot(slot)}/down`)) system.remove(`${site.slot(slot)}/down`);
}

/** Starts a boot in its idle slot once, on trial: when it ends, it stays down. */
export function startTrial(system: System, site: SiteLayout, release: number, boot: BootName, slot: Slot): void {
  system.makeFolder(site.runtime, 0o750);
  system.writeVolatile(site.trial(slot), `v${release} ${boot}\n`);
  system.failpoint('trial');
  if (!control(system, site.slot(slot), 'o'))
    throw new KraftwerkError('node.runit', `runit does not supervise ${site.instance}.web.${slot}`);
}

/**
 * Resolves when a process that nginx no longer connects to has accepted everything that was queued for it: the queue is
 * first in, first out, so when one more request is answered, all before it have been taken.
 */
export async function drain(
  system: System,
  site: SiteLayout,
  old: { boot: BootName },
  request: { healthPath: string; host: string; timeoutMs: number },
): Promise<void> {
  const { healthPath: path, host, timeoutMs } = request;
  await ask(socketFromRoot(site, old.boot), { path, host, timeoutMs }, system.nowMs);
}

/** Ends what runs in a slot: TERM, and KILL after `graceMs`. */
export async function stopSlot(system: System, site: SiteLayout, slot: Slot, graceMs: number): Promise<void> {
  const folder = site.slot(slot);
  const down = (): boolean => ['down', 'absent'].includes(readService(system, folder).state);
  system.remove(site.trial(slot));
  if (down()) return;
  control(system, folder, 'd');
  if (await waitUntil(system, down, graceMs)) return;
  control(system, folder, 'k');
  await waitUntil(system, down, 5_000);
}
