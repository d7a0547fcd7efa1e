// The admin's configuration: text + file path -> frozen Config, or every error with line and column.
import os from 'node:os';
import path from 'node:path';
import { type AbsolutePath, type EnvironmentName, KraftwerkError } from '../node-agent/protocol.ts';
import { type BackupsConfig, checkBackups, readBackups } from './config-backups.ts';
import { checkNodes, type NodeConfig, readNode } from './config-nodes.ts';
import { configSchema, type WrittenConfig } from './config-schema.ts';
import { parsePublicKey } from './keys.ts';
import { type Path, type Problem, parseYaml, YamlError } from './yaml-source.ts';
import { didYouMean, validate } from './yaml-validate.ts';

/** What each project of an environment may use at most, on each node. Null: as much as there is. */
export interface LimitsConfig {
  memoryBytes: number | null;
  processes: number | null;
}

export interface EnvironmentConfig {
  name: EnvironmentName;
  nodes: readonly string[];
  /** The node whose nginx balances over `nodes`; null: visitors come to the nodes themselves. */
  router: string | null;
  suffix: string;
  /** Pattern with `{project}`. */
  domain: string | null;
  /** Null: master and main. */
  branch: string | null;
  fastForwardOnly: boolean;
  limits: LimitsConfig | null;
  /** Data is replaced there only with `--confirm`. */
  protected: boolean;
  /** Null: none are made by themselves. */
  backups: BackupsConfig | null;
}

export interface Config {
  /** Absolute. */
  file: string;
  data: AbsolutePath;
  ssh: { host: string; port: number };
  /** Null: off. */
  http: { host: string; port: number } | null;
  /** OpenSSH public key lines. */
  admins: readonly string[];
  templates: readonly AbsolutePath[];
  defaultEnvironment: EnvironmentName | null;
  nodes: ReadonlyMap<string, NodeConfig>;
  environments: ReadonlyMap<EnvironmentName, EnvironmentConfig>;
}

/** Where a command was typed. */
export interface Surroundings {
  env: Readonly<Record<string, string | undefined>>;
  home: string;
  cwd: string;
}

export function readSurroundings(): Surroundings {
  return { env: process.env, home: os.homedir(), cwd: process.cwd() };
}

/** What the configuration needs from its surroundings. */
export interface ConfigContext {
  /** Absolute path of the configuration's own file. */
  file: string;
  /** For `~`. */
  home: string;
  /** Throws when the file cannot be read. */
  readFile(path: string): string;
  isDirectory(path: string): boolean;
}

export const DEFAULT_DATA = '/var/lib/kraftwerk';

/** @throws YamlError `config.invalid`: message is the first problem, lines are all others */
export function parseConfig(text: string, context: ConfigContext): Config {
  const { file } = context;
  const source = parseYaml(text, { file, code: 'config.invalid' });
  const { value, problems } = validate(configSchema, source);
  const hint = source.has(['admins'])
    ? []
    : ['admins is how the first person gets in: admins: [~/.ssh/id_ed25519.pub]'];
  if (value === null) throw new YamlError('config.invalid', file, problems, hint);

  const found: Problem[] = [];
  const report: Report = (at, message) =>
    found.push({ ...(source.has(at) ? source.valuePlace(at) : source.keyPlace(at)), message });
  checkNodes(value.nodes, (folder) => toAbsolute(folder, context), report);
  checkReferences(value, report);
  for (const [name, { backups }] of Object.entries(value.environments)) {
    if (backups) checkBackups(name, backups, report);
  }
  const admins = value.admins.flatMap((entry, index) => readAdmin(entry, ['admins', index], context, report));
  const templates = (value.templates ?? []).map((folder, index) => {
    const absolute = toAbsolute(folder, context);
    if (!context.isDirectory(absolute)) report(['templates', index], `templates[${index}]: no folder ${absolute}`);
    return absolute;
  });
  if (found.length > 0) throw new YamlError('config.invalid', file, found);

  return Object.freeze({
    file,
    data: toAbsolute(value.data ?? DEFAULT_DATA, context),
    ssh: Object.freeze({ host: value.ssh?.host ?? '0.0.0.0', port: value.ssh?.port ?? 22 }),
    http: value.http ? Object.freeze({ host: value.http.host ?? '127.0.0.1', port: value.http.port ?? 8022 }) : null,
    admins: Object.freeze(admins),
    templates: Object.freeze(templates),
    defaultEnvironment: (value.default_environment ?? null) as EnvironmentName | null,
    nodes: new Map(
      Object.entries(value.nodes).map(([name, node]) => [
        name,
        readNode(name, node, (folder) => toAbsolute(folder, context)),
      ]),
    ),
    environments: new Map(
      Object.entries(value.environments).map(([name, environment]) => [
        name as EnvironmentName,
        toEnvironment(name, environment),
      ]),
    ),
  });
}

type Report = (path: Path, message: string) => void;

