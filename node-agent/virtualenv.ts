/** The virtualenv of a release: keyed by what goes into it, built once, shared by all releases with the same key. */

import { makeBuildFolder } from './build-folder.ts';
import type { SiteLayout } from './layout.ts';
import { makeLentFolder } from './ownership.ts';
import { describePip, IS_REACHABLE, installError } from './pip-output.ts';
import { projectCommand } from './project-command.ts';
import { KraftwerkError, type PrepareRequest } from './protocol.ts';
import { locateRequirement, type Requirements, readRequirements } from './requirements.ts';
import { lendTree, type SealedTree } from './sealed-tree.ts';
import { mendScripts, takeTreeBack, takeVirtualenvBack } from './sealed-virtualenv.ts';
import { createSha256 } from './sha256.ts';
import { JOB_MARK } from './site-processes.ts';
import { syncFolder } from './sync-tree.ts';
import { DEFAULT_PATH, type RunResult, type System } from './system.ts';

export interface Virtualenv {
  key: string;
  path: string;
  reused: boolean;
  /** For the transcript: `flask 3.1.0 and 7 more installed`. */
  detail: string;
  /** The release's tree: another one where pip has worked in it. */
  tree: SealedTree;
}

interface Progress {
  signal: AbortSignal;
  onProgress(what: string): void;
  onOutput(line: string): void;
}

/** Which packages Debian put on the node: they are visible inside, so they are part of the key. */
const SYSTEM_PACKAGES = ['/usr/lib/python3/dist-packages'];
const NO_REQUIREMENTS: Requirements = { texts: [], usesTree: false, namesGunicorn: false };

/**
 * Finds or builds the virtualenv for the tree at `tree`.
 * @throws KraftwerkError `packages.python`, `packages.requirements`, `packages.install`, `packages.timeout`
 */
export async function ensureVirtualenv(
  system: System,
  site: SiteLayout,
  request: PrepareRequest,
  tree: SealedTree,
  progress: Progress,
): Promise<Virtualenv> {
  const interpreter = system.realPath(request.python);
  if (interpreter === null) {
    throw new KraftwerkError('packages.python', `the node has no ${request.python}`, {
      step: 'Packages',
      hint: `remove "python:" from kraftwerk.yaml, or install it on the node: apt install ${request.python.split('/').pop()}`,
      reason: 'python is missing on the node',
    });
  }
  const requirements = readTreeRequirements(system, request, tree.path);
  const key = virtualenvKey(system, request, interpreter, requirements);
  const path = `${site.virtualenvs}/${key}`;
  if (system.exists(path)) {
    return {
      key,
      path,
      reused: true,
      tree,
      detail: requirements.texts.length === 0 ? 'none asked for' : 'built before, reused',
    };
  }
  const temporary = `${site.virtualenvs}/.${key}.${system.pid}`;
  system.makeFolder(site.virtualenvs);
  try {
    const detail = await build(system, site, request, tree, temporary, requirements, progress);
    const virtualenv = await takeVirtualenvBack(system, site, temporary, interpreter);
    mendScripts(system, virtualenv, path, site.owner === null ? 0o755 : 0o750);
    const back = requirements.usesTree ? await takeTreeBack(system, site, tree) : tree;
    system.failpoint('virtualenv.built');
    await syncFolder(system, temporary);
    system.publish(temporary, path);
    return { key, path, reused: false, detail, tree: back };
  } catch (error) {
    system.remove(temporary);
    throw error;
  }
}

function readTreeRequirements(system: System, request: PrepareRequest, tree: string): Requirements {
  const path = request.requirements;
  if (path === null || (!request.requirementsNamed && !system.exists(`${tree}/${path}`))) return NO_REQUIREMENTS;
  return readRequirements(path, (file) => {
    const real = system.realPath(`${tree}/${file}`);
    return real?.startsWith(`${system.realPath(tree)}/`) ? system.readText(real) : null;
  });
}

function virtualenvKey(
  system: System,
  request: PrepareRequest,
  interpreter: string,
  requirements: Requirements,
): string {
  const stat = system.stat(interpreter);
  const packages = SYSTEM_PACKAGES.flatMap((folder) =>
    system.list(folder).filter((name) => /\.(?:dist|egg)-info$/.test(name)),
  ).sort();
  const parts = {
    requirements: requirements.texts,
    interpreter: [request.python, interpreter, stat?.size, stat?.mtimeMs],
    packages,
    generation: request.generation,
    artifact: requirements.usesTree ? request.artifact.sha256 : null,
  };
  return createSha256().update(JSON.stringify(parts)).digest('hex').slice(0, 20);
}

