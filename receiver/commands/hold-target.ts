import type { Target } from '../target.ts';
import { targetName } from '../target.ts';
import { describeWait, type Lock } from '../target-locks.ts';
import type { CommandContext } from './command.ts';

/**
 * The target for a command alone; one that only tidies up is waited for.
 * @param what for whoever finds it busy: `rollback`
 * @throws KraftwerkError `target.busy`, `deploy.aborted`
 */
export function holdTarget(
  { identity, receiver, signal, stderr }: CommandContext,
  target: Target,
  what: string,
): Promise<Lock> {
  return receiver.locks.acquireSoon(targetName(target), identity.name, what, signal, (holder, waitedMs) => {
    stderr.write(`${describeWait(holder, waitedMs, receiver.nowMs())}\n`);
  });
}
