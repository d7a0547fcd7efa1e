/** A restore drill: a dump is loaded into scratch databases and folders beside the live ones, which are not touched. */
import { type Target, targetName } from '../target.ts';
import { ALL, type Audience, askAll, type DataServices } from './data-services.ts';
import type { ListedDump } from './dump.ts';
import { tryLoad } from './load.ts';

/** The caller holds the target's lock. @throws KraftwerkError what is wrong with the dump */
export async function proveDump(
  services: DataServices,
  target: Target,
  dump: ListedDump,
  by: string,
  audience: Audience,
): Promise<void> {
  const names = await tryLoad(services, { target, dump: dump.name, choice: ALL, by }, audience);
  // What is no longer asked for was not loaded: only a whole dump is proven.
  const held = dump.parts.flatMap(({ summary }) => summary.services.map(({ name }) => name));
  if (held.some((name) => !names.includes(name))) return;
  await askAll(dump.parts, async ({ node }) => {
    const { instance } = services.describeServices(target, node);
    await node.request({ op: 'prove', instance, target: targetName(target), name: dump.name }, { timeoutMs: 60_000 });
  });
  services.log('dump.proven', { target: targetName(target), name: dump.name });
}
