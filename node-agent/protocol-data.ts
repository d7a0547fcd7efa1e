/** The contract about services and their data: dumps, loads, maintenance, the end of a site, commands in its environment. */
// Long because: as in protocol.ts, the whole contract on one page.
import {
  base,
  integer,
  KraftwerkError,
  list,
  nullable,
  object,
  oneOf,
  type Parser,
  parseBoolean,
  parseInstanceName,
  parseLimits,
  parseReleaseNumber,
  parseScript,
  parseServiceName,
  parseServiceRequest,
  parseString,
  parseVariableName,
  parseVariables,
  pattern,
  refuse,
  type ServiceName,
} from './protocol.ts';

declare const brand: unique symbol;
/** When a dump was begun, in UTC: `2026-11-22T10:20:30`. Its name, and that of its folder. */
export type DumpName = string & { readonly [brand]: 'DumpName' };
export const DUMP_NAME_PATTERN = /^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]$/;
export const parseDumpName: Parser<DumpName> = pattern(DUMP_NAME_PATTERN, 'a time as 2026-11-22T10:20:30');

/** Why a dump was made. Each kind is kept by a number of its own. */
export const DUMP_REASONS = ['asked', 'scheduled', 'load', 'sync', 'release', 'move', 'destroy', 'upload'] as const;
export type DumpReason = (typeof DUMP_REASONS)[number];
const parseReason = oneOf(...DUMP_REASONS);

/** A script of a service, rendered: which one, says the request. */
const parseServiceScript = object({
  name: parseServiceName,
  script: parseScript,
  environment: parseVariables,
});
export type ServiceScript = ReturnType<typeof parseServiceScript>;
const parseScripts = list(parseServiceScript, 50);

/** Whose variables a site gets beside those of its configuration. */
const parseWritten = list(object({ name: parseServiceName, written: list(parseVariableName, 50) }), 50);
export type WrittenVariables = ReturnType<typeof parseWritten>;

// ---------------------------------------------------------------- dumps

/**
 * A dump belongs to the target that its manifest names, and to no other that has the instance's name later: so whoever asks for
 * dumps says for whom.
 */
const parseDumpTarget = pattern<string>(/^[a-z][a-z0-9_-]{0,27}\/[a-z][a-z0-9_-]{0,27}$/, 'a target as blog/live');

/** All `dump.sh` at once; checksummed, durable, then published under its name. */
export const parseDump = object({
  ...base,
  op: oneOf('dump'),
  instance: parseInstanceName,
  /** For the manifest. */
  target: parseDumpTarget,
  name: parseDumpName,
  reason: parseReason,
  /** What served when it was made. */
  release: nullable(parseReleaseNumber),
  /** The release whose release command it was made for; null where there was none. */
  before: nullable(parseReleaseNumber),
  services: parseScripts,
  /** How many dumps of this reason stay, this one among them; older ones go when it is whole. */
  keep: integer(1, 10_000),
  /** One that stays, too, however old it is: it is about to be loaded. */
  spare: nullable(parseDumpName),
});
export type DumpRequest = ReturnType<typeof parseDump>;

/** What is said of a dump; `manifest.json` in its folder. */
export interface DumpSummary {
  name: DumpName;
  target: string;
  reason: DumpReason;
  release: number | null;
  before: number | null;
  /** ISO, when it was whole. */
  endedAt: string;
  services: { name: ServiceName; files: number; bytes: number }[];
  /** Of all files; those that are links to live ones need no room while these are there. */
  bytes: number;
  /** ISO, when it was last loaded into scratch databases and found good; null: never. */
  provenAt: string | null;
}

/** The target's dumps of a site, and those of it that are left of a destroyed site of that name. */
export const parseDumps = object({
  ...base,
  op: oneOf('dumps'),
  /** Null: those of all destroyed sites. */
  of: nullable(object({ instance: parseInstanceName, target: parseDumpTarget })),
});
export type DumpsRequest = ReturnType<typeof parseDumps>;
export interface DumpsResult {
  dumps: DumpSummary[];
  destroyed: DumpSummary[];
}

export const parseDropDumps = object({
  ...base,
  op: oneOf('drop-dumps'),
  instance: parseInstanceName,
  target: parseDumpTarget,
  names: list(parseDumpName, 10_000),
  destroyed: parseBoolean,
});
export type DropDumpsRequest = ReturnType<typeof parseDropDumps>;

