/** Makes what was written durable: a power cut afterwards takes nothing of it. */
import { dirname } from 'node:path';
import { KraftwerkError } from './protocol.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/** Up to so many files and folders, one by one is less work than a program that flushes the whole disk. */
const FEW = 200;

/** Makes everything below a folder, and around it, durable with one call of syncfs. @throws KraftwerkError `node.disk` */
export async function syncFolder(system: System, folder: string, timeoutMs = 120_000): Promise<void> {
  const result = await system.run(['sync', '-f', folder], {
    cwd: '/',
    env: { PATH: DEFAULT_PATH },
    timeoutMs,
  });
  if (result.code !== 0)
    throw new KraftwerkError('node.disk', `cannot write ${folder} to the disk: ${result.tail.join(' ')}`);
}

/** Makes trees' files and folders durable, and their names in the folders that they are in. @throws KraftwerkError `node.disk` */
export async function syncTrees(system: System, trees: readonly string[]): Promise<void> {
  const paths = [...trees];
  for (let at = 0; at < paths.length && paths.length <= FEW; at++) {
    for (const entry of system.listEntries(paths[at] ?? '')) {
      if (entry.isFile() || entry.isDirectory()) paths.push(`${paths[at]}/${entry.name}`);
    }
  }
  if (paths.length > FEW) return await syncFolder(system, trees[0] ?? '');
  const around = new Set(trees.map((tree) => dirname(tree)));
  await Promise.all([...paths, ...around].map((path) => system.sync(path)));
}
