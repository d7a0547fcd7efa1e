/** How a project's own commands are run: by its user, within its limits, and a build where it cannot see the site run. */
import { asSite, limitWords } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import type { Limits } from './protocol.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/**
 * Processes of its own only: a build has no secrets, but the same user as the site, whose environment stands in /proc. And
 * whatever it leaves running ends with it.
 */
const APART = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];

/**
 * `argv` with what goes before it.
 * @param apart for what a build runs
 */
export async function projectCommand(
  system: System,
  site: SiteLayout,
  argv: readonly string[],
  { limits, apart }: { limits: Limits | null; apart: boolean },
): Promise<string[]> {
  if (site.owner === null) return [...argv];
  return [...limitWords(system, limits), ...(apart && (await canBeApart(system)) ? APART : []), ...asSite(site, argv)];
}

/** Some rented machines are containers that may not do this. */
async function canBeApart(system: System): Promise<boolean> {
  const probe = await system.run([...APART, 'true'], { cwd: '/', env: { PATH: DEFAULT_PATH }, timeoutMs: 10_000 });
  return probe.code === 0;
}
