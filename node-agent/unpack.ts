/** A tar stream -> a directory; refuses whatever is not a plain tree. */

import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { extract, type Header } from 'tar-stream';
import { KraftwerkError, LIMITS, parseTreePath } from './protocol.ts';
import { RELEASE_RULES, type SealedTree, sealTree } from './sealed-tree.ts';
import { createSha256 } from './sha256.ts';
import type { System } from './system.ts';

export interface UnpackResult {
  files: number;
  bytes: number;
  tree: SealedTree;
}

/** Called with the content of each file that was written, while it is at hand. */
export type OnFile = (path: string, content: readonly Uint8Array[]) => void;

function hostile(path: string, what: string): KraftwerkError {
  return new KraftwerkError('artifact.hostile', `${JSON.stringify(path).slice(1, -1)}: ${what}`, {
    step: 'Unpack',
    hint: 'remove it from the repository, commit and push again',
    reason: 'the pushed tree is refused',
  });
}

/**
 * Unpacks exactly `bytes` bytes of `source`, whose sha256 must match, below the new folder `target`.
 * The frame matters: a tar that is cut at an entry's end looks whole.
 * @throws KraftwerkError `artifact.hostile`, `artifact.limit`, `artifact.damaged`
 */
export async function unpack(
  system: System,
  source: Readable,
  artifact: { sha256: string; bytes: number },
  target: string,
  onFile: OnFile,
): Promise<UnpackResult> {
  system.makeFolder(target);
  const tar = extract();
  const hash = createSha256();
  const links: { path: string; target: string }[] = [];
  const seen = new Map<string, 'file' | 'folder' | 'link'>();
  const folders = new Set<string>();
  let files = 0;
  let total = 0;

  const enter = (path: string, kind: 'file' | 'folder' | 'link'): void => {
    const key = path.normalize('NFC').toLowerCase();
    const before = seen.get(key);
    if (before !== undefined && !(before === 'folder' && kind === 'folder')) {
      throw hostile(path, 'stands twice in the tree, or differs from another name only by case');
    }
    seen.set(key, kind);
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) {
      const parentKey = parent.normalize('NFC').toLowerCase();
      const parentKind = seen.get(parentKey);
      if (parentKind !== undefined && parentKind !== 'folder')
        throw hostile(path, 'lies below something that is not a folder');
      seen.set(parentKey, 'folder');
    }
  };
  const ensureFolder = (path: string): void => {
    if (path === '.' || folders.has(path)) return;
    ensureFolder(dirname(path));
    system.makeFolder(`${target}/${path}`);
    folders.add(path);
  };
  const accept = (header: Header, chunks: Uint8Array[]): void => {
    const { type } = header;
    if ((type as string) === 'pax-global-header' || header.name === 'pax_global_header') return;
    const name = header.name.replace(/\/+$/, '');
    if (name === '' || name === '.') return;
    const path = parsePath(name);
    // Byte code is made by our own compiler: what is pushed might be another program than its source.
    if (path.split('/').includes('__pycache__')) return;
    if (path.split('/').length > LIMITS.depth) throw limit(path, `folders are nested deeper than ${LIMITS.depth}`);
    if (++files > LIMITS.files) throw limit(path, `the tree has more than ${LIMITS.files} files`);
    if (type === 'directory') {
      enter(path, 'folder');
      ensureFolder(path);
    } else if (type === 'file' || type === 'contiguous-file') {
      enter(path, 'file');
      ensureFolder(dirname(path));
      const full = `${target}/${path}`;
      system.createFile(full, chunks, (header.mode ?? 0) & 0o100 ? 0o755 : 0o644);
      // nginx makes a static file's ETag of it: it must be that of the commit, not of the deploy.
      if (header.mtime) system.setModified(full, header.mtime);
      onFile(path, chunks);
    } else if (type === 'symlink') {
      enter(path, 'link');
      links.push({ path, target: header.linkname ?? '' });
    } else {
      throw hostile(path, `is a ${type ?? 'thing of unknown kind'}, not a file, folder or symlink`);
    }
  };

  let failure: unknown;
  const done = new Promise<void>((resolve, reject) => {
    tar.on('entry', (header, stream, next) => {
      const chunks: Uint8Array[] = [];
      let size = 0;
      stream.on('data', (data) => {
        const chunk = data as Uint8Array;
        size += chunk.length;
        if (size <= LIMITS.fileBytes) chunks.push(chunk);
      });
      stream.on('error', reject);
      stream.on('end', () => {
        try {
          total += size;
          if (size > LIMITS.fileBytes) throw limit(header.name, `is larger than ${LIMITS.fileBytes / 1024 / 1024} MiB`);
          accept(header, chunks);
          next();
        } catch (error) {
          reject(error);
        }
      });
    });
    tar.on('finish', () => resolve());
    tar.on('error', (cause) =>
      reject(
        new KraftwerkError('artifact.damaged', `the artifact is not a tar archive: ${cause.message}`, {
          cause,
          step: 'Unpack',
        }),
      ),
    );
  });
  done.catch((error: unknown) => {
    failure = error;
  });

  let received = 0;
  // The stream goes on being read after a failure, so that the sender is never stuck.
  for await (const chunk of exactly(source, artifact.bytes)) {
    received += chunk.length;
    hash.update(chunk);
    if (failure === undefined && !tar.write(chunk))
      await Promise.race([new Promise<void>((resolve) => tar.once('drain', resolve)), done.catch(() => undefined)]);
  }
  if (failure !== undefined) throw failure;
  if (received !== artifact.bytes || hash.digest('hex') !== artifact.sha256) {
    throw new KraftwerkError(
      'artifact.damaged',
      `the artifact arrived with ${received} of ${artifact.bytes} bytes, or damaged`,
      { step: 'Unpack' },
    );
  }
  tar.end(undefined);
  await done;
  createLinks(system, target, links, ensureFolder);
  return { files, bytes: total, tree: sealTree(system, target, RELEASE_RULES) };
}

