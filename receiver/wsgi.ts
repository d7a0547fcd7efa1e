// Which WSGI application a tree holds: the one that kraftwerk.yaml names, or the one that is found. Pure.
import { KraftwerkError, type TreePath } from '../node-agent/protocol.ts';
import type { Manifest } from './manifest.ts';
import { suggest } from './suggest.ts';

export interface WsgiTarget {
  module: string;
  callable: string;
  /** Folder that has to be on Python's path for `module` to be found. */
  pythonPath: TreePath;
}

/** The pushed tree; `read` gives null for a file that is missing or no text. */
export interface SourceTree {
  files: ReadonlySet<string>;
  read(path: string): Promise<string | null>;
}

/** A pushed file may be made to slow a search down: what comes later is not looked at. */
const MAX_SOURCE_CHARACTERS = 256 * 1024;

type Project = Pick<Manifest, 'package' | 'src' | 'where'>;
interface Candidate {
  path: string;
  base: TreePath;
}

/** @throws KraftwerkError `wsgi.missing`, `wsgi.ambiguous`, `wsgi.callable` */
export async function detectWsgi(declared: string | null, project: Project, tree: SourceTree): Promise<WsgiTarget> {
  const bases = [...new Set(['.' as TreePath, project.src])];
  return declared === null ? find(project, tree, bases) : resolveDeclared(declared, project, tree, bases);
}

// ---------------------------------------------------------------- named in kraftwerk.yaml

async function resolveDeclared(
  declared: string,
  project: Project,
  tree: SourceTree,
  bases: TreePath[],
): Promise<WsgiTarget> {
  const [module = '', callable] = declared.split(':');
  const where = `${project.where('wsgi')} wsgi`;
  const candidate = locateModule(module, tree, bases);
  if (candidate !== null) {
    const pythonPath = candidate.base;
    if (callable !== undefined) return { module, callable, pythonPath };
    const source = (await tree.read(candidate.path)) ?? '';
    const bound = findCallable(source);
    if (bound !== null) return { module, callable: bound, pythonPath };
    throw new KraftwerkError('wsgi.callable', `${where}: ${candidate.path} has neither "application" nor "app"`, {
      hint: `name the callable: wsgi: ${module}:${findFactory(source) ?? 'NAME'}`,
      exit: 'config',
      reason: 'wsgi has no callable',
    });
  }
  const [top = ''] = module.split('.');
  const inTree = bases.some((base) => startsIn(tree, join(base, top)));
  // A package that the tree does not hold may come with the requirements: the boot will tell.
  if (!inTree && top !== project.package)
    return { module, callable: callable ?? 'application', pythonPath: '.' as TreePath };

  const nearest = suggest(module, listModules(tree, bases));
  const meant = nearest === null ? '' : `, did you mean "${nearest}"?`;
  const file = module.replaceAll('.', '/');
  throw new KraftwerkError('wsgi.missing', `${where}: no module ${module} in the project${meant}`, {
    hint: `looked for ${bases.flatMap((base) => [join(base, `${file}.py`), join(base, `${file}/__init__.py`)]).join(', ')}`,
    exit: 'config',
    reason: `no module ${module}`,
  });
}

function locateModule(module: string, tree: SourceTree, bases: readonly TreePath[]): Candidate | null {
  const file = module.replaceAll('.', '/');
  for (const base of bases) {
    for (const path of [join(base, `${file}.py`), join(base, `${file}/__init__.py`)]) {
      if (tree.files.has(path)) return { path, base };
    }
  }
  return null;
}

function startsIn(tree: SourceTree, path: string): boolean {
  if (tree.files.has(`${path}.py`)) return true;
  for (const file of tree.files) if (file.startsWith(`${path}/`)) return true;
  return false;
}

