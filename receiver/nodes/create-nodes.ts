/** The configured nodes -> nodes that can be asked, whatever the way to them is. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeProfile } from '../../node-agent/protocol.ts';
import type { Config } from '../config.ts';
import type { NodeConfig } from '../config-nodes.ts';
import { renderNodeFiles } from '../deploy/render.ts';
import { installPath, readVersion } from '../install-root.ts';
import { createTemplates, type Templates } from '../templates.ts';
import { loadAgentKey } from './agent-key.ts';
import type { AgentConnector } from './connector.ts';
import { createLocalConnector } from './local.ts';
import { createLocalSystemConnector } from './local-system.ts';
import { createNode, type Node } from './node.ts';
import { createSshConnector } from './ssh.ts';

export interface NodesOptions {
  config: Pick<Config, 'data' | 'nodes'>;
  templatesOf(node: string): Templates;
  env: Readonly<Record<string, string | undefined>>;
  runsAsRoot: boolean;
  log(event: string, fields: Record<string, unknown>): void;
}

/** What an agent on this machine inherits: the machine's package configuration, and the tests' failpoint. */
const INHERITED = /^(?:PIP_|UV_|(?:HTTPS?|NO|ALL)_PROXY$|SSL_CERT_|REQUESTS_CA_BUNDLE$|HOME$|KRAFTWERK_FAILPOINT$)/i;

/** The hash of this receiver's agent; '' where there is none. */
export function readAgentVersion(): string {
  const file = installPath('build', 'agent.mjs');
  return existsSync(file) ? createHash('sha256').update(readFileSync(file)).digest('hex') : '';
}

/** Each node's own cascade of templates, by its name: what is under `nodes/NAME/` comes first. */
export function nodeTemplates(configured: readonly string[]): (node: string) => Templates {
  const made = new Map<string, Templates>();
  return (node) => {
    const templates = made.get(node) ?? createTemplates({ configured, hostname: node });
    made.set(node, templates);
    return templates;
  };
}

/** By name, in the order of the configuration. @throws KraftwerkError `agentKey.*` where one is reached over SSH */
export function createNodes(options: NodesOptions): Map<string, Node> {
  const { config, templatesOf, runsAsRoot } = options;
  // Node.js compiles the agent once: its start takes a quarter less.
  const environment = { ...inherited(options.env), NODE_COMPILE_CACHE: join(config.data, 'agent-cache') };
  const nodes = [...config.nodes.values()].map((node): [string, Node] => {
    const { name } = node;
    const profile = profileOf(node);
    const files = renderNodeFiles(templatesOf(name), profile, runsAsRoot);
    return [name, createNode({ name, profile, files }, connect(node, environment, options))];
  });
  return new Map(nodes);
}

function profileOf(node: NodeConfig): NodeProfile {
  if (node.kind === 'rootless') return { profile: 'rootless', root: node.root, httpPort: node.httpPort };
  return { profile: 'system' };
}

function connect(
  node: NodeConfig,
  environment: Readonly<Record<string, string>>,
  { config, runsAsRoot, log }: NodesOptions,
): AgentConnector {
  const { name } = node;
  const agentFile = installPath('build', 'agent.mjs');
  if (node.kind === 'rootless')
    return createLocalConnector({ name, agentFile, environment: ofNode(environment, name) });
  const version = readVersion();
  if (node.kind === 'local')
    return createLocalSystemConnector({ name, agentFile, version, environment, runsAsRoot, log });
  const { host, port, user, hostKey } = node;
  const { privateKey } = loadAgentKey(config.data);
  return createSshConnector({ name, host, port, user, hostKey, privateKey, agentFile, version, log });
}

function inherited(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const entries = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(entries.filter(([name]) => INHERITED.test(name)));
}

/** Tests let one node's agents fail: `%n` in the failpoint's setting is the node. */
function ofNode(environment: Readonly<Record<string, string>>, name: string): Readonly<Record<string, string>> {
  const { KRAFTWERK_FAILPOINT: setting } = environment;
  return setting === undefined ? environment : { ...environment, KRAFTWERK_FAILPOINT: setting.replace('%n', name) };
}
