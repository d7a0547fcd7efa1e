import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { KeyStore, StoredKey } from '../../receiver/keys.ts';
import { buildKeyring, fingerprintOf, parsePublicKey, verifyLogin } from '../../receiver/keys.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-keys-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function makeKey(name: string, ...options: string[]): { line: string; privateKey: string; fingerprint: string } {
  const path = join(folder, name);
  execFileSync('ssh-keygen', ['-q', '-N', '', '-C', `${name}@test`, '-f', path, ...options]);
  const fingerprint = execFileSync('ssh-keygen', ['-l', '-f', path], { encoding: 'utf8' }).split(' ')[1] ?? '';
  return { line: readFileSync(`${path}.pub`, 'utf8'), privateKey: readFileSync(path, 'utf8'), fingerprint };
}

function field(value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function failure(text: string): { code: string; message: string } {
  try {
    parsePublicKey(text);
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    return { code: error.code, message: error.message };
  }
  throw new Error('nothing was thrown');
}

const SK = 'sk-ssh-ed25519@openssh.com';

function securityKey(): { blob: Buffer; sign(data: Buffer, flags?: number, application?: string): Buffer } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const sha256 = (bytes: Buffer | string): Buffer => createHash('sha256').update(bytes).digest();
  return {
    blob: Buffer.concat([field(SK), field(raw), field('ssh:')]),
    sign(data, flags = 0x01, application = 'ssh:') {
      const state = Buffer.from([flags, 0, 0, 0, 7]);
      const signed = Buffer.concat([sha256(application), state, sha256(data)]);
      return Buffer.concat([sign(null, signed, privateKey), state]);
    },
  };
}

describe('parsePublicKey', () => {
  it.each([
    ['ed25519', 'ssh-ed25519', ['-t', 'ed25519']],
    ['ecdsa256', 'ecdsa-sha2-nistp256', ['-t', 'ecdsa', '-b', '256']],
    ['ecdsa384', 'ecdsa-sha2-nistp384', ['-t', 'ecdsa', '-b', '384']],
    ['ecdsa521', 'ecdsa-sha2-nistp521', ['-t', 'ecdsa', '-b', '521']],
    ['rsa2048', 'ssh-rsa', ['-t', 'rsa', '-b', '2048']],
  ])('reads what ssh-keygen makes: %s', (name, type, options) => {
    const key = makeKey(name, ...options);
    expect(parsePublicKey(`  ${key.line}\n`)).toMatchObject({
      type,
      comment: `${name}@test`,
      fingerprint: key.fingerprint,
      line: key.line.trim(),
    });
  });

  it('reads a security key', () => {
    const { blob } = securityKey();
    expect(parsePublicKey(`${SK} ${blob.toString('base64')} yubi`)).toMatchObject({
      type: SK,
      fingerprint: fingerprintOf(blob),
    });
  });

  it('never shows a private key that was sent by mistake', () => {
    const { privateKey } = makeKey('mistake', '-t', 'ed25519');
    for (const text of [
      privateKey,
      `\n\n${privateKey}`,
      '-----BEGIN RSA PRIVATE KEY-----',
      'PuTTY-User-Key-File-3: ssh-ed25519',
    ]) {
      expect(failure(text)).toEqual({ code: 'key.private', message: 'this is a private key: it was not stored' });
    }
  });

  it('refuses the rest, and says why', () => {
    const { line } = makeKey('refuse', '-t', 'ed25519');
    const [type = '', base64 = ''] = line.split(' ');
    const weak = makeKey('weak', '-t', 'rsa', '-b', '1024').line;
    const other = makeKey('other', '-t', 'ecdsa').line.split(' ')[1] ?? '';
    const trailing = Buffer.concat([Buffer.from(base64, 'base64'), field('more')]).toString('base64');
    const offCurve = Buffer.concat([
      field('ecdsa-sha2-nistp256'),
      field('nistp256'),
      field(Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 7)])),
    ]);
    const table: [text: string, code: string, message: string][] = [
      ['', 'key.invalid', 'no public key'],
      ['hello', 'key.unsupported', 'public key: not an ed25519, ecdsa, rsa or sk-ssh-ed25519 key'],
      [`command="id" ${line}`, 'key.options', 'public key: options before the key are not supported'],
      [`no-pty,from="1.2.3.4" ${line}`, 'key.options', 'public key: options before the key are not supported'],
      [`ssh-ed25519-cert-v01@openssh.com ${base64}`, 'key.unsupported', 'public key: certificates are not accepted'],
      [`ssh-dss ${base64}`, 'key.unsupported', 'public key: DSA keys are not accepted'],
      [`${line}${line}`, 'key.invalid', 'public key: more than one line'],
      [`${type} ${base64.slice(0, -8)}`, 'key.invalid', 'public key: damaged or cut off'],
      [`${type} ${base64}=`, 'key.invalid', 'public key: damaged or cut off'],
      [`${type} ${other}`, 'key.invalid', 'public key: damaged or cut off'],
      [`${type} ${trailing}`, 'key.invalid', 'public key: damaged or cut off'],
      [`ecdsa-sha2-nistp256 ${offCurve.toString('base64')}`, 'key.invalid', 'public key: damaged or cut off'],
      [type, 'key.invalid', 'public key: damaged or cut off'],
      [weak, 'key.unsupported', 'public key: rsa with 1024 bits, expected 2048 to 16384'],
      [`${line.trim()}\x1b[31m`, 'key.invalid', 'public key: contains control characters'],
      ['---- BEGIN SSH2 PUBLIC KEY ----', 'key.invalid', 'public key: in the format of RFC 4716'],
      ['a'.repeat(20_000), 'key.invalid', 'public key: longer than 16 KiB'],
    ];
    expect(table.map(([text]) => failure(text))).toEqual(table.map(([, code, message]) => ({ code, message })));
  });
});

