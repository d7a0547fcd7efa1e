/**
 * The contract between receiver and agent: names, errors, events, the requests about releases and nodes, and the parsers of
 * each. With `protocol-data.ts` (services and their data) and `requests.ts` (all of them) all that receiver/ may import.
 */
// Long because: both sides must be able to read the whole contract on one page.
declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** A repository's and project's name, `^[a-z][a-z0-9_-]{0,27}$`. */
export type ProjectName = Branded<'ProjectName'>;
/** A deploy environment's name, the same alphabet as a project's. */
export type EnvironmentName = Branded<'EnvironmentName'>;
/** Project + suffix: the name of a site on a node, at most 28 characters. */
export type InstanceName = Branded<'InstanceName'>;
/** A service's name: a folder under `templates/services/`. */
export type ServiceName = Branded<'ServiceName'>;
/** 64 lower-case hexadecimal digits. */
export type Sha256 = Branded<'Sha256'>;
/** A full git object id, 40 or 64 lower-case hexadecimal digits. */
export type CommitId = Branded<'CommitId'>;
/** An absolute, normalised path without control characters. */
export type AbsolutePath = Branded<'AbsolutePath'>;
/** A relative path inside a tree: no `..`, no empty or `.git` segment; `.` is the tree itself. */
export type TreePath = Branded<'TreePath'>;
/** One start of a web process: its slot and a serial number, `a.17`; names the folder of its socket. */
export type BootName = Branded<'BootName'>;

/** Version of the requests and events below; raised when an older peer could misread one. */
export const PROTOCOL = 1;
export const LIMITS = {
  requestBytes: 4 * 1024 * 1024,
  artifactBytes: 512 * 1024 * 1024,
  fileBytes: 100 * 1024 * 1024,
  files: 50_000,
  depth: 64,
  pathBytes: 1024,
} as const;

export const EXIT_CODES = {
  ok: 0,
  failed: 1,
  usage: 2,
  config: 3,
  denied: 4,
  busy: 5,
  unhealthy: 6,
} as const;
export type ExitName = keyof typeof EXIT_CODES;

export interface KraftwerkErrorOptions {
  /** The next action, a command that can be pasted where there is one. */
  hint?: string | readonly string[];
  /** Further lines for people: output of a child, further errors. */
  lines?: readonly string[];
  /** The step of a deploy in which it happened. */
  step?: string;
  /** A few words for git's own status line, without line breaks. */
  reason?: string;
  exit?: ExitName;
  cause?: unknown;
}

/** A failure that its reader can act on. Message: where: what, got what. Anything else that is thrown is a bug. */
export class KraftwerkError extends Error {
  readonly code: string;
  readonly hints: readonly string[];
  readonly lines: readonly string[];
  readonly exit: ExitName;
  readonly step: string | undefined;
  readonly reason: string | undefined;

  constructor(code: string, message: string, options: KraftwerkErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KraftwerkError';
    this.code = code;
    this.hints = options.hint === undefined ? [] : typeof options.hint === 'string' ? [options.hint] : options.hint;
    this.lines = options.lines ?? [];
    this.exit = options.exit ?? 'failed';
    this.step = options.step;
    this.reason = options.reason;
  }
}

export interface WireError {
  code: string;
  message: string;
  hints: readonly string[];
  lines: readonly string[];
  exit: ExitName;
  step?: string;
  reason?: string;
}

export function toWireError(error: KraftwerkError): WireError {
  const { code, message, hints, lines, exit, step, reason } = error;
  return { code, message, hints, lines, exit, ...(step && { step }), ...(reason && { reason }) };
}

export function fromWireError(wire: WireError): KraftwerkError {
  return new KraftwerkError(wire.code, wire.message, {
    hint: wire.hints,
    lines: wire.lines,
    exit: wire.exit,
    ...(wire.step && { step: wire.step }),
    ...(wire.reason && { reason: wire.reason }),
  });
}

// ---------------------------------------------------------------- parsers

