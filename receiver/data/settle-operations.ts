/** Brings to an end what was begun with a target's data and was cut off, whatever kind it is. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Journal } from '../journal.ts';
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

/** What was begun in these may still be taken back, with all that was written to it since. */
const EXCHANGING: readonly string[] = ['swapping', 'back', 'moving'];

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

/**
 * Nothing new begins on what is half gone, or on data that may still be exchanged for the old.
 * @throws KraftwerkError `target.destroying`, `target.unsettled`
 */
export function refuseWhileOpen({ data }: Pick<Journal, 'data'>, target: Target): void {
  const name = targetName(target);
  const open = data.openOperations(target).find(({ kind, phase }) => kind === 'destroy' || EXCHANGING.includes(phase));
  if (open === undefined) return;
  if (open.kind !== 'destroy')
    throw new KraftwerkError(
      'target.unsettled',
      `a ${open.kind} of the data of ${name} was cut off, and is not brought to its end yet: not all of its nodes have answered`,
      {
        hint: `it ends by itself when they do, or now: ssh kraftwerk@HOST dump ${name}`,
        reason: 'its data is not settled',
        exit: 'busy',
      },
    );
  throw new KraftwerkError('target.destroying', `${name} is being destroyed: not all of its nodes have answered yet`, {
    hint: [`it ends by itself when they do, or now: ssh kraftwerk@HOST destroy ${name}`],
    reason: 'it is being destroyed',
    exit: 'busy',
  });
}
