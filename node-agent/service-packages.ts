/** Debian packages that services need: installed when a site of the node first asks for one. */
import type { SiteLayout } from './layout.ts';
import { KraftwerkError, type ServiceRequest } from './protocol.ts';
import { DEFAULT_PATH, type System } from './system.ts';

const INSTALL_LIMIT_MS = 1_200_000;
const ASK_LIMIT_MS = 60_000;
const UPDATE = ['apt-get', '-q', '-o', 'DPkg::Lock::Timeout=300', 'update'];
const INSTALL = ['apt-get', '-q', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', 'install', '--'];

interface Waiting {
  signal: AbortSignal;
  progress(what: string): void;
  /** Whoever installs does it alone on the node. */
  locked<T>(path: string, body: () => Promise<T>): Promise<T>;
}

/**
 * @returns the packages that were installed
 * @throws KraftwerkError `service.packages`
 */
export async function ensurePackages(
  system: System,
  site: SiteLayout,
  { name, packages, disable }: Pick<ServiceRequest, 'name' | 'packages' | 'disable'>,
  { signal, progress, locked }: Waiting,
): Promise<readonly string[]> {
  if (site.owner === null || packages.length === 0 || (await findMissing(system, packages)).length === 0) return [];
  return locked(`${site.node.runtime}/.packages.lock`, async () => {
    // Somebody else may have installed them while we waited.
    const missing = await findMissing(system, packages);
    if (missing.length === 0) return [];
    progress(`installing ${missing.join(', ')}`);
    const attempt = (argv: readonly string[]) =>
      system.run(argv, {
        cwd: '/',
        env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive', ...proxies(system) },
        timeoutMs: INSTALL_LIMIT_MS,
        signal,
      });
    let result = await attempt([...INSTALL, ...missing]);
    if (result.code !== 0 && !signal.aborted) {
      // Its lists may be missing, or name versions that are no longer there.
      progress('refreshing the package lists');
      await attempt(UPDATE);
      progress(`installing ${missing.join(', ')}`);
      result = await attempt([...INSTALL, ...missing]);
    }
    if (result.code !== 0) {
      throw new KraftwerkError('service.packages', `${name}: the node could not install ${missing.join(', ')}`, {
        step: 'Services',
        lines: result.tail.slice(-20),
        hint: `on the node: apt-get update && apt-get install ${missing.join(' ')}`,
        reason: `service ${name} could not be installed`,
      });
    }
    // What comes with a package and is for everybody, no site shall have.
    if (disable.length > 0) await attempt(['systemctl', 'disable', '--now', '--', ...disable]);
    return missing;
  });
}

async function findMissing(system: System, packages: readonly string[]): Promise<string[]> {
  const asked = await system.run(['dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\\n', '--', ...packages], {
    cwd: '/',
    env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
    timeoutMs: ASK_LIMIT_MS,
  });
  return packages.filter((name) => !asked.tail.includes(`installed ${name}`));
}

function proxies(system: System): Record<string, string> {
  return Object.fromEntries(
    Object.entries(system.environment).filter(
      (entry): entry is [string, string] => /^(?:https?|no|all)_proxy$/i.test(entry[0]) && entry[1] !== undefined,
    ),
  );
}
