/** How a project's own commands are run: by its user, within its limits, and a build where it cannot see the site run. */
import { asBuilder, asSite, limitWords } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import type { Limits } from './protocol.ts';
import { exportLines, quoteForShell } from './shell-text.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/** Processes of its own only: a build has no business with others, and whatever it leaves running ends with it. */
const APART = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
/** Nothing that is setuid or setgid gains rights: crontab and at would start things after the build. */
const NO_NEW_PRIVILEGES = ['setpriv', '--no-new-privs'];

/**
 * `argv` with what goes before it.
 * @param apart for what a build runs: by the site's builder, among its own processes
 */
export async function projectCommand(
  system: System,
  site: SiteLayout,
  argv: readonly string[],
  { limits, apart }: { limits: Limits | null; apart: boolean },
): Promise<string[]> {
  if (site.owner === null) return [...argv];
  const limited = limitWords(system, limits);
  if (!apart) return [...limited, ...asSite(site, argv)];
  const apartWords = (await canBeApart(system, site)) ? APART : [];
  return [...limited, ...apartWords, ...NO_NEW_PRIVILEGES, ...asBuilder(site, argv)];
}

/**
 * The same for `system.run`, with a project's own variables. Those it is given when it has become the site's user: chpst and
 * systemd-run are root's, and a variable may name a library that they would load.
 */
export async function projectProgram(
  system: System,
  site: SiteLayout,
  argv: readonly string[],
  { environment, ...order }: { limits: Limits | null; apart: boolean; environment: Readonly<Record<string, string>> },
): Promise<{ argv: string[]; env: Readonly<Record<string, string>>; input?: string }> {
  if (site.owner === null) return { argv: [...argv], env: environment };
  return {
    argv: await projectCommand(system, site, ['/bin/sh', '-s'], order),
    env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
    // On its stdin and not in its arguments, which everybody sees.
    input: `unset LANG\n${exportLines(environment)}\nexec ${argv.map(quoteForShell).join(' ')} </dev/null\n`,
  };
}

/**
 * Some rented machines are containers that may not do this; and Ubuntu's AppArmor (25.04 and newer) lets unshare start what it will,
 * without the capability to become another user. So just that is tried.
 */
async function canBeApart(system: System, site: SiteLayout): Promise<boolean> {
  const probe = await system.run([...APART, ...asBuilder(site, ['true'])], {
    cwd: '/',
    env: { PATH: DEFAULT_PATH },
    timeoutMs: 10_000,
  });
  return probe.code === 0;
}
