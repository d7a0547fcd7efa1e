// kraftwerk init: a WSGI project that deploys as it is, from the skeleton of the admin's templates and the built-in one.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError, PROJECT_PATTERN } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { initWorktree } from '../git/init-worktree.ts';
import { installPath } from '../install-root.ts';
import { renderSkeleton, type SkeletonFile } from '../skeleton.ts';
import { createTemplates, type Templates } from '../templates.ts';
import { findTemplateFolders } from './find-config.ts';
import { parseOptions, usageError } from './parse-options.ts';

/** Names that Python or the skeleton itself already gives a meaning to: such a package cannot be imported. */
const TAKEN = new Set(
  `and as assert async await break class continue def del elif else except finally for from global if import in is lambda
  nonlocal not or pass raise return try while with yield match case type flask werkzeug jinja2 click gunicorn tests static
  site code email html http io json logging os platform queue random re secrets select signal socket sqlite3 ssl string
  sys test time token types typing unittest urllib uuid venv xml zipfile wsgiref`.split(/\s+/),
);

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions(
    'init',
    argv,
    { directory: { type: 'string' }, templates: { type: 'string' }, config: { type: 'string' } },
    1,
  );
  const surroundings = readSurroundings();
  const { cwd } = surroundings;
  const folder = path.resolve(cwd, values.directory ?? positionals[0] ?? '.');
  const name = positionals[0] ?? path.basename(folder).toLowerCase();
  checkName(name, positionals[0] !== undefined);
  checkFolder(folder);

  const templates = createTemplates({
    explicit: values.templates === undefined ? undefined : requireSkeleton(path.resolve(cwd, values.templates)),
    configured: findTemplateFolders(values.config, surroundings),
  });
  const files = renderSkeleton(readSkeleton(templates), { name, package: name.replaceAll('-', '_') });
  for (const { path: inside, content, executable } of files) {
    const file = path.join(folder, inside);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content, { flag: 'wx', mode: executable ? 0o777 : 0o666 });
  }
  if (!existsSync(path.join(folder, '.git'))) await initWorktree(folder);

  const relative = path.relative(cwd, folder);
  process.stderr.write(`${name} is ready in ${folder}. To deploy it:\n\n`);
  process.stdout.write(
    [
      ...(relative === '' ? [] : [`cd ${quote(relative)}`]),
      'git add . && git commit -m "First version"',
      `git remote add stage kraftwerk@HOST:${name}/stage`,
      'git push stage master',
    ]
      .map((line) => `  ${line}\n`)
      .join(''),
  );
  return 0;
}

function checkName(name: string, given: boolean): void {
  const hint = given ? 'kraftwerk init blog' : 'give a name: kraftwerk init NAME';
  if (!PROJECT_PATTERN.test(name)) {
    const error = usageError(
      'init',
      `NAME: expected a lower-case letter, then at most 27 of a-z 0-9 _ -, got ${JSON.stringify(name.slice(0, 60))}`,
    );
    throw new KraftwerkError(error.code, error.message, { hint, exit: 'usage' });
  }
  if (TAKEN.has(name.replaceAll('-', '_'))) {
    throw new KraftwerkError('init.name', `init: "${name}" has a meaning in Python, a package cannot be called so`, {
      hint: `kraftwerk init ${name}-site`,
      exit: 'usage',
    });
  }
}

function checkFolder(folder: string): void {
  let entries: string[];
  try {
    entries = readdirSync(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw new KraftwerkError('init.folder', `init: ${folder} is not a folder that can be read (${code})`, { cause });
  }
  const there = entries.filter((entry) => entry !== '.git').sort();
  if (there.length === 0) return;
  const shown = there.slice(0, 3).join(', ') + (there.length > 3 ? ', …' : '');
  throw new KraftwerkError('init.not-empty', `init: ${folder} is not empty: ${shown}`, {
    hint: 'name a new folder: kraftwerk init NAME',
  });
}

/** A folder that was named is meant: without a skeleton it would be passed over silently. */
function requireSkeleton(folder: string): string {
  const skeleton = path.join(folder, 'skeleton');
  if (statSync(skeleton, { throwIfNoEntry: false })?.isDirectory()) return folder;
  throw new KraftwerkError('init.templates', `init: --templates: there is no folder ${skeleton}`, {
    hint: `its files replace those of ${installPath('templates', 'skeleton')}, or come beside them`,
    exit: 'denied',
  });
}

function readSkeleton(templates: Templates): SkeletonFile[] {
  try {
    return templates
      .list('skeleton')
      .filter(({ path: inside }) => !inside.endsWith('.pyc'))
      .map(({ path: inside, file }) => ({
        path: inside,
        content: readFileSync(file),
        executable: (statSync(file).mode & 0o100) !== 0,
        origin: file,
      }));
  } catch (cause) {
    const { code, path: place } = cause as NodeJS.ErrnoException;
    if (code === undefined || place === undefined) throw cause;
    throw new KraftwerkError('init.templates', `init: the skeleton's ${place} cannot be read (${code})`, { cause });
  }
}

function quote(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
