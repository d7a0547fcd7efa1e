/** Public keys: read one line, name it by fingerprint, verify a signature, and hold the ring of those that may come in. */
import { createHash, createPublicKey, verify as verifyWithNode } from 'node:crypto';
import ssh2 from 'ssh2';
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Identity, Role } from './access.ts';
import { parseTargetPattern } from './access.ts';

const MAX_LINE_BYTES = 16 * 1024;
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 16_384;
const SK_ED25519 = 'sk-ssh-ed25519@openssh.com';
/** How many fields follow the type in a key's blob. */
const FIELDS: Readonly<Record<string, number>> = {
  'ssh-ed25519': 1,
  [SK_ED25519]: 2,
  'ecdsa-sha2-nistp256': 2,
  'ecdsa-sha2-nistp384': 2,
  'ecdsa-sha2-nistp521': 2,
  'ssh-rsa': 2,
};
const USER_PRESENT = 0x01;
/** What comes before the 32 bytes of an ed25519 key in SubjectPublicKeyInfo, RFC 8410. */
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

export interface PublicKey {
  type: string;
  blob: Buffer;
  comment: string;
  /** `SHA256:…`, as ssh-keygen -l prints it. */
  fingerprint: string;
  /** Type, base64 and comment, one space apart. */
  line: string;
}

export interface StoredKey {
  name: string;
  role: Role;
  targets: readonly string[] | 'all';
  line: string;
  fingerprint: string;
  /** ISO 8601. */
  addedAt: string;
  addedBy: string;
}

export interface KeyStore {
  all(): StoredKey[];
  find(fingerprint: string): StoredKey | undefined;
  add(key: StoredKey): void;
  remove(name: string): boolean;
  /** A key of the configuration, too. */
  touch(fingerprint: string): void;
  /** ISO 8601, to the hour; null: not yet. */
  lastUsed(fingerprint: string): string | null;
}

