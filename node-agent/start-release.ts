/** Starts a release in the idle slot, on trial, and says what its last words mean when that fails. */
import { waitForHealth } from './health.ts';
import { type SiteLayout, type Slot, slotOf, socketFromRoot } from './layout.ts';
import { hasEndedWell, hasEndMark, lastWords, linesSince, logEnd } from './logs.ts';
import { makeSocketFolder } from './ownership.ts';
import { childrenOf, drain, readService, startTrial, stopSlot, waitForSlots, waitUntil } from './processes.ts';
import { type BootName, KraftwerkError, type PrepareRequest, parseBootName } from './protocol.ts';
import { newestBoot, readCurrent } from './releases.ts';
import { processStart, type System } from './system.ts';
import { gone, step, stopIfGone, type Work, withHeartbeat } from './work.ts';

const LOG_LINES = 20;
/** Enough for a worker's traceback and all that the server says after it. */
const READ_LINES = 400;

/** Starts the release in the idle slot, on trial, and watches it until it is healthy. */
export async function startRelease(request: PrepareRequest, work: Work): Promise<BootName> {
  const { system, site, signal } = work;
  const serving = readCurrent(system, site);
  const slot: Slot = serving !== null && slotOf(serving.boot) === 'a' ? 'b' : 'a';
  await waitForSlots(system, site, signal);
  // What still drains there is given the time that the site's requests may take.
  await withHeartbeat(work, 'Start', 'waiting for the release before to finish its requests', () =>
    emptySlot(request, work, slot),
  );
  const boot = nextBoot(system, site, slot);
  makeSocketFolder(system, site, boot);
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

  const alive = watchProcess(system, folder, pid);
  await step(work, 'Health', async (progress) => {
    progress('waiting for a good answer');
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

/** Longer than a master needs to notice that a worker has ended. */
const DEAD_WORKERS_MS = 400;

/**
 * Whether the process that was started still lives, for whoever asks again and again. A master all of whose workers are dead
 * does not: gunicorn 20 may miss that they failed to boot, and then waits out its graceful timeout.
 */
function watchProcess(system: System, folder: string, pid: number): () => boolean {
  let deadSince: number | null = null;
  return () => {
    const now = readService(system, folder);
    if (now.state !== 'run' || now.pid !== pid) return false;
    const workers = childrenOf(system, pid);
    const dead = workers.length > 0 && workers.every((worker) => processStart(worker) === null);
    deadSince = dead ? (deadSince ?? system.nowMs()) : null;
    return deadSince === null || system.nowMs() - deadSince < DEAD_WORKERS_MS;
  };
}

/** What an earlier deploy has left running in the slot finishes its requests first. */
async function emptySlot(request: PrepareRequest, { system, site }: Work, slot: Slot): Promise<void> {
  const boot = newestBoot(system, site, slot);
  const { state, wantsUp } = readService(system, site.slot(slot));
  if (boot !== null && state === 'run' && wantsUp) {
    await drain(
      system,
      site,
      { boot },
      { healthPath: request.health.path, host: request.health.host, timeoutMs: request.timeoutMs },
    );
  }
  await stopSlot(system, site, slot, request.timeoutMs);
  const serving = readCurrent(system, site)?.boot;
  for (const name of system.list(site.runtime)) {
    if (name.startsWith(`${slot}.`) && name !== serving) system.remove(`${site.runtime}/${name}`);
  }
}

/** Serial numbers of boots only rise, so that no socket's path is ever used twice: gunicorn removes its path when it ends. */
function nextBoot(system: System, site: SiteLayout, slot: Slot): BootName {
  const file = `${site.notes}/boots`;
  const next = Number(system.readText(file) ?? '0') + 1;
  system.writeVolatile(file, `${next}\n`);
  return parseBootName(`${slot}.${next}`, 'boot');
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
  // A master that hangs over its dead workers.
  if (code === 'health.died') await stopSlot(system, site, slot, 1_000);
  // The end mark comes through the same pipe as the last words: when it is there, they are.
  if (readService(system, site.slot(slot)).state !== 'run')
    await waitUntil(system, () => hasEndMark(system, site, slot, logStart), 2_000);
  const lines = lastWords(linesSince(system, site, slot, logStart, READ_LINES), LOG_LINES);
  const left = code === 'health.died' && hasEndedWell(system, site, slot, logStart);
  const done = readCurrent(system, site)?.release === request.release ? 'restarted' : 'deployed';
  return new KraftwerkError(code, `v${request.release} not ${done}: ${what}`, {
    step: code === 'node.runit' ? 'Start' : 'Health',
    lines,
    exit: 'unhealthy',
    ...(left ? WENT_TO_BACKGROUND : explain(lines, request)),
  });
}

const WENT_TO_BACKGROUND = {
  hint: 'it ended in order, as a process does that goes to the background: is there daemon = True in gunicorn.conf.py?',
  reason: 'its process went to the background',
};

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
      ? `is ${health.host} in Django's ALLOWED_HOSTS? The check asks with that Host`
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
  if (request.site.limits !== null && /BlockingIOError: \[Errno 11\]|^MemoryError/m.test(text))
    return {
      hint: "the environment has limits: in the receiver's configuration; ask its admin, or lower workers:",
      reason: 'it met its limits',
    };
  if (/ImportError|SyntaxError|Worker failed to boot/.test(text)) return { reason: 'the site cannot be imported' };
  return { reason: 'unhealthy' };
}