function listModules(tree: SourceTree, bases: readonly TreePath[]): string[] {
  const modules = new Set<string>();
  for (const base of bases) {
    for (const path of tree.files) {
      const inside = base === '.' ? path : path.startsWith(`${base}/`) ? path.slice(base.length + 1) : '';
      if (/^(?:[A-Za-z_]\w*\/){0,3}[A-Za-z_]\w*\.py$/.test(inside)) modules.add(toModule(inside));
    }
  }
  // More would only slow the answer down: the distance to each is computed.
  return [...modules].slice(0, 2000);
}

// ---------------------------------------------------------------- found

async function find(project: Project, tree: SourceTree, bases: TreePath[]): Promise<WsgiTarget> {
  const django = await findDjango(tree, bases);
  if (django !== null) return django;

  const folders = findWsgiFolders(tree, bases);
  const own = folders.filter(
    ({ path }) => path.endsWith(`/${project.package}/wsgi.py`) || path === `${project.package}/wsgi.py`,
  );
  const single = folders.length === 1 ? folders : own.length === 1 ? own : [];
  const files = ['wsgi.py', 'app.py'].flatMap((name) => bases.map((base) => ({ path: join(base, name), base })));
  const candidates = [
    ...single,
    ...files.filter(({ path }) => tree.files.has(path) && !single.some((other) => other.path === path)),
  ];

  const without: string[] = [];
  for (const { path, base } of candidates) {
    const source = (await tree.read(path)) ?? '';
    const callable = findCallable(source);
    if (callable !== null) return { ...nameModule(path, base, tree), callable };
    without.push(path);
  }
  const first = candidates[0];
  if (first !== undefined) {
    const { module } = nameModule(first.path, first.base, tree);
    const factory = findFactory((await tree.read(first.path)) ?? '');
    throw new KraftwerkError('wsgi.callable', `wsgi: ${without.join(', ')}: neither "application" nor "app" in it`, {
      hint: `add a line to kraftwerk.yaml: wsgi: ${module}:${factory ?? 'NAME'}`,
      exit: 'config',
      reason: 'no WSGI application found',
    });
  }
  if (folders.length > 1) {
    const { path, base } = folders[0] as Candidate;
    const list = folders
      .slice(0, 5)
      .map((folder) => folder.path)
      .join(', ');
    throw new KraftwerkError('wsgi.ambiguous', `wsgi: several found: ${list}${folders.length > 5 ? ', …' : ''}`, {
      hint: `say which, in kraftwerk.yaml: wsgi: ${nameModule(path, base, tree).module}`,
      exit: 'config',
      reason: 'several WSGI applications found',
    });
  }
  const looked = ["Django's WSGI_APPLICATION", '*/wsgi.py', 'wsgi.py', 'app.py'].join(', ');
  throw new KraftwerkError(
    'wsgi.missing',
    `wsgi: none found, looked for ${looked} in ${bases.map((base) => (base === '.' ? 'the root' : `${base}/`)).join(' and ')}`,
    {
      hint: `add a line to kraftwerk.yaml: wsgi: ${project.package}.wsgi:application`,
      exit: 'config',
      reason: 'no WSGI application found',
    },
  );
}

