/** Makes what was written durable: a power cut afterwards takes nothing of it. */
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

/** Makes a tree's files and folders durable. @throws KraftwerkError `node.disk` */
export async function syncTree(system: System, tree: string): Promise<void> {
  const paths = [tree];
  for (let at = 0; at < paths.length && paths.length <= FEW; at++) {
    for (const entry of system.listEntries(paths[at] ?? '')) {
      if (entry.isFile() || entry.isDirectory()) paths.push(`${paths[at]}/${entry.name}`);
    }
  }
  if (paths.length > FEW) return await syncFolder(system, tree);
  await Promise.all(paths.map((path) => system.sync(path)));
}
