/** What a release is and what its process gets: artifact + configuration, computed once and kept. Pure. */
import type {
  CommitId,
  HealthcheckRequest,
  HelloResult,
  InstanceName,
  NodeProfile,
  TreePath,
} from '../../node-agent/protocol.ts';
import type { Manifest } from '../manifest.ts';
import { type Target, targetName } from '../target.ts';

/** The configuration of one release, as the journal keeps it: from this and the artifact it can be made ready again. */
export interface ReleaseSpec
  extends Omit<Manifest, 'wsgi' | 'package' | 'packageNamed' | 'src' | 'srcNamed' | 'where'> {
  /** `module:callable` */
  wsgi: string;
  /** Goes before everything else on Python's path; `.`: nothing needed. */
  pythonPath: TreePath;
  /** Raised by `-o upgrade-packages`; part of the virtualenv's key. */
  generation: number;
}

/** @param files of the tree: a default static folder that is not there is not served */
export function planRelease(
  manifest: Manifest,
  wsgi: { module: string; callable: string; pythonPath: TreePath },
  files: ReadonlySet<string>,
  generation: number,
): ReleaseSpec {
  const { domains, aliases, workers, threads, workerClass, environ, requirements, requirementsNamed, python } =
    manifest;
  const { healthcheck, timeoutMs, keepReleases, build, release, scrub, services } = manifest;
  const present = (folder: string): boolean =>
    folder === '.' || [...files].some((file) => file.startsWith(`${folder}/`));
  return {
    domains,
    aliases,
    wsgi: `${wsgi.module}:${wsgi.callable}`,
    pythonPath: wsgi.pythonPath,
    workers,
    threads,
    workerClass,
    environ,
    requirements,
    requirementsNamed,
    python,
    static: manifest.static.filter((entry) => entry.named || build !== null || present(entry.folder)),
    healthcheck,
    timeoutMs,
    keepReleases,
    build,
    release,
    scrub,
    services,
    generation,
  };
}

const WORKER_BYTES = 256 * 1024 * 1024;

/** One worker per core, at least two so that one slow request does not block the site, as far as memory goes. */
export function countWorkers(
  spec: Pick<ReleaseSpec, 'workers'>,
  node: Pick<HelloResult, 'cores' | 'memoryBytes'>,
): number {
  return spec.workers ?? Math.max(2, Math.min(node.cores, 8, Math.floor(node.memoryBytes / 2 / WORKER_BYTES)));
}

export function planHealthcheck(spec: ReleaseSpec): HealthcheckRequest {
  return { ...spec.healthcheck, host: spec.domains[0] ?? 'localhost', bootMs: 60_000 };
}

/** Where a router on the same machine finds a site: the router has the other addresses. */
export const BEHIND_ROUTER = '127.0.0.2';

/** Where nginx listens for a site, and what follows its domains in URLs. @param behind a router on the same node */
export function listensOf(profile: NodeProfile, behind: boolean): { listens: string[]; portSuffix: string } {
  if (profile.profile === 'system')
    return { listens: behind ? [`${BEHIND_ROUTER}:80`] : ['80', '[::]:80'], portSuffix: '' };
  const address = behind ? BEHIND_ROUTER : '127.0.0.1';
  return { listens: [`${address}:__HTTP_PORT__`], portSuffix: ':__HTTP_PORT__' };
}

/** What a service adds to a site, from its service.yaml. */
export interface ServiceFacts {
  uploads: boolean;
  /** Those that no service before it gives. */
  variables: Readonly<Record<string, string>>;
}

export interface SitePaths {
  root: string;
  site: string;
  runtime: string;
}

export function sitePaths(root: string, instance: InstanceName): SitePaths {
  const base = root === '/' ? '' : root;
  return { root: base, site: `${base}/web/${instance}`, runtime: `${base}/run/kraftwerk/${instance}` };
}

/**
 * The socket of what serves, as nginx connects to it: its path goes through `current`. On a rootless node relative to its
 * root, which may be long: a socket's path has 107 bytes.
 */
export function upstreamSocket({ root }: SitePaths, instance: InstanceName): string {
  return `${root === '' ? '/' : ''}web/${instance}/current/.run/web.sock`;
}

/** Variables for every process of a release, without what the configuration or a service adds. */
export function baseEnvironment(
  target: Target,
  release: number,
  commit: CommitId,
  paths: SitePaths,
): Record<string, string> {
  return {
    SITE_ROOT: paths.site,
    KRAFTWERK_PROJECT: target.project,
    KRAFTWERK_ENVIRONMENT: target.environment,
    KRAFTWERK_RELEASE: `v${release}`,
    KRAFTWERK_COMMIT: commit,
    HOME: paths.site,
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    PYTHONUNBUFFERED: '1',
  };
}

/** All of a process's variables: services' lose to the project's own `environ`. */
export function siteEnvironment(
  base: Readonly<Record<string, string>>,
  spec: ReleaseSpec,
  services: readonly ServiceFacts[],
  paths: SitePaths,
  release: number,
): Record<string, string> {
  const variables = Object.assign({}, ...services.map((service) => service.variables)) as Record<string, string>;
  const pythonPath =
    spec.pythonPath === '.' ? {} : { PYTHONPATH: `${paths.site}/releases/v${release}/${spec.pythonPath}` };
  return { ...base, ...pythonPath, ...variables, ...spec.environ };
}

/** What `-o plan` shows: one line per difference to what serves. */
export function describeChanges(
  target: Target,
  next: { spec: ReleaseSpec; commit: string; sha256: string; release: number },
  current: { spec: ReleaseSpec; commit: string; sha256: string; release: number } | null,
): string[] {
  if (current === null) {
    return [
      `${targetName(target)} would be created as v${next.release}`,
      ...SHOWN.map(([label, show]) => `${label}: ${show(next.spec)}`),
    ];
  }
  const lines = SHOWN.flatMap(([label, show]) => {
    const [before, after] = [show(current.spec), show(next.spec)];
    return before === after ? [] : [`${label}: ${before} -> ${after}`];
  });
  const code =
    current.sha256 === next.sha256
      ? 'code: unchanged'
      : `code: ${current.commit.slice(0, 7)} -> ${next.commit.slice(0, 7)}`;
  return [`v${current.release} -> v${next.release}`, code, ...lines];
}

const list = (values: readonly string[]): string => (values.length === 0 ? 'none' : values.join(', '));
const SHOWN: readonly (readonly [string, (spec: ReleaseSpec) => string])[] = [
  ['domains', (spec) => list(spec.domains)],
  ['aliases', (spec) => list(spec.aliases)],
  ['wsgi', (spec) => spec.wsgi],
  ['processes', (spec) => `gunicorn ${spec.workerClass} x${spec.workers ?? 'auto'}, ${spec.threads} threads`],
  ['services', (spec) => list(spec.services.map(({ name }) => name))],
  // Values may be secret: only the names.
  ['environ', (spec) => list(Object.keys(spec.environ).sort())],
  ['python', (spec) => spec.python],
  ['requirements', (spec) => spec.requirements],
  ['static', (spec) => list(spec.static.map(({ prefix, folder }) => `${prefix} from ${folder}`))],
  ['build', (spec) => spec.build ?? 'none'],
  ['release', (spec) => spec.release ?? 'none'],
  ['scrub', (spec) => spec.scrub ?? 'none'],
  ['healthcheck', (spec) => `GET ${spec.healthcheck.path} ${spec.healthcheck.statusMin}-${spec.healthcheck.statusMax}`],
];
