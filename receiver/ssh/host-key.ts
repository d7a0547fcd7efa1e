/** The receiver's own key: made at the first start, the same ever after, readable by its owner only. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { getuid } from 'node:process';
import ssh2 from 'ssh2';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { fingerprintOf } from '../keys.ts';

export interface HostKey {
  /** OpenSSH's own format. */
  privateKey: string;
  /** `SHA256:…`, what a client shows at its first connection. */
  fingerprint: string;
  /** `ssh-ed25519 AAAA…`, for known_hosts. */
  publicKey: string;
}

/**
 * @param path of the key; its folder exists
 * @throws KraftwerkError `hostKey.invalid`, `hostKey.mode`
 */
export function loadHostKey(path: string): HostKey {
  const existing = readHostKey(path);
  if (existing !== null) return existing;
  publish(path, generate());
  const created = readHostKey(path);
  if (created === null) throw new KraftwerkError('hostKey.invalid', `${path}: vanished while it was made`);
  return created;
}

function readHostKey(path: string): HostKey | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new KraftwerkError('hostKey.invalid', `${path}: ${(cause as Error).message}`, { exit: 'config', cause });
  }
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw new KraftwerkError('hostKey.invalid', `${path}: not a file`, { exit: 'config' });
    const owner = getuid?.();
    if ((stat.mode & 0o077) !== 0 || (owner !== undefined && stat.uid !== owner)) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
      throw new KraftwerkError(
        'hostKey.mode',
        `${path}: mode ${mode}, owner ${stat.uid}: others may read the host key`,
        {
          hint: `chmod 600 ${path} && chown ${owner ?? 'kraftwerk'} ${path}`,
          exit: 'config',
        },
      );
    }
    return parseHostKey(readFileSync(descriptor, 'utf8'), path);
  } finally {
    closeSync(descriptor);
  }
}

function parseHostKey(text: string, path: string): HostKey {
  const parsed = ssh2.utils.parseKey(text);
  if (parsed instanceof Error || !parsed.isPrivateKey()) {
    throw new KraftwerkError('hostKey.invalid', `${path}: not an unencrypted private key of OpenSSH`, {
      hint: `move it away to have a new one made; clients will then ask about the changed host key`,
      exit: 'config',
    });
  }
  const blob = parsed.getPublicSSH();
  return {
    privateKey: text,
    fingerprint: fingerprintOf(blob),
    publicKey: `${parsed.type} ${blob.toString('base64')}`,
  };
}

const TRIES = 20;

/** ssh2 now and then makes a pair that does not verify (4 in 1,000). Such a one would be kept for good: another is made. */
function generate(): string {
  for (let turn = 0; turn < TRIES; turn++) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'kraftwerk' });
    const probe = randomBytes(32);
    const key = ssh2.utils.parseKey(pair.private);
    if (!(key instanceof Error) && key.verify(probe, key.sign(probe)) === true) return pair.private;
  }
  throw new KraftwerkError('hostKey.invalid', `host key: none of ${TRIES} that were made verifies`);
}

/** Links a finished file into place, so that a crash leaves all or nothing and a second starter loses without harm. */
function publish(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`;
  const descriptor = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  try {
    linkSync(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    unlinkSync(temporary);
  }
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  fsyncSync(folder);
  closeSync(folder);
}
