/** Makes a release's tree: unpack, packages, build and services in a hidden folder, then one rename. */
import { type Compiler, createCompiler } from './compile.ts';
import type { PrepareRequest } from './protocol.ts';
import { listReleases, readCurrent, readNotes } from './releases.ts';
import { setUpServices } from './services.ts';
import type { System } from './system.ts';
import { assertInside, unpack } from './unpack.ts';
import { ensureVirtualenv } from './virtualenv.ts';
import { runStep, step, stopIfGone, type Work } from './work.ts';

/** Unpack, packages, build and services, in a hidden folder; then one rename makes it a release. */
export async function buildRelease(request: PrepareRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const tree = `${site.releases}/.v${request.release}.${system.pid}`;
  const notes = site.releaseNotes(request.release);
  const previous = readCurrent(system, site);
  for (const path of [site.releases, site.virtualenvs, notes]) system.makeFolder(path);

  const interpreter = system.realPath(request.python) ?? '';
  // Byte code of another Python is of no use.
  const same = previous !== null && readNotes(system, site, previous.release)?.interpreter === interpreter;
  const previousTree = same ? site.release(previous.release) : null;
  const compiler = createCompiler(system, site, request.python, previousTree, work.signal);
  try {
    await fillRelease(request, work, tree, compiler);
  } finally {
    compiler.cancel();
  }
}

/** From the unpacked tree to the rename that makes it a release. */
async function fillRelease(request: PrepareRequest, work: Work, tree: string, compiler: Compiler): Promise<void> {
  const { system, site } = work;
  await step(work, 'Unpack', async () => {
    const { files, bytes } = await unpack(
      system,
      work.receiveArtifact(request.artifact.bytes),
      request.artifact,
      tree,
      compiler.onFile,
    );
    return { detail: `${files} files, ${Math.ceil(bytes / 1024)} KiB`, quiet: true };
  });
  stopIfGone(work, 'Unpack');
  system.failpoint('prepare.unpacked');

  const virtualenv = await step(work, 'Packages', async (progress) => {
    const result = await ensureVirtualenv(system, site, request, tree, {
      signal: work.signal,
      onProgress: progress,
      onOutput: (line) => work.emit({ event: 'output', step: 'Packages', line }),
    });
    const since = result.reused ? firstWith(work, result.key) : null;
    return { ...result, detail: since === null ? result.detail : `unchanged since v${since}, reused` };
  });
  system.createLink(`${tree}/venv`, `../../venvs/${virtualenv.key}`);
  system.failpoint('prepare.packages');

  if (request.build !== null) await runStep(work, 'Build', request.build, tree, request.buildEnvironment);
  const compiled = compiler.compile(tree);
  await step(work, 'Services', async () => {
    const detail = await setUpServices(system, site, request.services, {
      override: request.override,
      signal: work.signal,
      onOutput: (line) => work.emit({ event: 'output', step: 'Services', line }),
    });
    return { detail, quiet: request.services.length === 0 };
  });
  const later = await compiled;
  stopIfGone(work, 'Services');

  seal(system, system.realPath(tree) ?? tree);
  const interpreter = system.realPath(request.python) ?? '';
  system.writeFile(
    `${site.releaseNotes(request.release)}/release.json`,
    JSON.stringify({ artifact: request.artifact.sha256, virtualenv: virtualenv.key, interpreter }),
  );
  if (later.length > 0) system.writeVolatile(site.uncompiled(request.release), JSON.stringify(later));
  system.failpoint('prepare.publish');
  if (system.exists(site.release(request.release))) system.remove(site.release(request.release));
  system.publish(tree, site.release(request.release));
  system.failpoint('prepare.published');
}

/** The oldest release that is still here and has this virtualenv. */
function firstWith({ system, site }: Work, virtualenv: string): number | null {
  return (
    listReleases(system, site).find((number) => readNotes(system, site, number)?.virtualenv === virtualenv) ?? null
  );
}

/** Nothing is added to a release any more; and what a build has linked must not lead out of it: nginx serves parts of it. */
function seal(system: System, root: string, folder = ''): void {
  for (const entry of system.listEntries(`${root}${folder}`)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isSymbolicLink() && path !== '/venv') {
      assertInside(system, root, path.slice(1), system.readLink(`${root}${path}`) ?? '');
    }
    if (!entry.isDirectory()) continue;
    seal(system, root, path);
    system.setMode(`${root}${path}`, 0o555);
  }
}
