/** The story of one release on one node: prepare it, activate it, retire what it replaces, or abandon it. */
import type { Readable } from 'node:stream';
import { createCompiler } from './compile.ts';
import { ask, waitForHealth } from './health.ts';
import { type SiteLayout, SLOTS, type Slot, siteLayout, slotOf, socketFromRoot } from './layout.ts';
import { hasEndMark, linesSince, logEnd } from './logs.ts';
import { allowStart, control, ensureSlots, readService, startTrial, stopSlot, waitForSlots, waitUntil } from './processes.ts';
import {
  type AbandonRequest,
  type ActivateRequest,
  type ActivateResult,
  type BootName,
  type DeployEvent,
  KraftwerkError,
  type PrepareRequest,
  type PrepareResult,
  parseBootName,
  type RetireRequest,
  type StepName,
} from './protocol.ts';
import { listReleases, pointCurrent, prune, readBoot, readCurrent, readNotes } from './releases.ts';
import { setUpServices } from './services.ts';
import { fill, swapSite, testSite, waitForHost } from './site.ts';
import { DEFAULT_PATH, processStart, type System } from './system.ts';
import { unpack } from './unpack.ts';
import { ensureVirtualenv, syncFolder } from './virtualenv.ts';

/** What a request works with. */
export interface Work {
  system: System;
  site: SiteLayout;
  httpPort: number;
  emit(event: DeployEvent): void;
  /** Asks the receiver for the artifact and gives the stream on which it comes. */
  receiveArtifact(): Readable;
  /** The client went away, or the receiver did. Heeded until activation. */
  signal: AbortSignal;
}

const HEARTBEAT_MS = 5_000;
const COMMAND_LIMIT_MS = 1_800_000;
const LOG_LINES = 20;

/**
 * Makes a release ready to serve: its tree, virtualenv, services and release command, and a process in the idle slot that
 * has answered its health check. Nothing that serves is touched.
 */
export async function prepare(request: PrepareRequest, work: Work): Promise<PrepareResult> {
  const { system, site } = work;
  const reused =
    listReleases(system, site).includes(request.release) &&
    readNotes(system, site, request.release)?.artifact === request.artifact.sha256;
  ensureSlots(system, site, request.site);
  try {
    if (!reused) await buildRelease(request, work);
    const siteText = fill(request.site.site, work.httpPort);
    if (system.readText(site.nginxSite) !== siteText) await testSite(system, site, siteText);
    // Kept beside the release: what nginx is to be given when this one is activated.
    system.writeIfChanged(`${site.releaseNotes(request.release)}/site`, siteText);
    system.writeIfChanged(`${site.releaseNotes(request.release)}/run`, request.site.run, 0o700);
    const durable = syncFolder(system, site.site);
    durable.catch(() => undefined);
    if (request.releaseCommand !== null)
      await runStep(
        request,
        work,
        'Release',
        request.releaseCommand,
        site.release(request.release),
        request.environment,
      );
    const boot = await startRelease(request, work);
    await durable;
    return {
      boot,
      reused,
      httpPort: work.httpPort,
      virtualenv: readNotes(system, site, request.release)?.virtualenv ?? null,
    };
  } catch (error) {
    await takeBack(
      work,
      reused
        ? [...listReleases(system, site)]
        : listReleases(system, site).filter((number) => number !== request.release),
    );
    throw error;
  }
}

/** Unpack, packages, build and services, in a hidden folder; then one rename makes it a release. */
async function buildRelease(request: PrepareRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const tree = `${site.releases}/.v${request.release}.${system.pid}`;
  const notes = site.releaseNotes(request.release);
  const previous = readCurrent(system, site);
  for (const path of [site.releases, site.virtualenvs, notes]) system.makeFolder(path);

  const compiler = createCompiler(system, tree, previous === null ? null : site.release(previous.release));
  await step(work, 'Unpack', async () => {
    const { files, bytes } = await unpack(system, work.receiveArtifact(), request.artifact, tree, compiler.onFile);
    return { detail: `${files} files, ${Math.ceil(bytes / 1024)} KiB`, quiet: true };
  });
  stopIfGone(work, 'Unpack');
  system.failpoint('prepare.unpacked');

  const virtualenv = await step(work, 'Packages', async (progress) => {
    const result = await ensureVirtualenv(system, site, request, tree, {
      signal: work.signal,
      onProgress: progress,
      onOutput: (line) => work.emit({ event: 'output', step: 'Packages', line }),
    });
    return { ...result, quiet: false };
  });
  system.createLink(`${tree}/venv`, `../../venvs/${virtualenv.key}`);
  system.failpoint('prepare.packages');

  if (request.build !== null) await runStep(request, work, 'Build', request.build, tree, request.buildEnvironment);
  const compiled = compiler.compile(`${tree}/venv/bin/python`, work.signal, site);
  await step(work, 'Services', async () => {
    const detail = await setUpServices(system, site, request.services, {
      override: request.override,
      signal: work.signal,
      onOutput: (line) => work.emit({ event: 'output', step: 'Services', line }),
    });
    return { detail, quiet: request.services.length === 0 };
  });
  await compiled;
  stopIfGone(work, 'Services');

  makeReadOnly(system, tree);
  const interpreter = system.realPath(request.python) ?? '';
  system.writeFile(
    `${notes}/release.json`,
    JSON.stringify({ artifact: request.artifact.sha256, virtualenv: virtualenv.key, interpreter }),
  );
  system.failpoint('prepare.publish');
  if (system.exists(site.release(request.release))) system.remove(site.release(request.release));
  system.publish(tree, site.release(request.release));
  system.failpoint('prepare.published');
}

