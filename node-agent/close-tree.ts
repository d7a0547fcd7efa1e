/** The last that is done to a release's tree: who may read what of it. docs/isolation.md says why. */
import type { SiteLayout } from './layout.ts';
import type { TreePath } from './protocol.ts';
import { resolveServed, type SealedTree } from './sealed-tree.ts';
import type { System } from './system.ts';

/**
 * Nothing is added to a release any more. On a system node the site's user may read all of it, and nginx what it serves.
 * @throws KraftwerkError `artifact.hostile` for a served folder that is not in the tree
 */
export function closeTree(system: System, site: SiteLayout, tree: SealedTree, served: readonly TreePath[]): void {
  const rootless = site.owner === null;
  for (const folder of tree.folders)
    if (folder !== '') system.setMode(`${tree.path}/${folder}`, rootless ? 0o555 : 0o550);
  const real = served.map((folder) => resolveServed(system, tree, folder));
  if (rootless) return;
  system.setMode(tree.path, 0o751);
  for (const folder of real) if (folder !== null) openToNginx(system, tree, folder);
}

/** Lets nginx, which alone is `others` behind the site's gate, read a folder of a tree, and what its links lead to. */
function openToNginx(system: System, { path: root }: SealedTree, served: string): void {
  const queue = [served];
  const done = new Set<string>();
  const add = (path: string, bits: number): void => {
    const mode = (system.stat(path)?.mode ?? 0) & 0o7777;
    if ((mode & bits) !== bits) system.setMode(path, mode | bits);
  };
  const open = (path: string): void => {
    if (done.has(path)) return;
    done.add(path);
    const stat = system.stat(path);
    if (stat?.isSymbolicLink()) queue.push(path);
    else if (stat?.isFile()) add(path, 0o004);
    else if (stat?.isDirectory()) {
      add(path, 0o005);
      for (const name of system.list(path)) open(`${path}/${name}`);
    }
  };
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    // All links lead inside, or through a deploy's own names, which the check of the tree has refused.
    const real = system.realPath(next);
    if (real === null || (real !== root && !real.startsWith(`${root}/`))) continue;
    for (let at = root, rest = real.slice(root.length + 1); rest !== ''; ) {
      const [name = '', ...others] = rest.split('/');
      rest = others.join('/');
      at = `${at}/${name}`;
      if (rest !== '') add(at, 0o001);
    }
    open(real);
  }
}
