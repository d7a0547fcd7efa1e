/** Asks a site's services how they do, as the site would: by its user, with its variables. */
import { projectProgram } from './project-command.ts';
import type { HealthRequest, HealthResult } from './protocol-data.ts';
import { readWritten } from './service-variables.ts';
import { DEFAULT_PATH } from './system.ts';
import type { Work } from './work.ts';

const LIMIT_MS = 30_000;
const LINES = 5;

export async function askHealth(
  { services, environment, written }: HealthRequest,
  { system, site, signal }: Work,
): Promise<HealthResult> {
  const variables = { PATH: DEFAULT_PATH, ...environment, ...readWritten(system, site, written) };
  return Promise.all(
    services.map(async ({ name, command }) => {
      const order = { limits: null, apart: false, environment: variables };
      const { argv, ...how } = await projectProgram(system, site, command, order);
      const { code, timedOut, tail } = await system.run(argv, { ...how, cwd: '/', timeoutMs: LIMIT_MS, signal });
      const lines = timedOut ? [`no answer within ${LIMIT_MS / 1000} s`] : tail.slice(-LINES);
      return { name, ok: code === 0, lines: code === 0 ? [] : lines };
    }),
  );
}
