/** nginx: the node's own instance, and one file per site: staged, tested, swapped, or restored. */
import { connect, createServer } from 'node:net';
import type { NodeLayout, SiteLayout } from './layout.ts';
import { control, ensureRunsvdir, readService, waitUntil } from './processes.ts';
import { type InstanceName, KraftwerkError, type NodeFiles } from './protocol.ts';
import { DEFAULT_PATH, errno, type System } from './system.ts';
import { assertSetUp, systemNginxPid } from './system-node.ts';

const nginxService = (node: NodeLayout): string => `${node.serviceFolders}/nginx`;

/** The pid of nginx's master, 0 when it does not run. */
function nginxPid(system: System, node: NodeLayout): number {
  return node.profile.profile === 'system' ? systemNginxPid(system, node) : readService(system, nginxService(node)).pid;
}

/**
 * The port of a node that is up and as `files` wants it; null where something is to be done.
 * @throws KraftwerkError `node.setup` for a system node that is not set up
 */
export function readNodePort(system: System, node: NodeLayout, files: NodeFiles): number | null {
  if (files === null || node.profile.profile === 'system') {
    assertSetUp(system, node);
    return node.httpPort;
  }
  const known = Number(system.readText(node.httpPortFile) ?? '0');
  const wanted = node.httpPort;
  const good =
    known !== 0 &&
    (wanted === 0 || wanted === known) &&
    readService(system, nginxService(node)).state === 'run' &&
    system.readText(`${node.nginx}/nginx.conf`) === fill(files.nginxConf, known);
  return good ? known : null;
}

/**
 * Lays the node out and brings its runsvdir and nginx up, where they are not. Called under the node's lock.
 * @returns the port on which sites are served
 * @throws KraftwerkError `node.port`, `node.nginx`
 */
export async function ensureNode(system: System, node: NodeLayout, files: NodeFiles): Promise<number> {
  const ready = readNodePort(system, node, files);
  if (ready !== null || files === null) return ready ?? 0;
  const service = nginxService(node);
  const known = Number(system.readText(node.httpPortFile) ?? '0');
  const wanted = node.httpPort;
  const running = (): boolean => readService(system, service).state === 'run';
  for (const path of [
    node.web,
    node.services,
    `${service}/log`,
    node.sitesEnabled,
    node.nginxLog,
    node.runtime,
    `${node.root}/var/lib/nginx`,
  ]) {
    system.makeFolder(path);
  }
  const port = wanted !== 0 ? wanted : known !== 0 ? known : await freePort();
  const moved = known !== port;
  if (moved || !running()) await assertPortFree(node, port);
  system.writeIfChanged(`${node.nginx}/nginx.conf`, fill(files.nginxConf, port));
  if (moved) {
    for (const name of system.list(node.sitesEnabled)) {
      const path = `${node.sitesEnabled}/${name}`;
      const text = system.readText(path) ?? '';
      system.writeIfChanged(path, text.replaceAll(`:${known};`, `:${port};`));
    }
    system.writeFile(node.httpPortFile, `${port}\n`);
  }
  system.writeIfChanged(`${service}/run`, files.nginxRun, 0o755);
  system.writeIfChanged(`${service}/log/run`, files.nginxLog, 0o755);
  if (system.readLink(`${node.services}/nginx`) !== service) system.pointLink(`${node.services}/nginx`, service);
  ensureRunsvdir(system, node);
  if (running()) {
    if (moved) {
      control(system, service, 't');
      await waitUntil(system, () => readService(system, service).uptimeS < 1, 3_000);
    } else reloadNginx(system, node);
  } else {
    await waitUntil(system, () => readService(system, service).state !== 'absent', 10_000);
    control(system, service, 'u');
  }
  if (await waitForAnswer(system, port, null, 10_000)) return port;
  const words = (system.readText(`${node.nginxLog}/current`) ?? '').trim().split('\n').slice(-3);
  throw new KraftwerkError('node.nginx', `nginx does not answer on port ${port} of the node`, {
    step: 'Start',
    lines: words,
    hint: `look at ${node.nginxLog}/current on the node`,
  });
}

