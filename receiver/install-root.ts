// Where this installation's own files are: the checkout, or the unpacked npm package (the bundle stands in build/).
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export function installPath(...parts: readonly string[]): string {
  return fileURLToPath(new URL(['..', ...parts].join('/'), import.meta.url));
}

export function readVersion(): string {
  const { version } = JSON.parse(readFileSync(installPath('package.json'), 'utf8')) as { version: string };
  return version;
}
