// Our own lines of /etc/hosts, each with a mark at its end; no other line is ever touched.
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { KraftwerkError } from '../node-agent/protocol.ts';
import { runInForeground } from './git/user-programs.ts';

export const HOSTS_FILE = '/etc/hosts';

export interface HostsAccess {
  file: string;
  /** sudo may ask for a password. */
  isTerminal: boolean;
  /** For sudo: PATH, HOME, TERM and the like, no tokens. */
  env: Readonly<Record<string, string | undefined>>;
}

/** `203.0.113.5 web1.example.com # kraftwerk: web1.example.com` */
export function formatHostsLine(name: string, address: string): string {
  return `${address} ${name} # kraftwerk: ${name}`;
}

/**
 * The text with exactly one line of ours for `name`, where the first one was, else at the end; without any for address null.
 * Everything else stays as it is, byte by byte.
 */
export function replaceHostsLine(text: string, name: string, address: string | null): string {
  const lines = text.split('\n');
  const wanted = address === null ? [] : [formatHostsLine(name, address)];
  const first = lines.findIndex((line) => isOurLine(line, name));
  if (first >= 0) {
    const kept = lines.map((line, index) => (index === first ? wanted : isOurLine(line, name) ? [] : [line]));
    return kept.flat().join('\n');
  }
  if (address === null) return text;
  return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${wanted.join('')}\n`;
}

/** A line of somebody else's that names it: the first line that does so counts. */
export function findForeignLine(text: string, name: string): { line: number; address: string } | null {
  for (const [index, line] of text.split('\n').entries()) {
    const [address = '', ...names] = (line.split('#')[0] ?? '').trim().split(/\s+/);
    const isNamed = names.some((one) => one.toLowerCase() === name.toLowerCase());
    if (isNamed && !isOurLine(line, name)) return { line: index + 1, address };
  }
  return null;
}

function isOurLine(line: string, name: string): boolean {
  return /#\s*kraftwerk:\s*(\S+)\s*$/.exec(line)?.[1] === name;
}

export function readHosts(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw failed(file, error);
  }
}

/**
 * Sets (or with null removes) our line.
 * @returns false when there was nothing to change
 * @throws KraftwerkError `hosts.failed`
 */
export async function writeHostsLine(name: string, address: string | null, access: HostsAccess): Promise<boolean> {
  const before = readHosts(access.file);
  const after = replaceHostsLine(before, name, address);
  if (after === before) return false;
  if (!publish(access.file, after)) await copyWithSudo(after, access);
  if (readHosts(access.file) !== after) throw failed(access.file, new Error('not written'));
  return true;
}

/** @returns false when only root may do that */
function publish(named: string, text: string): boolean {
  let beside: string | null = null;
  try {
    const file = realpathSync(named);
    const { mode, uid, gid } = statSync(file);
    beside = path.join(path.dirname(file), `.${path.basename(file)}.kraftwerk-${process.pid}`);
    const fd = openSync(beside, 'wx', 0o600);
    try {
      writeFileSync(fd, text);
      fchownSync(fd, uid, gid);
      fchmodSync(fd, mode & 0o7777);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    try {
      renameSync(beside, file);
    } catch (error) {
      // In a container it is mounted by itself.
      if (!/^(?:EBUSY|EXDEV)$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
      writeFileSync(file, text);
    }
    return true;
  } catch (error) {
    if (/^(?:EACCES|EPERM)$/.test((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw failed(named, error);
  } finally {
    if (beside !== null) rmSync(beside, { force: true });
  }
}

/** Copied into the file that is there, so that owner, mode and label stay. */
async function copyWithSudo(text: string, { file, isTerminal, env }: HostsAccess): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'kraftwerk-hosts-'));
  try {
    const copy = path.join(folder, 'hosts');
    writeFileSync(copy, text);
    const sudo = [...(isTerminal ? [] : ['-n']), '--', 'cp', '--', copy, file];
    const code = await runInForeground('sudo', sudo, env);
    if (code !== 0) throw failed(file, new Error(`sudo ended with ${code}`));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function failed(file: string, cause: unknown): KraftwerkError {
  if (cause instanceof KraftwerkError) return cause;
  const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
  return new KraftwerkError('hosts.failed', `${file} was not changed (${reason})`, { cause });
}
