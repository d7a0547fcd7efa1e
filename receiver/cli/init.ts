// kraftwerk init: a WSGI project that deploys as it is, from templates/skeleton.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError, PROJECT_PATTERN } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { initWorktree } from '../git/init-worktree.ts';
import { installPath } from '../install-root.ts';
import { renderSkeleton, type SkeletonFile } from '../skeleton.ts';
import { parseOptions, usageError } from './parse-options.ts';

/** Names that Python or the skeleton itself already gives a meaning to: such a package cannot be imported. */
const TAKEN = new Set(
  `and as assert async await break class continue def del elif else except finally for from global if import in is lambda
  nonlocal not or pass raise return try while with yield match case type flask werkzeug jinja2 click gunicorn tests static
  site code email html http io json logging os platform queue random re secrets select signal socket sqlite3 ssl string
  sys test time token types typing unittest urllib uuid venv xml zipfile wsgiref`.split(/\s+/),
);

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions('init', argv, { directory: { type: 'string' } }, 1);
  const { cwd } = readSurroundings();
  const folder = path.resolve(cwd, values.directory ?? positionals[0] ?? '.');
  const name = positionals[0] ?? path.basename(folder).toLowerCase();
  checkName(name, positionals[0] !== undefined);
  checkFolder(folder);

  const files = renderSkeleton(readSkeleton(), { name, package: name.replaceAll('-', '_') });
  for (const { path: inside, content } of files) {
    const file = path.join(folder, inside);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content, { flag: 'wx' });
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

/** The built-in skeleton: the one place to change for another source. */
function readSkeleton(): SkeletonFile[] {
  const root = installPath('templates', 'skeleton');
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.pyc'))
    .map((entry) => {
      const file = path.join(entry.parentPath, entry.name);
      return { path: path.relative(root, file).split(path.sep).join('/'), content: readFileSync(file) };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

function quote(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