/** nginx listens where the profile says; the port of a rootless node may be known on the node only. */
export function fill(text: string, port: number): string {
  return text.replaceAll('__HTTP_PORT__', String(port));
}

/** The text of a site's file for this very node: without addresses that it does not have. */
export function fillSite(system: System, node: NodeLayout, text: string, port: number): string {
  const filled = fill(text, port);
  return node.profile.profile === 'rootless' || system.exists('/proc/net/if_inet6')
    ? filled
    : filled.replace(/^[ \t]*listen \[::\].*\n/gm, '');
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function assertPortFree(node: NodeLayout, port: number): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
    await new Promise((resolve) => server.close(resolve));
  } catch (cause) {
    const why = errno(cause) === 'EACCES' ? 'may not be used by this user' : 'is taken by another program';
    throw new KraftwerkError('node.port', `port ${port}, the node's http_port, ${why}`, {
      step: 'Start',
      hint: `choose another http_port for the node at ${node.root} in the receiver's configuration (0: any free one)`,
      reason: `port ${port} is taken`,
      cause,
    });
  }
}

/** Connects to nginx, says `request`, and tells whether it answered; without a request, whether it listens. */
function knock(port: number, request: string | null): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const settle = (value: boolean) => (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(value);
    };
    // Silence is an answer of a kind: something has taken the request.
    const timer = setTimeout(settle(true), 2_000);
    socket.on('connect', () => (request === null ? settle(true)() : void socket.write(request)));
    socket.on('data', settle(true));
    socket.on('error', settle(false));
    socket.on('close', settle(false));
  });
}

async function waitForAnswer(system: System, port: number, request: string | null, limitMs: number): Promise<boolean> {
  const end = system.nowMs() + limitMs;
  while (system.nowMs() < end) {
    if (await knock(port, request)) return true;
    await system.sleep(5);
  }
  return false;
}

/** Makes nginx read its files again; old workers end by themselves. */
export function reloadNginx(system: System, node: NodeLayout): void {
  const pid = nginxPid(system, node);
  if (pid > 0) system.signal(pid, 'SIGHUP');
}

/**
 * Asks nginx whether it would take `text` as the site's file beside all others, without touching what it serves.
 * @throws KraftwerkError `site.nginx`
 */
export async function testSite(system: System, site: SiteLayout, text: string): Promise<void> {
  const { node } = site;
  const staging = `${node.nginx}/.check.${site.instance}.${system.pid}`;
  // Beside the real one, so that what it names relative to itself is found.
  const main = `${staging}.conf`;
  try {
    system.makeFolder(`${staging}/sites-enabled`);
    const real = system.readText(`${node.nginx}/nginx.conf`) ?? '';
    const staged = real.replace(SITES_INCLUDE, (_, before: string) => `${before}include ${staging}/sites-enabled/*;`);
    if (staged === real)
      throw new KraftwerkError('node.nginx', `${node.nginx}/nginx.conf does not include sites-enabled/*`, {
        step: 'Start',
        hint: 'add to its http block: include /etc/nginx/sites-enabled/*;',
      });
    system.writeVolatile(main, staged);
    for (const name of system.list(node.sitesEnabled)) {
      if (name !== site.instance && !name.startsWith('.'))
        system.createLink(`${staging}/sites-enabled/${name}`, `${node.sitesEnabled}/${name}`);
    }
    system.writeVolatile(`${staging}/sites-enabled/${site.instance}`, text);
    // Debian's nginx has a prefix of its own: its modules are named relative to that.
    const prefix = node.profile.profile === 'system' ? [] : ['-p', node.root];
    const result = await system.run(['nginx', '-t', '-q', ...prefix, '-c', main], {
      cwd: node.root,
      env: { PATH: DEFAULT_PATH },
      timeoutMs: 20_000,
    });
    if (result.code === 0) return;
    throw new KraftwerkError('site.nginx', "nginx refuses the site's configuration", {
      step: 'Start',
      lines: result.tail.map((line) => hideOthers(line.replaceAll(`${staging}/`, ''), site.instance)).slice(-5),
      hint: "if the project's own nginx template was changed, mend it; else please report this",
      reason: 'nginx refused its configuration',
    });
  } finally {
    system.remove(staging);
    system.remove(main);
  }
}

