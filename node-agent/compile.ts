/** Byte code for a release: taken over from the release before where a file has not changed, compiled where it has. */
import { dirname } from 'node:path';
import type { SiteLayout } from './layout.ts';
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

/**
 * Collects, while a tree is unpacked, which of its modules are new, and links the byte code of the others. The compiler is
 * started here and now and waits for its list, so that nobody waits for Python to start.
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
  let give: (list: string) => void = () => undefined;
  const input = new Promise<string>((resolve) => {
    give = resolve;
  });
  const compiling = system
    .run([python, '-I', '-S', '-c', COMPILE], {
      cwd: site.site,
      env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
      input,
      timeoutMs: COMPILE_LIMIT_MS,
      signal,
    })
    .catch(() => undefined);
  return {
    onFile(path: string, content: readonly Uint8Array[]): void {
      if (!path.endsWith('.py')) return;
      const same = previousTree !== null && sameContent(system.readBytes(`${previousTree}/${path}`), content);
      (same ? unchanged : changed).push(path);
    },
    /** Compiles what is left. A file that does not compile is the program's own affair: it may be for another Python. */
    async compile(tree: string): Promise<void> {
      // Only now: a tree may bring byte code of its own, and that is unpacked first.
      if (previousTree !== null)
        for (const path of unchanged) if (!linkByteCode(system, tree, previousTree, path)) changed.push(path);
      give(changed.map((path) => `${tree}/${path}\n`).join(''));
      await compiling;
    },
    /** Lets the compiler go where nothing is to be compiled after all. */
    cancel: (): void => give(''),
  };
}

function sameContent(old: Buffer | null, content: readonly Uint8Array[]): boolean {
  return old?.equals(Buffer.concat(content)) ?? false;
}

function linkByteCode(system: System, tree: string, previousTree: string, path: string): boolean {
  const folder = dirname(path);
  const stem = path.slice(folder === '.' ? 0 : folder.length + 1, -'.py'.length);
  const cache = `${folder}/__pycache__`;
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
