/** The key of the first admin: the one that was named, or the first that may log in here already. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Surroundings } from '../config.ts';
import { type PublicKey, parsePublicKey } from '../keys.ts';

const HINT = 'name one: kraftwerk setup-receiver --admin-key alice.pub';

/** @param given a line, or the file that holds it. @throws KraftwerkError `setup.adminKey`, `key.*` */
export function findAdminKey(given: string | null, { cwd, home, env }: Surroundings): PublicKey {
  if (given !== null) {
    if (/^(?:ssh-|ecdsa-|sk-)\S* /.test(given.trim())) return parsePublicKey(given);
    const file = path.resolve(cwd, given);
    if (!existsSync(file))
      throw new KraftwerkError('setup.adminKey', `--admin-key: no file ${file}`, { hint: HINT, exit: 'usage' });
    return parsePublicKey(readFileSync(file, 'utf8'));
  }
  const homes = [...sudoHome(env.SUDO_USER), home];
  const files = homes.map((folder) => path.join(folder, '.ssh', 'authorized_keys'));
  for (const file of files) {
    const key = existsSync(file) ? firstKey(readFileSync(file, 'utf8')) : null;
    if (key !== null) return key;
  }
  throw new KraftwerkError('setup.adminKey', `no key of an admin: there is none in ${files.join(', nor in ')}`, {
    hint: [HINT, 'on your own machine: cat ~/.ssh/id_ed25519.pub'],
  });
}

/** The first line that is a key and nothing else: one with options is for something else. */
export function firstKey(text: string): PublicKey | null {
  for (const line of text.split('\n')) {
    try {
      return parsePublicKey(line);
    } catch {
      // The next may be one.
    }
  }
  return null;
}

function sudoHome(user: string | undefined): string[] {
  if (user === undefined || user === 'root') return [];
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${user}:`));
  const folder = entry?.split(':')[5];
  return folder === undefined || folder === '' ? [] : [folder];
}
