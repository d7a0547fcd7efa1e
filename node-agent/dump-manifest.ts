/** `manifest.json` of a dump: what it is, what it holds, and the checksum of the list of its files. */
import type { ListSum } from './dump-list.ts';
import {
  integer,
  KraftwerkError,
  list,
  nullable,
  object,
  oneOf,
  parseReleaseNumber,
  parseServiceName,
  parseSha256,
  parseString,
  type ServiceName,
} from './protocol.ts';
import { DUMP_REASONS, type DumpSummary, parseDumpName } from './protocol-data.ts';
import type { System } from './system.ts';

export const MANIFEST_FILE = 'manifest.json';
const PROVEN_FILE = 'proven.json';
/** Raised when an older kraftwerk could misread a dump. */
export const DUMP_VERSION = 1;
const COUNT = integer(0, Number.MAX_SAFE_INTEGER);

const parseFields = object({
  version: integer(1, DUMP_VERSION),
  name: parseDumpName,
  target: parseString,
  reason: oneOf(...DUMP_REASONS),
  release: nullable(parseReleaseNumber),
  before: nullable(parseReleaseNumber),
  endedAt: parseString,
  services: list(object({ name: parseServiceName, files: COUNT, bytes: COUNT }), 50),
  bytes: COUNT,
  list: object({ sha256: parseSha256, entries: COUNT }),
});
export type Manifest = ReturnType<typeof parseFields>;
export interface ServiceSize {
  name: ServiceName;
  files: number;
  bytes: number;
}

/** @throws KraftwerkError `dump.damaged`, `dump.version` */
export function parseManifest(text: string, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KraftwerkError('dump.damaged', `${where}: not the manifest of a dump: no JSON`, { cause });
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > DUMP_VERSION)
    throw new KraftwerkError(
      'dump.version',
      `${where}: the dump is of version ${version}, this kraftwerk reads version ${DUMP_VERSION}`,
      { hint: 'bring this receiver to the version of kraftwerk that made the dump', reason: 'the dump is too new' },
    );
  try {
    return parseFields(value, where);
  } catch (cause) {
    throw new KraftwerkError('dump.damaged', cause instanceof Error ? cause.message : String(cause), {
      reason: 'the dump is damaged',
      cause,
    });
  }
}

/** Of a dump that is whole; null where there is none. @throws KraftwerkError `dump.damaged`, `dump.version` */
export function readManifest(system: System, folder: string): Manifest | null {
  const text = system.readText(`${folder}/${MANIFEST_FILE}`);
  return text === null ? null : parseManifest(text, MANIFEST_FILE);
}

export function encodeManifest(
  about: Pick<DumpSummary, 'name' | 'target' | 'reason' | 'release' | 'before'>,
  services: readonly ServiceSize[],
  sum: ListSum,
  endedAt: string,
): string {
  const { name, target, reason, release, before } = about;
  const bytes = services.reduce((all, one) => all + one.bytes, 0);
  const fields = { version: DUMP_VERSION, name, target, reason, release, before, endedAt, services, bytes, list: sum };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

export function summarise(system: System, folder: string, manifest: Manifest): DumpSummary {
  const { name, target, reason, release, before, endedAt, services, bytes } = manifest;
  return {
    name,
    target,
    reason,
    release,
    before,
    endedAt,
    services: [...services],
    bytes,
    provenAt: readProven(system, folder),
  };
}

function readProven(system: System, folder: string): string | null {
  try {
    const { provenAt } = JSON.parse(system.readText(`${folder}/${PROVEN_FILE}`) ?? '{}') as { provenAt?: unknown };
    return typeof provenAt === 'string' ? provenAt : null;
  } catch {
    return null;
  }
}

export function writeProven(system: System, folder: string): void {
  system.writeFile(
    `${folder}/${PROVEN_FILE}`,
    `${JSON.stringify({ provenAt: system.wallClock().toISOString() })}\n`,
    0o600,
  );
}
