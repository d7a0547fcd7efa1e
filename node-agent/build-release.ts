/** Makes a release's tree: unpack, packages, build and services in a hidden folder, then one rename. */
import { removeBuildFolder } from './build-folder.ts';
import { type ByteCode, createByteCode, type Uncompiled } from './byte-code.ts';
import { closeTree } from './close-tree.ts';
import { withArtifact } from './kept-artifact.ts';
import type { PrepareRequest } from './protocol.ts';
import { listReleases, readNotes } from './releases.ts';
import { below, lendTree, RELEASE_RULES, type SealedTree, sealTree, type TreeRules, takeTree } from './sealed-tree.ts';
import { setUpServices } from './services.ts';
import { unpack } from './unpack.ts';
import { ensureVirtualenv } from './virtualenv.ts';
import { runStep, step, stopIfGone, type Work } from './work.ts';

/** Unpack, packages, build and services, in a hidden folder; then one rename makes it a release. */
export async function buildRelease(request: PrepareRequest, work: Work): Promise<void> {
  const { system, site } = work;
  const tree = `${site.releases}/.v${request.release}.${system.pid}`;
  const notes = site.releaseNotes(request.release);
  for (const path of [site.releases, site.virtualenvs, notes]) system.makeFolder(path);
  const byteCode = createByteCode({
    system,
    site,
    python: request.python,
    limits: request.site.limits,
    signal: work.signal,
  });
  try {
    await fillRelease(request, work, tree, byteCode);
  } finally {
    byteCode.cancel();
    removeBuildFolder(system, site);
  }
}

/** From the unpacked tree to the rename that makes it a release. */
async function fillRelease(request: PrepareRequest, work: Work, path: string, byteCode: ByteCode): Promise<void> {
  const { system, site } = work;
  const unpacked = await step(work, 'Unpack', async () => {
    const { files, bytes, tree } = await withArtifact(
      work,
      request.artifact,
      (source) => unpack(system, source, request.artifact, path, byteCode.onFile),
      () => system.remove(path),
    );
    return { detail: `${files} files, ${Math.ceil(bytes / 1024)} KiB`, quiet: true, tree };
  });
  stopIfGone(work, 'Unpack');
  system.failpoint('prepare.unpacked');

  const virtualenv = await step(work, 'Packages', async (progress) => {
    const result = await ensureVirtualenv(system, site, request, unpacked.tree, {
      signal: work.signal,
      onProgress: progress,
      onOutput: (line) => work.emit({ event: 'output', step: 'Packages', line }),
    });
    const since = result.reused ? firstWith(work, result.key) : null;
    return { ...result, detail: since === null ? result.detail : `unchanged since v${since}, reused` };
  });
  const tree = await buildTree(request, work, virtualenv);
  if (tree !== unpacked.tree) byteCode.readAgain(tree);
  const placed = byteCode.place(tree);
  placed.catch(() => undefined);
  await setUpServices(request, work);
  const later = await placed;
  stopIfGone(work, 'Services');

  closeTree(system, site, tree, request.site.served);
  const interpreter = system.realPath(request.python) ?? '';
  // Durable with the tree, before it may serve: an unfinished deploy is taken back, whatever of it a power cut has left.
  system.writeVolatile(
    `${site.releaseNotes(request.release)}/release.json`,
    JSON.stringify({ artifact: request.artifact.sha256, virtualenv: virtualenv.key, interpreter }),
  );
  if (later.length > 0) {
    const note: Uncompiled = { sources: later, limits: request.site.limits };
    system.writeVolatile(site.uncompiled(request.release), JSON.stringify(note));
  }
  system.failpoint('prepare.publish');
  if (system.exists(site.release(request.release))) system.remove(site.release(request.release));
  system.rename(path, site.release(request.release));
  system.failpoint('prepare.published');
}

/** The link to the virtualenv, and what the build command makes of the tree. */
async function buildTree(
  request: PrepareRequest,
  work: Work,
  { key, tree }: { key: string; tree: SealedTree },
): Promise<SealedTree> {
  const { system, site } = work;
  const link = (to: SealedTree): void => system.createLink(below(to, 'venv'), `../../venvs/${key}`);
  link(tree);
  system.failpoint('prepare.packages');
  if (request.build === null) return tree;
  lendTree(system, site, tree);
  await runStep(work, 'Build', request.build, tree.path, request.buildEnvironment, request.site.limits);
  const rules: TreeRules = {
    ...RELEASE_RULES,
    step: 'Build',
    hint: 'look at what the build makes there',
    reason: 'the built tree is refused',
  };
  await takeTree(system, site, tree.path, { byteCode: 'drop', ...rules });
  // The link `venv` belongs to the deploy and comes back, whatever the build has made of it.
  system.remove(`${tree.path}/venv`);
  const built = sealTree(system, tree.path, rules);
  link(built);
  return built;
}

/** The oldest release that is still here and has this virtualenv. */
function firstWith({ system, site }: Work, virtualenv: string): number | null {
  return (
    listReleases(system, site).find((number) => readNotes(system, site, number)?.virtualenv === virtualenv) ?? null
  );
}
