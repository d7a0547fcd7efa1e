/** A planned release -> the files and scripts that a node gets: the one place where templates meet values. */
import {
  type CommitId,
  type InstanceName,
  type Limits,
  LOG_USER,
  NGINX_USER,
  type NodeFiles,
  type NodeProfile,
  nodePlace,
  type PrepareRequest,
  type ServiceRequest,
  type SiteFiles,
  siteOwner,
} from '../../node-agent/protocol.ts';
import type { ServicePlace } from '../data/placement.ts';
import { type RenderedService, renderServices } from '../data/render-services.ts';
import type { ServiceDefinition } from '../service-schema.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import {
  baseEnvironment,
  countWorkers,
  listensOf,
  type ReleaseSpec,
  siteEnvironment,
  sitePaths,
  upstreamSocket,
} from './plan.ts';

/** The node's own nginx; see templates/node/. */
export function renderNodeFiles(templates: Templates, profile: NodeProfile, runsAsRoot: boolean): NodeFiles {
  if (profile.profile === 'system') return null;
  const data = { root: profile.root, runsAsRoot };
  return {
    nginxConf: templates.render('nginx', 'node/nginx.conf', data),
    nginxRun: templates.render('shell', 'node/nginx-run', data),
    nginxLog: templates.render('shell', 'node/nginx-log', data),
  };
}

export interface RenderedRelease {
  site: SiteFiles;
  services: ServiceRequest[];
  /** Those whose data is on another node. */
  linked: PrepareRequest['linked'];
  environment: Record<string, string>;
  buildEnvironment: Record<string, string>;
  startLabel: string;
}

export interface RenderOrder {
  target: Target;
  instance: InstanceName;
  release: number;
  commit: CommitId;
  spec: ReleaseSpec;
  /** Null: visitors come to the node itself. */
  router: SiteRouter | null;
  /** Null: as much as there is. */
  limits: Limits | null;
  /** What the node has of a service; absent: it has all of them itself. */
  placeOf?: (definition: ServiceDefinition) => ServicePlace;
}

/** How a router's requests come to a site. */
export interface SiteRouter {
  /** Addresses that are believed what they say of a visitor. */
  trusted: readonly string[];
  /** The router is the node itself: its own site has the usual address. */
  sameNode: boolean;
}

export function renderRelease(
  templates: Templates,
  node: { profile: NodeProfile; cores: number; memoryBytes: number },
  order: RenderOrder,
): RenderedRelease {
  const { target, instance, release, commit, spec, router } = order;
  const paths = sitePaths(nodePlace(node.profile).root, instance);
  const services = renderServices(templates, node.profile, {
    ...{ target, instance, services: spec.services, spec },
    ...(order.placeOf && { placeOf: order.placeOf }),
  });
  const base = baseEnvironment(target, release, commit, paths);
  const environment = siteEnvironment(base, spec, services, paths, release);
  const workers = countWorkers(spec, node);
  const common = {
    ...paths,
    instance,
    target: targetName(target),
    project: target.project,
    environmentName: target.environment,
    /** Null on a rootless node. */
    owner: siteOwner(node.profile, instance),
    nginxUser: NGINX_USER,
    logUser: LOG_USER,
  };
  const nginx = {
    ...common,
    ...listensOf(node.profile, router?.sameNode ?? false),
    trusted: router?.trusted ?? [],
    socket: upstreamSocket(paths, instance),
    domains: spec.domains,
    aliases: spec.aliases,
    static: spec.static,
    uploads: services.some((service) => service.uploads),
    timeoutS: Math.ceil(spec.timeoutMs / 1000) + 5,
  };
  const process = {
    ...common,
    environment,
    workers,
    threads: spec.threads,
    workerClass: spec.workerClass,
    timeoutS: Math.ceil(spec.timeoutMs / 1000),
    wsgi: spec.wsgi,
  };
  return {
    site: {
      site: templates.render('nginx', 'project/nginx.conf', nginx),
      run: templates.render('shell', 'project/run', process),
      slotRun: templates.render('shell', 'project/slot-run', common),
      slotFinish: templates.render('shell', 'project/finish', common),
      slotLog: templates.render('shell', 'project/log', common),
      served: spec.static.map(({ folder }) => folder),
      limits: order.limits,
    },
    services: services.filter(({ place }) => place === 'here').map(toRequest),
    linked: services.flatMap(({ name, place, written }) => (place === 'linked' ? [{ name, written }] : [])),
    environment,
    buildEnvironment: base,
    startLabel: `gunicorn ${spec.wsgi.replace(/:application$/, '')} x${workers}${spec.threads > 1 ? `, ${spec.threads} threads` : ''}`,
  };
}

export function toRequest({ name, definition, scripts, environment, written }: RenderedService): ServiceRequest {
  const { packages, disable } = definition.install;
  return { name, packages, disable, setup: scripts.setup ?? '', environment, written };
}