/** nginx reads the files of all sites: whoever pushes one may not know of the others. */
function hideOthers(line: string, instance: InstanceName): string {
  return line.replace(/sites-enabled\/([^\s:,"']+)/g, (all, name: string) =>
    name === instance ? all : "sites-enabled/(another project's)",
  );
}

/** At the beginning of a line, so that one that is commented out does not count. */
const SITES_INCLUDE = /^([ \t]*)include[ \t]+(?:\/etc\/nginx\/)?sites-enabled\/\*[ \t]*;/m;

/** What an admin has put there for something else is not overwritten. @throws KraftwerkError `site.taken` */
export function assertOwnFile(system: System, site: SiteLayout): void {
  if (system.exists(site.current) || system.stat(site.nginxSite) === null) return;
  const text = system.readText(site.nginxSite);
  // Of a first deploy that was cut off.
  if (system.list(site.notes).some((name) => system.readText(`${site.notes}/${name}/site`) === text)) return;
  throw new KraftwerkError('site.taken', `${site.nginxSite} on the node is not kraftwerk's`, {
    step: 'Config',
    hint: 'rename the project, or move that file away on the node',
    reason: 'the name is taken on the node',
  });
}

/** The site's file as it stands, and a way back to it. */
export async function swapSite(
  system: System,
  site: SiteLayout,
  text: string,
): Promise<{ changed: boolean; restore(): void }> {
  const old = system.readText(site.nginxSite);
  if (old === text) return { changed: false, restore: () => undefined };
  await testSite(system, site, text);
  system.writeFile(site.nginxSite, text);
  reloadNginx(system, site.node);
  const restore = (): void => {
    if (old === null) system.remove(site.nginxSite);
    else system.writeFile(site.nginxSite, old);
    reloadNginx(system, site.node);
  };
  return { changed: true, restore };
}

/** nginx's workers that take new requests; one that is about to end says so in its title. */
export function servingWorkers(system: System, node: NodeLayout): string[] {
  const pid = nginxPid(system, node);
  const children = (system.readText(`/proc/${pid}/task/${pid}/children`) ?? '')
    .split(' ')
    .filter((child) => child !== '');
  return children.filter((child) => !(system.readText(`/proc/${child}/cmdline`) ?? '').includes('shutting down'));
}

/**
 * Waits until nginx answers for `host`: an unknown one it closes without a word.
 * @param before the workers before the reload: they know nothing of the host, and take requests for a moment longer
 */
export async function waitForHost(
  system: System,
  node: NodeLayout,
  { port, host, before, limitMs }: { port: number; host: string; before: readonly string[]; limitMs: number },
): Promise<void> {
  const request = `HEAD /.kraftwerk-ready HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  if (await waitForAnswer(system, port, request, limitMs)) await waitForWorkers(system, node, before, limitMs);
}

/** Makes nginx read its files again, and waits until nobody is served as they were before; `limitMs` where nginx refuses them. */
export async function reloadAndWait(system: System, node: NodeLayout, limitMs: number): Promise<void> {
  const before = servingWorkers(system, node);
  reloadNginx(system, node);
  await waitForWorkers(system, node, before, limitMs);
}

async function waitForWorkers(
  system: System,
  node: NodeLayout,
  before: readonly string[],
  limitMs: number,
): Promise<void> {
  await waitUntil(system, () => servingWorkers(system, node).every((worker) => !before.includes(worker)), limitMs);
}
