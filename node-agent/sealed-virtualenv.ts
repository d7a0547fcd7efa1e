/** What pip has made comes back: taken, checked whole, and only then worked in. */
import type { SiteLayout } from './layout.ts';
import { below, RELEASE_RULES, type SealedTree, sealTree, type TreeRules, takeTree } from './sealed-tree.ts';
import type { System } from './system.ts';

const REFUSED = 'what pip has made is refused';

/** What pip has made, as root's alone. @throws KraftwerkError `artifact.hostile`, `artifact.limit` */
export async function takeVirtualenvBack(
  system: System,
  site: SiteLayout,
  path: string,
  interpreter: string,
): Promise<SealedTree> {
  await takeTree(system, site, path, { byteCode: 'keep', step: 'Packages', reason: REFUSED });
  const rules: TreeRules = {
    step: 'Packages',
    ours: [],
    // The interpreter, and what a package borrows of the machine. The site reads it as any user does; root goes through none.
    mayLeadTo: (real) => real === interpreter || real.startsWith(`${path}/`) || /^\/(?:usr|opt)\//.test(real),
    hint: 'which of the requirements makes it? That package cannot be installed here',
    reason: REFUSED,
  };
  return sealTree(system, path, rules);
}

/** The release's tree, where pip has worked in it: setuptools writes beside what it builds. */
export async function takeTreeBack(system: System, site: SiteLayout, tree: SealedTree): Promise<SealedTree> {
  await takeTree(system, site, tree.path, { byteCode: 'drop', step: 'Packages', reason: REFUSED });
  return sealTree(system, tree.path, { ...RELEASE_RULES, step: 'Packages', reason: REFUSED });
}

/** Scripts were written for the folder in which they were built. */
export function mendScripts(system: System, virtualenv: SealedTree, final: string, mode: number): void {
  if (!virtualenv.folders.has('bin')) return;
  for (const entry of system.listEntries(below(virtualenv, 'bin'))) {
    if (!entry.isFile()) continue;
    const path = below(virtualenv, `bin/${entry.name}`);
    const size = system.stat(path)?.size ?? 0;
    const text = size < 64 * 1024 ? system.readText(path) : null;
    // A program of another kind has its path at a fixed place.
    if (text?.startsWith('#!') && text.includes(virtualenv.path))
      system.writeFile(path, text.replaceAll(virtualenv.path, final), mode);
  }
}