/** Starts the release in the idle slot, on trial, and watches it until it is healthy. */
async function startRelease(request: PrepareRequest, work: Work): Promise<BootName> {
  const { system, site, signal } = work;
  const serving = readCurrent(system, site);
  const slot: Slot = serving !== null && slotOf(serving.boot) === 'a' ? 'b' : 'a';
  await waitForSlots(system, site, signal);
  // What still drains there is given the time that the site's requests may take.
  await withHeartbeat(work, 'Start', 'waiting for the release before to finish its requests', () =>
    stopSlot(system, site, slot, request.timeoutMs),
  );
  const boot = nextBoot(system, site, slot);
  system.makeFolder(site.boot(boot), 0o750);
  if (serving?.release !== request.release)
    system.pointLink(site.runLink(request.release), `../../../../run/kraftwerk/${site.instance}/${boot}`);

  const logStart = logEnd(system, site, slot);
  const folder = site.slot(slot);
  let pid = 0;
  await step(work, 'Start', async () => {
    startTrial(system, site, request.release, boot, slot);
    const settled = await waitUntil(
      system,
      () => readService(system, folder).state === 'run' || hasEndMark(system, site, slot, logStart),
      10_000,
      signal,
    );
    pid = readService(system, folder).pid;
    if (!settled)
      throw await processError(request, work, slot, logStart, 'node.runit', 'runit did not start it within 10 s');
    return { detail: request.startLabel };
  });
  stopIfGone(work, 'Start');
  system.failpoint('prepare.started');

  const alive = (): boolean => {
    const now = readService(system, folder);
    return now.state === 'run' && now.pid === pid;
  };
  await step(work, 'Health', async (progress) => {
    progress('waiting for its first answer');
    const verdict = await waitForHealth(system, socketFromRoot(site, boot), request.health, alive, signal);
    if (verdict.healthy)
      return { detail: `GET ${request.health.path} ${verdict.status} in ${Math.round(verdict.ms)} ms` };
    if (verdict.why === 'aborted') throw gone('Health');
    throw await healthError(request, work, slot, logStart, verdict);
  });
  if (request.health.settleMs > 0) {
    await step(work, 'Settle', async (progress) => {
      progress('watching it live on');
      await waitUntil(system, () => !alive(), request.health.settleMs, signal);
      if (signal.aborted) throw gone('Settle');
      if (alive()) return { detail: `lived on for ${request.health.settleMs / 1000} s` };
      throw await processError(
        request,
        work,
        slot,
        logStart,
        'health.died',
        `its process ended within ${request.health.settleMs / 1000} s of its health check`,
      );
    });
  }
  system.failpoint('prepare.healthy');
  return boot;
}

/** Serial numbers of boots only rise, so that no socket's path is ever used twice: gunicorn removes its path when it ends. */
function nextBoot(system: System, site: SiteLayout, slot: Slot): BootName {
  const file = `${site.notes}/boots`;
  const next = Number(system.readText(file) ?? '0') + 1;
  system.writeFile(file, `${next}\n`);
  return parseBootName(`${slot}.${next}`, 'boot');
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
    if (host !== undefined) await waitForHost(system, work.httpPort, host, 2_000);
  }
  return { previous, httpPort: work.httpPort };
}

