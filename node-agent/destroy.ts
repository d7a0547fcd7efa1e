/**
 * The end of a service's data, or of a whole site; its dumps outlive it. Every step can be repeated: whoever was cut off, or
 * was away, is asked again and ends what is left to do.
 */
import { readAccounts } from './accounts.ts';
import { destroyedFolder, destroyedRoot, dumpFolder } from './dump-folders.ts';
import { dumpNames, removeOld } from './dump-store.ts';
import { endSite, removeAccounts, removeTraces } from './end-account.ts';
import { endJobs } from './jobs.ts';
import type { SiteLayout } from './layout.ts';
import { madeLinks, removeLinks } from './links.ts';
import { makeOwned } from './ownership.ts';
import { control, readService, waitUntil } from './processes.ts';
import { KraftwerkError, type ServiceName } from './protocol.ts';
import { type DestroyRequest, DUMP_REASONS, type DumpName, type ServiceScript } from './protocol-data.ts';
import { endCommands } from './run-notes.ts';
import { runServiceScript, stateFolder } from './service-script.ts';
import { reloadAndWait } from './site.ts';
import { endBuild, endStrays } from './site-processes.ts';
import type { System } from './system.ts';
import { step, type Work } from './work.ts';

/** A process may finish the requests that it has accepted. */
const GRACE_MS = 10_000;
const RELOAD_LIMIT_MS = 2_000;
const SCRIPT_LIMIT_MS = 900_000;
/** Of the dumps that all destroyed sites of a name have left, so many of each kind. */
const KEPT_DUMPS = 30;
const ROOT = { uid: 0, gid: 0 };

/** @throws KraftwerkError `service.failed`, `service.away`, `destroy.processes`, `node.user`: then it is to be asked again */
export async function destroyPart(request: DestroyRequest, work: Work): Promise<null> {
  if (request.part === 'service') {
    endJobs(work.system, work.site);
    await step(work, 'Remove', async (progress) => {
      await destroyServices(request.services, work, progress);
      return { detail: `${namesOf(request.services)} and its data` };
    });
    return null;
  }
  await destroySite(request.services, work);
  return null;
}

/** Whether there is nothing left of a site: then its folders are not made again. */
export function isDestroyed(system: System, site: SiteLayout): boolean {
  const paths = [site.site, goneFolder(site), site.nginxSite, site.runtime, ...slotsOf(system, site)];
  const known = site.owner !== null && readAccounts(system).users.has(site.owner.user);
  return !known && paths.every((path) => system.stat(path) === null);
}

async function destroySite(services: readonly ServiceScript[], work: Work): Promise<void> {
  const { system, site } = work;
  endJobs(system, site);
  await step(work, 'Stop', async (progress) => {
    progress('letting it finish its requests');
    // First, so that nobody new comes; what nginx has passed on is answered.
    if (system.exists(site.nginxSite)) {
      system.remove(site.nginxSite);
      await reloadAndWait(system, site.node, RELOAD_LIMIT_MS);
    }
    system.failpoint('destroy.unlisted');
    await removeSlots(work);
    await endCommands(system, site);
    await endBuild(system, site, 'Stop');
    if (site.owner === null) return { detail: 'its processes have ended' };
    await removeLinks(system, site, madeLinks(system, site));
    const ended = await endSite(system, site, 'own');
    return {
      detail: ended ? 'its processes have ended' : 'stopped; processes that a service keeps running go with it',
    };
  });
  await step(work, 'Remove', async (progress) => {
    await destroyServices(services, work, progress);
    progress('removing its folders');
    system.failpoint('destroy.services');
    keepDumps(work);
    system.failpoint('destroy.dumps');
    await endSite(system, site, 'all');
    // What is half removed must not be taken for a site.
    const gone = goneFolder(site);
    if (system.stat(gone) !== null) system.remove(gone);
    if (system.stat(site.site) !== null) system.publish(site.site, gone);
    if (system.stat(gone) !== null) system.remove(gone);
    system.failpoint('destroy.folder');
    removeRuntime(work);
    await removeTraces(system, site);
    // Last of what a later request looks for.
    await removeAccounts(system, site);
    // Whoever waits for the lock has waited for a site that is no more; the receiver lets nobody come now.
    system.remove(site.lock);
    const names = services.length === 0 ? '' : `${namesOf(services)}, `;
    return { detail: `${names}${site.owner === null ? 'folder' : 'user and folder'}` };
  });
}

function namesOf(services: readonly ServiceScript[]): string {
  return services.map(({ name }) => name).join(', ');
}

