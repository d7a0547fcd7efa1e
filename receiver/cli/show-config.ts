// kraftwerk show-config: the receiver's configuration as it is understood, defaults included.
import { readSurroundings } from '../config.ts';
import { printPairs } from '../print-table.ts';
import { loadConfig } from './find-config.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  const { values } = parseOptions('show-config', argv, { config: { type: 'string' }, json: { type: 'boolean' } });
  const config = loadConfig(values.config, readSurroundings());
  const shown = {
    file: config.file,
    data: config.data,
    ssh: config.ssh,
    http: config.http,
    admins: config.admins,
    templates: config.templates,
    default_environment: config.defaultEnvironment,
    nodes: Object.fromEntries(
      [...config.nodes.values()].map(({ name, local, root, httpPort }) => [name, { local, root, http_port: httpPort }]),
    ),
    environments: Object.fromEntries(
      [...config.environments.values()].map(({ name, nodes, suffix, domain, branch, fastForwardOnly }) => [
        name,
        { nodes, suffix, domain, branch, fast_forward_only: fastForwardOnly },
      ]),
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

function formatFields(fields: object): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== null && value !== '')
    .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(', ') : String(value)}`)
    .join('  ');
}