async function build(
  system: System,
  site: SiteLayout,
  request: PrepareRequest,
  tree: SealedTree,
  temporary: string,
  requirements: Requirements,
  progress: Progress,
): Promise<string> {
  const deadline = system.nowMs() + request.pipTimeoutMs;
  const environment = buildEnvironment(system, site, await makeBuildFolder(system, site, 'Packages'));
  let last = 'starting';
  const order = { limits: request.site.limits, apart: true };
  const before = await projectCommand(system, site, [], order);
  const run = (argv: string[]): Promise<RunResult> =>
    system.run([...before, ...argv], {
      cwd: tree.path,
      env: environment,
      timeoutMs: Math.max(1, deadline - system.nowMs()),
      signal: progress.signal,
      jobFile: site.job,
      onLine: (line) => {
        last = line;
        const what = describePip(line);
        if (what !== null) progress.onProgress(what);
      },
    });
  const check = (result: RunResult): void => {
    if (progress.signal.aborted)
      throw new KraftwerkError('deploy.aborted', 'the client went away', { step: 'Packages' });
    if (result.timedOut) {
      throw new KraftwerkError(
        'packages.timeout',
        `installing packages took longer than ${request.pipTimeoutMs / 1000} s; last: ${last}`,
        {
          step: 'Packages',
          lines: result.tail.slice(-20),
          hint: IS_REACHABLE,
          reason: 'pip timed out',
        },
      );
    }
    if (result.code !== 0) throw installError(requirements, result, site);
  };

  progress.onProgress('creating the virtualenv');
  makeLentFolder(system, site, temporary);
  // setuptools writes beside what it builds.
  if (requirements.usesTree) lendTree(system, site, tree);
  const python = `${temporary}/bin/python`;
  // Without a pip of its own: the node's is visible inside, and a copy costs three seconds.
  check(await run([request.python, '-I', '-m', 'venv', '--system-site-packages', '--without-pip', temporary]));
  let installed: string[] = [];
  const install = async (argv: string[]): Promise<void> => {
    const result = await run(argv);
    check(result);
    const names =
      result.tail
        .findLast((line) => line.startsWith('Successfully installed '))
        ?.split(' ')
        .slice(2) ?? [];
    installed = [
      ...installed,
      ...names,
      ...result.tail.flatMap((line) => /^ \+ (\S+==\S+)/.exec(line)?.[1]?.replace('==', '-') ?? []),
    ];
  };
  const installer = pickInstaller(system, python);
  if (requirements.texts[0] !== undefined) await install([...installer, '-r', requirements.texts[0].path]);

  const probe = await run([python, '-I', '-c', 'import gunicorn; print(gunicorn.__version__)']);
  let gunicorn = '';
  if (probe.code !== 0) {
    await install([...installer, 'gunicorn']);
    gunicorn = '; the node has no gunicorn, installed it into the virtualenv';
  }
  if (installed.length === 0) {
    return `${requirements.texts.length === 0 ? 'none asked for' : "the node's own satisfy all"}${gunicorn}`;
  }
  const packages = installed.map((name) => name.replace(/-(?=[^-]*$)/, ' '));
  // What the user asked for, before what that needs.
  const asked = packages.filter((name) => locateRequirement(requirements, name.split(' ')[0] ?? '') !== null);
  const named = (asked.length > 0 ? asked : packages).slice(0, 2);
  const others = packages.length - named.length;
  return `${named.join(', ')}${others > 0 ? ` and ${others} more` : ''} installed${gunicorn}`;
}

/** What a build may see: the machine's own package configuration, none of the site's secrets. */
function buildEnvironment(
  system: System,
  site: SiteLayout,
  home: Readonly<Record<string, string>>,
): Record<string, string> {
  const passed = Object.entries(system.environment).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined &&
      /^(?:PIP_|UV_|https?_proxy$|no_proxy$|SSL_CERT_|REQUESTS_CA_BUNDLE$|HOME$)/i.test(entry[0]),
  );
  return {
    PIP_RETRIES: '2',
    ...Object.fromEntries(passed),
    ...home,
    // What a package has left in a home is no module of pip's.
    PYTHONNOUSERSITE: '1',
    PATH: DEFAULT_PATH,
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    ...(site.owner === null && { [JOB_MARK]: site.site }),
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_NO_INPUT: '1',
    PIP_PROGRESS_BAR: 'off',
    // One project's setup.py must not reach another's wheels.
    PIP_CACHE_DIR: `${site.cache}/pip`,
    UV_CACHE_DIR: `${site.cache}/uv`,
  };
}

/** uv where the node has it, unless pip is told of an index, links or constraints, which uv would not see. */
function pickInstaller(system: System, python: string): string[] {
  const pip = [python, '-m', 'pip', 'install', '--no-warn-script-location'];
  const uv = ['/usr/local/bin/uv', '/usr/bin/uv'].find((path) => system.exists(path));
  const told = /^\s*(?:extra[-_]index[-_]url|index[-_]url|find[-_]links|constraint|no[-_]index)\s*[=:]/im;
  const home = system.environment.HOME ?? '/nonexistent';
  const files = [
    '/etc/pip.conf',
    '/etc/xdg/pip/pip.conf',
    `${home}/.config/pip/pip.conf`,
    `${home}/.pip/pip.conf`,
    system.environment.PIP_CONFIG_FILE ?? '',
  ];
  const configured =
    Object.keys(system.environment).some((name) =>
      /^PIP_(?:EXTRA_INDEX_URL|INDEX_URL|FIND_LINKS|CONSTRAINT|NO_INDEX)$/.test(name),
    ) || files.some((path) => path !== '' && told.test(system.readText(path) ?? ''));
  return uv !== undefined && !configured ? [uv, 'pip', 'install', '--python', python] : pip;
}
