/** The story of one release on one node: prepare it, activate it, retire what it replaces, or abandon it. */
import { buildRelease } from './build-release.ts';
import { compileLater, pruneByteCode, type Uncompiled } from './byte-code.ts';
import { endJobs } from './jobs.ts';
import { SLOTS, type Slot, slotOf } from './layout.ts';
import { slotRelease } from './logs.ts';
import { allowStart, control, drain, ensureSlots, readService, stopSlot, waitUntil } from './processes.ts';
import {
  type AbandonRequest,
  type ActivateRequest,
  type ActivateResult,
  type BootName,
  KraftwerkError,
  type PrepareRequest,
  type PrepareResult,
  type RetireRequest,
  type Serving,
  type StepName,
} from './protocol.ts';
import type { WrittenVariables } from './protocol-data.ts';
import { listReleases, newestBoot, pointCurrent, prune, readCurrent, readNotes } from './releases.ts';
import { readWritten, writeRun } from './service-variables.ts';
import { setUpServices } from './services.ts';
import { assertOwnFile, fillSite, reloadNginx, servingWorkers, swapSite, testSite, waitForHost } from './site.ts';
import { endBuild, endStrays } from './site-processes.ts';
import { startRelease } from './start-release.ts';
import { syncFolder, syncTrees } from './sync-tree.ts';
import { runStep, type Work } from './work.ts';

/**
 * Makes a release ready to serve: its tree, virtualenv, services and release command, and a process in the idle slot that
 * has answered its health check. Nothing that serves is touched.
 * @returns null for a part that does not end with a process
 */
export async function prepare(request: PrepareRequest, work: Work): Promise<PrepareResult | null> {
  const { system, site } = work;
  const { part, release } = request;
  const reused =
    listReleases(system, site).includes(release) &&
    readNotes(system, site, release)?.artifact === request.artifact.sha256;
  try {
    const built = part === 'all' || part === 'build' ? await build(request, work, reused) : null;
    if (part === 'build') await built?.durable;
    if (request.releaseCommand !== null && (part === 'all' || part === 'release')) {
      const variables = { ...request.environment, ...readWritten(system, site, withVariables(request)) };
      const tree = site.release(release);
      await runStep(work, 'Release', request.releaseCommand, tree, variables, request.site.limits);
      await endLeftOvers(work, 'Release');
    }
    if (part === 'build' || part === 'release') return null;
    // Links that were made since the tree was built have brought theirs.
    if (part === 'boot' && request.linked.length > 0)
      writeRun(system, site, release, request.site.run, readWritten(system, site, withVariables(request)));
    const boot = await startRelease(request, work);
    await built?.durable;
    return {
      boot,
      reused,
      previous: readCurrent(system, site),
      httpPort: work.httpPort,
      virtualenv: readNotes(system, site, release)?.virtualenv ?? null,
    };
  } catch (error) {
    // A tree that an earlier part has made goes when the receiver abandons the deploy.
    const kept = listReleases(system, site).filter((number) => reused || number !== release);
    await takeBack(work, kept);
    throw error;
  }
}

/** What commands have left running, and what has left its parents. */
async function endLeftOvers({ system, site }: Work, at: StepName): Promise<void> {
  await endBuild(system, site, at);
  await endStrays(system, site, at);
}

function withVariables({ services, linked }: PrepareRequest): WrittenVariables {
  return [...services, ...linked];
}

/** The release's tree, and what nginx and runit are to be given. `durable`: when all of it is on disk. */
async function build(request: PrepareRequest, work: Work, reused: boolean): Promise<{ durable: Promise<void> }> {
  const { system, site } = work;
  assertOwnFile(system, site);
  ensureSlots(system, site, request.site);
  if (reused) await setUpServices(request, work);
  else await buildRelease(request, work);
  const siteText = fillSite(system, site.node, request.site.site, work.httpPort);
  if (system.readText(site.nginxSite) !== siteText) await testSite(system, site, siteText);
  // Kept beside the release: what nginx is to be given when this one is activated.
  const notes = site.releaseNotes(request.release);
  system.stageIfChanged(`${notes}/site`, siteText);
  const variables = readWritten(system, site, withVariables(request));
  writeRun(system, site, request.release, request.site.run, variables, system.stageIfChanged);
  // With the first deploy comes all that is around the tree.
  const first = readCurrent(system, site) === null;
  const durable = first ? syncFolder(system, site.site) : syncTrees(system, [site.release(request.release), notes]);
  durable.catch(() => undefined);
  return { durable };
}

/** The one moment: nginx's file where it changed, then the symlink that code, static files and reboots follow. */
export async function activate(request: ActivateRequest, work: Work): Promise<ActivateResult> {
  const { system, site } = work;
  const { release, boot } = request.serve;
  const previous = readCurrent(system, site);
  const already = previous?.release === release && previous.boot === boot;
  if (readService(system, site.slot(slotOf(boot))).state !== 'run') {
    throw new KraftwerkError('health.died', `v${release} ended before it could serve`, {
      step: 'Switch',
      exit: 'unhealthy',
      reason: `v${release} died`,
    });
  }
  const text = system.readText(`${site.releaseNotes(release)}/site`);
  const first = previous === null || text !== system.readText(site.nginxSite);
  system.failpoint('activate.begin');
  // Before the first release there is nothing to serve: then the link comes first, else nginx would answer 502 for a moment.
  if (previous === null) pointCurrent(system, site, request.serve);
  const workers = servingWorkers(system, site.node);
  const swap = text === null ? { changed: false, restore: () => undefined } : await swapSite(system, site, text);
  system.failpoint('activate.nginx');
  try {
    if (!already) pointCurrent(system, site, request.serve);
    system.failpoint('activate.current');
    system.remove(site.stopped);
    allowStart(system, site);
    control(system, site.slot(slotOf(boot)), 'u');
  } catch (error) {
    swap.restore();
    if (previous !== null) pointCurrent(system, site, previous);
    throw error;
  }
  if (first) {
    const host = /^\s*server_name\s+(\S+?);?(?:\s|$)/m.exec(text ?? '')?.[1];
    if (host !== undefined)
      await waitForHost(system, site.node, { port: work.httpPort, host, before: workers, limitMs: 2_000 });
  }
  return { httpPort: work.httpPort };
}

