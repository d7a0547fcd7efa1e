/** Runs the setup scripts of a project's services, those whose rendering has changed. */
import { createHash } from 'node:crypto';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError, type ServiceRequest } from './protocol.ts';
import { DEFAULT_PATH, type System } from './system.ts';

const SETUP_LIMIT_MS = 300_000;

/**
 * Sets each service up. A script is sent on stdin to `/bin/sh -eu`, so that nothing of it stands in argv.
 * @returns for the transcript: `files ready`
 * @throws KraftwerkError `services.setup`
 */
export async function setUpServices(
  system: System,
  site: SiteLayout,
  services: readonly ServiceRequest[],
  options: { override: boolean; signal: AbortSignal; onOutput: (line: string) => void },
): Promise<string> {
  for (const service of services) {
    const stamp = `${site.notes}/service.${service.name}`;
    const hash = createHash('sha256').update(JSON.stringify(service)).digest('hex');
    if (!options.override && system.readText(stamp)?.trim() === hash) continue;
    const result = await system.run(['/bin/sh', '-eu', '-s'], {
      cwd: site.site,
      env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8', ...service.environment },
      input: service.setup,
      timeoutMs: SETUP_LIMIT_MS,
      signal: options.signal,
      jobFile: site.job,
      onLine: options.onOutput,
    });
    if (result.code !== 0) {
      throw new KraftwerkError(
        'services.setup',
        `setup.sh of the service ${service.name} ended with ${result.code ?? 'a signal'}`,
        {
          step: 'Services',
          lines: result.tail.slice(-20),
          hint: `ask the node's admin: the script is templates/services/${service.name}/setup.sh`,
          reason: `service ${service.name} failed`,
        },
      );
    }
    system.writeFile(stamp, `${hash}\n`);
  }
  return services.length === 0 ? 'none asked for' : `${services.map((service) => service.name).join(', ')} ready`;
}
