/** The one parser of what an SSH client asks to have executed: a git service, or a command and its words. Pure. */
import type { EnvironmentName, ProjectName } from '../node-agent/protocol.ts';
import { KraftwerkError, PROJECT_PATTERN } from '../node-agent/protocol.ts';

const MAX_BYTES = 64 * 1024;
const MAX_WORDS = 256;
const NAME_RULE = 'a lower-case letter, then at most 27 of a-z 0-9 _ -';

export type GitService = 'receive-pack' | 'upload-pack';

export type ExecLine =
  | { kind: 'git'; service: GitService; path: string }
  | { kind: 'command'; name: string; args: readonly string[] }
  | { kind: 'help' };

/** A project in an environment; without one, the environment is found by the rules for `blog` alone. */
export interface TargetName {
  project: ProjectName;
  environment?: EnvironmentName;
}

function invalid(message: string, hint: string): KraftwerkError {
  return new KraftwerkError('exec.invalid', `command line: ${message}`, { hint, exit: 'usage' });
}

/**
 * Words separated by spaces; '…' takes all as it is, "…" knows \" \\ \$ \`, and \ outside takes the next character.
 * Nothing is expanded: no variables, no globs, no operators.
 * @throws KraftwerkError `exec.invalid`
 */
export function splitWords(line: string): string[] {
  if (Buffer.byteLength(line) > MAX_BYTES) {
    throw invalid('longer than 64 KiB', 'send long values on stdin');
  }
  if (/[\p{Cc}\ufffd]/u.test(line)) {
    throw invalid('contains control characters, line breaks or bytes that are not UTF-8', 'send such values on stdin');
  }
  const words: string[] = [];
  let word: string | null = null;
  let at = 0;
  while (at < line.length) {
    const char = line.charAt(at);
    if (char === ' ') {
      if (word !== null) words.push(word);
      word = null;
      at += 1;
    } else if (char === "'") {
      const end = line.indexOf("'", at + 1);
      if (end < 0) throw invalid("a ' is not closed", "write ' as '\\'' inside single quotes");
      word = (word ?? '') + line.slice(at + 1, end);
      at = end + 1;
    } else if (char === '"') {
      const quoted = readDoubleQuoted(line, at + 1);
      word = (word ?? '') + quoted.text;
      at = quoted.end;
    } else if (char === '\\') {
      if (at + 1 >= line.length) throw invalid('ends with a \\', 'write \\\\ for a backslash');
      word = (word ?? '') + line.charAt(at + 1);
      at += 2;
    } else {
      word = (word ?? '') + char;
      at += 1;
    }
    if (words.length > MAX_WORDS) break;
  }
  if (word !== null) words.push(word);
  if (words.length > MAX_WORDS) throw invalid(`more than ${MAX_WORDS} words`, 'send long lists on stdin');
  return words;
}

function readDoubleQuoted(line: string, start: number): { text: string; end: number } {
  let text = '';
  for (let at = start; at < line.length; at += 1) {
    const char = line.charAt(at);
    if (char === '"') return { text, end: at + 1 };
    const next = line.charAt(at + 1);
    if (char === '\\' && next !== '' && '"\\$`'.includes(next)) {
      text += next;
      at += 1;
    } else {
      text += char;
    }
  }
  throw invalid('a " is not closed', 'write " as \\" inside double quotes');
}

/** A word as `splitWords` reads it back, quoted as git does. */
export function quoteWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** @throws KraftwerkError `exec.invalid`, `exec.git` */
export function parseExecLine(line: string): ExecLine {
  const words = splitWords(line);
  const [name, ...args] = words;
  if (name === undefined || (args.length === 0 && (name === '--help' || name === '-h'))) return { kind: 'help' };
  if (name === 'git') return parseGit(`git ${args[0] ?? ''}`.trim(), args[0] ?? '', args.slice(1));
  if (name.startsWith('git-')) return parseGit(name, name.slice('git-'.length), args);
  return { kind: 'command', name, args };
}

function parseGit(asked: string, service: string, args: readonly string[]): ExecLine {
  if (service !== 'receive-pack' && service !== 'upload-pack') {
    const shown = asked.slice(0, 60);
    throw new KraftwerkError('exec.git', `${shown}: only git push, clone and fetch are served`, {
      hint:
        service === 'upload-archive'
          ? 'git clone, then git archive in the clone'
          : 'git clone kraftwerk@HOST:PROJECT/ENVIRONMENT',
      exit: 'usage',
    });
  }
  const [path] = args;
  if (path === undefined || args.length !== 1) {
    throw invalid(
      `git ${service}: expected one path, got ${args.length}`,
      'git remote add live kraftwerk@HOST:blog/live',
    );
  }
  return { kind: 'git', service, path };
}

/**
 * What a git remote names: `/blog/live.git`, `~/blog/live`, `blog/live`, `blog`.
 * @throws KraftwerkError `target.invalid`
 */
export function parseTargetPath(path: string): TargetName {
  const bare = path
    .replace(/^(?:~\/|\/+)/, '')
    .replace(/\/+$/, '')
    .replace(/\.git$/, '');
  return parseTarget(bare, path);
}

/**
 * What a command names: `blog/live`, `blog`.
 * @throws KraftwerkError `target.invalid`
 */
export function parseTargetName(name: string): TargetName {
  return parseTarget(name.replace(/\.git$/, ''), name);
}

function parseTarget(bare: string, given: string): TargetName {
  const parts = bare.split('/');
  const [project = '', environment] = parts;
  if (bare === '' || parts.length > 2) {
    throw new KraftwerkError('target.invalid', `bad target ${show(given)}: expected PROJECT/ENVIRONMENT`, {
      hint: 'for example blog/live',
      exit: 'usage',
    });
  }
  const suggestion = [project, ...(environment === undefined ? [] : [environment])].map(correctName);
  const hint = suggestion.every((part) => part !== null) ? `did you mean ${suggestion.join('/')}?` : undefined;
  checkName('project', project, hint);
  if (environment === undefined) return { project: project as ProjectName };
  checkName('environment', environment, hint);
  return { project: project as ProjectName, environment: environment as EnvironmentName };
}

function checkName(what: string, name: string, hint: string | undefined): void {
  if (PROJECT_PATTERN.test(name)) return;
  throw new KraftwerkError('target.invalid', `bad ${what} name ${show(name)}: ${NAME_RULE}`, {
    ...(hint !== undefined && { hint }),
    exit: 'usage',
  });
}

function correctName(name: string): string | null {
  const corrected = name
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^[^a-z]+|-+$/g, '')
    .slice(0, 28);
  return PROJECT_PATTERN.test(corrected) ? corrected : null;
}

function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
