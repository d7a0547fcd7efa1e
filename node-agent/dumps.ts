/** Dumps of a site: all of its services at one moment, with checksums, in a folder named by the time. */
import { destroyedFolder, destroyedRoot, dumpFolder } from './dump-folders.ts';
import { readManifest, summarise, writeProven } from './dump-manifest.ts';
import { recordDump } from './dump-record.ts';
import {
  describeSizes,
  dumpNames,
  formatAmount,
  glance,
  makingPart,
  noDump,
  openDumps,
  openPart,
  ownerOfDump,
  removeDump,
  removeOld,
  stopped,
} from './dump-store.ts';
import { type NodeLayout, siteLayout } from './layout.ts';
import { type InstanceName, KraftwerkError, PROJECT_PATTERN } from './protocol.ts';
import type {
  DropDumpsRequest,
  DumpRequest,
  DumpSummary,
  DumpsRequest,
  DumpsResult,
  ProveRequest,
  ServiceScript,
} from './protocol-data.ts';
import { runServiceScript } from './service-script.ts';
import type { System } from './system.ts';
import { step, type Work } from './work.ts';

const DUMP_LIMIT_MS = 6 * 3_600_000;
/** How often is looked how much there is; a heartbeat comes less often. */
const LOOK_MS = 1_500;

/** @throws KraftwerkError `service.failed`, `service.away`, `dump.exists`, `dump.aborted`, `node.disk-full`: then there is nothing of it */
export async function makeDump(request: DumpRequest, work: Work): Promise<DumpSummary> {
  const { system } = work;
  const { name, target, reason, release, before, services } = request;
  const folder = openDumps(work);
  const names = services.map((service) => service.name);
  const part = openPart(system, folder, name);
  const { summary } = await makingPart(work, part, { step: 'Dump', what: names.join(', ') }, () =>
    step(work, 'Dump', async (progress) => {
      await dumpAll(work, part, services, progress);
      const about = { name, target, reason, release, before };
      const made = await recordDump(work, part, about, names, progress);
      system.publish(part, `${folder}/${name}`);
      return { detail: describeSizes(made.services), summary: made };
    }),
  );
  removeOld(work, folder, request, request.spare === null ? [name] : [name, request.spare]);
  return summary;
}

/** All at once: they are to be of one moment. One that fails ends the others. */
async function dumpAll(
  work: Work,
  part: string,
  services: readonly ServiceScript[],
  progress: (what: string) => void,
): Promise<void> {
  const { system, site } = work;
  const failed = new AbortController();
  const running = new Set(services.map(({ name }) => name));
  const tell = (): void => {
    const sizes = [...running].map((name) => {
      const { files, bytes, more } = glance(system, `${part}/${name}`);
      return more ? `${name} over ${files.toLocaleString('en-US')} files` : `${name} ${formatAmount(bytes)}`;
    });
    progress(`dumping ${sizes.join(', ')} so far`);
  };
  progress(`dumping ${[...running].join(', ')}`);
  const timer = setInterval(tell, LOOK_MS);
  let first: unknown;
  const dumpOne = async ({ name, script, environment }: ServiceScript): Promise<void> => {
    const target = `${part}/${name}`;
    try {
      await runServiceScript(system, site, {
        service: name,
        script: 'dump',
        text: script,
        environment: { ...environment, DUMP_TARGET: target },
        step: 'Dump',
        limitMs: DUMP_LIMIT_MS,
        signal: AbortSignal.any([work.signal, failed.signal]),
        onOutput: (line) => work.emit({ event: 'output', step: 'Dump', line }),
      });
      if (system.stat(target) === null)
        throw new KraftwerkError('service.failed', `${name}: dump.sh has made nothing at $DUMP_TARGET`, {
          step: 'Dump',
          reason: `service ${name} failed`,
        });
    } catch (error) {
      first ??= error;
      failed.abort();
    }
    running.delete(name);
  };
  try {
    await Promise.all(services.map(dumpOne));
  } finally {
    clearInterval(timer);
  }
  if (work.signal.aborted) throw stopped('Dump');
  if (first !== undefined) throw first;
}

/** @param of whose; null: all that are left of destroyed sites. Those of another target are not told */
export function listDumps(system: System, node: NodeLayout, of: DumpsRequest['of']): DumpsResult {
  const read = (folder: string): DumpSummary[] =>
    dumpNames(system, folder).flatMap((name) => {
      try {
        const manifest = readManifest(system, `${folder}/${name}`);
        if (manifest === null || (of !== null && manifest.target !== of.target)) return [];
        return [{ ...summarise(system, `${folder}/${name}`, manifest), name }];
      } catch {
        // It cannot be loaded either: whoever tries is told why.
        return [];
      }
    });
  if (of !== null) {
    const { instance } = of;
    return { dumps: read(dumpFolder(siteLayout(node, instance))), destroyed: read(destroyedFolder(node, instance)) };
  }
  const instances = system.list(destroyedRoot(node)).filter((name): name is InstanceName => PROJECT_PATTERN.test(name));
  return { dumps: [], destroyed: instances.sort().flatMap((name) => read(destroyedFolder(node, name))) };
}

/** Those that are gone already are no error: the request may come again. */
export async function dropDumps(request: DropDumpsRequest, work: Work): Promise<null> {
  const { system, site } = work;
  const folder = request.destroyed ? destroyedFolder(site.node, request.instance) : dumpFolder(site);
  for (const name of system.list(folder)) if (/^\..*\.(?:part|gone)$/.test(name)) system.remove(`${folder}/${name}`);
  for (const name of request.names) {
    if (!system.exists(`${folder}/${name}`)) continue;
    const owner = ownerOfDump(system, `${folder}/${name}`);
    // One that cannot be read is the site's where the site is.
    if (owner === request.target || (owner === null && !request.destroyed)) removeDump(system, folder, name);
  }
  if (request.destroyed && system.exists(folder) && system.list(folder).length === 0) system.remove(folder);
  return null;
}

/** @throws KraftwerkError `dump.missing` */
export async function proveDump(request: ProveRequest, work: Work): Promise<null> {
  const folder = `${dumpFolder(work.site)}/${request.name}`;
  if (readManifest(work.system, folder)?.target !== request.target) throw noDump(request.name, request.target);
  writeProven(work.system, folder);
  return null;
}
