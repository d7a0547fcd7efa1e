// What a public key is called at a provider, and how it is found there. Pure.
import { createHash } from 'node:crypto';
import { parsePublicKey } from '../keys.ts';
import { LABEL } from './provider.ts';

/** `aa:bb:…`, by which Hetzner and DigitalOcean know a key. */
export function md5Fingerprint(line: string): string {
  return (createHash('md5').update(parsePublicKey(line).blob).digest('hex').match(/../g) ?? []).join(':');
}

/** The same for the same key, another for each other. */
export function nameOfKey(line: string): string {
  return `${LABEL}-${createHash('sha256').update(parsePublicKey(line).blob).digest('hex').slice(0, 12)}`;
}
