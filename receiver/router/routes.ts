/** Routers: for each target of an environment that has one, nginx's file there, which balances over the environment's nodes. */
import { createHash } from 'node:crypto';
import { type HelloResult, type InstanceName, KraftwerkError } from '../../node-agent/protocol.ts';
import type { EnvironmentConfig } from '../config.ts';
import type { NodeConfig } from '../config-nodes.ts';
import { nameNode } from '../deploy/node-names.ts';
import type { ReleaseSpec } from '../deploy/plan.ts';
import type { SiteRouter } from '../deploy/render.ts';
import type { Instances } from '../instances.ts';
import type { Node } from '../nodes/node.ts';
import type { Target } from '../target.ts';
import type { Templates } from '../templates.ts';
import { type Place, serverOf, trustedBy } from './addresses.ts';
import { renderRoute } from './render-route.ts';

const LIMIT_MS = 60_000;

export interface RoutesOptions {
  nodes: ReadonlyMap<string, Node>;
  configured: ReadonlyMap<string, NodeConfig>;
  environment(target: Target): EnvironmentConfig;
  instances: Instances;
  templatesOf(node: string): Templates;
  /** The address of a host's name. */
  resolve(host: string): Promise<string>;
}

/** What a target's router is to have: null: nothing. */
export interface WantedRoute {
  target: Target;
  spec: ReleaseSpec;
}

export type Routes = ReturnType<typeof createRoutes>;

export function createRoutes(options: RoutesOptions) {
  const { nodes, configured, environment, templatesOf, resolve } = options;
  /** What routers are known to have, so that most deploys need not ask them: by router and instance. */
  const known = new Map<string, string | null>();

  function routerOf(target: Target): Node | null {
    const name = environment(target).router;
    return name === null ? null : (nodes.get(name) ?? null);
  }

  const instanceOf = (target: Target): InstanceName => options.instances.of(target);

  async function placeOf(node: Node, asRouter: boolean): Promise<Place> {
    const config = configured.get(node.name);
    if (config === undefined) throw new TypeError(`the configuration has no node ${node.name}`);
    const resolved = config.kind === 'ssh' ? await resolve(config.host) : null;
    // One that does not answer is still one of those that are balanced over.
    if (config.kind === 'ssh' && !asRouter) return { config, addresses: [], httpPort: 80, resolved };
    const { addresses, httpPort } = node.facts() ?? (await node.hello());
    return { config, addresses, httpPort, resolved };
  }

  async function render(router: Node, target: Target, spec: ReleaseSpec): Promise<string> {
    const behind = environment(target).nodes.flatMap((name) => nodes.get(name) ?? []);
    const place = await placeOf(router, true);
    const servers = await Promise.all(behind.map(async (node) => serverOf(await placeOf(node, false), place)));
    const order = { target, instance: instanceOf(target), spec, servers, profile: router.profile };
    return renderRoute(templatesOf(router.name), order);
  }

  async function ask(router: Node, instance: InstanceName, file: string | null, testOnly: boolean): Promise<void> {
    const key = `${router.name} ${instance}`;
    if (known.get(key) === file) return;
    try {
      await router.request({ op: 'route', instance, file, testOnly }, { timeoutMs: LIMIT_MS });
      if (!testOnly) known.set(key, file);
    } catch (error) {
      known.delete(key);
      throw nameNode(error, router.name);
    }
  }

  return {
    routerOf: (target: Target): string | null => environment(target).router,
    /** Where visitors reach the environment's sites; null: no router. */
    port: (target: Target): number | null => routerOf(target)?.facts()?.httpPort ?? null,

    /** How requests of the target's router come to a node; null: there is no router. */
    async reach(target: Target, node: Node): Promise<SiteRouter | null> {
      const router = routerOf(target);
      if (router === null) return null;
      const [place, from] = await Promise.all([placeOf(node, false), placeOf(router, true)]);
      return { trusted: trustedBy(place, from), sameNode: router === node };
    },

    /** @throws KraftwerkError when the router would not take the route, or cannot be asked; nothing changes */
    async test(target: Target, spec: ReleaseSpec): Promise<void> {
      const router = routerOf(target);
      if (router !== null) await ask(router, instanceOf(target), await render(router, target, spec), true);
    },

    /** @param spec null: nothing is served; the route goes */
    async put(target: Target, spec: ReleaseSpec | null): Promise<void> {
      const router = routerOf(target);
      if (router === null) return;
      await ask(router, instanceOf(target), spec === null ? null : await render(router, target, spec), false);
    },

    /** What a node that has just said hello has too much, too little or otherwise than `wanted`. */
    async compare(router: Node, facts: HelloResult, wanted: readonly WantedRoute[]): Promise<RouteDifference[]> {
      // A site whose name there is another's has none there.
      const mine = wanted.filter(
        ({ target }) => routerOf(target) === router && options.instances.conflict(target) === null,
      );
      const found = await Promise.all(
        mine.map(async ({ target, spec }): Promise<RouteDifference[]> => {
          const instance = instanceOf(target);
          const file = await render(router, target, spec);
          const has = facts.routes[instance];
          if (has === sha256(file.replaceAll('__HTTP_PORT__', String(facts.httpPort)))) {
            known.set(`${router.name} ${instance}`, file);
            return [];
          }
          return [{ router, instance, file, what: has === undefined ? 'missing' : 'different' }];
        }),
      );
      const names = new Set<string>(mine.map(({ target }) => instanceOf(target)));
      const superfluous = Object.keys(facts.routes).filter((instance) => !names.has(instance));
      return [
        ...found.flat(),
        ...superfluous.map((instance) => ({
          router,
          instance: instance as InstanceName,
          file: null,
          what: 'superfluous' as const,
        })),
      ];
    },

    async mend({ router, instance, file }: RouteDifference): Promise<void> {
      known.delete(`${router.name} ${instance}`);
      await ask(router, instance, file, false);
    },
  };
}

export interface RouteDifference {
  router: Node;
  instance: InstanceName;
  file: string | null;
  what: 'missing' | 'different' | 'superfluous';
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** @throws KraftwerkError `router.resolve` */
export async function resolveHost(
  host: string,
  lookup: (host: string) => Promise<{ address: string }>,
): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new KraftwerkError('router.resolve', `node ${host}: its name cannot be resolved to an address`, {
      hint: `name its address in the receiver's configuration: nodes.${host}.address`,
      cause,
    });
  }
}
