// kraftwerk.yaml: text + environment -> Manifest, or every error with its line. Pure.
// Long because: all that is read out of the one file, and what may be wrong with it, is on one page.
import type { AbsolutePath, EnvironmentName, ProjectName, ServiceName, TreePath } from '../node-agent/protocol.ts';
import { expandDomainPattern, findDomainProblem } from './hostname.ts';
import { buildManifestSchema, type KnownServices, normaliseTreePath, type Section } from './manifest-schema.ts';
import { NODE_OPTION, type Options } from './service-schema.ts';
import { type Path, type Problem, parseYaml, YamlError, type YamlSource } from './yaml-source.ts';
import { didYouMean, formatPath, validate } from './yaml-validate.ts';

export const MANIFEST_FILE = 'kraftwerk.yaml';

export interface Healthcheck {
  path: string;
  statusMin: number;
  statusMax: number;
  timeoutMs: number;
  intervalMs: number;
  retries: number;
  settleMs: number;
}

/** `named` is false for the default, which may be missing. */
export interface StaticFolder {
  prefix: string;
  folder: TreePath;
  named: boolean;
}

export interface ServiceRequirement {
  name: ServiceName;
  options: Options;
  /** Which is to have its data, where an environment has several; absent: the first. */
  node?: string;
}

/** What one environment gets from a kraftwerk.yaml. */
export interface Manifest {
  /** The first is canonical; from `domain` or the environment's pattern. */
  domains: readonly string[];
  aliases: readonly string[];
  /** As written; null: to be detected. */
  wsgi: string | null;
  /** Null: from the node's cores and memory. */
  workers: number | null;
  threads: number;
  workerClass: string;
  environ: Readonly<Record<string, string>>;
  package: string;
  packageNamed: boolean;
  src: TreePath;
  srcNamed: boolean;
  requirements: TreePath;
  requirementsNamed: boolean;
  python: AbsolutePath;
  static: readonly StaticFolder[];
  healthcheck: Healthcheck;
  timeoutMs: number;
  keepReleases: number;
  build: string | null;
  release: string | null;
  /** Run in the target after `sync-services`. */
  scrub: string | null;
  services: readonly ServiceRequirement[];
  /** `kraftwerk.yaml:3:1` for a key's place (`static./static`, `environ.DEBUG`), `kraftwerk.yaml` when it is absent. */
  where(path: string): string;
}

export interface ManifestContext {
  project: ProjectName;
  environment: EnvironmentName;
  /** Those that the receiver knows. */
  environments: readonly EnvironmentName[];
  /** The environment's `domain` pattern. */
  domainPattern: string | null;
  /** Those that the receiver has templates for. */
  services: KnownServices;
  /** The environment's; absent: not known here. */
  nodes?: readonly string[];
}

/** @throws YamlError `manifest.invalid`: message is the first problem, lines are all others */
export function parseManifest(text: string, context: ManifestContext): Manifest {
  const source = parseYaml(text, { file: MANIFEST_FILE, code: 'manifest.invalid', isText });
  const { value, problems } = validate(buildManifestSchema(context), source);
  if (value === null) throw new YamlError('manifest.invalid', MANIFEST_FILE, problems);

  const { environments = {}, ...base } = value;
  const all = new Set([context.environment, ...Object.keys(environments)]);
  const found = [...all].flatMap((name) => findDomainProblems(base, environments[name], name, source));
  const domains = resolveDomains(mergeSections(base, environments[context.environment]), context, source, found);
  found.push(...findNodeProblems(base, environments[context.environment], context, source));
  if (found.length > 0) throw new YamlError('manifest.invalid', MANIFEST_FILE, found, hintsFor(found));
  return resolve(mergeSections(base, environments[context.environment]), domains, context, source);
}

/** `environ` values and `python` are taken as they are written, in the base and in every environment. */
function isText(path: Path): boolean {
  const [key, ...rest] = path[0] === 'environments' ? path.slice(2) : path;
  return (key === 'environ' && rest.length === 1) || (key === 'python' && rest.length === 0);
}