function parsePath(name: string): string {
  // What the archive's reader has put in the place of bytes that are no text.
  if (name.includes('\uFFFD')) throw hostile(name, 'the name is not UTF-8');
  try {
    return parseTreePath(name, 'artifact');
  } catch {
    throw hostile(name, 'is not a path inside the project');
  }
}

function limit(path: string, what: string): KraftwerkError {
  return new KraftwerkError('artifact.limit', `${path}: ${what}`, {
    step: 'Unpack',
    hint: 'keep generated and uploaded files out of the repository (.gitignore)',
    reason: 'the pushed tree is too large',
  });
}

/** Links come last: nothing is ever made through one. `sealTree` then follows each: `a -> .`, `b -> a/..` look harmless. */
function createLinks(
  system: System,
  target: string,
  links: readonly { path: string; target: string }[],
  ensureFolder: (path: string) => void,
): void {
  for (const link of links) {
    if (link.target.startsWith('/') || link.target.includes('\0') || link.target === '')
      throw hostile(link.path, `is a symlink to ${link.target}, outside the project`);
    ensureFolder(dirname(link.path));
    system.createLink(`${target}/${link.path}`, link.target);
  }
}

/** The next `bytes` bytes of a stream that goes on; what follows stays in it. */
async function* exactly(source: Readable, bytes: number): AsyncGenerator<Uint8Array> {
  let missing = bytes;
  while (missing > 0) {
    const chunk = source.read() as Buffer | null;
    if (chunk === null) {
      if (source.readableEnded || source.destroyed) return;
      const more = await new Promise<boolean>((resolve) => {
        const settle = (value: boolean) => (): void => {
          source.off('readable', onReadable);
          source.off('end', onEnd);
          source.off('close', onEnd);
          resolve(value);
        };
        const onReadable = settle(true);
        const onEnd = settle(false);
        source.on('readable', onReadable);
        source.on('end', onEnd);
        source.on('close', onEnd);
      });
      if (!more) return;
      continue;
    }
    const part = chunk.length > missing ? chunk.subarray(0, missing) : chunk;
    if (part.length < chunk.length) source.unshift(chunk.subarray(part.length));
    missing -= part.length;
    yield part;
  }
}