describe('verifyLogin', () => {
  const data = Buffer.from('session and request');

  it('takes a security key with somebody present, and nothing less', () => {
    const key = securityKey();
    const login = (signature: Buffer, over: Partial<{ data: Buffer; blob: Buffer }> = {}): boolean =>
      verifyLogin({ type: SK, blob: key.blob, data, hash: undefined, signature, ...over });
    const good = key.sign(data);
    const flipped = Buffer.from(good);
    flipped[68] = (flipped[68] ?? 0) ^ 1;
    expect(login(good)).toBe(true);
    expect(login(key.sign(data, 0x05))).toBe(true);
    expect(login(key.sign(data, 0x00))).toBe(false);
    expect(login(key.sign(data, 0x04))).toBe(false);
    expect(login(key.sign(data, 0x01, 'https://evil.example'))).toBe(false);
    expect(login(flipped)).toBe(false);
    expect(login(good, { data: Buffer.from('another session') })).toBe(false);
    expect(login(good, { blob: securityKey().blob })).toBe(false);
    expect(login(good.subarray(0, 68))).toBe(false);
    expect(login(Buffer.concat([good, Buffer.from([0])]))).toBe(false);
    expect(login(Buffer.alloc(0))).toBe(false);
  });

  it('takes rsa with SHA-2 only', () => {
    const { line, privateKey } = makeKey('rsa-sha', '-t', 'rsa', '-b', '2048');
    const key = ssh2.utils.parseKey(privateKey);
    if (key instanceof Error) throw key;
    const { type, blob } = parsePublicKey(line);
    const login = (hash: string | undefined): boolean =>
      verifyLogin({ type, blob, data, hash, signature: key.sign(data, hash ?? 'sha1') });
    expect([undefined, 'sha1', 'md5', 'sha256', 'sha512'].map((hash) => login(hash))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ]);
  });

  it('takes no signature of another key', () => {
    const [alice, mallory] = [makeKey('alice', '-t', 'ed25519'), makeKey('mallory', '-t', 'ed25519')];
    const { type, blob } = parsePublicKey(alice.line);
    const sign = (text: string): Buffer => {
      const key = ssh2.utils.parseKey(text);
      if (key instanceof Error) throw key;
      return key.sign(data);
    };
    expect(verifyLogin({ type, blob, data, hash: undefined, signature: sign(alice.privateKey) })).toBe(true);
    expect(verifyLogin({ type, blob, data, hash: undefined, signature: sign(mallory.privateKey) })).toBe(false);
    expect(verifyLogin({ type: 'ssh-rsa', blob, data, hash: 'sha256', signature: sign(alice.privateKey) })).toBe(false);
  });
});

describe('buildKeyring', () => {
  const store = (keys: StoredKey[]): KeyStore => ({
    all: () => keys,
    find: (fingerprint) => keys.find((key) => key.fingerprint === fingerprint),
    add: () => {},
    remove: () => false,
    touch: () => {},
    lastUsed: () => null,
  });

  it('puts the configuration before the store', () => {
    const admin = makeKey('ring-admin', '-t', 'ed25519');
    const nameless = makeKey('ring-nameless', '-t', 'ed25519');
    const bob = makeKey('ring-bob', '-t', 'ed25519');
    const stored = (name: string, key: { line: string; fingerprint: string }): StoredKey => ({
      name,
      role: 'read',
      targets: ['blog/live'],
      line: key.line.trim(),
      fingerprint: key.fingerprint,
      addedAt: '2026-11-22T10:00:00.000Z',
      addedBy: 'admin',
    });
    const bare = nameless.line.split(' ').slice(0, 2).join(' ');
    const ring = buildKeyring([admin.line, bare, bare], store([stored('bob', bob), stored('twice', admin)]));
    expect(ring.adminKeys.map(({ name, role }) => [name, role])).toEqual([
      ['ring-admin@test', 'admin'],
      ['admin', 'admin'],
    ]);
    expect(ring.identify(admin.fingerprint)).toEqual({
      name: 'ring-admin@test',
      role: 'admin',
      targets: 'all',
      fingerprint: admin.fingerprint,
    });
    expect(ring.identify(bob.fingerprint)).toEqual({
      name: 'bob',
      role: 'read',
      targets: [{ project: 'blog', environment: 'live' }],
      fingerprint: bob.fingerprint,
    });
    expect(ring.identify('SHA256:nobody')).toBeNull();
  });

  it('names every bad line at once', () => {
    let caught: unknown;
    try {
      buildKeyring(['nonsense', ''], store([]));
    } catch (error) {
      caught = error;
    }
    expect(caught).toMatchObject({
      code: 'config.admins',
      exit: 'config',
      message: 'admins[0]: public key: not an ed25519, ecdsa, rsa or sk-ssh-ed25519 key',
      lines: ['admins[1]: no public key'],
    });
  });
});
