/** The immutable tarball of a pushed tree: made by `git archive`, named by its sha256, kept by hash. */
import { createHash } from 'node:crypto';
import { createReadStream, type ReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type CommitId, KraftwerkError, LIMITS, type Sha256 } from '../../node-agent/protocol.ts';
import { startGit } from './run-git.ts';

export interface Artifact {
  sha256: Sha256;
  bytes: number;
}

export function artifactPath(data: string, sha256: Sha256): string {
  return join(data, 'artifacts', `${sha256}.tar`);
}

/**
 * Packs a commit. Two pushes of the same tree at the same commit give the same artifact.
 * @throws KraftwerkError `artifact.failed`, `artifact.limit`, `receiver.disk-full`
 */
export async function packArtifact(
  data: string,
  repository: string,
  commit: CommitId,
  signal: AbortSignal,
): Promise<Artifact> {
  const temporary = join(data, 'artifacts', `.${commit}.${process.pid}.${performance.now()}`);
  await mkdir(dirname(temporary), { recursive: true, mode: 0o700 });
  const file = await open(temporary, 'wx', 0o600);
  try {
    const child = startGit(['archive', '--format=tar', commit], { repository });
    const stop = (): void => void child.kill('SIGKILL');
    signal.addEventListener('abort', stop, { once: true });
    const closed = new Promise<number | null>((resolve, reject) => {
      child.on('close', resolve);
      child.on('error', reject);
    });
    child.stdin?.end();
    let words = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      if (words.length < 2000) words += chunk.toString('utf8');
    });
    const hash = createHash('sha256');
    let bytes = 0;
    try {
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > LIMITS.artifactBytes)
          throw new KraftwerkError(
            'artifact.limit',
            `the tree packs to more than ${LIMITS.artifactBytes / 1048576} MiB`,
            { step: 'Artifact', hint: 'keep large files out of the repository' },
          );
        hash.update(chunk);
        await file.write(chunk);
      }
    } finally {
      stop();
      signal.removeEventListener('abort', stop);
    }
    const code = await closed;
    if (signal.aborted)
      throw new KraftwerkError('deploy.aborted', 'the client went away', { step: 'Artifact', reason: 'cancelled' });
    if (code !== 0)
      throw new KraftwerkError('artifact.failed', `git archive failed: ${words.trim().split('\n')[0] ?? ''}`, {
        step: 'Artifact',
      });
    await file.datasync();
    await file.close();
    const sha256 = hash.digest('hex') as Sha256;
    await rename(temporary, artifactPath(data, sha256));
    return { sha256, bytes };
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

export function readArtifact(data: string, artifact: Artifact): ReadStream {
  return createReadStream(artifactPath(data, artifact.sha256), { highWaterMark: 256 * 1024 });
}

export async function artifactExists(data: string, artifact: Artifact): Promise<boolean> {
  return stat(artifactPath(data, artifact.sha256)).then(
    (info) => info.size === artifact.bytes,
    () => false,
  );
}

/** Longer than any deploy takes: what is younger may belong to one that the journal does not know yet. */
const UNCLAIMED_MS = 6 * 3_600_000;

/** Removes artifacts that no release needs. `unfinished`: those that a crash has cut short, too. */
export async function pruneArtifacts(
  data: string,
  needed: (sha256: string) => boolean,
  unfinished: boolean,
): Promise<void> {
  const folder = join(data, 'artifacts');
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const sha256 = /^([0-9a-f]{64})\.tar$/.exec(name)?.[1];
    if (sha256 === undefined) {
      if (unfinished) await rm(path, { force: true });
    } else if (!needed(sha256)) {
      const info = await stat(path).catch(() => null);
      if (info !== null && Date.now() - info.mtimeMs > UNCLAIMED_MS) await rm(path, { force: true });
    }
  }
}
