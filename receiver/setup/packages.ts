// The list of packages in templates/node/packages. Pure.
import { KraftwerkError } from '../../node-agent/protocol.ts';

export interface PackageList {
  required: readonly string[];
  /** Where the release has them. */
  optional: readonly string[];
}

/** One package a line; `?` behind a name: optional; `#`: a comment. @throws KraftwerkError `template.broken` */
export function parsePackages(text: string): PackageList {
  const names = text
    .split('\n')
    .map((line) => line.replace(/#.*$/, '').trim())
    .filter((line) => line !== '');
  const bad = names.find((name) => !/^[a-z0-9][a-z0-9+.-]*\??$/.test(name));
  if (bad !== undefined)
    throw new KraftwerkError('template.broken', `node/packages: ${JSON.stringify(bad.slice(0, 60))} is no package`, {
      hint: 'one package a line',
    });
  return {
    required: names.filter((name) => !name.endsWith('?')),
    optional: names.filter((name) => name.endsWith('?')).map((name) => name.slice(0, -1)),
  };
}