/** Where a value stands in a request, for the error message: `prepare.artifact.sha256`. */
export type Parser<T> = (value: unknown, where: string) => T;

export function refuse(where: string, expected: string, value: unknown): never {
  const got = JSON.stringify(value)?.slice(0, 60) ?? typeof value;
  throw new KraftwerkError('protocol.invalid', `${where}: expected ${expected}, got ${got}`);
}

export function pattern<T extends string>(regex: RegExp, expected: string): Parser<T> {
  return (value, where) =>
    typeof value === 'string' && regex.test(value) ? (value as T) : refuse(where, expected, value);
}

export const PROJECT_PATTERN = /^[a-z][a-z0-9_-]{0,27}$/;
const NAME_RULE = 'a lower-case letter, then at most 27 of a-z 0-9 _ -';
export const parseProjectName: Parser<ProjectName> = pattern(PROJECT_PATTERN, NAME_RULE);
export const parseEnvironmentName: Parser<EnvironmentName> = pattern(PROJECT_PATTERN, NAME_RULE);
export const parseInstanceName: Parser<InstanceName> = pattern(PROJECT_PATTERN, NAME_RULE);
export const parseServiceName: Parser<ServiceName> = pattern(PROJECT_PATTERN, NAME_RULE);
export const parseSha256: Parser<Sha256> = pattern(/^[0-9a-f]{64}$/, 'a sha256 in hexadecimal');
export const parseCommitId: Parser<CommitId> = pattern(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/, 'a full commit id');
export const parseBootName: Parser<BootName> = pattern(/^[ab]\.[1-9][0-9]{0,9}$/, 'a slot and a number, as a.17');

export const parseAbsolutePath: Parser<AbsolutePath> = (value, where) => {
  const good =
    typeof value === 'string' &&
    /^\/[^\p{Cc}]*$/u.test(value) &&
    !value
      .split('/')
      .some((part, index) => part === '.' || part === '..' || (part === '' && index > 0 && value !== '/'));
  return good ? (value as AbsolutePath) : refuse(where, 'an absolute path', value);
};

export const parseTreePath: Parser<TreePath> = (value, where) => {
  if (value === '.') return value as TreePath;
  const good =
    typeof value === 'string' &&
    value.length <= LIMITS.pathBytes &&
    /^[^\p{Cc}\\]+$/u.test(value) &&
    value.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && part.toLowerCase() !== '.git');
  return good ? (value as TreePath) : refuse(where, 'a relative path inside the project', value);
};

export const parseString: Parser<string> = (value, where) =>
  typeof value === 'string' && !value.includes('\0') ? value : refuse(where, 'text without NUL', value);
export const parseBoolean: Parser<boolean> = (value, where) =>
  typeof value === 'boolean' ? value : refuse(where, 'true or false', value);

export function integer(min: number, max: number): Parser<number> {
  return (value, where) =>
    Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
      ? (value as number)
      : refuse(where, `a whole number from ${min} to ${max}`, value);
}

export function oneOf<const T extends string>(...choices: readonly T[]): Parser<T> {
  return (value, where) => (choices.includes(value as T) ? (value as T) : refuse(where, choices.join(' or '), value));
}

export function list<T>(item: Parser<T>, max: number): Parser<readonly T[]> {
  return (value, where) =>
    Array.isArray(value) && value.length <= max
      ? value.map((entry, index) => item(entry, `${where}[${index}]`))
      : refuse(where, `a list of at most ${max}`, value);
}

export function nullable<T>(inner: Parser<T>): Parser<T | null> {
  return (value, where) => (value === null ? null : inner(value, where));
}

type Shape = Record<string, Parser<unknown>>;
type ShapeOf<S extends Shape> = { readonly [K in keyof S]: ReturnType<S[K]> };

/** An object with exactly the keys of `shape`. */
export function object<S extends Shape>(shape: S): Parser<ShapeOf<S>> {
  return (value, where) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(where, 'an object', value);
    const given = value as Record<string, unknown>;
    for (const key of Object.keys(given))
      if (!Object.hasOwn(shape, key)) refuse(`${where}.${key}`, 'no such key', given[key]);
    return Object.fromEntries(
      Object.entries(shape).map(([key, parse]) => [key, parse(given[key], `${where}.${key}`)]),
    ) as ShapeOf<S>;
  };
}

