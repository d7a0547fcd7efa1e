/** A planned release -> the files and scripts that a node gets: the one place where templates meet values. */
import {
  type CommitId,
  type InstanceName,
  KraftwerkError,
  type Limits,
  LOG_USER,
  NGINX_USER,
  type NodeFiles,
  type NodeProfile,
  nodePlace,
  type ServiceName,
  type ServiceRequest,
  type SiteFiles,
  siteOwner,
} from '../../node-agent/protocol.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import { parseYaml } from '../yaml-source.ts';
import {
  baseEnvironment,
  countWorkers,
  listensOf,
  type ReleaseSpec,
  type ServiceFacts,
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
  const services = spec.services.map(({ name }) =>
    readService(templates, name, { ...paths, instance, project: target.project, environment: target.environment }),
  );
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
    services: spec.services.map(({ name, options }) => ({
      name,
      setup: templates.render('shell', `services/${name}/setup.sh`, { ...common, options }),
      environment: {
        SITE_ROOT: paths.site,
        KRAFTWERK_PROJECT: target.project,
        KRAFTWERK_ENVIRONMENT: target.environment,
      },
    })),
    environment,
    // A home that tools may write to.
    buildEnvironment: common.owner === null ? base : { ...base, HOME: `${paths.site}/.cache` },
    startLabel: `gunicorn ${spec.wsgi.replace(/:application$/, '')} x${workers}${spec.threads > 1 ? `, ${spec.threads} threads` : ''}`,
  };
}

/** What `service.yaml` says: `variables`, with {site}, {root}, {instance}, {project} and {environment} filled in, and `uploads`. */
function readService(templates: Templates, name: ServiceName, values: Readonly<Record<string, string>>): ServiceFacts {
  const file = `services/${name}/service.yaml`;
  const { value } = parseYaml(templates.read(file), { file, code: 'service.invalid' });
  const { variables = {}, uploads = false } = value as { variables?: Record<string, unknown>; uploads?: unknown };
  return {
    name,
    uploads: uploads === true,
    variables: Object.fromEntries(
      Object.entries(variables).map(([variable, text]) => [
        variable,
        String(text).replace(/\{([a-z]+)\}/g, (whole, key: string) => {
          const filled = values[key];
          if (filled === undefined)
            throw new KraftwerkError('service.invalid', `${file}: ${variable}: unknown placeholder ${whole}`, {
              hint: `known: ${Object.keys(values)
                .map((known) => `{${known}}`)
                .join(' ')}`,
            });
          return filled;
        }),
      ]),
    ),
  };
}
