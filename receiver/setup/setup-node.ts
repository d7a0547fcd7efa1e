/** The story of setup-node: look, trust, log in, check, install, let the receiver in, and see that it gets in. */
import { chownSync, existsSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { parseConfig, type Surroundings } from '../config.ts';
import { readVersion } from '../install-root.ts';
import { createSshClient, type ResolvedDestination, type SshClient } from '../nodes/admin-ssh.ts';
import type { RootShell } from '../nodes/root-shell.ts';
import { createTemplates, type Templates } from '../templates.ts';
import { type AgentAccess, findAgentAccess } from './agent-access.ts';
import type { ServerFacts } from './facts.ts';
import { listNodeFiles, renderNginxConf } from './node-files.ts';
import { formatNodeLine, insertNodeLine, type NodeLine } from './node-line.ts';
import { proveNode } from './prove-node.ts';
import { inspect, NODE_PACKAGES, type Provisioning, provisionNode } from './provision.ts';
import { type ReceiverSettings, readReceiverSettings } from './receiver-settings.ts';
import type { SetupReport } from './report.ts';
import { judgeHostKey, unconfirmed } from './trust.ts';

export interface SetupNodeOrder {
  /** As the admin's ssh knows it. */
  host: string;
  /** The node's name in the configuration. */
  name: string;
  user: string;
  /** Null: as the admin's ssh configuration says. */
  port: number | null;
  identity: string | null;
  templates: string | undefined;
  config: string | undefined;
  /** The receiver's public key, or the file that holds it; null: from the configuration's data folder. */
  receiverKey: string | null;
  /** `SHA256:…` */
  hostKey: string | null;
  yes: boolean;
  takeOver: boolean;
  /** Put the line into the configuration. */
  write: boolean;
}

export interface SetupSurroundings {
  surroundings: Surroundings;
  signal: AbortSignal;
  report: SetupReport;
  /** Null: nobody is there. */
  ask: ((question: string) => Promise<boolean>) | null;
  nowMs(): number;
}

/** @returns the node's line for the configuration */
export async function setupNode(order: SetupNodeOrder, around: SetupSurroundings): Promise<NodeLine> {
  const { host, name, user } = order;
  const { report, surroundings, signal } = around;
  const settings = readReceiverSettings(order.config, surroundings);
  const access = findAgentAccess(order.receiverKey, settings, surroundings, hostname());
  const templates = createTemplates({
    explicit: order.templates,
    configured: settings?.templates ?? [],
    hostname: name,
  });
  const client = createSshClient(
    { host, user, port: order.port, identity: order.identity },
    { env: surroundings.env, interactive: around.ask !== null, signal },
  );
  try {
    const where = await client.resolve();
    const { hostKey, fingerprint } = await trustHostKey(order, client, settings, around);
    const shell = await connect(client, hostKey, `${user}@${where.hostname}:${where.port}`, report);
    const provisioning = { host, shell, templates, report, nowMs: around.nowMs };
    try {
      await provision(provisioning, templates, access, order.takeOver);
      const line = { name, host: where.hostname, user, port: where.port, hostKey: fingerprint };
      await proveNode(provisioning, line, access.privateKey);
      tell(order, line, where, settings, around);
      return line;
    } finally {
      await shell.close();
    }
  } finally {
    client.close();
  }
}

async function trustHostKey(
  { host, name, hostKey: given, yes }: SetupNodeOrder,
  client: SshClient,
  settings: ReceiverSettings | null,
  { ask, report }: SetupSurroundings,
): Promise<{ hostKey: string; fingerprint: string }> {
  report.begin('Host key');
  const shown = await client.readHostKey();
  const known = await client.knownKeys();
  const pinned = settings?.pinnedKey(name) ?? null;
  const { fingerprint, because } = judgeHostKey({ host, shown, given, pinned, known, yes });
  report.say(`${fingerprint} ${shown.split(' ')[0]}`);
  if (because !== null) {
    report.endStep(because);
    return { hostKey: shown, fingerprint };
  }
  if (ask === null) throw unconfirmed(host, fingerprint);
  report.say("the right one, on the server's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
  if (!(await ask('Is it the same? [y/N] ')))
    throw new KraftwerkError('setup.hostKey', `the host key of ${host} was not confirmed; nothing was changed`);
  report.endStep('confirmed');
  return { hostKey: shown, fingerprint };
}

async function connect(client: SshClient, hostKey: string, where: string, report: SetupReport): Promise<RootShell> {
  report.begin('Connect');
  const shell = await client.connect(hostKey);
  report.endStep(where);
  return shell;
}

async function provision(
  provisioning: Provisioning,
  templates: Templates,
  { publicKey, comment }: AgentAccess,
  takeOver: boolean,
): Promise<ServerFacts> {
  const blob = publicKey.blob.toString('base64');
  const key = `${publicKey.type} ${blob}`;
  const facts = await inspect(provisioning, { version: readVersion(), receiverKey: blob, takeOver });
  await provisionNode(provisioning, {
    packages: NODE_PACKAGES,
    files: listNodeFiles(templates, false),
    nginxConf: renderNginxConf(templates, facts),
    receiverKey: {
      line: `restrict,command="/usr/local/lib/kraftwerk/agent-login" ${key} ${comment}`,
      key,
      replace: takeOver,
    },
  });
  if (facts.firewall) provisioning.report.warn('its firewall is on; visitors come in with: ufw allow 80,443/tcp');
  return facts;
}

function tell(
  { write }: SetupNodeOrder,
  line: NodeLine,
  { knownAs }: ResolvedDestination,
  settings: ReceiverSettings | null,
  { report, surroundings }: SetupSurroundings,
): void {
  const changes = report.changes();
  const what = changes === 0 ? 'nothing had to be changed' : changes === 1 ? '1 change' : `${changes} changes`;
  report.success(`${line.name} is a node; ${what}`);
  if (line.host !== knownAs && !knownAs.startsWith('['))
    report.say(`(your ssh knows it as ${knownAs}; the receiver will connect to ${line.host})`);
  if (settings?.hasNode(line.name)) {
    report.say(`${settings.file} has it already`);
    return;
  }
  if (write) {
    if (settings === null) throw new KraftwerkError('config.missing', '--write: there is no configuration here');
    writeLine(settings.file, line, surroundings);
    report.say(`${settings.file} has its line now; name it in an environment, then restart the receiver`);
    return;
  }
  report.hint(`put this below "nodes:" of ${settings?.file ?? "the receiver's configuration"}:`);
}

/** @throws KraftwerkError `setup.write` where the file would not be what it was, and one line more */
function writeLine(file: string, line: NodeLine, { home }: Surroundings): void {
  const refuse = (why: string): KraftwerkError =>
    new KraftwerkError('setup.write', `${file}: ${why}`, { hint: `put it in yourself: ${formatNodeLine(line)}` });
  const before = readFileSync(file, 'utf8');
  const after = insertNodeLine(before, formatNodeLine(line));
  if (after === null) throw refuse('its nodes: are not one a line');
  const context = {
    file,
    home,
    readFile: (name: string) => readFileSync(name, 'utf8'),
    isDirectory: (name: string) => existsSync(name),
  };
  const node = parseConfig(after, context).nodes.get(line.name);
  if (node?.kind !== 'ssh' || node.hostKey !== line.hostKey) throw refuse('the line does not fit in');
  const real = realpathSync(file);
  const { mode, uid, gid } = statSync(real);
  const temporary = `${real}.${process.pid}.new`;
  writeFileSync(temporary, after, { mode: mode & 0o777 });
  if (process.getuid?.() === 0) chownSync(temporary, uid, gid);
  renameSync(temporary, real);
}