export const VARIABLE_PATTERN = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
export const parseVariables: Parser<Readonly<Record<string, string>>> = (value, where) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(where, 'variables', value);
  for (const [name, text] of Object.entries(value as object)) {
    if (!VARIABLE_PATTERN.test(name)) refuse(`${where}.${name}`, 'the name of a variable', name);
    parseString(text, `${where}.${name}`);
  }
  return value as Record<string, string>;
};

// ---------------------------------------------------------------- requests

export const parseReleaseNumber = integer(1, 1_000_000);
export const parseScript = parseString;

const parseRootlessProfile = object({
  profile: oneOf('rootless'),
  root: parseAbsolutePath,
  httpPort: integer(0, 65_535),
});
const parseSystemProfile = object({ profile: oneOf('system') });

/**
 * How a node is laid out. `rootless`: everything below `root`, run by the calling user, sites on `httpPort` (0: a free one).
 * `system`: the whole machine, run by root, with the system's own nginx on port 80 and its runit, a user for each site.
 */
export type NodeProfile = ReturnType<typeof parseRootlessProfile> | ReturnType<typeof parseSystemProfile>;
export const parseNodeProfile: Parser<NodeProfile> = (value, where) =>
  (value as NodeProfile | null)?.profile === 'system'
    ? parseSystemProfile(value, where)
    : parseRootlessProfile(value, where);

/** Where a node's tree begins, and the port of its nginx (0: known on the node only). */
export function nodePlace(profile: NodeProfile): { root: AbsolutePath; httpPort: number } {
  return profile.profile === 'system' ? { root: '/' as AbsolutePath, httpPort: 80 } : profile;
}

/** Every site's user is in it. */
export const WEB_GROUP = 'web';
export const NGINX_USER = 'www-data';
/** Writes the logs of all sites: no site can read or change its own. */
export const LOG_USER = 'kraftwerk-log';
/** Makes byte code of what was pushed: neither root, nor a site, which could then change its own release. */
export const COMPILE_USER = 'kraftwerk-compile';

/** Who a site's processes are on a system node. docs/isolation.md says who may do what, and why. */
export interface SiteOwner {
  /** Its user, and the group of the same name that it alone is in. */
  user: string;
  /** Who may enter the site's folders at all: its user and nginx. */
  gate: string;
  /** User and groups as chpst takes them. */
  identity: string;
  /** The user of pip and `build` commands, and its group: a broken-in site must not reach what the next release is made of. */
  builder: string;
  /** The builder as chpst takes it: it may read the site's tree and virtualenv. */
  builderIdentity: string;
}

/** Null where everything belongs to the user who runs the agent. */
export function siteOwner(profile: NodeProfile, instance: InstanceName): SiteOwner | null {
  if (profile.profile === 'rootless') return null;
  // All prefixes have as many letters as the 32 of a user's name leave beside an instance's 28.
  const [user, gate, builder] = [`web-${instance}`, `ngx-${instance}`, `bld-${instance}`];
  return {
    ...{ user, gate, builder },
    identity: `${user}:${user}:${gate}:${WEB_GROUP}`,
    builderIdentity: `${builder}:${builder}:${user}:${gate}`,
  };
}

/** Rendered from `templates/node/`; in `nginxConf` the agent fills the port in for `__HTTP_PORT__`. */
const parseRootlessFiles = object({ nginxConf: parseString, nginxRun: parseScript, nginxLog: parseScript });
/** Null on a system node: `setup-node` has made what it needs. */
const parseNodeFiles = nullable(parseRootlessFiles);
export type NodeFiles = ReturnType<typeof parseNodeFiles>;

