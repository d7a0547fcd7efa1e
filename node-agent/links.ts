/**
 * Links: how a site reaches a service whose data is on another node. On each of its other nodes ssh logs in there as the site's
 * own user and forwards sockets to sockets: so the server sees who connects, as it does on its own node, and there is no secret
 * but a key, which never leaves the node that has made it. docs/isolation.md says who can reach what by it.
 */
import { connect } from 'node:net';
import { readAccount } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { makeOwned, SET_GROUP } from './ownership.ts';
import { KraftwerkError, type ServiceName } from './protocol.ts';
import type {
  LinkAcceptRequest,
  LinkAcceptResult,
  LinkKeyRequest,
  LinkKeyResult,
  LinkRequest,
  LinkResult,
} from './protocol-data.ts';
import { linkedVariables, rewriteRun } from './service-variables.ts';
import { DEFAULT_PATH, type RunResult, type System } from './system.ts';
import { type Work, withHeartbeat } from './work.ts';

const COMMAND_LIMIT_MS = 60_000;
/** A login takes a fraction of a second; the other node's sshd may just be starting. */
const STANDS_LIMIT_MS = 20_000;
const UNITS = '/etc/systemd/system';
const HOST_KEYS = '/etc/ssh';
/**
 * Opens no shell, no agent, no X11, no tunnel, and forwards to these sockets alone. In brackets and with a port a path is taken for a
 * host's name, and it is by such a name that sshd permits sockets: of TCP there is no host of that name.
 * @see sshd(8), permitopen; channel_connect_to_path in OpenSSH's channels.c
 */
function restrictions(sockets: readonly string[]): string {
  const open = sockets.map((path) => `permitopen="[${path}]:*"`);
  return ['restrict', 'port-forwarding', ...open, 'permitlisten="localhost:1"', 'command="/bin/false"'].join(',');
}

/** The site reads it, and cannot change it. sshd looks there for the user's keys. */
const folderOf = (site: SiteLayout): string => `${site.site}/.ssh`;
const keyOf = (site: SiteLayout): string => `${folderOf(site)}/kraftwerk-link`;
/** No instance has a dot in its name. */
export const unitOf = (site: SiteLayout, service: string): string =>
  `kraftwerk-link@${site.instance}.${service}.service`;
const socketsOf = (site: SiteLayout, service: string): string => `/run/kraftwerk-link/${site.instance}/${service}`;

/** @throws KraftwerkError `service.link` */
export async function makeLinkKey({ linked }: LinkKeyRequest, { system, site }: Work): Promise<LinkKeyResult> {
  const stale = madeLinks(system, site).filter((service) => !linked.some((name) => name === service));
  await removeLinks(system, site, stale);
  if (linked.length === 0) {
    for (const path of [keyOf(site), `${keyOf(site)}.pub`]) if (system.exists(path)) system.remove(path);
    return { publicKey: null };
  }
  openFolder(system, site);
  const key = keyOf(site);
  if (system.readText(`${key}.pub`) === null || system.readText(key) === null) {
    const fresh = `${key}.new`;
    for (const path of [fresh, `${fresh}.pub`]) system.remove(path);
    const argv = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', `kraftwerk-link:${site.instance}`, '-f', fresh];
    const { code, tail } = await command(system, argv);
    if (code !== 0)
      throw linkError('the node could not make a key', tail, ['on the node: apt-get install openssh-client']);
    system.setMode(fresh, 0o640);
    for (const path of [fresh, `${fresh}.pub`]) await system.sync(path);
    system.publish(fresh, key);
    // Last: where it is there, so is the other half.
    system.publish(`${fresh}.pub`, `${key}.pub`);
  }
  const [type = '', text = ''] = (system.readText(`${key}.pub`) ?? '').split(' ');
  return { publicKey: `${type} ${text}` };
}

