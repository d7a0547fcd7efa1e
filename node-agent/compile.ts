/** Byte code for a release: taken over from the release before where a file has not changed, compiled where it has. */
import { dirname } from 'node:path';
import { asCompiler } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { lendCache, takeCache } from './ownership.ts';
import { DEFAULT_PATH, type System } from './system.ts';

export type Compiler = ReturnType<typeof createCompiler>;

/** From the start of a deploy on: a build may take its time. */
const COMPILE_LIMIT_MS = 3_600_000;

/** py_compile alone starts twice as fast as the module compileall. */
const COMPILE = `
import sys, py_compile
for line in sys.stdin:
    try:
        py_compile.compile(line[:-1], quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (OSError, ValueError):
        pass
`;

/** Up to this much changed source, the boot reads it as fast as Python's own start would take: its byte code can wait. */
const SMALL_BYTES = 128 * 1024;

/**
 * Collects, while a tree is unpacked, which of its modules are new, and links the byte code of the others. The compiler is
 * started as soon as there is much to do and waits for its list, so that nobody waits for Python to start.
 * The byte code is of the unchecked-hash kind: a release never changes, so Python need not look at the source's date.
 * @param python an interpreter of the version that will run it; where it is missing, others say so
 */
export function createCompiler(
  system: System,
  site: SiteLayout,
  python: string,
  previousTree: string | null,
  signal: AbortSignal,
) {
  const changed: string[] = [];
  const unchanged: string[] = [];
  let changedBytes = 0;
  let compiler: ReturnType<typeof startCompiler> | null = null;
  const change = (path: string, bytes: number): void => {
    changed.push(path);
    changedBytes += bytes;
    if (changedBytes > SMALL_BYTES) compiler ??= startCompiler(system, site, python, signal);
  };
  return {
    onFile(path: string, content: readonly Uint8Array[]): void {
      if (!path.endsWith('.py')) return;
      if (previousTree !== null && sameContent(system.readBytes(`${previousTree}/${path}`), content))
        unchanged.push(path);
      else
        change(
          path,
          content.reduce((sum, chunk) => sum + chunk.length, 0),
        );
    },
    /**
     * Compiles what is left. A file that does not compile is the program's own affair: it may be for another Python.
     * @returns what is little enough to be compiled when the site serves, by `compileLater`
     */
    async compile(tree: string): Promise<readonly string[]> {
      // Only now: a tree may bring byte code of its own, and that is unpacked first.
      if (previousTree !== null)
        for (const path of unchanged)
          if (!linkByteCode(system, tree, previousTree, path)) change(path, system.stat(`${tree}/${path}`)?.size ?? 0);
      const folders = new Set(changed.map((path) => `${tree}/${cacheOf(path)}`));
      for (const folder of folders) system.makeFolder(folder);
      if (compiler === null) return changed;
      for (const folder of folders) lendCache(system, site, folder);
      await compiler.compile(changed.map((path) => `${tree}/${path}`));
      return [];
    },
    /** Lets the compiler go where nothing is to be compiled after all. */
    cancel: (): void => void compiler?.compile([]),
  };
}

/** Compiles what a deploy has left for later, in the finished tree. */
export async function compileLater(
  system: System,
  site: SiteLayout,
  python: string,
  tree: string,
  paths: readonly string[],
): Promise<void> {
  const folders = [...new Set(paths.map((path) => `${tree}/${cacheOf(path)}`))].filter(system.exists);
  for (const folder of folders) lendCache(system, site, folder);
  await startCompiler(system, site, python).compile(paths.map((path) => `${tree}/${path}`));
  for (const folder of folders) takeCache(system, site, folder);
}

function startCompiler(system: System, site: SiteLayout, python: string, signal?: AbortSignal) {
  let give: (list: string) => void = () => undefined;
  const input = new Promise<string>((resolve) => {
    give = resolve;
  });
  const compiling = system
    .run(asCompiler(site, [python, '-I', '-S', '-c', COMPILE]), {
      cwd: site.site,
      env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
      input,
      timeoutMs: COMPILE_LIMIT_MS,
      ...(signal && { signal }),
    })
    .catch(() => undefined);
  return {
    async compile(paths: readonly string[]): Promise<void> {
      give(paths.map((path) => `${path}\n`).join(''));
      await compiling;
    },
  };
}

function cacheOf(path: string): string {
  return `${dirname(path)}/__pycache__`;
}

function sameContent(old: Buffer | null, content: readonly Uint8Array[]): boolean {
  return old?.equals(Buffer.concat(content)) ?? false;
}

function linkByteCode(system: System, tree: string, previousTree: string, path: string): boolean {
  const folder = dirname(path);
  const stem = path.slice(folder === '.' ? 0 : folder.length + 1, -'.py'.length);
  const cache = cacheOf(path);
  const names = system
    .list(`${previousTree}/${cache}`)
    .filter((name) => name.startsWith(`${stem}.cpython-`) && name.endsWith('.pyc'));
  if (names.length === 0) return false;
  system.makeFolder(`${tree}/${cache}`);
  for (const name of names)
    if (!system.exists(`${tree}/${cache}/${name}`))
      system.hardLink(`${previousTree}/${cache}/${name}`, `${tree}/${cache}/${name}`);
  return true;
}