const parseHealthcheck = object({
  path: parseString,
  host: parseString,
  statusMin: integer(100, 599),
  statusMax: integer(100, 599),
  timeoutMs: integer(1, 600_000),
  intervalMs: integer(1, 600_000),
  retries: integer(1, 1000),
  settleMs: integer(0, 600_000),
  bootMs: integer(1, 600_000),
});
export type HealthcheckRequest = ReturnType<typeof parseHealthcheck>;

export const parseVariableName: Parser<string> = pattern(VARIABLE_PATTERN, 'the name of a variable');

export const parseServiceRequest = object({
  name: parseServiceName,
  /** Debian packages that the node must have, and units that come with them and are not wanted. A rootless node installs none. */
  packages: list(pattern<string>(/^[a-z0-9][a-z0-9+.-]{1,100}$/, 'a Debian package'), 50),
  disable: list(pattern<string>(/^[A-Za-z0-9][A-Za-z0-9@_.-]{0,100}\.(?:service|socket|timer)$/, 'a unit'), 50),
  setup: parseScript,
  /** For its scripts. */
  environment: parseVariables,
  /** Variables that its scripts write on the node and that the site gets; not those that somebody else gives. */
  written: list(parseVariableName, 50),
});
export type ServiceRequest = ReturnType<typeof parseServiceRequest>;

/** What one site may use at most; null: as much as there is. A system node heeds it. */
export const parseLimits = object({
  /** Of each of its web processes with its workers, and of each command that is run for it. */
  memoryBytes: nullable(integer(1024 * 1024, Number.MAX_SAFE_INTEGER)),
  processes: nullable(integer(10, 1_000_000)),
});
export type Limits = ReturnType<typeof parseLimits>;

/** What `templates/project/` gives for one release of one instance. */
const parseSiteFiles = object({
  /** nginx's file for the site. */
  site: parseString,
  /**
   * Starts the release's web process; `$1` is the socket's path, relative to the release where the root may be long. The line
   * `WRITTEN_VARIABLES` stands for what services have written on the node.
   */
  run: parseScript,
  /** The slots' `run`, `finish` and `log/run`; `__SLOT__` stands for a or b, `__LIMIT__` for what holds it to its limits. */
  slotRun: parseScript,
  slotFinish: parseScript,
  slotLog: parseScript,
  /** Folders of the tree that nginx serves. On a system node it sees nothing else of it. */
  served: list(parseTreePath, 1000),
  limits: nullable(parseLimits),
});
export type SiteFiles = ReturnType<typeof parseSiteFiles>;

/** A line of a run script, for which the agent puts the variables that services have written. */
export const WRITTEN_VARIABLES = '# __WRITTEN_VARIABLES__';

export const base = { node: parseNodeProfile, files: parseNodeFiles };

export const parsePrepare = object({
  ...base,
  op: oneOf('prepare'),
  /**
   * How much of it. Where a release command must not run before every node has built, it comes in three requests: `build`
   * makes the tree, `release` runs the command on one node, `boot` starts the process.
   */
  part: oneOf('all', 'build', 'release', 'boot'),
  instance: parseInstanceName,
  /** `blog/live`, for messages. */
  target: parseString,
  release: parseReleaseNumber,
  artifact: object({ sha256: parseSha256, bytes: integer(0, LIMITS.artifactBytes) }),
  site: parseSiteFiles,
  services: list(parseServiceRequest, 50),
  /** Those that another node has, and the variables that were written there; their links are made by a request of their own. */
  linked: list(object({ name: parseServiceName, written: list(parseVariableName, 50) }), 50),
  /** False: `-o no-service-setup`. What the services give is given all the same. */
  setUpServices: parseBoolean,
  python: parseAbsolutePath,
  requirements: nullable(parseTreePath),
  /** False when kraftwerk.yaml does not name the file: then it may be missing. */
  requirementsNamed: parseBoolean,
  /** Part of the virtualenv's key; `-o upgrade-packages` raises it. */
  generation: integer(0, 1_000_000),
  build: nullable(parseString),
  /** Null where another node runs it, or `-o skip-release`. */
  releaseCommand: nullable(parseString),
  /** For `build`: nothing secret. */
  buildEnvironment: parseVariables,
  /** For the release command: all of the site's. */
  environment: parseVariables,
  /** For the transcript: `gunicorn blog.wsgi x2`. */
  startLabel: parseString,
  health: parseHealthcheck,
  /** How long an old process may drain. */
  timeoutMs: integer(1, 3_600_000),
  /** Run services' scripts though they have not changed. */
  override: parseBoolean,
  pipTimeoutMs: integer(1, 3_600_000),
});
export type PrepareRequest = ReturnType<typeof parsePrepare>;

