/** Project + suffix -> the name of a site on its nodes. Pure. Only `instances.ts` may import it, which asks whose the name is. */
import { type InstanceName, KraftwerkError, PROJECT_PATTERN } from '../node-agent/protocol.ts';
import type { Target } from './target.ts';

/** @throws KraftwerkError `target.name` when project and suffix are too long together */
export function instanceName(target: Target, suffix: string): InstanceName {
  const name = `${target.project}${suffix}`;
  if (!PROJECT_PATTERN.test(name)) {
    throw new KraftwerkError('target.name', `${name}: the name on the node has more than 28 characters`, {
      hint: 'choose a shorter project name, or a shorter suffix of the environment',
      exit: 'config',
      reason: 'the name is too long',
    });
  }
  return name as InstanceName;
}