/** `~` is the home, relative paths are relative to the configuration's file. */
function toAbsolute(written: string, { file, home }: ConfigContext): AbsolutePath {
  const expanded = written === '~' || written.startsWith('~/') ? path.join(home, written.slice(1)) : written;
  const absolute = path.resolve(path.dirname(file), expanded);
  return absolute as AbsolutePath;
}

function toEnvironment(name: string, written: WrittenConfig['environments'][string]): EnvironmentConfig {
  return Object.freeze({
    name: name as EnvironmentName,
    nodes: Object.freeze([...written.nodes]),
    router: written.router ?? null,
    suffix: written.suffix ?? '',
    domain: written.domain ?? null,
    branch: written.branch ?? null,
    fastForwardOnly: written.fast_forward_only ?? false,
    limits: toLimits(written.limits),
    protected: written.protected ?? false,
    backups: readBackups(written.backups),
  });
}

function toLimits(written: WrittenConfig['environments'][string]['limits']): LimitsConfig | null {
  if (written === undefined) return null;
  const { memory, processes } = written;
  const unit = memory?.endsWith('G') ? 1024 ** 3 : 1024 ** 2;
  return {
    memoryBytes: memory === undefined ? null : Number.parseInt(memory, 10) * unit,
    processes: processes ?? null,
  };
}

function checkReferences(value: WrittenConfig, report: Report): void {
  const nodes = Object.keys(value.nodes);
  const environments = Object.keys(value.environments);
  if (nodes.length === 0) report(['nodes'], 'nodes: expected at least one node');
  if (environments.length === 0) report(['environments'], 'environments: expected at least one environment');
  const chosen = value.default_environment;
  if (chosen !== undefined && !environments.includes(chosen)) {
    report(
      ['default_environment'],
      `default_environment: no environment "${chosen}"${didYouMean(chosen, environments)}`,
    );
  }
  // Two sites of one node may not share a name, and project + suffix is the name; a router has a site of each project, too.
  const taken = new Map<string, string>();
  const clashes = new Set<string>();
  for (const [name, environment] of Object.entries(value.environments)) {
    const at = `environments.${name}`;
    const find = (node: string, path: Path, label: string): void => {
      if (!nodes.includes(node)) {
        report(['environments', name, ...path], `${at}.${label}: no node "${node}"${didYouMean(node, nodes)}`);
        return;
      }
      const suffix = environment.suffix ?? '';
      const other = taken.get(`${node} ${suffix}`) ?? name;
      taken.set(`${node} ${suffix}`, other);
      if (other === name || clashes.has(`${name} ${other}`)) return;
      clashes.add(`${name} ${other}`);
      const text = `${at}.suffix: ${other} has the same suffix "${suffix}" on the node ${node}, try "-${name}"`;
      report(['environments', name, 'suffix'], text);
    };
    for (const [index, node] of environment.nodes.entries()) {
      if (environment.nodes.indexOf(node) !== index)
        report(['environments', name, 'nodes', index], `${at}.nodes: ${node} stands there twice`);
      else find(node, ['nodes', index], 'nodes');
    }
    if (environment.router === undefined) continue;
    find(environment.router, ['router'], 'router');
    if (value.nodes[environment.router]?.local) continue;
    const hidden = environment.nodes.find((node) => value.nodes[node]?.root !== undefined);
    if (hidden !== undefined && nodes.includes(environment.router)) {
      const text = `${at}.router: ${environment.router} is another machine, and ${hidden} can be reached on this one only`;
      report(['environments', name, 'router'], text);
    }
  }
}

/** One entry is a key, or a file with one key a line, as authorized_keys has. */
function readAdmin(entry: string, at: Path, context: ConfigContext, report: Report): string[] {
  const label = `admins[${at[1]}]`;
  let text = entry;
  let origin = label;
  // A key has a blank after its type; a path that looks like that is rare enough.
  if (!/^(?:ssh-|ecdsa-|sk-)\S* /.test(entry.trim()) && !entry.includes('PRIVATE KEY')) {
    const file = toAbsolute(entry, context);
    origin = `${label}: ${file}`;
    try {
      text = context.readFile(file);
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      report(at, `${origin}: ${reason === 'ENOENT' ? 'no such file' : `cannot be read (${reason})`}`);
      return [];
    }
  }
  // Whole, so that a private key is known for what it is.
  const lines = text.includes('PRIVATE KEY') ? [text] : text.split(/\r?\n/).filter((line) => /^\s*[^#\s]/.test(line));
  if (lines.length === 0) report(at, `${origin}: holds no public key`);
  return lines.flatMap((line) => {
    try {
      return [parsePublicKey(line).line];
    } catch (error) {
      if (!(error instanceof KraftwerkError)) throw error;
      const message =
        error.code === 'key.private' ? 'is a private key, name the file that ends in .pub' : error.message;
      report(at, `${origin}: ${message}`);
      return [];
    }
  });
}
