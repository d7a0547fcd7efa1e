/** One step of a load, for all services of a site. The receiver says which; each can be repeated. */
import { checkDump } from './dump-check.ts';
import { summarise } from './dump-manifest.ts';
import { findDump, openDumps, stopped, tellFull } from './dump-store.ts';
import { KraftwerkError, type StepName } from './protocol.ts';
import type { DumpSummary, LoadRequest, ServiceScript } from './protocol-data.ts';
import { runServiceScript } from './service-script.ts';
import { rewriteRun } from './service-variables.ts';
import { step, type Work } from './work.ts';

const HOUR_MS = 3_600_000;
/** Renames, as a rule; a server may have to end its connections first. */
const LIMIT_MS = { new: 12 * HOUR_MS, swap: HOUR_MS / 4, back: HOUR_MS, done: HOUR_MS };
type ScriptStep = keyof typeof LIMIT_MS;

/** @throws KraftwerkError `dump.missing`, `dump.damaged`, `dump.services`, `service.dump`, `service.away`, `service.failed`, `node.disk-full` */
export async function loadStep(request: LoadRequest, work: Work): Promise<DumpSummary | null> {
  openDumps(work);
  switch (request.step) {
    case 'check':
      return checkStep(request, work);
    case 'new':
      return newStep(request, work);
    case 'swap':
      await step(work, 'Swap', (progress) => eachService(request, work, 'swap', progress, null));
      rewriteRun(work.system, work.site, request.written);
      return null;
    case 'back':
      await step(work, 'Swap', (progress) => goBack(request, work, progress));
      return null;
    case 'done':
      await step(work, 'Swap', (progress) => eachService(request, work, 'done', progress, null));
      return null;
  }
}

async function checkStep(request: LoadRequest, work: Work): Promise<DumpSummary> {
  const { folder, manifest } = findWanted(request, work);
  await step(work, 'Check', async (progress) => ({
    detail: await checkDump(
      work,
      folder,
      manifest,
      request.services.map(({ name }) => name),
      progress,
    ),
  }));
  return summarise(work.system, folder, manifest);
}

async function newStep(request: LoadRequest, work: Work): Promise<null> {
  const { folder } = findWanted(request, work);
  await step(work, 'Load', async (progress) => {
    try {
      return await eachService(request, work, 'new', progress, folder);
    } catch (error) {
      const failure = work.signal.aborted
        ? stopped('Load')
        : tellFull(work.system, error, { step: 'Load', what: namesOf(request), folder: work.site.site });
      try {
        await goBack(request, work, progress);
      } catch (cause) {
        throw leftOver(failure, cause);
      }
      throw failure;
    }
  });
  return null;
}

/** The one that was asked for, with all that was asked for. @throws KraftwerkError `dump.missing`, `dump.services` */
function findWanted({ instance, target, dump, services }: LoadRequest, { system, site }: Work) {
  if (dump === null) throw new KraftwerkError('protocol.invalid', 'load.dump: expected a dump, got null');
  const found = findDump(system, site.node, { instance, target, name: dump });
  const held = found.manifest.services.map(({ name }) => name);
  const missing = services.map(({ name }) => name).filter((name) => !held.includes(name));
  if (missing.length === 0) return found;
  throw new KraftwerkError(
    'dump.services',
    `${dump} holds ${held.join(', ') || 'nothing'}, and not ${missing.join(', ')}`,
    { exit: 'denied', hint: `without it: --exclude ${missing[0]}` },
  );
}

function namesOf({ services }: LoadRequest): string {
  return services.map(({ name }) => name).join(', ');
}

const DONE: Readonly<Record<ScriptStep, { step: StepName; during: string; after: string; quiet: boolean }>> = {
  new: { step: 'Load', during: 'loading', after: 'loaded beside the live data', quiet: false },
  swap: { step: 'Swap', during: 'exchanging', after: 'exchanged', quiet: false },
  back: { step: 'Swap', during: 'putting back', after: 'as before', quiet: false },
  done: { step: 'Swap', during: 'removing the old data of', after: 'the old data is removed', quiet: true },
};

async function eachService(
  request: LoadRequest,
  work: Work,
  name: ScriptStep,
  progress: (what: string) => void,
  dump: string | null,
): Promise<{ detail: string; quiet: boolean }> {
  for (const service of request.services) {
    progress(`${DONE[name].during} ${service.name}`);
    await runLoad(work, service, name, dump);
  }
  return { detail: `${namesOf(request)} ${DONE[name].after}`, quiet: DONE[name].quiet };
}

async function runLoad(work: Work, service: ServiceScript, name: ScriptStep, dump: string | null): Promise<void> {
  const { system, site } = work;
  if (name === 'new' && work.signal.aborted) throw stopped('Load');
  await runServiceScript(system, site, {
    service: service.name,
    script: 'load',
    text: service.script,
    args: [name],
    environment: { ...service.environment, ...(dump !== null && { DUMP_SOURCE: `${dump}/${service.name}` }) },
    step: DONE[name].step,
    limitMs: LIMIT_MS[name],
    // What has begun to change what serves is finished.
    ...(name === 'new' && { signal: work.signal }),
    onOutput: (line) => work.emit({ event: 'output', step: DONE[name].step, line }),
  });
}

/** Every service is put back, whatever another one says; then the first error is thrown. */
async function goBack(
  request: LoadRequest,
  work: Work,
  progress: (what: string) => void,
): Promise<{ detail: string; quiet: boolean }> {
  let first: unknown;
  for (const service of [...request.services].reverse()) {
    progress(`${DONE.back.during} ${service.name}`);
    try {
      await runLoad(work, service, 'back', null);
    } catch (error) {
      first ??= error;
    }
  }
  rewriteRun(work.system, work.site, request.written);
  if (first !== undefined) throw first;
  return { detail: `${namesOf(request)} ${DONE.back.after}`, quiet: false };
}

/** The live data is untouched all the same; what was loaded beside it is still there. */
function leftOver(failure: unknown, cause: unknown): unknown {
  const why = cause instanceof Error ? cause.message : String(cause);
  if (!(failure instanceof KraftwerkError)) return failure;
  const { code, message, hints, lines, exit, step: name, reason } = failure;
  return new KraftwerkError(code, message, {
    hint: hints,
    lines: [...lines, `what was loaded beside the live data could not be removed: ${why}`],
    exit,
    ...(name && { step: name }),
    ...(reason && { reason }),
    cause: failure,
  });
}
