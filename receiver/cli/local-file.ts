/** `dump --download FILE` and `load --upload FILE`: the file is on this machine, the receiver is told the option alone. */
import { closeSync, existsSync, fsyncSync, linkSync, openSync, rmSync, statSync } from 'node:fs';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Command } from '../commands/command.ts';

export interface TypedFile {
  path: string;
  option: string;
  direction: 'read' | 'write';
}

/**
 * Takes the file out of the words. Without one, or with `-`, the command's own stdin or stdout is meant, as over plain ssh.
 * @param typed the words behind the command's name
 */
export function takeFile(
  { file }: Pick<Command, 'file'>,
  typed: readonly string[],
): { words: string[]; file: TypedFile | null } {
  const end = typed.includes('--') ? typed.indexOf('--') : typed.length;
  const at = typed
    .slice(0, end)
    .findIndex((word) => word === `--${file?.option}` || word.startsWith(`--${file?.option}=`));
  const option = typed[at];
  if (file === undefined || option === undefined) return { words: [...typed], file: null };
  const inline = option.includes('=');
  const next = typed.slice(0, end)[at + 1];
  const path = inline ? option.slice(option.indexOf('=') + 1) : next;
  if (path === undefined || path === '' || (path.startsWith('-') && path !== '-'))
    return { words: [...typed], file: null };
  const words = [...typed.slice(0, at), `--${file.option}`, ...typed.slice(at + (inline ? 1 : 2))];
  return { words, file: path === '-' ? null : { path, ...file } };
}

export interface OpenFile {
  fd: number;
  /** Keeps what was written, or leaves nothing of it. @throws KraftwerkError `file.write` */
  close(good: boolean): void;
}

/**
 * A file to read; or one to write, which appears under its name when it is whole, and never takes another's place.
 * @throws KraftwerkError `file.read`, `file.write`, `file.exists`
 */
export function openFile({ path, option, direction }: TypedFile): OpenFile {
  if (direction === 'read') {
    const fd = attempt('read', path, option, () => {
      if (statSync(path).isDirectory()) throw new Error('it is a folder');
      return openSync(path, 'r');
    });
    return { fd, close: () => closeSync(fd) };
  }
  if (existsSync(path)) throw taken(path);
  const part = `${path}.${process.pid}.part`;
  // All of a site's data: for nobody else's eyes.
  const fd = attempt('write', path, option, () => openSync(part, 'wx', 0o600));
  return {
    fd,
    close(good) {
      try {
        if (good) fsyncSync(fd);
        closeSync(fd);
        if (good) linkSync(part, path);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw taken(path);
        throw failed('write', path, option, cause);
      } finally {
        rmSync(part, { force: true });
      }
    },
  };
}

function attempt<T>(what: 'read' | 'write', path: string, option: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    throw failed(what, path, option, cause);
  }
}

function failed(what: 'read' | 'write', path: string, option: string, cause: unknown): KraftwerkError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const known: Record<string, string> = {
    ENOENT: what === 'read' ? 'there is no such file' : 'there is no such folder',
    EACCES: 'permission denied',
    ENOTDIR: 'there is no such folder',
    ENOSPC: 'the disk is full',
  };
  return new KraftwerkError(`file.${what}`, `--${option}: cannot ${what} ${path}: ${known[code ?? ''] ?? message}`, {
    hint: `--${option} FILE; a target is named before it`,
    exit: 'usage',
    cause,
  });
}

function taken(path: string): KraftwerkError {
  return new KraftwerkError('file.exists', `there is ${path} already, and it stays as it is`, {
    hint: 'another name, or remove it first',
    exit: 'usage',
  });
}
