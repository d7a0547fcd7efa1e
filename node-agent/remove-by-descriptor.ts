/**
 * Removes a tree that others have made, and may still be changing. Every step is taken from an open folder (`/proc/self/fd`, which
 * is openat and unlinkat for Node): a link that takes a folder's place is never followed, and no path gets too long.
 * @see proc(5), /proc/pid/fd: a magic link leads to the open folder itself, whatever its name has become
 */
import * as fs from 'node:fs';
import { resolve } from 'node:path';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = fs.constants;
const FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
/** Each level holds a descriptor; what lies deeper is first moved up. */
const MAX_LEVELS = 64;
/** A site without a user of its own may write while its folder goes. */
const MAX_TRIES = 100;

type Name = Buffer | string;

/**
 * Does nothing where there is nothing.
 * @param folder what `name` is in; its own path leads through root's folders and links alone
 * @throws Error with an errno
 */
export function removeByDescriptor(folder: string, name: Name): void {
  const parent = openOwnPath(resolve(folder));
  if (parent === null) return;
  try {
    removeEntry(parent, name, null);
  } finally {
    fs.closeSync(parent);
  }
}

function at(folder: number, name: Name): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${folder}/`), Buffer.from(name as string)]);
}

function code(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** `read`, or null where one of these errnos says that the entry is another one by now. */
function unless<T>(codes: readonly string[], read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (codes.includes(code(error))) return null;
    throw error;
  }
}

const lookAt = (folder: number, name: Name): fs.Stats | null =>
  unless(['ENOENT', 'ENOTDIR'], () => fs.lstatSync(at(folder, name)));

/** Opens a folder component by component; follows only links that root, or who runs the agent, has made in a folder of their own. */
function openOwnPath(path: string): number | null {
  let folder = fs.openSync('/', FOLDER);
  for (const name of path.split('/').filter((part) => part !== '')) {
    const inner = openInside(folder, name);
    fs.closeSync(folder);
    if (inner === null) return null;
    folder = inner;
  }
  return folder;
}

function openInside(folder: number, name: string): number | null {
  const stat = lookAt(folder, name);
  if (stat === null) return null;
  const ours = [0, process.getuid?.()];
  const trusted = stat.isSymbolicLink() && ours.includes(stat.uid) && ours.includes(fs.fstatSync(folder).uid);
  return unless(['ENOENT'], () => fs.openSync(at(folder, name), trusted ? O_RDONLY | O_DIRECTORY : FOLDER));
}

/** @param top what removes the tree that this is in: the place for what lies too deep; null: this is the top */
function removeEntry(parent: number, name: Name, top: Top | null): void {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const stat = lookAt(parent, name);
    if (stat === null) return;
    if (!stat.isDirectory()) {
      // ENOENT: it is gone, which the next look finds. EISDIR, EPERM: a folder has taken its place.
      unless(['ENOENT', 'EISDIR', 'EPERM'], () => fs.unlinkSync(at(parent, name)));
      continue;
    }
    if (top !== null && stat.dev !== top.device)
      throw Object.assign(new Error(`EXDEV: ${String(name)} is another file system, and is not removed`), {
        code: 'EXDEV',
      });
    const folder = openFolder(parent, name);
    if (folder === null) continue;
    try {
      empty(folder, top ?? { folder, device: stat.dev, level: 0, moved: 0, number: 0 });
    } finally {
      fs.closeSync(folder);
    }
    // ENOTEMPTY: something was made in it meanwhile. ENOENT: another has removed it, as systemd does. The next look tells.
    unless(['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'ENOENT'], () => fs.rmdirSync(at(parent, name)));
  }
  throw Object.assign(new Error(`EBUSY: ${String(name)} is filled again as fast as it is emptied`), { code: 'EBUSY' });
}

interface Top {
  folder: number;
  device: number;
  level: number;
  /** Since the top was listed. */
  moved: number;
  /** Of the next that is moved. */
  number: number;
}

/** Null where it is no folder any more. */
function openFolder(parent: number, name: Name): number | null {
  const changed = ['ENOENT', 'ENOTDIR', 'ELOOP'];
  try {
    return fs.openSync(at(parent, name), FOLDER);
  } catch (error) {
    if (changed.includes(code(error))) return null;
    if (code(error) !== 'EACCES') throw error;
  }
  // Not root: a folder of our own without the right to read it.
  return unless(changed, () => {
    fs.chmodSync(at(parent, name), 0o700);
    return fs.openSync(at(parent, name), FOLDER);
  });
}

/** A folder is taken from its owner, and closed, before it is read: what stands in ours cannot be exchanged. */
function empty(folder: number, top: Top): void {
  const stat = fs.fstatSync(folder);
  const root = process.getuid?.() === 0;
  if (root && stat.uid !== 0) fs.fchownSync(folder, 0, 0);
  if ((stat.mode & 0o777) !== 0o700) fs.fchmodSync(folder, 0o700);
  for (let again = true; again; ) {
    again = false;
    for (const name of namesIn(folder)) {
      if (top.level >= MAX_LEVELS && lookAt(folder, name)?.isDirectory()) moveUp(folder, name, top);
      else {
        top.level++;
        removeEntry(folder, name, top);
        top.level--;
      }
    }
    if (folder === top.folder && top.moved > 0) {
      top.moved = 0;
      again = true;
    }
  }
}

/** A few at a time: a folder may have more of them than memory holds. */
function* namesIn(folder: number): Generator<Buffer> {
  // The types of Node.js know no names as bytes here.
  const options = { encoding: 'buffer' as BufferEncoding, bufferSize: 256 };
  const opened = unless(['ENOENT'], () => fs.opendirSync(`/proc/self/fd/${folder}`, options));
  if (opened === null) return;
  try {
    for (let entry = opened.readSync(); entry !== null; entry = opened.readSync())
      yield entry.name as unknown as Buffer;
  } finally {
    opened.closeSync();
  }
}

/** To the top of the tree that goes, which is ours by now. */
function moveUp(folder: number, name: Name, top: Top): void {
  // A folder that is moved gets another `..`, which takes the right to write to it; root has that.
  if (process.getuid?.() !== 0) unless(['ENOENT'], () => fs.chmodSync(at(folder, name), 0o700));
  for (;;) {
    const place = at(top.folder, `.deeper-${top.number++}`);
    if (unless(['ENOENT'], () => fs.lstatSync(place)) !== null) continue;
    unless(['ENOENT'], () => fs.renameSync(at(folder, name), place));
    top.moved++;
    return;
  }
}
