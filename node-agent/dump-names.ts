/** Names in a dump. On disk they are bytes, not text: a letter of a `DumpPath` is one byte. Pure. */
import { KraftwerkError } from './protocol.ts';

declare const brand: unique symbol;
/** A path below a dump's folder, as bytes; its first part is a service. */
export type DumpPath = string & { readonly [brand]: 'DumpPath' };

/** `tree` of a service may have 100 folders, one inside the other. */
const DEPTH = 128;
const NAME_BYTES = 255;
const PATH_BYTES = 3500;

export function joinName(folder: DumpPath | '', name: Buffer): DumpPath {
  const text = name.toString('latin1');
  return (folder === '' ? text : `${folder}/${text}`) as DumpPath;
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

export function diskPath(folder: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);
}

/** For people; what is no text is shown as a question mark. */
export function showPath(path: string): string {
  return JSON.stringify(Buffer.from(path, 'latin1').toString('utf8')).slice(1, -1);
}

/** As text where it is text, else as base64. */
export type NameOnPaper = string | { base64: string };

export function toPaper(name: string): NameOnPaper {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? text : { base64: bytes.toString('base64') };
}

export function fromPaper(value: unknown): string | null {
  if (typeof value === 'string') return Buffer.from(value).toString('latin1');
  const base64 = (value as { base64?: unknown } | null)?.base64;
  return typeof base64 === 'string' ? Buffer.from(base64, 'base64').toString('latin1') : null;
}

/** Where `copy_tree` puts what belongs to a site: load.sh follows links nowhere there, and everywhere else. */
const TREE = 'tree';

/** A link may stand in what a site has made, and nowhere else. @throws KraftwerkError `dump.hostile` */
export function parseLinkPath(path: DumpPath, where: string): DumpPath {
  const [, folder, ...below] = path.split('/');
  if (folder === TREE && below.length > 0) return path;
  throw refuse(path, 'is a link, which may only stand below SERVICE/tree', where);
}

/** @throws KraftwerkError `dump.hostile` */
export function parseDumpPath(path: string, where: string): DumpPath {
  const parts = path.split('/');
  const wrong = path.startsWith('/')
    ? 'is absolute'
    : parts.some((part) => part === '' || part === '.' || part === '..')
      ? 'leads elsewhere'
      : path.includes('\0')
        ? 'has a NUL'
        : parts.length > DEPTH
          ? `lies deeper than ${DEPTH} folders`
          : path.length > PATH_BYTES || parts.some((part) => part.length > NAME_BYTES)
            ? 'is too long a name'
            : null;
  if (wrong === null) return path as DumpPath;
  throw refuse(path, wrong, where);
}

function refuse(path: string, what: string, where: string): KraftwerkError {
  return new KraftwerkError('dump.hostile', `${where}: "${showPath(path.slice(0, 200))}" ${what}`, {
    reason: 'the dump is refused',
  });
}
