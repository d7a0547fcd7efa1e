/** The last artifact of a site stays on its node: a deploy that is tried again, or made anew, does not send it again. */
import { Readable } from 'node:stream';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError } from './protocol.ts';
import type { System } from './system.ts';
import type { Work } from './work.ts';

interface Artifact {
  sha256: string;
  bytes: number;
}

const PREFIX = 'artifact-';
const UNFINISHED = '.artifact.tmp';

/**
 * Gives `unpack` the artifact: the copy that is kept, or what the receiver sends, which then is the copy.
 * @param discard what `unpack` has made of a copy that turns out to be damaged
 */
export async function withArtifact<T>(
  work: Work,
  artifact: Artifact,
  unpack: (source: Readable) => Promise<T>,
  discard: () => void,
): Promise<T> {
  const { system, site } = work;
  const kept = `${site.notes}/${PREFIX}${artifact.sha256}.tar`;
  if (system.stat(kept)?.size === artifact.bytes) {
    try {
      return await unpack(system.readStream(kept));
    } catch (error) {
      if (!(error instanceof KraftwerkError) || error.code !== 'artifact.damaged') throw error;
      discard();
      system.remove(kept);
    }
  }
  const temporary = `${site.notes}/${UNFINISHED}`;
  const copy = system.openCopy(temporary);
  try {
    const result = await unpack(Readable.from(tap(work.receiveArtifact(artifact.bytes), copy.write)));
    // Its hash is right, or `unpack` would have said so.
    if (copy.close()) replaceCopies(system, site, temporary, kept);
    return result;
  } finally {
    copy.close();
    if (system.exists(temporary)) system.remove(temporary);
  }
}

async function* tap(source: Readable, onChunk: (chunk: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    onChunk(chunk as Uint8Array);
    yield chunk as Uint8Array;
  }
}

/** One is kept: the last. */
function replaceCopies(system: System, site: SiteLayout, from: string, to: string): void {
  for (const name of system.list(site.notes)) {
    if (name.startsWith(PREFIX)) system.remove(`${site.notes}/${name}`);
  }
  system.rename(from, to);
}
