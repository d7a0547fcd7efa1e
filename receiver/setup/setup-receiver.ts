/** The story of setup-receiver: one machine, from nothing to a place to push to. */
import { chownSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { loadConfig } from '../cli/find-config.ts';
import { type Config, DEFAULT_DATA, type Surroundings } from '../config.ts';
import { installPath, readVersion } from '../install-root.ts';
import { fingerprintOf, type PublicKey } from '../keys.ts';
import { createLocalShell } from '../nodes/root-shell.ts';
import { loadHostKey } from '../ssh/host-key.ts';
import { createTemplates, type Templates } from '../templates.ts';
import { findAdminKey } from './admin-key.ts';
import { ensureAgentKey } from './agent-access.ts';
import { type AnsweringReceiver, findReceiverPort, waitForReceiver } from './await-receiver.ts';
import type { ServerFacts } from './facts.ts';
import { listNodeFiles, renderNginxConf } from './node-files.ts';
import type { Problem } from './problems.ts';
import { inspect, NODE_PACKAGES, type Provisioning, provisionNode, runScript } from './provision.ts';
import { renderServiceFiles } from './receiver-files.ts';
import { choosePort, PRIVILEGED_PORTS } from './receiver-port.ts';
import type { SetupReport } from './report.ts';

export const CONFIG_FILE = '/etc/kraftwerk.yaml';
/** Its name in the configuration. */
const HERE = 'here';

export interface SetupReceiverOrder {
  /** `example.com`, or a pattern with `{project}`; null: the machine's own name. */
  domain: string | null;
  port: number | null;
  adminKey: string | null;
  templates: string | undefined;
}

export interface ReceiverSurroundings {
  surroundings: Surroundings;
  signal: AbortSignal;
  report: SetupReport;
  nowMs(): number;
  /** The address by which the admin reached this machine, or its first one. */
  address: string;
}

export interface SetUpReceiver {
  /** What clients call it. */
  host: string;
  port: number;
  /** `SHA256:…` */
  fingerprint: string;
  environments: readonly string[];
}

export async function setupReceiver(order: SetupReceiverOrder, around: ReceiverSurroundings): Promise<SetUpReceiver> {
  const { surroundings, report, signal } = around;
  const existing = existsSync(CONFIG_FILE) ? loadConfig(CONFIG_FILE, { ...surroundings, env: {} }) : null;
  const templates = createTemplates({
    explicit: order.templates,
    configured: existing?.templates ?? [],
    hostname: HERE,
  });
  const shell = createLocalShell(signal);
  const provisioning = { host: 'this machine', shell, templates, report, nowMs: around.nowMs };
  const adminKey = existing === null ? findAdminKey(order.adminKey, surroundings) : null;

  const receiverPort = await findReceiverPort(existing);
  let port = existing?.ssh.port ?? 0;
  const facts = await inspect(provisioning, { version: readVersion(), receiverKey: null, takeOver: false }, (seen) => {
    const chosen = choosePort({
      wanted: order.port,
      configured: existing?.ssh.port ?? null,
      ports: seen.ports,
      receiverPort,
    });
    port = chosen.port;
    return [...chosen.problems, ...installationProblems()];
  });
  const host = facts.fqdn.includes('.') ? facts.fqdn : around.address;

  await provision(provisioning, templates, existing, facts);
  const data = existing?.data ?? DEFAULT_DATA;
  await runScript(provisioning, 'receiver/user.sh', { data });
  report.begin('Settings');
  const fingerprint = makeKeys(data, report);
  if (adminKey !== null) writeConfig(templates, order, { facts, host, port, data, adminKey, report });
  report.endStep();

  const startedMs = around.nowMs();
  await runScript(provisioning, 'receiver/service.sh', serviceData(templates, data, port, existing));
  const config = loadConfig(CONFIG_FILE, { ...surroundings, env: {} });
  await answer({ config, startedMs, signal, nowMs: around.nowMs }, report);
  tell(order, { existing, facts, port }, around);
  return { host, port: config.ssh.port, fingerprint, environments: [...config.environments.keys()] };
}

function isHere(config: Config | null): boolean {
  return config === null || [...config.nodes.values()].some(({ kind }) => kind === 'local');
}

/** This machine as a node, unless its configuration says that it is none. */
async function provision(
  provisioning: Provisioning,
  templates: Templates,
  existing: Config | null,
  facts: ServerFacts,
): Promise<void> {
  await provisionNode(provisioning, {
    packages: [...NODE_PACKAGES, 'receiver/packages'],
    files: listNodeFiles(templates, isHere(existing)),
    nginxConf: renderNginxConf(templates, facts),
    receiverKey: null,
  });
}

/** Host key and agent key, made once; they belong to the receiver. @returns the host key's fingerprint */
function makeKeys(data: string, report: SetupReport): string {
  const file = join(data, 'host_key');
  if (!existsSync(file)) {
    loadHostKey(file);
    const { uid, gid } = statSync(data);
    chownSync(file, uid, gid);
    report.changed(file);
  }
  if (!existsSync(join(data, 'agent_key'))) {
    ensureAgentKey(data);
    report.changed(join(data, 'agent_key'));
  }
  const key = ssh2.utils.parseKey(readFileSync(file, 'utf8'));
  if (key instanceof Error) throw new KraftwerkError('hostKey.invalid', `${file}: not a private key of OpenSSH`);
  return fingerprintOf(key.getPublicSSH());
}

interface NewConfig {
  facts: ServerFacts;
  host: string;
  port: number;
  data: string;
  adminKey: PublicKey;
  report: SetupReport;
}

function writeConfig(templates: Templates, { domain }: SetupReceiverOrder, made: NewConfig): void {
  const { facts, host, port, data, adminKey, report } = made;
  // An address has no subdomains.
  const name = domain ?? (/^[0-9.]+$|:/.test(host) ? facts.hostname || HERE : host);
  const liveDomain = name.includes('{project}') ? name : `{project}.${name}`;
  const stageDomain = liveDomain.replace('{project}', '{project}-stage');
  const values = { data, port, adminKey: adminKey.line, liveDomain, stageDomain };
  writeFileSync(CONFIG_FILE, templates.render('text', 'receiver/kraftwerk.yaml', values), { mode: 0o644, flag: 'wx' });
  report.changed(CONFIG_FILE);
  report.say(`admin: ${adminKey.fingerprint} ${adminKey.comment}`);
  report.say(`sites: ${liveDomain}, ${stageDomain}`);
}

function serviceData(templates: Templates, data: string, port: number, existing: Config | null): object {
  const node = process.execPath;
  const program = installPath('build', 'receiver.mjs');
  const base = { data, node, program, config: CONFIG_FILE };
  const files = renderServiceFiles(templates, { ...base, privileged: port !== 0 && port < PRIVILEGED_PORTS });
  const sudoers = isHere(existing) ? templates.render('text', 'receiver/sudoers', {}) : null;
  return {
    ...base,
    files: files.map(({ path, mode, content }) => ({ path, mode, base64: content.toString('base64') })),
    sudoers: sudoers === null ? null : Buffer.from(sudoers).toString('base64'),
  };
}

/** The receiver runs as its own user: what it is made of must be readable for others. */
function installationProblems(): Problem[] {
  const program = installPath('build', 'receiver.mjs');
  if (!existsSync(program)) {
    return [{ message: `there is no ${program}`, hints: ['in the checkout: npm run build'] }];
  }
  const closed = [process.execPath, program].map(findClosed).find((path) => path !== null) ?? null;
  if (closed === null) return [];
  return [
    {
      message: `the receiver's user could not read ${closed}`,
      hints: ['install kraftwerk where everybody may read it: npm install -g as root, or a checkout below /opt'],
    },
  ];
}

/** The first part of a path that not everybody may pass. */
function findClosed(path: string): string | null {
  const parts = path.split('/').slice(1);
  for (const [index] of parts.entries()) {
    const part = `/${parts.slice(0, index + 1).join('/')}`;
    const { mode } = statSync(part);
    if ((mode & (index === parts.length - 1 ? 0o004 : 0o001)) === 0) return part;
  }
  return null;
}

async function answer(order: Parameters<typeof waitForReceiver>[0], report: SetupReport): Promise<void> {
  report.begin('Receiver');
  const { failedNodes, ms }: AnsweringReceiver = await waitForReceiver(order);
  const here = failedNodes.find(({ node }) => order.config.nodes.get(node)?.kind === 'local');
  if (here !== undefined) {
    throw new KraftwerkError('setup.receiver', `the receiver runs, but not its node ${here.node}: ${here.message}`, {
      hint: 'run this again; its log: tail /var/log/kraftwerk/current',
    });
  }
  report.endStep(`listens on port ${order.config.ssh.port}${ms === null ? '' : `, after ${(ms / 1000).toFixed(1)}s`}`);
  for (const { node, message } of failedNodes) report.warn(`node ${node}: ${message}`);
}

function tell(
  { adminKey, domain, port: wanted }: SetupReceiverOrder,
  { existing, facts, port }: { existing: Config | null; facts: ServerFacts; port: number },
  { report, surroundings }: ReceiverSurroundings,
): void {
  if (existing !== null) {
    const patterns = [...existing.environments.values()].map((environment) => environment.domain ?? '');
    if (domain !== null && !patterns.some((pattern) => pattern.endsWith(domain)))
      report.warn(`--domain: ${CONFIG_FILE} is there already and stays as it is`);
    if (adminKey !== null && !existing.admins.includes(findAdminKey(adminKey, surroundings).line))
      report.warn(`--admin-key: ${CONFIG_FILE} is there already; ssh kraftwerk@HOST keys:add NAME lets more people in`);
  } else if (wanted === null && port !== 22) {
    report.say(`sshd has port 22, so the receiver has ${port}; docs/install.md says how to change that`);
  }
  if (facts.firewall) report.warn(`the firewall is on; let them in: ufw allow ${port}/tcp && ufw allow 80,443/tcp`);
  const changes = report.changes();
  const what = changes === 0 ? 'nothing had to be changed' : changes === 1 ? '1 change' : `${changes} changes`;
  report.success(`the receiver is ready; ${what}`);
}
