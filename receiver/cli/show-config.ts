// kraftwerk show-config: the receiver's configuration as it is understood, defaults included.
import { type EnvironmentConfig, readSurroundings } from '../config.ts';
import { type BackupsConfig, readCopyCredentials } from '../config-backups.ts';
import type { NodeConfig } from '../config-nodes.ts';
import { printPairs } from '../print-table.ts';
import { loadConfig } from './find-config.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  const { values } = parseOptions('show-config', argv, { config: { type: 'string' }, json: { type: 'boolean' } });
  const surroundings = readSurroundings();
  const config = loadConfig(values.config, surroundings);
  // What the receiver would refuse to start with is no valid configuration here either.
  readCopyCredentials(config, surroundings.env);
  const shown = {
    file: config.file,
    data: config.data,
    ssh: config.ssh,
    http: config.http,
    admins: config.admins,
    templates: config.templates,
    default_environment: config.defaultEnvironment,
    nodes: Object.fromEntries([...config.nodes.values()].map((node) => [node.name, showNode(node)])),
    environments: Object.fromEntries(
      [...config.environments.values()].map(({ name, ...environment }) => [name, showEnvironment(environment)]),
    ),
  };
  if (values.json) {
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    return 0;
  }
  const rows: [string, string][] = [
    ['file', shown.file],
    ['data', shown.data],
    ['ssh', `${shown.ssh.host}:${shown.ssh.port}`],
    ['http', shown.http === null ? 'off' : `${shown.http.host}:${shown.http.port}`],
    ...shown.admins.map((line): [string, string] => ['admin', line]),
    ...shown.templates.map((folder): [string, string] => ['templates', folder]),
    ['default_environment', shown.default_environment ?? 'none'],
    ...Object.entries(shown.nodes).map(([name, node]): [string, string] => [`node ${name}`, formatFields(node)]),
    ...Object.entries(shown.environments).map(([name, environment]): [string, string] => [
      `environment ${name}`,
      formatFields(environment),
    ]),
  ];
  process.stdout.write(printPairs(rows));
  return 0;
}

/** In the words of the file. */
function showNode(node: NodeConfig): object {
  if (node.kind === 'rootless') return { local: true, root: node.root, http_port: node.httpPort };
  if (node.kind === 'local') return { local: true };
  const { host, user, port, hostKey, address } = node;
  return { host, user, port, host_key: hostKey, address };
}

function showEnvironment(environment: Omit<EnvironmentConfig, 'name'>): object {
  const { nodes, router, suffix, domain, branch, fastForwardOnly, limits, backups } = environment;
  const shown = limits && { memory_bytes: limits.memoryBytes, processes: limits.processes };
  return {
    nodes,
    router,
    suffix,
    domain,
    branch,
    fast_forward_only: fastForwardOnly,
    limits: shown,
    protected: environment.protected,
    backups: backups && showBackups(backups),
  };
}

function showBackups({ schedule, keep, services, drill, copy }: BackupsConfig): object {
  const shown = copy && {
    bucket: copy.bucket,
    prefix: copy.prefix,
    endpoint: copy.endpoint,
    region: copy.region,
    path_style: copy.pathStyle,
  };
  return { schedule, keep, services: services ?? 'all', drill: drill ?? 'never', copy: shown };
}

function formatFields(fields: object): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== null && value !== '')
    .map(([name, value]) => `${name}: ${formatValue(value)}`)
    .join('  ');
}

function formatValue(value: unknown): string {
  if (Array.isArray(value)) return value.join(', ');
  return typeof value === 'object' && value !== null ? `{${formatFields(value)}}` : String(value);
}