/** Mappings are merged key by key; everything else of the environment replaces the base's. */
export function mergeSections(base: Section, section: Section | undefined): Section {
  if (section === undefined) return base;
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(section)) {
    if (value === undefined) continue;
    const below = mappingOf(key, merged[key]);
    const above = mappingOf(key, value);
    merged[key] = below !== null && above !== null ? { ...below, ...above } : value;
  }
  return merged as Section;
}

function mappingOf(key: string, value: unknown): Record<string, unknown> | null {
  if (key === 'healthcheck' && typeof value === 'string') return { path: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  if (key !== 'static') return value as Record<string, unknown>;
  // `/static` and `/static/` are one prefix.
  return Object.fromEntries(Object.entries(value).map(([prefix, folder]) => [prefix.replace(/\/$/, ''), folder]));
}

function toList(value: string | readonly string[] | undefined): readonly string[] {
  return (value === undefined ? [] : typeof value === 'string' ? [value] : value).map((name) => name.toLowerCase());
}

/** Names that stand twice among an environment's domains and aliases. */
function findDomainProblems(base: Section, section: Section | undefined, name: string, source: YamlSource): Problem[] {
  const merged = mergeSections(base, section);
  const seen = new Map<string, string>();
  const problems: Problem[] = [];
  for (const key of ['domain', 'aliases'] as const) {
    const written: Path = section?.[key] === undefined ? [key] : ['environments', name, key];
    toList(merged[key]).forEach((domain, index) => {
      const path = typeof merged[key] === 'string' ? written : [...written, index];
      const first = seen.get(domain);
      if (first === undefined) seen.set(domain, formatPath(path));
      else
        problems.push({ ...source.valuePlace(path), message: `${formatPath(path)}: ${domain} is already in ${first}` });
    });
  }
  return problems;
}

/** Services that are to be on nodes that the environment does not have. */
function findNodeProblems(
  base: Section,
  section: Section | undefined,
  { environment, nodes }: ManifestContext,
  source: YamlSource,
): Problem[] {
  return resolveServices(mergeSections(base, section).services).flatMap(({ name, node }) => {
    if (node === undefined || nodes === undefined || nodes.includes(node)) return [];
    const below: Path = ['services', name, NODE_OPTION];
    const inEnvironment: Path = ['environments', environment, ...below];
    const path = source.has(inEnvironment) ? inEnvironment : below;
    return [
      {
        ...source.valuePlace(path),
        message: `${formatPath(path)}: ${environment} has no node ${JSON.stringify(node.slice(0, 60))}${didYouMean(node, nodes)}`,
      },
    ];
  });
}

function resolveDomains(
  section: Section,
  context: ManifestContext,
  source: YamlSource,
  problems: Problem[],
): readonly string[] {
  const written = toList(section.domain);
  if (written.length > 0) return written;
  const { domainPattern, environment, project } = context;
  if (domainPattern === null) {
    problems.push({
      ...source.keyPlace([]),
      message: `domain: missing, and the environment ${environment} has no pattern for it`,
    });
    return [];
  }
  const domain = expandDomainPattern(domainPattern, project);
  const aliases = toList(section.aliases);
  const problem = findDomainProblem(domain);
  if (problem !== null)
    problems.push({
      ...source.keyPlace([]),
      message: `domain: missing, and the pattern's is no domain name: ${problem}`,
    });
  if (aliases.includes(domain)) {
    problems.push({
      ...source.keyPlace(['aliases']),
      message: `aliases: ${domain} is already the environment's domain`,
    });
  }
  return [domain];
}

function hintsFor(problems: readonly Problem[]): string[] {
  return problems.some(({ message }) => message.startsWith('domain: missing'))
    ? ['add a line: domain: www.example.com']
    : [];
}

function resolve(section: Section, domains: readonly string[], context: ManifestContext, source: YamlSource): Manifest {
  const packageName = section.package ?? context.project.replaceAll('-', '_');
  const src = normaliseTreePath(section.src ?? packageName) as TreePath;
  const threads = section.threads ?? 1;
  const workerClass = section.worker_class ?? 'sync';
  return {
    domains,
    aliases: toList(section.aliases),
    wsgi: section.wsgi ?? null,
    workers: section.workers ?? null,
    threads,
    // gunicorn does the same by itself; said here so that what is shown is what runs.
    workerClass: workerClass === 'sync' && threads > 1 ? 'gthread' : workerClass,
    environ: Object.fromEntries(Object.entries(section.environ ?? {}).map(([name, value]) => [name, String(value)])),
    package: packageName,
    packageNamed: section.package !== undefined,
    src,
    srcNamed: section.src !== undefined,
    requirements: normaliseTreePath(section.requirements ?? 'requirements.txt') as TreePath,
    requirementsNamed: section.requirements !== undefined,
    python: `/usr/bin/python${section.python ?? '3'}` as AbsolutePath,
    static: resolveStatic(section.static, src),
    healthcheck: resolveHealthcheck(section.healthcheck),
    timeoutMs: toMs(section.timeout ?? 30),
    keepReleases: section.keep_releases ?? 5,
    build: section.build?.trim() ?? null,
    release: section.release?.trim() ?? null,
    scrub: section.scrub?.trim() ?? null,
    services: resolveServices(section.services, placeOfService(context, source)),
    where: (path) => {
      const parts = splitPath(path);
      const inEnvironment: Path = ['environments', context.environment, ...parts];
      const written = source.has(inEnvironment) ? inEnvironment : source.has(parts) ? parts : null;
      if (written === null) return MANIFEST_FILE;
      const { line, column } = source.keyPlace(written);
      return `${MANIFEST_FILE}:${line}:${column}`;
    },
  };
}

/** Static prefixes may hold dots: only the first one parts the key from the rest, except in lists. */
function splitPath(path: string): string[] {
  const [key = '', ...rest] = path.split('.');
  return key === 'static' && rest.length > 0 ? [key, rest.join('.')] : [key, ...rest];
}

function resolveStatic(written: Section['static'], src: TreePath): StaticFolder[] {
  if (written === undefined) {
    return [{ prefix: '/static', folder: (src === '.' ? 'static' : `${src}/static`) as TreePath, named: false }];
  }
  const folders = Object.entries(mappingOf('static', written) ?? {});
  return folders.map(([prefix, folder]) => ({
    prefix,
    folder: normaliseTreePath(String(folder)) as TreePath,
    named: true,
  }));
}

function resolveHealthcheck(written: Section['healthcheck']): Healthcheck {
  const given = typeof written === 'string' ? { path: written } : (written ?? {});
  const [min, max = min] = String(given.status ?? '200-399').split('-');
  return {
    path: given.path ?? '/',
    statusMin: Number(min),
    statusMax: Number(max),
    timeoutMs: toMs(given.timeout ?? 5),
    intervalMs: toMs(given.interval ?? 1),
    retries: given.retries ?? 10,
    settleMs: toMs(given.settle ?? 0),
  };
}

function toMs(seconds: number): number {
  return Math.round(seconds * 1000);
}

/** Where a service stands in the file, as a number that rises. */
function placeOfService({ environment }: ManifestContext, source: YamlSource): (name: string) => number {
  return (name) => {
    const path = [
      ['services', name],
      ['environments', environment, 'services', name],
    ].find((one) => source.has(one));
    const { line, column } = source.keyPlace(path ?? []);
    return line * 100_000 + column;
  };
}

/** In the order in which they are named: it decides who gives a variable. What has validated them has put them in one of its own. */
function resolveServices(
  written: Section['services'],
  placeOf: (name: string) => number = () => 0,
): ServiceRequirement[] {
  if (written === undefined) return [];
  if (Array.isArray(written)) return written.map((name: string) => ({ name: name as ServiceName, options: {} }));
  const entries = Object.entries(written as Record<string, Options | null>);
  return entries
    .toSorted(([a], [b]) => placeOf(a) - placeOf(b))
    .map(([name, given]) => {
      const { [NODE_OPTION]: node, ...options } = given ?? {};
      return { name: name as ServiceName, options, ...(typeof node === 'string' && { node }) };
    });
}
