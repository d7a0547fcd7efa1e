/** The target that a word of a command names, if whoever asks may do that to it. */
import { decide, type Identity, requireAccess, targetNotFound, type Verb } from '../access.ts';
import { parseTargetName } from '../exec-line.ts';
import type { Target } from '../target.ts';
import { type Command, type ReceiverApi, usageError } from './command.ts';

/** @throws KraftwerkError `command.usage`, `target.*`, `access.denied` */
export function findTarget(
  command: Command,
  verb: Verb,
  given: string | undefined,
  identity: Identity,
  receiver: Pick<ReceiverApi, 'resolveTarget'>,
): Target {
  if (given === undefined)
    throw usageError(command, 'no target given', 'for example blog/live; all: ssh kraftwerk@HOST projects');
  const name = parseTargetName(given);
  const target = receiver.resolveTarget(name, (candidate) => decide(identity, 'status', candidate).allow);
  // Unseen and absent take the same way out, so that they cannot be told apart.
  if (target === null) throw targetNotFound(name);
  const decision = decide(identity, verb, target);
  if (!decision.allow && decision.reason === 'unseen') throw targetNotFound(name);
  requireAccess(identity, verb, command.name, target);
  return target;
}