/** The release and boot that serve, or are to serve. */
const parseServing = object({ release: parseReleaseNumber, boot: parseBootName });
export type Serving = ReturnType<typeof parseServing>;

export const parseActivate = object({
  ...base,
  op: oneOf('activate'),
  instance: parseInstanceName,
  serve: parseServing,
});
export type ActivateRequest = ReturnType<typeof parseActivate>;

/** Drain and stop what served before, then remove what is not kept. */
export const parseRetire = object({
  ...base,
  op: oneOf('retire'),
  instance: parseInstanceName,
  /** The boot that has been replaced; null: there was none. Whatever else runs may be on trial and is left alone. */
  old: nullable(parseBootName),
  /** What serves. By the time it is asked another may: then that one's retire knows better what is kept. */
  release: parseReleaseNumber,
  timeoutMs: integer(1, 3_600_000),
  healthPath: parseString,
  host: parseString,
  /** Releases whose trees stay. The current one always does. */
  keep: list(parseReleaseNumber, 1000),
});
export type RetireRequest = ReturnType<typeof parseRetire>;

/** Take back a prepared, half prepared or half activated release: stop its process, remove its tree unless it is in `keep`. */
export const parseAbandon = object({
  ...base,
  op: oneOf('abandon'),
  instance: parseInstanceName,
  /** What is to serve again; null: what `current` names stays. The rest is for the process that serves until then, as in `retire`. */
  restore: nullable(
    object({
      serve: nullable(parseServing),
      timeoutMs: integer(1, 3_600_000),
      healthPath: parseString,
      host: parseString,
    }),
  ),
  keep: list(parseReleaseNumber, 1000),
});
export type AbandonRequest = ReturnType<typeof parseAbandon>;

export const parseProcess = object({
  ...base,
  op: oneOf('stop', 'start'),
  instance: parseInstanceName,
  timeoutMs: integer(1, 3_600_000),
  health: nullable(parseHealthcheck),
});
export type ProcessRequest = ReturnType<typeof parseProcess>;

export const parseStatus = object({
  ...base,
  op: oneOf('status'),
  instances: list(parseInstanceName, 10_000),
  /** Measuring memory costs a millisecond per process. */
  memory: parseBoolean,
});
export type StatusRequest = ReturnType<typeof parseStatus>;

export const parseLogs = object({
  ...base,
  op: oneOf('logs'),
  instance: parseInstanceName,
  lines: integer(0, 100_000),
  follow: parseBoolean,
  process: nullable(pattern<string>(/^[a-z][a-z0-9_-]{0,27}$/, 'the name of a process')),
  release: nullable(parseReleaseNumber),
});
export type LogsRequest = ReturnType<typeof parseLogs>;

/** Take the site's lock and hold it for the requests that follow: a deploy is on its way. */
export const parseReady = object({ ...base, op: oneOf('ready'), instance: parseInstanceName });
export type ReadyRequest = ReturnType<typeof parseReady>;

/** Let go of everything: a conversation has ended, and another may begin with the same agent, later. */
export const parseRest = object({ ...base, op: oneOf('rest') });
export type RestRequest = ReturnType<typeof parseRest>;

/** The file of a router for one instance: nginx's, balancing over other nodes. */
export const parseRoute = object({
  ...base,
  op: oneOf('route'),
  instance: parseInstanceName,
  /** Null: it goes. */
  file: nullable(parseString),
  /** Whether nginx would take it; nothing changes. */
  testOnly: parseBoolean,
});
export type RouteRequest = ReturnType<typeof parseRoute>;