/** @throws KraftwerkError `service.link` */
export async function acceptLinks(
  { guests, port: wanted }: LinkAcceptRequest,
  { system, site }: Work,
): Promise<LinkAcceptResult> {
  const file = `${folderOf(site)}/authorized_keys`;
  const hostKeys = system
    .list(HOST_KEYS)
    .filter((name) => /^ssh_host_(?:ed25519|ecdsa|rsa)_key\.pub$/.test(name))
    .map((name) => (system.readText(`${HOST_KEYS}/${name}`) ?? '').split(' ').slice(0, 2).join(' ').trim());
  if (guests.length === 0) {
    if (system.exists(file)) system.remove(file);
    return { hostKeys, port: null };
  }
  openFolder(system, site);
  const lines = guests.map(({ key, sockets }) => `${restrictions(sockets)} ${key}\n`);
  const known = system.readText(file) === lines.join('');
  // Asked before the file is there, so that it is asked again where it does not do.
  const port = known && !wanted ? null : await askServer(system, site);
  system.writeIfChanged(file, lines.join(''), 0o640);
  return { hostKeys, port };
}

/** Whether sshd would let the site's user in, as far as its configuration tells. @returns its port @throws KraftwerkError `service.link` */
async function askServer(system: System, site: SiteLayout): Promise<number> {
  const user = site.owner?.user ?? '';
  // Where a socket starts sshd, the folder that it wants is there only while somebody is logged in.
  if (!system.exists('/run/sshd')) system.makeFolder('/run/sshd', 0o755);
  const { code, tail } = await command(system, ['/usr/sbin/sshd', '-T', '-C', `user=${user},host=node,addr=192.0.2.1`]);
  const hint = 'on that node: apt-get install openssh-server, and sshd -t';
  if (code !== 0) throw linkError("the node's sshd cannot be asked", tail.slice(-3), [hint]);
  const said = (word: string): string[] =>
    tail.flatMap((line) => (line.startsWith(`${word} `) ? [line.slice(word.length + 1)] : []));
  const wrong = [
    ['pubkeyauthentication', (value: string) => value === 'yes'],
    ['allowstreamlocalforwarding', (value: string) => ['yes', 'all', 'local'].includes(value)],
    ['disableforwarding', (value: string) => value === 'no'],
    ['authorizedkeysfile', (value: string) => value.split(' ').includes('.ssh/authorized_keys')],
    ['usepam', (value: string) => value === 'yes'],
  ] as const;
  for (const [word, isRight] of wrong) {
    const [value] = said(word);
    if (value === undefined || isRight(value)) continue;
    throw linkError(
      `sshd of the node does not let ${user} in to forward sockets: ${word} ${value}`,
      [],
      [
        `in its /etc/ssh/sshd_config, for the group web: Match Group web, ${word}`,
        'docs/several-nodes.md tells what links need of sshd',
      ],
    );
  }
  return Number(said('port')[0] ?? 22);
}

