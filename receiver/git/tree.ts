/** Reads a commit's tree: what is in it, whether it may be deployed, the text of single files. */
import { type CommitId, KraftwerkError, LIMITS, parseTreePath } from '../../node-agent/protocol.ts';
import type { ObjectReader } from './object-reader.ts';
import { git } from './run-git.ts';

export interface TreeEntry {
  mode: string;
  id: string;
  /** Bytes; 0 for what is not a file; null where nobody has asked. */
  size: number | null;
  path: string;
}

/** Every file, link and submodule of a commit. @throws KraftwerkError `git.failed`, `tree.limit` */
export async function listTree(repository: string, commit: CommitId): Promise<TreeEntry[]> {
  const output = await git(['ls-tree', '-r', '-z', '--long', '--full-tree', commit], {
    repository,
    maxBytes: 256 * 1024 * 1024,
  });
  return output
    .toString('utf8')
    .split('\0')
    .filter((line) => line !== '')
    .map((line) => {
      const tab = line.indexOf('\t');
      const [mode = '', , id = '', size = '0'] = line.slice(0, tab).split(/ +/);
      return { mode, id, size: Number.parseInt(size, 10) || 0, path: line.slice(tab + 1) };
    });
}

const FOLDER = '040000';
/** Of a folder's bytes: mode, a blank, name, NUL, id. @see git's Documentation/gitformat-pack and tree.c, `decode_tree_entry` */
const ID_BYTES = 20;

/**
 * The same by the reader that runs already, without sizes; null for a tree that is larger or deeper than what may be pushed,
 * and for one with a folder that the reader does not keep: git itself lists those.
 * @throws KraftwerkError `git.missing`, `git.failed`
 */
export async function readTree(objects: ObjectReader, commit: CommitId): Promise<TreeEntry[] | null> {
  let count = 0;
  async function read(name: string, folder: string, depth: number): Promise<TreeEntry[] | null> {
    if (depth > LIMITS.depth) return null;
    const object = await objects.read(name);
    if (object?.type !== 'tree' || object.content === null) return null;
    const entries = decodeFolder(object.content, folder);
    count += entries.length;
    if (count > LIMITS.files) return null;
    const below = await Promise.all(
      entries.map((entry) => (entry.mode === FOLDER ? read(entry.id, `${entry.path}/`, depth + 1) : [entry])),
    );
    return below.includes(null) ? null : below.flatMap((part) => part ?? []);
  }
  return await read(`${commit}^{tree}`, '', 1);
}

function decodeFolder(content: Buffer, folder: string): TreeEntry[] {
  const entries: TreeEntry[] = [];
  for (let at = 0; at < content.length; ) {
    const blank = content.indexOf(0x20, at);
    const end = content.indexOf(0, blank);
    if (blank === -1 || end === -1) break;
    const id = content.subarray(end + 1, end + 1 + ID_BYTES).toString('hex');
    const mode = content.toString('latin1', at, blank).padStart(FOLDER.length, '0');
    entries.push({ mode, id, size: null, path: folder + content.toString('utf8', blank + 1, end) });
    at = end + 1 + ID_BYTES;
  }
  return entries;
}

/**
 * Whether a tree is plain enough to be unpacked anywhere; the agent checks again what it unpacks.
 * Everything that is wrong is named at once. Pure.
 * @throws KraftwerkError `tree.refused`
 */