/**
 * Lets what no longer serves finish its requests, stops it, and removes what is not kept. Holds the site's lock for moments
 * only: the next deploy may come while this one's old process drains.
 */
export async function retire(request: RetireRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const old = await work.locked(async () => findOldProcess(work, request.old));
  if (old !== null) {
    await drain(system, site, old, request);
    system.failpoint('retire.drained');
    await work.locked(async () => {
      // The slot may by now be on trial for the next release.
      if (findOldProcess(work, old.boot)?.pid === old.pid) control(system, site.slot(old.slot), 'd');
    });
    const gone = (): boolean => readService(system, site.slot(old.slot)).pid !== old.pid;
    if (!(await waitUntil(system, gone, request.timeoutMs))) {
      control(system, site.slot(old.slot), 'k');
      await waitUntil(system, gone, 5_000);
    }
  }
  await work.locked(async () => {
    await endStrays(system, site, 'Stop');
    if (old !== null && readCurrent(system, site)?.boot !== old.boot) system.remove(site.boot(old.boot));
    if (readCurrent(system, site)?.release === request.release) {
      prune(system, site, [...request.keep, ...runningReleases(work)], 'older');
      pruneByteCode(system, site);
    }
    await compileRest(work);
  });
}

/** The byte code that the deploy has not waited for: the next start is the faster for it. */
async function compileRest({ system, site }: Work): Promise<void> {
  const release = readCurrent(system, site)?.release;
  const interpreter = release === undefined ? undefined : readNotes(system, site, release)?.interpreter;
  if (release === undefined || !interpreter) return;
  const note = system.readText(site.uncompiled(release));
  if (note === null) return;
  const { sources, limits } = JSON.parse(note) as Uncompiled;
  await compileLater({ system, site, python: interpreter, limits }, site.release(release), sources);
  system.remove(site.uncompiled(release));
}

interface OldProcess {
  slot: Slot;
  boot: BootName;
  pid: number;
}

/** The process of a boot that has been replaced, if it still runs and nothing newer has taken its slot. */
function findOldProcess({ system, site }: Work, boot: BootName | null): OldProcess | null {
  if (boot === null || readCurrent(system, site)?.boot === boot) return null;
  const slot = slotOf(boot);
  const { state, pid } = readService(system, site.slot(slot));
  return state === 'run' && newestBoot(system, site, slot) === boot ? { slot, boot, pid } : null;
}

/** Releases whose process runs, whether it serves, is on trial or drains. */
function runningReleases({ system, site }: Work): number[] {
  return SLOTS.flatMap((slot) => {
    const runs = readService(system, site.slot(slot)).state === 'run';
    return (runs ? slotRelease(system, site, slot) : null) ?? [];
  });
}

/** Takes back what an unfinished deploy has left: jobs, trial, tree, and the switch itself where the receiver says so. */
export async function abandon(request: AbandonRequest, work: Work): Promise<void> {
  const { system, site } = work;
  // A killed agent's children go on without it.
  endJobs(system, site);
  if (request.restore !== null) await restore(work, request.restore);
  await takeBack(work, request.keep);
}

/**
 * Back to what served before; its process runs on until it is retired, and is started again if it does not. What has served
 * meanwhile answers what it has accepted.
 */
async function restore({ system, site }: Work, back: NonNullable<AbandonRequest['restore']>): Promise<void> {
  const { serve } = back;
  const current = readCurrent(system, site);
  if (serve === null) {
    if (current === null) return;
    system.remove(site.nginxSite);
    reloadNginx(system, site.node);
    system.remove(site.current);
    return;
  }
  if (current?.release === serve.release && current.boot === serve.boot) return;
  pointCurrent(system, site, serve);
  control(system, site.slot(slotOf(serve.boot)), 'u');
  if (current === null || slotOf(current.boot) === slotOf(serve.boot)) return;
  await drain(system, site, current, back);
  await stopSlot(system, site, slotOf(current.boot), back.timeoutMs);
}

async function takeBack(work: Work, keep: readonly number[]): Promise<void> {
  const { system, site } = work;
  const serving = readCurrent(system, site);
  for (const slot of SLOTS) {
    if (serving !== null && slotOf(serving.boot) === slot) continue;
    // On trial or done for: there is nothing of value to wait for.
    await stopSlot(system, site, slot, 1_000);
  }
  await endLeftOvers(work, 'Stop');
  if (serving !== null) {
    const text = system.readText(`${site.releaseNotes(serving.release)}/site`);
    if (text !== null && text !== system.readText(site.nginxSite)) await swapSite(system, site, text);
  }
  removeOtherBoots(work, serving);
  prune(system, site, keep, 'all');
}

function removeOtherBoots({ system, site }: Work, serving: Serving | null): void {
  for (const name of system.list(site.runtime)) {
    if (/^[ab]\.[0-9]+$/.test(name) && name !== serving?.boot) system.remove(`${site.runtime}/${name}`);
  }
}
