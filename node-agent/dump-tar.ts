/** How a dump looks as a tar: manifest.json first, then every entry, SHA256SUMS last, which `sha256sum -c` understands. Pure. */
import type { Header } from 'tar-stream';
import type { Entry } from './dump-list.ts';
import { type DumpPath, parseDumpPath, parseLinkPath, showPath, toPaper } from './dump-names.ts';
import { KraftwerkError } from './protocol.ts';
import { createSha256 } from './sha256.ts';

export const SUMS_FILE = 'SHA256SUMS';
/** For what is no text, which a tar's own names have to be. */
const PAX_PATH = 'KRAFTWERK.path';
const PAX_LINK = 'KRAFTWERK.linkpath';
/** PATH_MAX, without its end. */
const LINK_BYTES = 4095;
const LATEST_S = 2 ** 31 - 1;

/** What an entry is made with. */
export type NewHeader = Partial<Header> & Pick<Header, 'name'>;

export function toHeader(entry: Entry, size: number): NewHeader {
  const pax: Record<string, string> = {};
  const name = toText(entry.path, PAX_PATH, pax);
  const header: NewHeader = { name, mode: entry.mode, uid: 0, gid: 0, mtime: new Date(seconds(entry.mtime) * 1000) };
  if (entry.kind === 'file') Object.assign(header, { type: 'file', size });
  else if (entry.kind === 'folder') header.type = 'directory';
  else Object.assign(header, { type: 'symlink', linkname: toText(entry.to, PAX_LINK, pax) });
  if (Object.keys(pax).length > 0) header.pax = pax;
  return header;
}

function toText(name: string, key: string, pax: Record<string, string>): string {
  const paper = toPaper(name);
  if (typeof paper === 'string') return paper;
  pax[key] = paper.base64;
  return Buffer.from(name, 'latin1').toString('utf8');
}

function seconds(ms: number): number {
  return Math.min(Math.max(Math.trunc(ms / 1000), 0), LATEST_S);
}

/** @throws KraftwerkError `dump.hostile` */
export function fromHeader(header: Header): Entry {
  const pax = header.pax as Readonly<Record<string, string>> | null | undefined;
  const bytes = (key: string, text: string): string =>
    pax?.[key] === undefined
      ? Buffer.from(text).toString('latin1')
      : Buffer.from(pax[key], 'base64').toString('latin1');
  const path = parseDumpPath(bytes(PAX_PATH, header.name).replace(/\/$/, ''), 'the archive');
  const common = { path, mode: header.mode & 0o777, mtime: header.mtime.getTime() };
  if (header.type === 'directory') return { ...common, kind: 'folder' };
  if (header.type === 'file' || header.type === 'contiguous-file')
    return { ...common, kind: 'file', size: header.size, sha256: null };
  if (header.type === 'symlink') {
    const to = bytes(PAX_LINK, header.linkname ?? '');
    if (to === '' || to.length > LINK_BYTES || to.includes('\0')) throw hostile(path, 'is a link to nowhere');
    return { ...common, path: parseLinkPath(path, 'the archive'), kind: 'link', to };
  }
  throw hostile(path, `is a ${header.type ?? 'thing of unknown kind'}, not a file, folder or symlink`);
}

export function hostile(path: DumpPath, what: string): KraftwerkError {
  return new KraftwerkError('dump.hostile', `the archive: ${showPath(path)} ${what}`, {
    step: 'Copy',
    hint: 'nothing has been kept of it; make the archive again: dump TARGET --download FILE',
    reason: 'the archive is refused',
  });
}

/**
 * A line as `sha256sum` writes it: names with a line break or a backslash are escaped, and it begins with one. What is no
 * text has the name that it has in the tar.
 */
export function sumsLine(path: string, sha256: string): Buffer {
  const name = Buffer.from(path, 'latin1').toString('utf8');
  const escaped = name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return Buffer.from(`${escaped === name ? '' : '\\'}${sha256}  ${escaped}\n`);
}

export const NO_SUM = '0'.repeat(64);

/** Of what stands in the headers: names, kinds, modes, times, sizes. A comment among the sums of the contents. */
export function createHeaderSum() {
  const hash = createSha256();
  return {
    add(entry: Entry, size: number): void {
      const rest = entry.kind === 'file' ? [size] : entry.kind === 'link' ? [entry.to] : [];
      hash.update(`${JSON.stringify([entry.kind, entry.path, entry.mode & 0o777, seconds(entry.mtime), ...rest])}\n`);
    },
    line: (): Buffer => headerLine(hash.digest('hex')),
  };
}

export function headerLine(sha256: string): Buffer {
  return Buffer.from(`# headers ${sha256}\n`);
}