/** Lets what no longer serves finish its requests, stops it, and removes what is not kept. */
export async function retire(request: RetireRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const serving = readCurrent(system, site);
  for (const slot of SLOTS) {
    if (serving !== null && slotOf(serving.boot) === slot) continue;
    if (readService(system, site.slot(slot)).state !== 'run') continue;
    const boot = slotBoot(system, site, slot);
    // The accept queue is first in, first out: when this is answered, everything queued before it has been accepted.
    if (boot !== null) {
      await ask(
        socketFromRoot(site, boot),
        { path: request.healthPath, host: request.host, timeoutMs: request.timeoutMs },
        system.nowMs,
      );
    }
    system.failpoint('retire.drained');
    await stopSlot(system, site, slot, request.timeoutMs);
  }
  for (const name of system.list(site.runtime)) {
    if (/^[ab]\.[0-9]+$/.test(name) && name !== serving?.boot) system.remove(`${site.runtime}/${name}`);
  }
  prune(system, site, request.keep);
}

/** The newest boot whose folder stands in a slot that does not serve: what runs there. */
function slotBoot(system: System, site: SiteLayout, slot: Slot): BootName | null {
  const numbers = system
    .list(site.runtime)
    .flatMap((name) => (name.startsWith(`${slot}.`) ? Number(name.slice(2)) : []));
  return numbers.length === 0 ? null : parseBootName(`${slot}.${Math.max(...numbers)}`, 'boot');
}

/** Takes back what an unfinished deploy has left: jobs, trial, tree. What `current` names stays. */
export async function abandon(request: AbandonRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const [pid, start] = (system.readText(site.job) ?? '').trim().split(' ');
  // A killed agent's children go on without it; the pid alone may by now be another's.
  if (pid !== undefined && start && processStart(Number(pid)) === start) system.signal(-Number(pid), 'SIGKILL');
  await takeBack(work, request.keep);
}

async function takeBack(work: Work, keep: readonly number[]): Promise<void> {
  const { system, site } = work;
  const serving = readCurrent(system, site);
  for (const slot of SLOTS) {
    if (serving !== null && slotOf(serving.boot) === slot) continue;
    // On trial or done for: there is nothing of value to wait for.
    await stopSlot(system, site, slot, 1_000);
  }
  if (serving !== null) {
    const text = system.readText(`${site.releaseNotes(serving.release)}/site`);
    if (text !== null && text !== system.readText(site.nginxSite)) await swapSite(system, site, text);
  }
  for (const name of system.list(site.runtime)) {
    if (/^[ab]\.[0-9]+$/.test(name) && name !== serving?.boot && readBootOwner(work, name) === null)
      system.remove(`${site.runtime}/${name}`);
  }
  prune(system, site, keep);
}

/** The release whose run link names the boot, if any is left. */
function readBootOwner(work: Work, boot: string): number | null {
  const { system, site } = work;
  return (
    listReleases(system, site).find(
      (number) => readBoot(system, site, number) === boot && readCurrent(system, site)?.boot === boot,
    ) ?? null
  );
}

function makeReadOnly(system: System, tree: string): void {
  for (const entry of system.listEntries(tree)) {
    if (!entry.isDirectory()) continue;
    makeReadOnly(system, `${tree}/${entry.name}`);
    system.setMode(`${tree}/${entry.name}`, 0o555);
  }
}

// ---------------------------------------------------------------- steps

async function step<T extends { detail: string; quiet?: boolean }>(
  work: Work,
  name: StepName,
  body: (progress: (what: string) => void) => Promise<T>,
): Promise<T> {
  const begin = work.system.nowMs();
  const result = await withHeartbeat(work, name, '', body);
  work.emit({
    event: 'step',
    step: name,
    detail: result.detail,
    ms: work.system.nowMs() - begin,
    ...(result.quiet && { quiet: true }),
  });
  return result;
}

/** Anything that takes longer says so every few seconds. */
async function withHeartbeat<T>(
  work: Work,
  name: StepName,
  what: string,
  body: (progress: (what: string) => void) => Promise<T>,
): Promise<T> {
  const begin = work.system.nowMs();
  let current = what;
  const timer = setInterval(() => {
    work.emit({ event: 'progress', step: name, what: current || name.toLowerCase(), ms: work.system.nowMs() - begin });
  }, HEARTBEAT_MS);
  try {
    return await body((next) => {
      current = next;
    });
  } finally {
    clearInterval(timer);
  }
}