/** `hello`: bring the node's own nginx and runsvdir up and say what the node is. */
export const parseNodeRequest = object({ ...base, op: oneOf('hello', 'shutdown') });
export type NodeRequest = ReturnType<typeof parseNodeRequest>;

// ---------------------------------------------------------------- events

/** The steps of a deploy, in order, as the pusher sees them. */
export type StepName =
  | 'Config'
  | 'Artifact'
  | 'Unpack'
  | 'Packages'
  | 'Build'
  | 'Services'
  | 'Release'
  | 'Start'
  | 'Health'
  | 'Settle'
  | 'Switch'
  | 'Stop'
  | 'Dump'
  | 'Check'
  | 'Load'
  | 'Swap'
  | 'Scrub'
  | 'Copy'
  | 'Remove';

export type DeployEvent =
  /** A step ended well. `quiet`: kept in the journal, not shown. */
  | { event: 'step'; step: StepName; detail: string; ms: number; quiet?: boolean }
  /** A step goes on; sent every few seconds. `what`: "installing flask". */
  | { event: 'progress'; step: StepName; what: string; ms: number }
  | { event: 'output'; step: StepName; line: string }
  | { event: 'warning'; message: string; hint?: string };

export type LogLine = { event: 'log'; process: string; slot: string; release: number | null; at: string; text: string };

export type AgentEvent =
  | DeployEvent
  | LogLine
  /** The agent wants the artifact's bytes on its stdin now. */
  | { event: 'send' }
  /** A piece of what an export or a command gives, in base64. The receiver's are frames, see `protocol-data.ts`. */
  | { event: 'data'; stream: 'out' | 'err'; data: string }
  /** So many bytes of the frames have been passed on: as many more may come. */
  | { event: 'taken'; bytes: number }
  | { event: 'result'; ok: true; value: unknown }
  | { event: 'result'; ok: false; error: WireError };

export function isDeployEvent(event: AgentEvent): event is DeployEvent {
  return ['step', 'progress', 'output', 'warning'].includes(event.event);
}

export interface PrepareResult {
  boot: BootName;
  /** The tree was there already (a rollback, a restart): abandoning keeps it. */
  reused: boolean;
  /** What serves while this waits to be activated, and is gone back to if that fails. */
  previous: Serving | null;
  httpPort: number;
  virtualenv: string | null;
}

export interface ActivateResult {
  httpPort: number;
}

export interface ProcessStatus {
  name: string;
  slot: string;
  state: 'run' | 'down' | 'finish' | 'absent';
  /** Whether it is the one that visitors reach; another one is on trial, or drains. */
  serves: boolean;
  release: number | null;
  pid: number | null;
  uptimeS: number | null;
  /** Memory of the process and its children, bytes, shared pages divided; null where it was not asked for. */
  memoryBytes: number | null;
  workers: number;
}

export interface InstanceStatus {
  instance: InstanceName;
  current: Serving | null;
  stopped: boolean;
  /** Visitors get the page of `maintenance`. */
  maintenance: boolean;
  releases: number[];
  processes: ProcessStatus[];
}

export interface StatusResult {
  instances: InstanceStatus[];
}

export interface RestResult {
  /** False when another agent has been put in this one's place: then this one is not to be used any more. */
  current: boolean;
}

/** What the receiver needs to know of a node to plan for it. */
export interface HelloResult {
  agentVersion: string;
  httpPort: number;
  cores: number;
  memoryBytes: number;
  /** What could be given to a new process. */
  memoryFreeBytes: number;
  diskBytes: number;
  diskFreeBytes: number;
  /** Of the last minute. */
  load1: number;
  /** The node's clock when it answered, ISO. */
  clock: string;
  /** What the machine calls itself. */
  hostname: string;
  /** Addresses of its network interfaces, loopback aside. */
  addresses: string[];
  /** What it routes to other nodes: by instance, the sha256 of nginx's file. */
  routes: Record<string, Sha256>;
}
