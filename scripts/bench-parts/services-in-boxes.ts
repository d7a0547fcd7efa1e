/** What services cost: dump and load beside the programs that do nothing else, and a push that adds a service; in one box. */
import { boxesAvailable } from '../../tests/actors/box.ts';
import { startDataBox } from '../../tests/actors/data-box.ts';
import { compareAddedServices } from './added-service.ts';
import { compareDumps, compareLoads, fillDatabase, fillUploads } from './data-in-box.ts';
import type { Row } from './report.ts';

export interface ServicesOrder {
  /** Of PostgreSQL's data on the disk. */
  megabytes: number;
  uploads: number;
  /** Of pushes. */
  rounds: number;
  /** Of dumps and of loads, which take minutes. */
  largeRounds: number;
}

/** @returns the rows, and the steps of the loads in milliseconds @throws when there can be no boxes here */
export async function measureServicesInBoxes(
  order: ServicesOrder,
  say: (text: string) => void,
): Promise<{ rows: Row[]; steps: Map<string, number[]> }> {
  const missing = boxesAvailable();
  if (missing !== null) throw new Error(`boxes cannot run here: ${missing}`);
  say('a box and a receiver: a minute or two where they have to be made first');
  const here = await startDataBox({ name: 'measure', disk: '16G' });
  try {
    await here.alice.deploy({}, 'live');
    await fillUploads(here, order.uploads, say);
    // In the meantime the uploads get as old as uploads are: what is younger than two minutes is dumped with more care.
    const pushes = await compareAddedServices(here, ['postgres', 'redis'], order.rounds, say);
    const data = await fillDatabase(here, order.megabytes, say);
    const dumps = await compareDumps(here, data, order.largeRounds, say);
    const { rows, steps } = await compareLoads(here, data, order.largeRounds, say);
    return { rows: [...dumps, ...rows, ...pushes], steps };
  } finally {
    say('cleaning up');
    await here.cleanUp();
  }
}
