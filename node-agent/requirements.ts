/** Reads requirements files as pip would, as far as the virtualenv's key and good errors need it. Pure but for the reader it is given. */
import { posix } from 'node:path';
import { KraftwerkError } from './protocol.ts';

export interface Requirements {
  /** The text of every file that takes part, in order: what the key is made of. */
  texts: readonly { path: string; text: string }[];
  /** Something points into the tree (`-e .`, `./lib`): the virtualenv can serve this release only. */
  usesTree: boolean;
  /** Some line names gunicorn. */
  namesGunicorn: boolean;
}

const INCLUDE = /^(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?=[^-\s=]))(.+)$/;

/**
 * Reads `path` and every file that it includes with `-r` or `-c`.
 * @param read the text of a file of the tree, null where there is none
 * @throws KraftwerkError `packages.requirements` for a file that is missing or lies outside the tree
 */
export function readRequirements(path: string, read: (path: string) => string | null): Requirements {
  const texts: { path: string; text: string }[] = [];
  const visit = (file: string, from: string): void => {
    if (texts.some((entry) => entry.path === file)) return;
    if (file.startsWith('../') || file.startsWith('/'))
      throw requirementError(`${from}: ${file} lies outside the project`);
    const text = read(file);
    if (text === null) throw requirementError(`${from}: there is no file ${file}`);
    texts.push({ path: file, text });
    for (const { number, line } of logicalLines(text)) {
      const include = INCLUDE.exec(line)?.[1]
        ?.trim()
        .replace(/^["']|["']$/g, '');
      if (include !== undefined && !/^[a-z]+:\/\//i.test(include))
        visit(posix.normalize(posix.join(posix.dirname(file), include)), `${file}:${number}`);
    }
  };
  visit(posix.normalize(path), 'kraftwerk.yaml');
  const lines = texts.flatMap(({ text }) => logicalLines(text).map(({ line }) => line));
  return {
    texts,
    usesTree: lines.some(pointsIntoTree),
    namesGunicorn: lines.some((line) => /^gunicorn\b(?!-)/i.test(line)),
  };
}

/** The place of the line that names `requirement`, as `requirements.txt:3`, for pip's own error messages. */
export function locateRequirement(requirements: Requirements, requirement: string): string | null {
  const name = /^[A-Za-z0-9][A-Za-z0-9._-]*/.exec(requirement)?.[0];
  if (name === undefined) return null;
  const plain = (text: string): string => text.toLowerCase().replace(/[-_.]+/g, '-');
  for (const { path, text } of requirements.texts) {
    for (const { number, line } of logicalLines(text)) {
      const found = /^[A-Za-z0-9][A-Za-z0-9._-]*/.exec(line)?.[0];
      if (found !== undefined && plain(found) === plain(name)) return `${path}:${number} ${line}`;
    }
  }
  return null;
}

/** The same of a line that pip cannot read, which it tells by its number: another may name the same package. Null: it tells something else. */
export function locateInvalid({ texts }: Requirements, words: string): string | null {
  const [, number = '', path = ''] = /Invalid requirement: .*\(from line (\d+) of (.+?)\)/.exec(words) ?? [];
  const file = texts.find((text) => path === text.path || path.endsWith(`/${text.path}`));
  const line = file?.text.split(/\r?\n/)[Number(number) - 1];
  return file === undefined || line === undefined ? null : `${file.path}:${number} ${line.trim()}`;
}

/** Lines without comments, joined where they end with a backslash; numbers are those of the first part. */
function logicalLines(text: string): { number: number; line: string }[] {
  const result: { number: number; line: string }[] = [];
  let pending = null as { number: number; line: string } | null;
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const continued = raw.endsWith('\\');
    const part = (continued ? raw.slice(0, -1) : raw).replace(/(^|\s)#.*$/, '').trim();
    const whole: { number: number; line: string } =
      pending === null
        ? { number: index + 1, line: part }
        : { number: pending.number, line: `${pending.line} ${part}`.trim() };
    pending = continued ? whole : null;
    if (!continued && whole.line !== '') result.push(whole);
  }
  return result;
}

function pointsIntoTree(line: string): boolean {
  if (/^(?:-e|--editable)[\s=]/.test(line)) return !/^(?:-e|--editable)[\s=]+(?:git|hg|svn|bzr)\+/.test(line);
  if (/^(?:-f|--find-links)[\s=]+\.?\.?\//.test(line)) return true;
  if (/^(?:-f|--find-links)[\s=]+(?!\w+:)/.test(line)) return true;
  if (line.startsWith('-')) return false;
  return (
    /^\.{0,2}\//.test(line) ||
    line === '.' ||
    /(?:^|@\s*)file:/.test(line) ||
    /^[^\s@]+\.(?:whl|tar\.gz|zip)(?:\s|$)/.test(line)
  );
}

function requirementError(message: string): KraftwerkError {
  return new KraftwerkError('packages.requirements', message, {
    step: 'Packages',
    hint: 'commit the file, or mend the line that names it',
    reason: 'requirements are incomplete',
  });
}
