/** Asks a site's services how they do, as the site would: by its user, with its variables. */
import { projectCommand } from './project-command.ts';
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
  const env = { PATH: DEFAULT_PATH, ...environment, ...readWritten(system, site, written) };
  return Promise.all(
    services.map(async ({ name, command }) => {
      const argv = await projectCommand(system, site, command, { limits: null, apart: false });
      const { code, timedOut, tail } = await system.run(argv, { cwd: '/', env, timeoutMs: LIMIT_MS, signal });
      const lines = timedOut ? [`no answer within ${LIMIT_MS / 1000} s`] : tail.slice(-LINES);
      return { name, ok: code === 0, lines: code === 0 ? [] : lines };
    }),
  );
}
