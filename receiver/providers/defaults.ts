// What create-node and destroy-node take from the admin's configuration, which need not be a receiver's: it may hold these keys alone.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { findConfig } from '../cli/find-config.ts';
import type { Surroundings } from '../config.ts';
import { configSchema } from '../config-schema.ts';
import { type PublicKey, parsePublicKey } from '../keys.ts';
import { parseYaml, YamlError } from '../yaml-source.ts';
import { validate } from '../yaml-validate.ts';

const IDS = ['image_id', 'size_id', 'location_id'];
const DEFAULT_KEY = '~/.ssh/id_ed25519.pub';

export interface ProviderDefaults {
  /** The configuration; null: there is none. */
  file: string | null;
  provider: string | null;
  imageId: string | null;
  sizeId: string | null;
  locationId: string | null;
  pubkey: string | null;
  nodes: readonly string[];
  /** Environments by the nodes that they name. */
  environments: ReadonlyMap<string, readonly string[]>;
}

const NONE: ProviderDefaults = {
  ...{ file: null, provider: null, imageId: null, sizeId: null, locationId: null, pubkey: null },
  ...{ nodes: [], environments: new Map() },
};

/** @throws KraftwerkError `config.missing` for one that was named, `config.invalid` */
export function readDefaults(named: string | undefined, surroundings: Surroundings): ProviderDefaults {
  let file: string;
  let text: string;
  try {
    file = findConfig(named, surroundings);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const isNamed = named !== undefined || Boolean(surroundings.env.KRAFTWERK_CONFIG);
    if (isNamed && error instanceof KraftwerkError) throw error;
    // The machine's own may be for root alone.
    if (!isNamed && (error instanceof KraftwerkError || (error as NodeJS.ErrnoException).code === 'EACCES'))
      return NONE;
    throw new KraftwerkError(
      'config.unreadable',
      `the configuration cannot be read (${String((error as NodeJS.ErrnoException).code)})`,
      {
        exit: 'config',
        cause: error,
      },
    );
  }
  const source = parseYaml(text, {
    file,
    code: 'config.invalid',
    // 010 and 1e3 are ids, not numbers.
    isText: (at) => at.length === 1 && IDS.includes(String(at[0])),
  });
  const { value, problems } = validate(configSchema.partial(), source);
  if (value === null) throw new YamlError('config.invalid', file, problems);
  const id = (written: string | number | undefined): string | null => (written === undefined ? null : String(written));
  return {
    file,
    provider: value.provider ?? null,
    imageId: id(value.image_id),
    sizeId: id(value.size_id),
    locationId: id(value.location_id),
    pubkey: value.pubkey === undefined ? null : resolveKey(value.pubkey, path.dirname(file), surroundings.home),
    nodes: Object.keys(value.nodes ?? {}),
    environments: new Map(Object.entries(value.environments ?? {}).map(([name, { nodes }]) => [name, nodes])),
  };
}

export interface NamedKey extends PublicKey {
  /** Absolute; null: it was written out. */
  file: string | null;
}

/**
 * The key that root logs in with: --pubkey, else the configuration's, else ~/.ssh/id_ed25519.pub.
 * @throws KraftwerkError `key.missing`, or as `parsePublicKey`
 */
export function readPublicKey(
  named: string | undefined,
  configured: string | null,
  { home, cwd }: Surroundings,
): NamedKey {
  const written = named ?? configured ?? DEFAULT_KEY;
  const file = isKeyLine(written) ? null : resolveKey(written, cwd, home);
  const text = file === null ? written : readKeyFile(file);
  const lines = text.includes('PRIVATE KEY') ? [text] : text.split(/\r?\n/).filter((line) => /^\s*[^#\s]/.test(line));
  try {
    return { ...parsePublicKey(lines[0] ?? ''), file };
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    const what = error.code === 'key.private' ? 'is a private key, name the file that ends in .pub' : error.message;
    throw new KraftwerkError(error.code, `${file ?? 'pubkey'}: ${what}`, {
      hint: 'a new key: ssh-keygen -t ed25519',
      exit: 'usage',
    });
  }
}

/** ssh finds it without being told. */
export function isDefaultKey(file: string): boolean {
  return /\/\.ssh\/id_(?:ed25519|ecdsa|rsa)(?:_sk)?\.pub$/.test(file);
}

function readKeyFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new KraftwerkError(
      'key.missing',
      `${file}: ${code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`}`,
      {
        hint: [
          'the key that is to log in: --pubkey FILE, or pubkey: in the configuration',
          'a new key: ssh-keygen -t ed25519',
        ],
        exit: 'usage',
        cause,
      },
    );
  }
}

/** A key has a blank after its type. */
function isKeyLine(text: string): boolean {
  return /^(?:ssh-|ecdsa-|sk-)\S* /.test(text.trim());
}

function resolveKey(written: string, folder: string, home: string): string {
  if (isKeyLine(written)) return written;
  return path.resolve(folder, written.startsWith('~/') ? path.join(home, written.slice(2)) : written);
}
