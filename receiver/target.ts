/** A project in an environment: what is pushed to, deployed and asked about. Pure. */
import type { EnvironmentName, InstanceName, ProjectName } from '../node-agent/protocol.ts';
import { KraftwerkError, PROJECT_PATTERN } from '../node-agent/protocol.ts';

export interface Target {
  project: ProjectName;
  environment: EnvironmentName;
}

/** `blog/live`: how people write it, and the key under which the receiver keeps it. */
export function targetName({ project, environment }: Target): string {
  return `${project}/${environment}`;
}

/** The name of a target's site on its nodes. @throws KraftwerkError `target.name` when project and suffix are too long together */
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
