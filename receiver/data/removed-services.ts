/** Services that a target has and no longer asks for: their data stays, and whoever pushes is told. */
import type { ReleaseSpec } from '../deploy/plan.ts';
import type { DataJournal } from '../journal-data.ts';
import { type Target, targetName } from '../target.ts';
import { labelled } from '../transcript.ts';

/** Lines for the transcript; told once, when the service goes. */
export function tellRemovedServices(
  journal: Pick<DataJournal, 'services'>,
  target: Target,
  { services }: Pick<ReleaseSpec, 'services'>,
): string[] {
  const gone = journal
    .services(target)
    .filter(({ asked, name }) => asked && !services.some((service) => service.name === name));
  const name = targetName(target);
  return gone.flatMap((service) => [
    ...labelled('warning', `${service.name} is no longer asked for; its data stays. To remove it:`),
    `      ssh kraftwerk@HOST destroy ${name} --service ${service.name}`,
  ]);
}