/** Each is tried, whatever another one says; then the first error is thrown. */
async function destroyServices(
  services: readonly ServiceScript[],
  { system, site, emit }: Work,
  progress: (what: string) => void,
): Promise<void> {
  let first: unknown;
  // Nodes have Debian's Node 18, which knows no toReversed.
  for (const { name, script, environment } of [...services].reverse()) {
    progress(`removing ${name}`);
    try {
      await runServiceScript(system, site, {
        service: name,
        script: 'destroy',
        text: script,
        environment,
        step: 'Remove',
        limitMs: SCRIPT_LIMIT_MS,
        onOutput: (line) => emit({ event: 'output', step: 'Remove', line }),
      });
      forget(system, site, name);
    } catch (error) {
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
}

function forget(system: System, site: SiteLayout, service: ServiceName): void {
  system.failpoint('destroy.service');
  system.remove(stateFolder(site, service));
}

/** Both where runsvdir looks and where they are. No instance has a dot in its name, so that none begins like another. */
function slotsOf(system: System, { instance, node }: SiteLayout): string[] {
  return [node.services, node.serviceFolders].flatMap((folder) =>
    system
      .list(folder)
      .filter((name) => name.startsWith(`${instance}.`))
      .map((name) => `${folder}/${name}`),
  );
}

/** @throws KraftwerkError `destroy.processes` */
async function removeSlots({ system, site }: Work): Promise<void> {
  const { services, serviceFolders } = site.node;
  for (const path of slotsOf(system, site)) if (path.startsWith(`${services}/`)) system.remove(path);
  system.failpoint('destroy.unlinked');
  const folders = slotsOf(system, site).filter((path) => path.startsWith(`${serviceFolders}/`));
  // runsvdir would find out within five seconds.
  for (const folder of folders) control(system, folder, 'd');
  const runs = (folder: string): boolean => readService(system, folder).pid !== 0;
  if (!(await waitUntil(system, () => !folders.some(runs), GRACE_MS)))
    for (const folder of folders.filter(runs)) control(system, folder, 'k');
  // A process that has left its parent holds the pipe to the log, whose supervisor waits for its end.
  await endStrays(system, site, 'Stop');
  for (const folder of folders) {
    const ended = (): boolean => [folder, `${folder}/log`].every((one) => readService(system, one).state === 'absent');
    control(system, folder, 'x');
    if (!(await waitUntil(system, ended, GRACE_MS))) {
      for (const one of [folder, `${folder}/log`]) {
        control(system, one, 'k');
        control(system, one, 'x');
      }
    }
    if (!(await waitUntil(system, ended, GRACE_MS)))
      throw new KraftwerkError('destroy.processes', `runit does not let ${folder} go`, {
        step: 'Stop',
        hint: 'on the node: ps -ef | grep runsv',
      });
    system.remove(folder);
  }
}

/** They outlive the site: nobody else's alone, as before. */
function keepDumps(work: Work): void {
  const { system, site } = work;
  const from = dumpFolder(site);
  const names = dumpNames(system, from);
  if (names.length === 0) return;
  const { node } = site;
  const to = destroyedFolder(node, site.instance);
  for (const folder of [destroyedRoot(node), to]) {
    if (site.owner === null) system.makeFolder(folder, 0o700);
    else makeOwned(system, folder, ROOT, 0o700);
  }
  for (const name of names) {
    system.publish(`${from}/${name}`, `${to}/${freeName(system, to, name)}`);
    system.failpoint('destroy.dump');
  }
  for (const reason of DUMP_REASONS) removeOld(work, to, { reason, keep: KEPT_DUMPS }, []);
}

/** An earlier site of this name may have left one of that very second. */
function freeName(system: System, folder: string, name: DumpName): string {
  let at = Date.parse(`${name}Z`);
  for (let free: string = name; ; free = new Date(at).toISOString().slice(0, 19)) {
    if (!system.exists(`${folder}/${free}`)) return free;
    at += 1_000;
  }
}

function removeRuntime({ system, site }: Work): void {
  const { instance, node } = site;
  const names = system
    .list(node.runtime)
    .filter((name) => name === instance || name === `${instance}.job` || name.startsWith(`${instance}.job.`));
  for (const name of names) system.remove(`${node.runtime}/${name}`);
  if (site.owner !== null) system.remove(`/run/kraftwerk-link/${instance}`);
}

/** Hidden; no instance begins with a dot. */
function goneFolder({ instance, node }: SiteLayout): string {
  return `${node.web}/.${instance}.gone`;
}