/** `X/wsgi.py` below a base; folders of tests and of copied software do not count. */
function findWsgiFolders(tree: SourceTree, bases: readonly TreePath[]): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const base of bases) {
    for (const path of tree.files) {
      const inside = base === '.' ? path : path.startsWith(`${base}/`) ? path.slice(base.length + 1) : '';
      const [, folder] = /^([A-Za-z_]\w*)\/wsgi\.py$/.exec(inside) ?? [];
      if (folder !== undefined && !/^(?:tests?|docs?|examples?|venv|env)$/.test(folder) && !found.has(path))
        found.set(path, { path, base });
    }
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** manage.py names the settings module, the settings name the application. */
async function findDjango(tree: SourceTree, bases: readonly TreePath[]): Promise<WsgiTarget | null> {
  for (const base of bases) {
    const manage = tree.files.has(join(base, 'manage.py')) ? await tree.read(join(base, 'manage.py')) : null;
    const [, settings] = /DJANGO_SETTINGS_MODULE['"]\s*[,\]]\s*=?\s*['"]([\w.]+)['"]/.exec(manage ?? '') ?? [];
    if (settings === undefined) continue;
    for (const path of settingsFiles(join(base, settings.replaceAll('.', '/')), tree)) {
      const source = (await tree.read(path)) ?? '';
      const [, module, callable] = /^WSGI_APPLICATION\s*=\s*['"]([\w.]+)\.(\w+)['"]/m.exec(source) ?? [];
      const candidate = module === undefined ? null : locateModule(module, tree, [base]);
      if (module !== undefined && callable !== undefined && candidate) return { module, callable, pythonPath: base };
    }
  }
  return null;
}

/** The settings module itself, then its neighbours where settings are a package (`base.py`, `common.py`). */
function settingsFiles(stem: string, tree: SourceTree): string[] {
  const folder = tree.files.has(`${stem}/__init__.py`) ? stem : stem.slice(0, Math.max(0, stem.lastIndexOf('/')));
  const near = [...tree.files].filter(
    (path) => path.startsWith(`${folder}/`) && path.endsWith('.py') && !path.slice(folder.length + 1).includes('/'),
  );
  const named = [`${stem}.py`, `${stem}/__init__.py`].filter((path) => tree.files.has(path));
  return [...new Set([...named, ...near.sort().slice(0, 20)])];
}

/** A folder that is itself a package is imported from where it stands, not from inside. */
function nameModule(path: string, base: TreePath, tree: SourceTree): { module: string; pythonPath: TreePath } {
  if (base !== '.' && !base.includes('/') && tree.files.has(`${base}/__init__.py`)) {
    return { module: toModule(path), pythonPath: '.' as TreePath };
  }
  return { module: toModule(base === '.' ? path : path.slice(base.length + 1)), pythonPath: base };
}

function toModule(path: string): string {
  return path.replace(/(?:\/__init__)?\.py$/, '').replaceAll('/', '.');
}

function join(base: string, path: string): string {
  return base === '.' ? path : `${base}/${path}`;
}

// ---------------------------------------------------------------- what a module binds

/** `application`, else `app`, if the source binds it at its top level; null when it binds neither. */
export function findCallable(source: string): string | null {
  const code = stripText(source.slice(0, MAX_SOURCE_CHARACTERS));
  const bound = ['application', 'app'].find((name) => binds(code, name));
  // `from x import *` may bind anything: gunicorn's own word for it then.
  return bound ?? (/^from\s+[\w.]+\s+import\s+\*/m.test(code) ? 'application' : null);
}

function binds(code: string, name: string): boolean {
  const assigned = `(?:\\w{1,100} *= *){0,5}${name} *(?::[^=\\n]+)?=(?!=)`;
  const declared = `(?:async\\s+)?(?:def|class)\\s+${name}\\b`;
  const imported = `(?:from\\s+[\\w.]+\\s+)?import\\s+(?:\\([^)]{0,2000}|[^\\n(]{0,2000})(?<![\\w.])${name}(?![\\w.]|\\s+as\\b)`;
  return new RegExp(`^(?:${assigned}|${declared}|${imported})`, 'm').test(code);
}

function findFactory(source: string): string | null {
  const [, factory] = /^def\s+((?:create|make|build|get)_(?:app|application|wsgi_app))\s*\(/m.exec(source) ?? [];
  return factory === undefined ? null : `${factory}()`;
}

/** Without long strings and comments; blocks of `if`, `try` and `with` at the top level are top level too. */
function stripText(source: string): string {
  const plain = source.replace(/("""|''')[\s\S]*?\1/g, '""').replace(/^[ \t]*#.*$/gm, '');
  let hidden = false;
  return plain
    .split(/\r?\n/)
    .map((line) => {
      if (/^\S/.test(line)) hidden = /^(?:async\s+def|def|class)\b/.test(line);
      return hidden ||
        /^\s*(?:def|class)\b/.test(line) ||
        !/^(?: {1,8}|\t{1,2})(?:from|import|\w+\s*(?::[^=]+)?=)/.test(line)
        ? line
        : line.trimStart();
    })
    .join('\n');
}
