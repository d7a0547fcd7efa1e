/** SHA-256 of node:crypto, whose loading takes as long as a fifth of the agent's start: it is loaded while that waits for something. */
import type { Hash } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** The first call loads it. */
export function createSha256(): Hash {
  return loadSha256().createHash('sha256');
}

/** For a moment in which there is nothing else to do. */
export function loadSha256(): typeof import('node:crypto') {
  return require('node:crypto') as typeof import('node:crypto');
}
