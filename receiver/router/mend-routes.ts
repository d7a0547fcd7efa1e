/** Brings routers to what the journal says: after a start, a changed configuration, or a router that was made anew. */
import type { EnvironmentName } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import type { EnvironmentConfig } from '../config.ts';
import type { Journal } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import type { Routes, WantedRoute } from './routes.ts';

/** So long a start waits for it; it goes on behind. */
const LIMIT_MS = 5_000;

export interface MendRoutesOptions {
  routes: Routes;
  journal: Journal;
  nodes: readonly Node[];
  environments: ReadonlyMap<EnvironmentName, EnvironmentConfig>;
  log(event: string, fields: Record<string, unknown>): void;
}

/** Nodes that have not said hello yet are left for the next deploy, or for `doctor`. */
export async function mendRoutes({ routes, journal, nodes, environments, log }: MendRoutesOptions): Promise<void> {
  const wanted = wantedRoutes(journal, environments);
  const mending = allBounded(nodes, async (node) => {
    const facts = node.facts();
    if (facts === null) return;
    try {
      for (const difference of await routes.compare(node, facts, wanted)) {
        await routes.mend(difference);
        log('route.mended', { node: node.name, instance: difference.instance, what: difference.what });
      }
    } catch (error) {
      log('route.mend_failed', { node: node.name, message: error instanceof Error ? error.message : String(error) });
    }
  });
  await Promise.race([mending, new Promise((resolve) => setTimeout(resolve, LIMIT_MS).unref())]);
}

/** Everything that serves in an environment with a router. */
export function wantedRoutes(
  journal: Journal,
  environments: ReadonlyMap<EnvironmentName, EnvironmentConfig>,
): WantedRoute[] {
  return journal.currentReleases().flatMap(({ target, spec }) => {
    const router = environments.get(target.environment)?.router ?? null;
    return router === null ? [] : [{ target, spec }];
  });
}
