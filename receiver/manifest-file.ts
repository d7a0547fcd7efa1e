// The file kraftwerk.yaml of a tree -> its text, or why there is none. Pure.
import { KraftwerkError } from '../node-agent/protocol.ts';
import { MANIFEST_FILE } from './manifest.ts';
import { decodeYaml } from './yaml-source.ts';

/** What a tree has in its root under the name of kraftwerk.yaml. */
export type ManifestEntry = { kind: 'none' | 'link' | 'folder' } | { kind: 'file'; size: number; content: Buffer };

/**
 * @param paths the tree's files, to find one that stands elsewhere
 * @throws KraftwerkError `manifest.missing`, YamlError `manifest.invalid`
 */
export function readManifestText(entry: ManifestEntry, paths: Iterable<string>): string {
  if (entry.kind === 'file')
    return decodeYaml(entry.content, entry.size, { file: MANIFEST_FILE, code: 'manifest.invalid' });
  if (entry.kind === 'none') throw missingManifest(paths);
  throw new KraftwerkError('manifest.missing', `${MANIFEST_FILE}: expected a file, got a ${entry.kind}`, {
    hint:
      entry.kind === 'link'
        ? 'links are not followed here: commit the file itself under this name'
        : `a file has to stand there: git mv ${MANIFEST_FILE} NAME`,
    exit: 'config',
    reason: `${MANIFEST_FILE} is not a file`,
  });
}

function missingManifest(paths: Iterable<string>): KraftwerkError {
  const near = [...paths]
    .filter((path) => /(?:^|\/)\.?kraftwerk\.ya?ml$/i.test(path))
    .sort((a, b) => a.length - b.length)[0];
  const hint =
    near === undefined
      ? ['a minimal one, in the root of the project:', '  domain: www.example.com', '  wsgi: app:app']
      : [`it has to stand in the root under this name: git mv ${near} ${MANIFEST_FILE}`];
  const found = near === undefined ? '' : `, found ${near}`;
  return new KraftwerkError('manifest.missing', `${MANIFEST_FILE}: missing in the root of the project${found}`, {
    hint,
    exit: 'config',
    reason: `${MANIFEST_FILE} is missing`,
  });
}