/** @throws KraftwerkError `service.link` */
export async function makeLinks({ links, written }: LinkRequest, work: Work): Promise<LinkResult> {
  const { system, site } = work;
  const made: ServiceName[] = [];
  for (const link of links) {
    const { service, variables } = link;
    const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`);
    system.makeFolder(`${site.notes}/links`, 0o700);
    system.writeIfChanged(linkedVariables(site, service), lines.join(''), 0o600);
    const hosts = link.hostKeys.map((key) => `kraftwerk-link ${key}\n`);
    const changed = [
      system.writeIfChanged(`${folderOf(site)}/${service}.hosts`, hosts.join(''), 0o640),
      system.writeIfChanged(`${folderOf(site)}/${service}.conf`, link.config, 0o640),
      system.writeIfChanged(`${UNITS}/${unitOf(site, service)}`, link.unit, 0o644),
    ];
    const again = changed.includes(true) || system.exists(restartMark(site, service));
    if (!again && (await stands(site, link))) continue;
    // Until it stands: who is killed before has it made anew.
    system.writeIfChanged(restartMark(site, service), '', 0o600);
    await withHeartbeat(work, 'Services', `linking ${service} to ${link.to}`, () => startLink(work, link));
    system.remove(restartMark(site, service));
    made.push(service);
  }
  if (written !== null) rewriteRun(system, site, written);
  return { made };
}

function restartMark(site: SiteLayout, service: string): string {
  return `${site.notes}/links/.${service}.restart`;
}

type Link = LinkRequest['links'][number];

async function startLink({ system, site, signal }: Work, link: Link): Promise<void> {
  const unit = unitOf(site, link.service);
  // Has systemd read the unit, too.
  await command(system, ['systemctl', '--quiet', 'enable', unit]);
  // What an ssh before has left must not be taken for the new one's.
  await command(system, ['systemctl', 'stop', unit]);
  for (const socket of link.sockets) system.remove(`${socketsOf(site, link.service)}/${socket}`);
  const started = await command(system, ['systemctl', 'start', unit]);
  const end = system.nowMs() + STANDS_LIMIT_MS;
  while (started.code === 0 && system.nowMs() < end && !signal.aborted) {
    if (await stands(site, link)) return;
    await system.sleep(50, signal);
  }
  const { tail } = await command(system, [
    'journalctl',
    '--unit',
    unit,
    '--lines',
    '12',
    '--output',
    'cat',
    '--no-pager',
  ]);
  const said = tail.filter(
    (line) => !/^(?:Started|Stopped|Starting|Stopping) |Scheduled restart|Deactivated|Main process/.test(line),
  );
  throw linkError(`${link.service}: this node does not reach it on ${link.to}`, said.slice(-4), [
    `from here to ${link.to} the port of its sshd must be open; nodes.${link.to}.address says where it is reached`,
    `its sshd must let ${site.owner?.user} in by key: AllowUsers, AllowGroups, DenyUsers in sshd_config`,
  ]);
}

/** Whether somebody listens on all of its sockets. */
async function stands(site: SiteLayout, { service, sockets }: Link): Promise<boolean> {
  const answers = await Promise.all(sockets.map((socket) => listens(`${socketsOf(site, service)}/${socket}`)));
  return answers.every((answer) => answer);
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** The services that have a link here. */
export function madeLinks(system: System, site: SiteLayout): string[] {
  const prefix = `kraftwerk-link@${site.instance}.`;
  return system
    .list(UNITS)
    .filter((name) => name.startsWith(prefix) && name.endsWith('.service'))
    .map((name) => name.slice(prefix.length, -'.service'.length));
}

/** Those services' links, and all that belongs to them. */
export async function removeLinks(system: System, site: SiteLayout, services: readonly string[]): Promise<void> {
  if (services.length === 0) return;
  for (const service of services) {
    const unit = unitOf(site, service);
    await command(system, ['systemctl', '--quiet', '--no-reload', 'disable', '--now', unit]);
    const files = [
      `${folderOf(site)}/${service}.hosts`,
      `${folderOf(site)}/${service}.conf`,
      restartMark(site, service),
    ];
    for (const path of [...files, linkedVariables(site, service as ServiceName), socketsOf(site, service)])
      system.remove(path);
    // Last: by this it is known that there is something to remove.
    system.remove(`${UNITS}/${unit}`);
  }
  await command(system, ['systemctl', 'daemon-reload']);
}

/** What is made in it is of the site's own group. */
function openFolder(system: System, site: SiteLayout): void {
  const account = readAccount(system, site);
  if (account === null) {
    throw linkError(
      'a rootless node has no users of its own, and so no links',
      [],
      ['environments of several nodes with such services: servers that kraftwerk setup-node has made'],
    );
  }
  makeOwned(system, folderOf(site), { uid: 0, gid: account.gid }, SET_GROUP | 0o750);
}

function command(system: System, argv: readonly string[]): Promise<RunResult> {
  return system.run(argv, { cwd: '/', env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' }, timeoutMs: COMMAND_LIMIT_MS });
}

function linkError(message: string, lines: readonly string[], hint: readonly string[]): KraftwerkError {
  return new KraftwerkError('service.link', message, {
    step: 'Services',
    lines,
    hint,
    reason: 'a service cannot be reached',
  });
}
