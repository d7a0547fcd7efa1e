/** Stops and starts the process that serves, without a new release. A stop holds across reboots. */
import { waitForHealth } from './health.ts';
import { SLOTS, slotOf, socketFromRoot } from './layout.ts';
import { linesSince, logEnd } from './logs.ts';
import { makeSocketFolder } from './ownership.ts';
import { control, readService, stopSlot, waitUntil } from './processes.ts';
import { KraftwerkError, type ProcessRequest, type Serving } from './protocol.ts';
import { readCurrent } from './releases.ts';
import { endStrays } from './site-processes.ts';
import { step, type Work } from './work.ts';

const LOG_LINES = 20;

/** @throws KraftwerkError `process.nothing`, `health.start` */
export async function setRunning(request: ProcessRequest, work: Work): Promise<null> {
  const serving = readCurrent(work.system, work.site);
  if (serving === null)
    throw new KraftwerkError('process.nothing', `${request.instance} has no release on this node`, { exit: 'denied' });
  if (request.op === 'stop') await stop(request, work);
  else await start(request, work, serving);
  return null;
}

/** The slots' run script looks for the file, also after a reboot. */
async function stop(request: ProcessRequest, work: Work): Promise<void> {
  const { system, site } = work;
  await step(work, 'Stop', async (progress) => {
    progress('letting it finish its requests');
    system.writeFile(site.stopped, `${system.wallClock().toISOString()}\n`);
    for (const slot of SLOTS) await stopSlot(system, site, slot, request.timeoutMs);
    await endStrays(system, site, 'Stop');
    return { detail: 'stopped' };
  });
}

async function start(request: ProcessRequest, work: Work, serving: Serving): Promise<void> {
  const { system, site, signal } = work;
  const slot = slotOf(serving.boot);
  const folder = site.slot(slot);
  const logStart = logEnd(system, site, slot);
  let pid = 0;
  await step(work, 'Start', async () => {
    system.remove(site.stopped);
    makeSocketFolder(system, site, serving.boot);
    control(system, folder, 'u');
    await waitUntil(system, () => readService(system, folder).state === 'run', 10_000, signal);
    pid = readService(system, folder).pid;
    return { detail: `v${serving.release}` };
  });
  const { health } = request;
  if (health === null) return;
  // runit starts it again and again: another pid is another try, and this one has failed.
  const alive = (): boolean => {
    const now = readService(system, folder);
    return now.state === 'run' && now.pid === pid;
  };
  await step(work, 'Health', async (progress) => {
    progress('waiting for its first answer');
    const verdict = await waitForHealth(system, socketFromRoot(site, serving.boot), health, alive, signal);
    if (verdict.healthy) return { detail: `GET ${health.path} ${verdict.status} in ${Math.round(verdict.ms)} ms` };
    const what =
      verdict.why === 'aborted'
        ? 'nobody waits any longer to hear whether it is healthy'
        : verdict.why === 'died'
          ? 'its process ended before it answered'
          : verdict.status === null
            ? 'its health check did not answer'
            : `its health check answered ${verdict.status}`;
    throw new KraftwerkError('health.start', `v${serving.release} was started, but ${what}`, {
      step: 'Health',
      exit: 'unhealthy',
      lines: linesSince(system, site, slot, logStart, LOG_LINES),
    });
  });
}
