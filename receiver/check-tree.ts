// What kraftwerk.yaml names has to be in the tree: every file and folder that is not. Pure.
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Manifest } from './manifest.ts';
import { suggest } from './suggest.ts';

/**
 * `files`: every path of the tree.
 * @throws KraftwerkError `tree.invalid`: message is the first problem, lines are all others
 */
export function checkTree(manifest: Manifest, files: ReadonlySet<string>): void {
  const folders = listFolders(files);
  const problems: string[] = [];
  const hints: string[] = [];
  for (const folder of ['venv', '.venv']) {
    if (!folders.has(folder)) continue;
    problems.push(`${folder}/: a virtualenv is in the repository; each node makes its own`);
    hints.push(`git rm -r -q --cached ${folder} && echo ${folder}/ >> .gitignore && git commit -am "Remove ${folder}"`);
  }
  if (manifest.requirementsNamed && !files.has(manifest.requirements)) {
    problems.push(
      `${manifest.where('requirements')} requirements: no file ${manifest.requirements}${meant(manifest.requirements, files)}`,
    );
  }
  // Folders that `build` makes are not in the repository.
  if (manifest.srcNamed && manifest.build === null && manifest.src !== '.' && !folders.has(manifest.src))
    problems.push(`${manifest.where('src')} src: no folder ${manifest.src}${meant(manifest.src, folders)}`);
  if (manifest.packageNamed && manifest.build === null && !hasPackage(manifest, files, folders))
    problems.push(`${manifest.where('package')} package: no package ${manifest.package} in the tree`);
  for (const { prefix, folder, named } of manifest.static) {
    if (!named || manifest.build !== null || folder === '.' || folders.has(folder)) continue;
    problems.push(`${manifest.where(`static.${prefix}`)} static: no folder ${folder}${meant(folder, folders)}`);
  }
  const [first, ...others] = problems;
  if (first === undefined) return;
  throw new KraftwerkError('tree.invalid', first, {
    lines: others,
    hint: hints,
    exit: 'config',
    reason: 'kraftwerk.yaml does not fit the tree',
  });
}

/** `blog`, or `blog.site`: a folder or a module, in the root or in `src`. */
function hasPackage(
  { package: name, src }: Manifest,
  files: ReadonlySet<string>,
  folders: ReadonlySet<string>,
): boolean {
  const path = name.replaceAll('.', '/');
  const below = src === '.' || src === path ? [] : [`${src}/${path}`];
  return [path, ...below].some((place) => folders.has(place) || files.has(`${place}.py`));
}

function listFolders(files: ReadonlySet<string>): Set<string> {
  const folders = new Set<string>();
  for (const file of files) {
    for (let end = file.lastIndexOf('/'); end > 0; end = file.lastIndexOf('/', end - 1)) {
      const folder = file.slice(0, end);
      if (folders.has(folder)) break;
      folders.add(folder);
    }
  }
  return folders;
}

function meant(path: string, paths: ReadonlySet<string>): string {
  const nearest = suggest(path, [...paths].slice(0, 2000));
  return nearest === null ? '' : `, did you mean "${nearest}"?`;
}