export function assertPlainTree(entries: readonly TreeEntry[]): void {
  const problems: { text: string; hint: string }[] = [];
  const refuse = (text: string, hint: string): void => void problems.push({ text, hint });
  const seen = new Map<string, string>();
  for (const entry of entries) {
    const shown = JSON.stringify(entry.path).slice(1, -1);
    try {
      parseTreePath(entry.path, 'tree');
    } catch {
      refuse(`${shown}: is not a path that can be unpacked`, 'rename or remove it');
      continue;
    }
    if (entry.mode === '160000') {
      refuse(
        `${shown}: is a submodule; its content is not in the push`,
        `commit the files themselves (git rm --cached ${shown}), or install it as a requirement`,
      );
    }
    if ((entry.size ?? 0) > LIMITS.fileBytes) {
      refuse(
        `${shown}: ${Math.ceil((entry.size ?? 0) / 1048576)} MiB, larger than ${LIMITS.fileBytes / 1048576} MiB`,
        `git rm --cached ${shown}, and serve it from uploads`,
      );
    }
    if (entry.path.split('/').length > LIMITS.depth)
      refuse(`${shown}: nested deeper than ${LIMITS.depth} folders`, 'move it up');
    // A folder `venv` is told of with what to do about it: check-tree.ts.
    if (/^(?:\.run(?:\/|$)|venv$)/.test(entry.path))
      refuse(`${shown}: this name is kraftwerk's own in a release`, 'rename it');
    // A folder counts once for all that is in it, so every prefix takes part.
    const parts = entry.path.split('/');
    for (let length = 1; length <= parts.length; length++) {
      const prefix = parts.slice(0, length).join('/');
      const key = prefix.normalize('NFC').toLowerCase();
      const other = seen.get(key);
      if (other === undefined) seen.set(key, prefix);
      else if (other !== prefix) {
        refuse(`${shown}: differs from ${JSON.stringify(other).slice(1, -1)} only by case`, 'rename one of them');
        break;
      }
    }
  }
  if (entries.length > LIMITS.files)
    refuse(
      `the tree has ${entries.length} files, more than ${LIMITS.files}`,
      'keep generated files out of the repository (.gitignore)',
    );
  const bytes = entries.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  if (bytes > LIMITS.artifactBytes)
    refuse(
      `the tree has ${Math.ceil(bytes / 1048576)} MiB, more than ${LIMITS.artifactBytes / 1048576} MiB`,
      'keep large files out of the repository',
    );
  const [first, ...others] = problems;
  if (first === undefined) return;
  throw new KraftwerkError('tree.refused', first.text, {
    step: 'Config',
    lines: [
      ...others.slice(0, 20).map(({ text }) => text),
      ...(others.length > 20 ? [`and ${others.length - 20} more`] : []),
    ],
    hint: first.hint,
    exit: 'config',
    reason: 'the pushed tree is refused',
  });
}

/** What the commit that `id` names, through a tag or not, is about. @throws KraftwerkError `git.failed` */
export async function describeCommit(
  objects: ObjectReader,
  id: string,
): Promise<{ commit: CommitId; subject: string }> {
  const object = await objects.read(`${id}^{commit}`);
  if (object === null) throw new KraftwerkError('git.failed', `${id}: no such commit`);
  const text = decodeCommit(object.content ?? Buffer.alloc(0));
  // Its first paragraph is the subject, as git itself has it.
  const message = text.slice(text.indexOf('\n\n') + 2);
  const [paragraph = ''] = message.trimStart().split(/\n[ \t]*\n/);
  return { commit: object.id as CommitId, subject: paragraph.trim().split('\n').join(' ') };
}

/** Its header may name another encoding than UTF-8. */
function decodeCommit(content: Buffer): string {
  const header = content.subarray(0, content.indexOf('\n\n')).toString('latin1');
  const encoding = /^encoding (\S+)$/m.exec(header)?.[1];
  try {
    return new TextDecoder(encoding ?? 'utf-8').decode(content);
  } catch {
    return content.toString('utf8');
  }
}

/** Reads files of a commit as text, on demand; null for what is missing, too large or not a file. */
export function createTreeReader(objects: ObjectReader, entries: readonly TreeEntry[]) {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]));
  return {
    files: new Set(entries.filter((entry) => entry.mode.startsWith('100')).map((entry) => entry.path)),
    async read(path: string): Promise<string | null> {
      const entry = byPath.get(path);
      if (entry === undefined || !entry.mode.startsWith('100')) return null;
      return (await objects.read(entry.id))?.content?.toString('utf8') ?? null;
    },
  };
}