/** Writes down that a dump was proven now. */
export const parseProve = object({
  ...base,
  op: oneOf('prove'),
  instance: parseInstanceName,
  target: parseDumpTarget,
  name: parseDumpName,
});
export type ProveRequest = ReturnType<typeof parseProve>;

/** Streams a dump as a tar, in `data` events; the last entry holds the checksums of all others. */
export const parseExport = object({
  ...base,
  op: oneOf('export'),
  instance: parseInstanceName,
  target: parseDumpTarget,
  name: parseDumpName,
});
export type ExportRequest = ReturnType<typeof parseExport>;
export interface ExportResult {
  bytes: number;
}

/** Takes a dump in: from frames that hold what `export` gave, or from another site of the same node. */
export const parseImport = object({
  ...base,
  op: oneOf('import'),
  instance: parseInstanceName,
  target: parseDumpTarget,
  /** Its name here. */
  name: parseDumpName,
  reason: parseReason,
  from: nullable(object({ instance: parseInstanceName, target: parseDumpTarget, name: parseDumpName })),
  keep: integer(1, 10_000),
});
export type ImportRequest = ReturnType<typeof parseImport>;

// ---------------------------------------------------------------- load

/**
 * One step of a load, for all services of the request. `check`: the dump is whole, its checksums are right, it holds these
 * services. The others are those of `load.sh`, docs/services.md. After `swap` and `back` the site's start script has the
 * variables that the services have written.
 */
export const parseLoad = object({
  ...base,
  op: oneOf('load'),
  instance: parseInstanceName,
  /** Whose dump it is. */
  target: parseDumpTarget,
  step: oneOf('check', 'new', 'swap', 'back', 'done'),
  /** Null for `swap`, `back` and `done`. */
  dump: nullable(parseDumpName),
  services: parseScripts,
  written: parseWritten,
});
export type LoadRequest = ReturnType<typeof parseLoad>;

// ---------------------------------------------------------------- the site around it

/** Answers 503 for all of the site, with a page of the admin's, at once and without a reload. */
export const parseMaintenance = object({
  ...base,
  op: oneOf('maintenance'),
  instance: parseInstanceName,
  /** The page; null: the site serves again. */
  page: nullable(parseString),
  /** nginx's file for the current release; null: it stays as it is. */
  siteFile: nullable(parseString),
});
export type MaintenanceRequest = ReturnType<typeof parseMaintenance>;

/** `service`: one service's data goes, the site stays. `site`: all of it goes but its dumps, which are put aside. */
export const parseDestroy = object({
  ...base,
  op: oneOf('destroy'),
  instance: parseInstanceName,
  part: oneOf('service', 'site'),
  services: parseScripts,
});
export type DestroyRequest = ReturnType<typeof parseDestroy>;

/** A command in the site's environment, in the tree of a release. Its input comes in frames, its output in `data` events. */
export const parseRun = object({
  ...base,
  op: oneOf('run'),
  instance: parseInstanceName,
  /** Null: the current one. */
  release: nullable(parseReleaseNumber),
  argv: list(parseString, 1000),
  environment: parseVariables,
  written: parseWritten,
  limits: nullable(parseLimits),
  /** Null: the site's. Never root. */
  user: nullable(pattern<string>(/^[a-z_][a-z0-9_-]{0,31}$/, 'the name of a user')),
  /** A terminal of that size, or none. */
  terminal: nullable(
    object({
      name: pattern<string>(/^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$/, 'the name of a terminal'),
      columns: integer(1, 10_000),
      rows: integer(1, 10_000),
    }),
  ),
  timeoutMs: integer(1, 2 ** 31 - 1),
});
export type RunRequest = ReturnType<typeof parseRun>;
export interface RunResult {
  /** As a shell gives it: 128 + n after signal n. */
  code: number;
}

/** What services have written of these variables on the node. */
export const parseVariablesRequest = object({
  ...base,
  op: oneOf('variables'),
  instance: parseInstanceName,
  written: parseWritten,
});
export type VariablesRequest = ReturnType<typeof parseVariablesRequest>;
export type VariablesResult = Readonly<Record<string, string>>;

/** Asks each service how it does, as the site's user. */
export const parseHealth = object({
  ...base,
  op: oneOf('health'),
  instance: parseInstanceName,
  services: list(object({ name: parseServiceName, command: list(parseString, 100) }), 50),
  environment: parseVariables,
  written: parseWritten,
});
export type HealthRequest = ReturnType<typeof parseHealth>;
export type HealthResult = { name: ServiceName; ok: boolean; lines: string[] }[];

// ---------------------------------------------------------------- several nodes

