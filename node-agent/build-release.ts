/** Makes a release's tree: unpack, packages, build and services in a hidden folder, then one rename. */
import { type Compiler, createCompiler } from './compile.ts';
import { withArtifact } from './kept-artifact.ts';
import { lendTree, sealTree, takeTree } from './ownership.ts';
import type { PrepareRequest } from './protocol.ts';
import { listReleases, readCurrent, readNotes } from './releases.ts';
import { setUpServices } from './services.ts';
import { unpack } from './unpack.ts';
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
    const { files, bytes } = await withArtifact(
      work,
      request.artifact,
      (source) => unpack(system, source, request.artifact, tree, compiler.onFile),
      () => system.remove(tree),
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
  const link = `../../venvs/${virtualenv.key}`;
  system.createLink(`${tree}/venv`, link);
  system.failpoint('prepare.packages');

  if (request.build !== null) {
    lendTree(system, site, tree);
    await runStep(work, 'Build', request.build, tree, request.buildEnvironment, request.site.limits);
    takeTree(system, site, tree);
    if (system.readLink(`${tree}/venv`) !== link) {
      system.remove(`${tree}/venv`);
      system.createLink(`${tree}/venv`, link);
    }
  }
  const compiled = compiler.compile(tree);
  await setUpServices(request, work);
  const later = await compiled;
  stopIfGone(work, 'Services');

  sealTree(system, site, tree, request.site.served);
  const interpreter = system.realPath(request.python) ?? '';
  // Durable with the tree, before it may serve: an unfinished deploy is taken back, whatever of it a power cut has left.
  system.writeVolatile(
    `${site.releaseNotes(request.release)}/release.json`,
    JSON.stringify({ artifact: request.artifact.sha256, virtualenv: virtualenv.key, interpreter }),
  );
  if (later.length > 0) system.writeVolatile(site.uncompiled(request.release), JSON.stringify(later));
  system.failpoint('prepare.publish');
  if (system.exists(site.release(request.release))) system.remove(site.release(request.release));
  system.rename(tree, site.release(request.release));
  system.failpoint('prepare.published');
}

/** The oldest release that is still here and has this virtualenv. */
function firstWith({ system, site }: Work, virtualenv: string): number | null {
  return (
    listReleases(system, site).find((number) => readNotes(system, site, number)?.virtualenv === virtualenv) ?? null
  );
}
