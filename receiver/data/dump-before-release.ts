/** A dump before a release command: what it migrates, nothing else brings back. */
import type { AgentOf, FanOut } from '../deploy/fan-out.ts';
import { ALL, type Audience, type DataServices, findPlaces } from './data-services.ts';
import { makeDump } from './dump.ts';

/** None for a target that has served nothing yet, or that has no data. */
export function createDumpBeforeRelease(services: () => DataServices): FanOut['dumpBeforeRelease'] {
  return ({ target, release }) => {
    const { journal } = services();
    if ((journal.target(target)?.current ?? null) === null || findPlaces(services(), target, ALL).length === 0)
      return null;
    return async (agents: AgentOf, audience: Audience) => {
      const order = { target, reason: 'release', choice: ALL, before: release } as const;
      return (await makeDump(services(), order, audience, agents)).name;
    };
  };
}
