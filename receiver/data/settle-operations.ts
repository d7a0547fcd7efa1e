/** Brings to an end what was begun with a target's data and was cut off, whatever kind it is. */
import type { Operation } from '../journal-data.ts';
import { type Target, targetName } from '../target.ts';
import type { Audience, DataServices } from './data-services.ts';
import { settleDestroy } from './destroy.ts';
import { settleLoad } from './load.ts';
import { settleMove } from './move.ts';

export type Settle = (services: DataServices, operation: Operation, audience: Audience) => Promise<string>;

/** By kind. Who begins operations of a kind adds how they end. */
const SETTLERS = new Map<string, Settle>([
  ['destroy', settleDestroy],
  ['load', settleLoad],
  ['move', settleMove],
]);

/** The caller holds the target's lock. @throws KraftwerkError what keeps one from its end: then it stays open */
export async function settleOperations(services: DataServices, target: Target, audience: Audience): Promise<void> {
  for (const operation of services.journal.data.openOperations(target)) {
    const settle = SETTLERS.get(operation.kind);
    if (settle === undefined) continue;
    const { kind, phase } = operation;
    audience.emit({ event: 'warning', message: `a ${kind} was cut off (${phase}): it is brought to its end first` });
    const end = await settle(services, operation, audience);
    services.log('operation.settled', { target: targetName(target), kind, phase, end });
  }
}
