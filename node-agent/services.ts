/** Sets a site's services up: packages that are missing, then each `setup.sh` whose text or options have changed. */

import type { PrepareRequest, ServiceRequest } from './protocol.ts';
import { ensurePackages } from './service-packages.ts';
import { runServiceScript, stateFolder } from './service-script.ts';
import { createSha256 } from './sha256.ts';
import { step, stopIfGone, type Work } from './work.ts';

const SETUP_LIMIT_MS = 300_000;

/** The step `Services` of a deploy. @throws KraftwerkError `service.failed`, `service.away`, `service.packages` */
export async function setUpServices(
  { services, setUpServices: wanted, override }: Pick<PrepareRequest, 'services' | 'setUpServices' | 'override'>,
  work: Work,
): Promise<void> {
  if (services.length === 0) return;
  await step(work, 'Services', async (progress) => {
    const names = services.map(({ name }) => name).join(', ');
    if (!wanted) return { detail: `${names}: not set up, as asked` };
    const installed: string[] = [];
    for (const service of services) {
      if (!override && isSetUp(work, service)) continue;
      installed.push(
        ...(await ensurePackages(work.system, work.site, service, { ...work, progress, locked: work.lockedAt })),
      );
      stopIfGone(work, 'Services');
      progress(`setting up ${service.name}`);
      await runServiceScript(work.system, work.site, {
        service: service.name,
        script: 'setup',
        text: service.setup,
        environment: service.environment,
        step: 'Services',
        limitMs: SETUP_LIMIT_MS,
        signal: work.signal,
        onOutput: (line) => work.emit({ event: 'output', step: 'Services', line }),
      });
      stopIfGone(work, 'Services');
      work.system.writeFile(stampFile(work, service), `${stampOf(service)}\n`, 0o600);
    }
    const note = installed.length > 0 ? ` (installed ${installed.join(', ')})` : '';
    return { detail: `${names} ready${note}`, quiet: false };
  });
}

function isSetUp(work: Work, service: ServiceRequest): boolean {
  return work.system.readText(stampFile(work, service))?.trim() === stampOf(service);
}

/** It goes with the service's other notes when the service is destroyed. */
function stampFile({ site }: Work, { name }: ServiceRequest): string {
  return `${stateFolder(site, name)}/.set-up`;
}

function stampOf({ setup, environment, packages }: ServiceRequest): string {
  return createSha256().update(JSON.stringify({ setup, environment, packages })).digest('hex');
}