const parsePublicKey = pattern<string>(/^(?:ssh|ecdsa)-[a-z0-9-]{3,30} [A-Za-z0-9+/=]{40,2000}$/, 'a public key');

/** What a node needs to set services up without a deploy: one of them is about to be moved there. */
export const parseSetUp = object({
  ...base,
  op: oneOf('set-up'),
  instance: parseInstanceName,
  services: list(parseServiceRequest, 50),
});
export type SetUpRequest = ReturnType<typeof parseSetUp>;

/** The services that the site reaches on other nodes, all of them: links to others go. With none, its key goes, too. */
export const parseLinkKey = object({
  ...base,
  op: oneOf('link-key'),
  instance: parseInstanceName,
  linked: list(parseServiceName, 50),
});
export type LinkKeyRequest = ReturnType<typeof parseLinkKey>;
export interface LinkKeyResult {
  /** Made on the node, which keeps the other half; null: nothing is linked. */
  publicKey: string | null;
}

const SOCKET_PATH = /^(?:\/[A-Za-z0-9_.-]{1,60}){1,10}$/;

/** Who may come to this node for the site's services, and to which sockets: its other nodes, all of them. */
export const parseLinkAccept = object({
  ...base,
  op: oneOf('link-accept'),
  instance: parseInstanceName,
  guests: list(
    object({ key: parsePublicKey, sockets: list(pattern<string>(SOCKET_PATH, 'the path of a socket'), 100) }),
    100,
  ),
  /** Whether to say where sshd listens. */
  port: parseBoolean,
});
export type LinkAcceptRequest = ReturnType<typeof parseLinkAccept>;
export interface LinkAcceptResult {
  hostKeys: string[];
  /** Where sshd listens; null where nobody wanted to know, and nothing has changed. */
  port: number | null;
}

/** Makes links, those that are missing or different, and waits until they stand. */
export const parseLink = object({
  ...base,
  op: oneOf('link'),
  instance: parseInstanceName,
  links: list(
    object({
      service: parseServiceName,
      /** The node that has the data, for messages. */
      to: parseString,
      unit: parseString,
      /** ssh's configuration. */
      config: parseString,
      hostKeys: list(parsePublicKey, 20),
      sockets: list(pattern<string>(/^[A-Za-z0-9_.-]{1,40}$/, 'the name of a socket'), 10),
      /** What its scripts have written there, as it is to be here. */
      variables: parseVariables,
    }),
    50,
  ),
  /** For the start script of the release that serves; null: it stays as it is, a deploy is about to replace it. */
  written: nullable(parseWritten),
});
export type LinkRequest = ReturnType<typeof parseLink>;
export interface LinkResult {
  /** Services whose links were made, or made anew. */
  made: ServiceName[];
}

// ---------------------------------------------------------------- frames

/** What follows a request that takes input: one line of JSON each, until `end`. */
export type Frame =
  | { data: string }
  | { resize: { columns: number; rows: number } }
  /** A key of the terminal that is none: the client sends it as a signal. */
  | { signal: 'INT' | 'TERM' | 'HUP' | 'QUIT' }
  | { end: true };

/** Of the bytes before base64. */
export const FRAME_BYTES = 48 * 1024;
/**
 * For `run`: so many bytes may be on their way, more only when as many are `taken`. The agent reads what comes at once, so that
 * no signal waits behind input that nobody reads. An empty `data` is the end of the input; resizes and signals may follow.
 */
export const RUN_WINDOW_BYTES = 1024 * 1024;
const parseSize = object({ columns: integer(1, 10_000), rows: integer(1, 10_000) });
const parseSignal = oneOf('INT', 'TERM', 'HUP', 'QUIT');

/** @throws KraftwerkError `protocol.invalid` */
export function parseFrame(line: string): Frame {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(line) as Record<string, unknown>;
  } catch (cause) {
    throw new KraftwerkError('protocol.invalid', 'frame: not a line of JSON', { cause });
  }
  if (typeof value?.data === 'string' && value.data.length <= FRAME_BYTES * 2) return { data: value.data };
  if (value?.resize !== undefined) return { resize: parseSize(value.resize, 'frame.resize') };
  if (value?.signal !== undefined) return { signal: parseSignal(value.signal, 'frame.signal') };
  if (value?.end === true) return { end: true };
  return refuse('frame', 'data, resize, signal or end', value);
}

/** `data`, cut into frames. */
export function encodeFrame(frame: Frame): string {
  return `${JSON.stringify(frame)}\n`;
}