export function fingerprintOf(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

function refuse(code: string, message: string, hint: string): KraftwerkError {
  return new KraftwerkError(code, message, { hint, exit: 'usage' });
}

/** The length-prefixed fields of `blob`, or null when they do not fill it exactly. */
function readFields(blob: Buffer): Buffer[] | null {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < blob.length) {
    if (at + 4 > blob.length) return null;
    const end = at + 4 + blob.readUInt32BE(at);
    if (end > blob.length) return null;
    fields.push(blob.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

/**
 * One line of an OpenSSH .pub file.
 * @throws KraftwerkError `key.invalid`, `key.private`, `key.options`, `key.unsupported`; never with the text itself
 */
export function parsePublicKey(text: string): PublicKey {
  // First of all, so that no later message can repeat a part of it.
  if (/PRIVATE KEY|PuTTY-User-Key-File/i.test(text)) {
    throw refuse(
      'key.private',
      'this is a private key: it was not stored',
      'send the file that ends in .pub; a private key that was sent anywhere is better replaced',
    );
  }
  const line = text.trim();
  if (line === '')
    throw refuse('key.invalid', 'no public key', 'ssh kraftwerk@HOST keys:add NAME < ~/.ssh/id_ed25519.pub');
  if (line.length > MAX_LINE_BYTES)
    throw refuse('key.invalid', 'public key: longer than 16 KiB', 'send one line of a .pub file');
  if (line.startsWith('---- BEGIN SSH2'))
    throw refuse('key.invalid', 'public key: in the format of RFC 4716', 'ssh-keygen -i -f FILE converts it');
  if (/[\r\n]/.test(line)) throw refuse('key.invalid', 'public key: more than one line', 'send one key at a time');
  if (/\p{Cc}/u.test(line.replaceAll('\t', ' ')))
    throw refuse('key.invalid', 'public key: contains control characters', 'send one line of a .pub file');
  const words = line.split(/[ \t]+/);
  const [type = '', base64 = ''] = words;
  checkType(type, words);
  const blob = Buffer.from(base64, 'base64');
  if (blob.length === 0 || blob.toString('base64') !== base64) throw damaged();
  const comment = words.slice(2).join(' ');
  checkBlob(type, blob);
  return { type, blob, comment, fingerprint: fingerprintOf(blob), line: `${type} ${base64} ${comment}`.trimEnd() };
}

function damaged(): KraftwerkError {
  return refuse('key.invalid', 'public key: damaged or cut off', 'send the whole line of the .pub file');
}

function checkType(type: string, words: readonly string[]): void {
  if (Object.hasOwn(FIELDS, type)) return;
  if (/-cert-v0\d@openssh\.com$/.test(type)) {
    throw refuse(
      'key.unsupported',
      'public key: certificates are not accepted',
      'send the key itself, the .pub file without -cert',
    );
  }
  if (type === 'ssh-dss')
    throw refuse('key.unsupported', 'public key: DSA keys are not accepted', 'ssh-keygen -t ed25519');
  if (words.some((word, at) => at > 0 && (Object.hasOwn(FIELDS, word) || /^(?:ssh|ecdsa|sk)-/.test(word)))) {
    throw refuse(
      'key.options',
      'public key: options before the key are not supported',
      'send only type, key and comment; grants are --role and TARGETS',
    );
  }
  throw refuse(
    'key.unsupported',
    'public key: not an ed25519, ecdsa, rsa or sk-ssh-ed25519 key',
    'ssh-keygen -t ed25519',
  );
}

function checkBlob(type: string, blob: Buffer): void {
  const fields = readFields(blob);
  if (fields === null || fields.length !== 1 + (FIELDS[type] ?? 0) || fields[0]?.toString('latin1') !== type)
    throw damaged();
  if (type === SK_ED25519) {
    if (fields[1]?.length !== 32 || fields[2]?.length === 0) throw damaged();
    return;
  }
  const bits = checkMaterial(type, blob);
  if (bits !== null && (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS)) {
    throw refuse(
      'key.unsupported',
      `public key: rsa with ${bits} bits, expected ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`,
      'ssh-keygen -t ed25519',
    );
  }
}

/** Also refuses points that are not on their curve. @returns the bits of an RSA key */
function checkMaterial(type: string, blob: Buffer): number | null {
  const parsed = ssh2.utils.parseKey(`${type} ${blob.toString('base64')}`);
  if (parsed instanceof Error || parsed.type !== type) throw damaged();
  try {
    return createPublicKey(parsed.getPublicPEM()).asymmetricKeyDetails?.modulusLength ?? null;
  } catch {
    throw damaged();
  }
}

export interface SignedLogin {
  /** The type of the key as the client names it. */
  type: string;
  blob: Buffer;
  /** What was signed: the session's id and the request. */
  data: Buffer;
  signature: Buffer;
  /** The hash that an RSA signature names. */
  hash: string | undefined;
}

/** True only for a good signature by that very key; ssh-rsa counts only with SHA-2. */
export function verifyLogin({ type, blob, data, signature, hash }: SignedLogin): boolean {
  try {
    checkBlob(type, blob);
    if (type === SK_ED25519) return verifySecurityKey(blob, data, signature);
    if (type === 'ssh-rsa' ? hash !== 'sha256' && hash !== 'sha512' : hash !== undefined) return false;
    const key = ssh2.utils.parseKey(`${type} ${blob.toString('base64')}`);
    return !(key instanceof Error) && key.verify(data, signature, hash) === true;
  } catch {
    return false;
  }
}

/** @see https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.u2f "SSH U2F Signatures" */
function verifySecurityKey(blob: Buffer, data: Buffer, signature: Buffer): boolean {
  const [, publicKey, application] = readFields(blob) ?? [];
  if (publicKey === undefined || application === undefined || signature.length !== 64 + 1 + 4) return false;
  const flags = signature.readUInt8(64);
  if ((flags & USER_PRESENT) === 0) return false;
  const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
  const signed = Buffer.concat([sha256(application), signature.subarray(64), sha256(data)]);
  const key = createPublicKey({ key: Buffer.concat([ED25519_SPKI, publicKey]), format: 'der', type: 'spki' });
  return verifyWithNode(null, signed, key, signature.subarray(0, 64));
}

export interface Keyring {
  /** The keys of the configuration, in its order. */
  adminKeys: readonly StoredKey[];
  find(fingerprint: string): StoredKey | undefined;
  /** Looks up, changes nothing: called for keys that are only offered, too. */
  identify(fingerprint: string): Identity | null;
}

/**
 * The configuration's admin keys and the stored ones; for a key in both, the configuration counts.
 * @param admins lines of public keys
 * @throws KraftwerkError `config.admins` with every bad line
 */
export function buildKeyring(admins: readonly string[], store: KeyStore): Keyring {
  const adminKeys: StoredKey[] = [];
  const errors: string[] = [];
  for (const [index, text] of admins.entries()) {
    try {
      const key = parsePublicKey(text);
      if (adminKeys.some(({ fingerprint }) => fingerprint === key.fingerprint)) continue;
      adminKeys.push(
        toAdminKey(
          key,
          adminKeys.map(({ name }) => name),
        ),
      );
    } catch (error) {
      if (!(error instanceof KraftwerkError)) throw error;
      errors.push(`admins[${index}]: ${error.message}`);
    }
  }
  if (errors.length > 0) {
    throw new KraftwerkError('config.admins', errors[0] ?? '', { lines: errors.slice(1), exit: 'config' });
  }
  const find = (fingerprint: string): StoredKey | undefined =>
    adminKeys.find((key) => key.fingerprint === fingerprint) ?? store.find(fingerprint);
  return {
    adminKeys,
    find,
    identify(fingerprint) {
      const key = find(fingerprint);
      return key === undefined ? null : toIdentity(key);
    },
  };
}

function toAdminKey(key: PublicKey, taken: readonly string[]): StoredKey {
  const base = KEY_NAME_PATTERN.test(key.comment) ? key.comment : 'admin';
  let name = base;
  for (let number = 2; taken.includes(name); number += 1) name = `${base}-${number}`;
  const { line, fingerprint } = key;
  return {
    name,
    role: 'admin',
    targets: 'all',
    line,
    fingerprint,
    addedAt: '',
    addedBy: 'configuration',
  };
}

/** A key's name: what `whoami` shows and `keys:remove` takes. */
export const KEY_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$/;

export function toIdentity({ name, role, targets, fingerprint }: StoredKey): Identity {
  return { name, role, targets: targets === 'all' ? 'all' : targets.map(parseTargetPattern), fingerprint };
}
