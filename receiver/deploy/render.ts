/** A planned release -> the files and scripts that a node gets: the one place where templates meet values. */
import {
  type CommitId,
  type InstanceName,
  KraftwerkError,
  type NodeFiles,
  type NodeProfile,
  type ServiceName,
  type ServiceRequest,
  type SiteFiles,
} from '../../node-agent/protocol.ts';
import { type Target, targetName } from '../target.ts';
import type { Templates } from '../templates.ts';
import { parseYaml } from '../yaml-source.ts';
import {
  baseEnvironment,
  countWorkers,
  type ReleaseSpec,
  type ServiceFacts,
  siteEnvironment,
  sitePaths,
} from './plan.ts';

/** The node's own nginx; see templates/node/. */
export function renderNodeFiles(templates: Templates, profile: NodeProfile, runsAsRoot: boolean): NodeFiles {
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
}

export function renderRelease(
  templates: Templates,
  node: { profile: NodeProfile; cores: number; memoryBytes: number },
  order: RenderOrder,
): RenderedRelease {
  const { target, instance, release, commit, spec } = order;
  const paths = sitePaths(node.profile.root, instance);
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
  };
  const nginx = {
    ...common,
    listen: '127.0.0.1:__HTTP_PORT__',
    portSuffix: ':__HTTP_PORT__',
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
    buildEnvironment: base,
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
