// kraftwerk check: validates a project's kraftwerk.yaml as the receiver would, on the working tree.
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import {
  type EnvironmentName,
  EXIT_CODES,
  KraftwerkError,
  LIMITS,
  PROJECT_PATTERN,
  type ProjectName,
} from '../../node-agent/protocol.ts';
import { checkTree } from '../check-tree.ts';
import { readSurroundings } from '../config.ts';
import { knownServices } from '../known-services.ts';
import { MANIFEST_FILE, type ManifestContext, parseManifest } from '../manifest.ts';
import { type ManifestEntry, readManifestText } from '../manifest-file.ts';
import { escapeForTerminal } from '../print-table.ts';
import { createTemplates } from '../templates.ts';
import { detectWsgi, type SourceTree } from '../wsgi.ts';
import { MAX_YAML_BYTES, parseYaml } from '../yaml-source.ts';
import { parseOptions, usageError } from './parse-options.ts';
import { findManifestFolder } from './project.ts';

const SKIPPED = new Set(['.git', '.hg', 'node_modules', '__pycache__', 'venv', '.venv']);
// What `domain` becomes without one is the receiver's to say.
const PLACEHOLDER_PATTERN = '{project}.invalid';

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions(
    'check',
    argv,
    { environment: { type: 'string' }, project: { type: 'string' }, json: { type: 'boolean' } },
    1,
  );
  const { cwd } = readSurroundings();
  const given = positionals[0] === undefined ? (findManifestFolder(cwd) ?? cwd) : path.resolve(cwd, positionals[0]);
  const { folder, file } = locate(given);
  const project = chooseProject(values.project, folder);
  if (values.environment !== undefined && !PROJECT_PATTERN.test(values.environment)) {
    throw usageError('check', `--environment: expected a name, got ${JSON.stringify(values.environment.slice(0, 60))}`);
  }
  const result = await checkProject(folder, file, project, values.environment as EnvironmentName | undefined);
  if (values.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else print(result);
  return result.ok ? EXIT_CODES.ok : EXIT_CODES.config;
}

export interface CheckResult {
  ok: boolean;
  errors: string[];
  hints: string[];
  /** Empty when the file names none: then what stands in `default` holds for all. */
  environments: Record<string, { domains: readonly string[]; wsgi: string }>;
}

/** Every environment that the file names, or only `chosen`. */
export async function checkProject(
  folder: string,
  file: string,
  project: ProjectName,
  chosen: EnvironmentName | undefined,
): Promise<CheckResult> {
  const errors = new Set<string>();
  const hints = new Set<string>();
  const environments: CheckResult['environments'] = {};
  const note = (error: unknown): void => {
    if (!(error instanceof KraftwerkError)) throw error;
    for (const line of [error.message, ...error.lines]) errors.add(line);
    for (const hint of error.hints) hints.add(hint);
  };
  const entry = describeManifest(file);
  // Without one it may be any folder, of any size.
  const tree = entry.kind === 'none' ? { files: new Set(listFiles(folder)), read: async () => null } : readTree(folder);
  const services = knownServices(createTemplates({ configured: [] }));
  try {
    const text = readManifestText(entry, tree.files);
    const named = listEnvironments(text);
    const selected = chosen === undefined ? (named.length > 0 ? named : ['default' as EnvironmentName]) : [chosen];
    for (const environment of selected) {
      const context: ManifestContext = {
        project,
        environment,
        environments: [...new Set([...named, environment])],
        domainPattern: PLACEHOLDER_PATTERN,
        services,
      };
      try {
        const manifest = parseManifest(text, context);
        try {
          checkTree(manifest, tree.files);
        } catch (error) {
          note(error);
        }
        const { module, callable } = await detectWsgi(manifest.wsgi, manifest, tree);
        const domains = manifest.domains.filter((domain) => !domain.endsWith('.invalid'));
        environments[environment] = { domains, wsgi: `${module}:${callable}` };
      } catch (error) {
        note(error);
      }
    }
  } catch (error) {
    note(error);
  }
  return { ok: errors.size === 0, errors: [...errors], hints: [...hints], environments };
}

function print({ ok, errors, hints, environments }: CheckResult): void {
  if (!ok) {
    const lines = [...errors.map((line) => `error: ${line}`), ...hints.map((line) => `hint: ${line}`)];
    process.stderr.write(`${lines.map(escapeForTerminal).join('\n')}\n`);
    return;
  }
  process.stdout.write(`${MANIFEST_FILE} ok\n`);
  for (const [name, { domains, wsgi }] of Object.entries(environments)) {
    const where = domains.length > 0 ? domains.join(', ') : "the environment's domain";
    process.stdout.write(`${name}: ${wsgi} at ${where}\n`);
  }
}

function locate(given: string): { folder: string; file: string } {
  const stat = statSync(given, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new KraftwerkError('check.missing', `check: no file or folder ${given}`, { exit: 'denied' });
  return stat.isDirectory()
    ? { folder: given, file: path.join(given, MANIFEST_FILE) }
    : { folder: path.dirname(given), file: given };
}

function chooseProject(named: string | undefined, folder: string): ProjectName {
  if (named !== undefined) {
    if (PROJECT_PATTERN.test(named)) return named as ProjectName;
    throw usageError(
      'check',
      `--project: expected a lower-case letter, then at most 27 of a-z 0-9 _ -, got ${JSON.stringify(named.slice(0, 60))}`,
    );
  }
  // Only the defaults of `package` and `src` depend on it.
  const name = path
    .basename(folder)
    .toLowerCase()
    .replace(/[^a-z0-9_-]/g, '-')
    .slice(0, 28);
  return (PROJECT_PATTERN.test(name) ? name : 'project') as ProjectName;
}

/** A link is one here too: it is pushed as such. */
function describeManifest(file: string): ManifestEntry {
  const stat = lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return { kind: 'none' };
  if (stat.isSymbolicLink()) return { kind: 'link' };
  // Nor a pipe or a device, which a read might never come back from.
  if (!stat.isFile()) return { kind: 'folder' };
  const content = stat.size > MAX_YAML_BYTES ? Buffer.alloc(0) : readFileSync(file);
  return { kind: 'file', size: stat.size, content };
}

/** The names under `environments:`, right or wrong; the manifest's own parser judges the rest. */
function listEnvironments(text: string): EnvironmentName[] {
  const { value } = parseYaml(text, { file: MANIFEST_FILE, code: 'manifest.invalid' });
  const { environments } = value;
  if (typeof environments !== 'object' || environments === null || Array.isArray(environments)) return [];
  return Object.keys(environments).filter((name) => PROJECT_PATTERN.test(name)) as EnvironmentName[];
}

function listFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isFile() ? [entry.name] : []));
}

/** The working tree's files; folders that are never pushed are left out. */
function readTree(folder: string): SourceTree {
  const files = new Set<string>();
  const walk = (below: string, depth: number): void => {
    for (const entry of readdirSync(path.join(folder, below), { withFileTypes: true })) {
      if (SKIPPED.has(entry.name) || files.size >= LIMITS.files) continue;
      const inside = below === '' ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) {
        if (depth < LIMITS.depth) walk(inside, depth + 1);
      } else files.add(inside);
    }
  };
  walk('', 0);
  return {
    files,
    read: async (name) => (files.has(name) ? readPlain(path.join(folder, name)) : null),
  };
}

/** Whatever is no plain file has nothing to read for a push either: a link leads anywhere, a device never ends. */
function readPlain(file: string): string {
  const stat = lstatSync(file);
  return stat.isFile() && stat.size <= LIMITS.fileBytes ? readFileSync(file, 'utf8') : '';
}
