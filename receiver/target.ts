/** A project in an environment: what is pushed to, deployed and asked about. Pure. */
import type { EnvironmentName, ProjectName } from '../node-agent/protocol.ts';

export interface Target {
  project: ProjectName;
  environment: EnvironmentName;
}

/** `blog/live`: how people write it, and the key under which the receiver keeps it. */
export function targetName({ project, environment }: Target): string {
  return `${project}/${environment}`;
}
