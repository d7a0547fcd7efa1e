/** A target's route -> nginx's file on its router. */
import type { InstanceName, NodeProfile } from '../../node-agent/protocol.ts';
import { listensOf, type ReleaseSpec } from '../deploy/plan.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';

export interface RouteOrder {
  target: Target;
  instance: InstanceName;
  spec: Pick<ReleaseSpec, 'domains' | 'aliases' | 'timeoutMs'>;
  /** `10.0.0.2:80`, one for each node. */
  servers: readonly string[];
  /** The router's own. */
  profile: NodeProfile;
}

export function renderRoute(templates: Templates, { target, instance, spec, servers, profile }: RouteOrder): string {
  return templates.render('nginx', 'router/nginx.conf', {
    target: targetName(target),
    instance,
    servers,
    domains: spec.domains,
    aliases: spec.aliases,
    timeoutS: Math.ceil(spec.timeoutMs / 1000) + 5,
    ...listensOf(profile, false),
  });
}