/** `build` or `release` of kraftwerk.yaml: the project's own shell command, in its tree. */
async function runStep(
  request: PrepareRequest,
  work: Work,
  name: 'Build' | 'Release',
  command: string,
  cwd: string,
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  const { system, site } = work;
  await step(work, name, async (progress) => {
    progress(command);
    const result = await system.run(['/bin/sh', '-c', command], {
      cwd,
      env: { ...environment, VIRTUAL_ENV: `${cwd}/venv`, PATH: `${cwd}/venv/bin:${DEFAULT_PATH}` },
      timeoutMs: COMMAND_LIMIT_MS,
      signal: work.signal,
      jobFile: site.job,
      onLine: (line) => work.emit({ event: 'output', step: name, line }),
    });
    stopIfGone(work, name);
    if (result.code === 0) return { detail: command };
    const how = result.timedOut
      ? `took longer than ${COMMAND_LIMIT_MS / 60_000} minutes`
      : `ended with ${result.code === null ? 'a signal' : `exit code ${result.code}`}`;
    throw new KraftwerkError(`${name.toLowerCase()}.failed`, `${name.toLowerCase()} command "${command}" ${how}`, {
      step: name,
      hint:
        name === 'Release'
          ? 'its output is above; -o skip-release deploys without it'
          : 'its output is above; it runs in the new tree, without the site’s variables',
      reason: `${name.toLowerCase()} command failed`,
    });
  });
  void request;
}

function stopIfGone(work: Work, at: StepName): void {
  if (work.signal.aborted) throw gone(at);
}

function gone(at: StepName): KraftwerkError {
  return new KraftwerkError('deploy.aborted', 'the client went away before the new release served', {
    step: at,
    reason: 'cancelled',
  });
}

async function processError(
  request: PrepareRequest,
  work: Work,
  slot: Slot,
  logStart: number,
  code: string,
  what: string,
): Promise<KraftwerkError> {
  const { system, site } = work;
  // The end mark comes through the same pipe as the last words: when it is there, they are.
  if (readService(system, site.slot(slot)).state !== 'run')
    await waitUntil(system, () => hasEndMark(system, site, slot, logStart), 2_000);
  const lines = linesSince(system, site, slot, logStart, LOG_LINES);
  return new KraftwerkError(code, `v${request.release} not deployed: ${what}`, {
    step: code === 'node.runit' ? 'Start' : 'Health',
    lines,
    exit: 'unhealthy',
    ...explain(lines, request),
  });
}

async function healthError(
  request: PrepareRequest,
  work: Work,
  slot: Slot,
  logStart: number,
  verdict: { why: string; status: number | null; tries: number },
): Promise<KraftwerkError> {
  const { health } = request;
  const what = {
    died: 'its process ended before it answered',
    status: `its health check answered ${verdict.status} ${times(verdict.tries)}`,
    silent: `its health check did not answer within ${health.timeoutMs / 1000} s, ${times(verdict.tries)}`,
    boot: `it did not answer within ${health.bootMs / 1000} s of its start`,
  }[verdict.why];
  const error = await processError(request, work, slot, logStart, `health.${verdict.why}`, what ?? verdict.why);
  if (error.hints.length > 0 || verdict.why !== 'status') return error;
  const hint =
    verdict.status === 400
      ? `is ${health.host} in Django’s ALLOWED_HOSTS? The check asks with that Host`
      : verdict.status === 404
        ? `does the site answer GET ${health.path}? Choose another: healthcheck: /path`
        : null;
  return new KraftwerkError(error.code, error.message, {
    step: 'Health',
    lines: error.lines,
    exit: 'unhealthy',
    reason: verdict.status === null ? 'unhealthy' : `health check answered ${verdict.status}`,
    ...(hint && { hint }),
  });
}

function times(count: number): string {
  return count === 1 ? 'once' : count === 2 ? 'twice' : count === 10 ? 'ten times' : `${count} times`;
}

/** What the last words of a process say about the cause. */
function explain(lines: readonly string[], request: PrepareRequest): { hint?: string; reason: string } {
  const text = lines.join('\n');
  const module = /ModuleNotFoundError: No module named '([^']+)'/.exec(text)?.[1];
  if (module !== undefined)
    return {
      hint: `is ${module} in ${request.requirements ?? 'requirements.txt'}, or the path of wsgi: right?`,
      reason: `no module named ${module}`,
    };
  if (/Failed to find attribute '([^']+)'/.test(text))
    return { hint: 'name the callable: wsgi: module:callable', reason: 'wsgi callable not found' };
  if (/class uri .* invalid or not found|Error: class uri/.test(text))
    return { hint: 'worker_class needs a package: add it to the requirements', reason: 'worker class not found' };
  if (/ImportError|SyntaxError|Worker failed to boot/.test(text)) return { reason: 'the site cannot be imported' };
  return { reason: 'unhealthy' };
}
