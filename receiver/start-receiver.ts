/** Puts the receiver together, settles what a crash has left, and listens. */
import { lookup } from 'node:dns/promises';
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { EXIT_CODES, KraftwerkError } from '../node-agent/protocol.ts';
import { type BackupServices, startBackups } from './backups/run-backups.ts';
import { createStores } from './backups/stores.ts';
import type { ReceiverApi } from './commands/command.ts';
import { reportError, runCommand } from './commands/run-command.ts';
import type { Config, EnvironmentConfig } from './config.ts';
import { readCopyCredentials } from './config-backups.ts';
import type { DataServices } from './data/data-services.ts';
import { createDumpBeforeRelease } from './data/dump-before-release.ts';
import { createLinks } from './data/links.ts';
import { createKeepInMaintenance } from './data/maintenance.ts';
import { settleOperations } from './data/settle-operations.ts';
import { describeServices, describeSite } from './data/site-services.ts';
import { createDeployer } from './deploy/deploy.ts';
import { createDomainClaims, nodesWithDomain } from './deploy/domains.ts';
import { createOwnNames } from './deploy/own-names.ts';
import { keepSettling, type ReconcileOptions, reconcile } from './deploy/reconcile.ts';
import { parseExecLine } from './exec-line.ts';
import { createFailpoint } from './failpoint.ts';
import { startHookServer } from './git/proc-receive.ts';
import { prepareEmptyRepository } from './git/repository.ts';
import { serveGitOverHttp } from './git-over-http.ts';
import { serveGit } from './git-over-ssh.ts';
import type { GitServices } from './git-session.ts';
import { createHttpLogin } from './http/login.ts';
import { type HttpServer, startHttpServer } from './http-server.ts';
import { readVersion } from './install-root.ts';
import { createInstances } from './instances.ts';
import { openJournal } from './journal.ts';
import { buildKeyring, type Keyring } from './keys.ts';
import { createNodes, nodeTemplates, readAgentVersion } from './nodes/create-nodes.ts';
import { wakeNodes } from './nodes/wake-nodes.ts';
import { createResolver } from './resolve-target.ts';
import { mendRoutes } from './router/mend-routes.ts';
import { createRoutes, resolveHost } from './router/routes.ts';
import { loadHostKey } from './ssh/host-key.ts';
import { type ExecSession, startSshServer } from './ssh-server.ts';
import { type Target, targetName } from './target.ts';
import { createTargetLocks } from './target-locks.ts';
import { createTemplates } from './templates.ts';

export interface Receiver {
  /** No new pushes; resolves when running deploys have ended. */
  stop(): Promise<void>;
}

export interface ReceiverSurroundings {
  env: Readonly<Record<string, string | undefined>>;
  /** Whether what is started here runs as root. */
  runsAsRoot: boolean;
  log: Logger;
}

export function createLogger(destination: NodeJS.WritableStream): Logger {
  // Whatever looks secret is cut out here, once.
  return pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: ['*.environment', '*.environ', 'environment', 'environ'],
      messageKey: 'message',
    },
    destination,
  );
}

/** @throws KraftwerkError `receiver.running`, `ssh.listen`, `hostKey.*` */
export async function startReceiver(config: Config, surroundings: ReceiverSurroundings): Promise<Receiver> {
  const opened: (() => unknown)[] = [];
  try {
    return await assemble(config, surroundings, (close) => opened.push(close));
  } catch (error) {
    // What stays open would keep a receiver alive that serves nobody.
    for (const close of opened.reverse()) await close();
    throw error;
  }
}

async function assemble(
  config: Config,
  { env, runsAsRoot, log }: ReceiverSurroundings,
  onOpen: (close: () => unknown) => void,
): Promise<Receiver> {
  const { data } = config;
  const nowMs = (): number => Date.now();
  const onEvent = (event: string, fields: Record<string, unknown>): void => {
    const level = /failed|bug|error|conflict/.test(event) ? 'error' : 'info';
    log[level]({ event, ...fields });
  };
  for (const folder of ['', 'repositories', 'artifacts'])
    mkdirSync(join(data, folder), { recursive: true, mode: 0o700 });
  const journal = openJournal(join(data, 'journal.db'), () => new Date());
  onOpen(() => journal.close());
  const templates = createTemplates({ configured: config.templates });
  const templatesOf = nodeTemplates(config.templates);
  const credentials = readCopyCredentials(config, env);
  const nodes = createNodes({ config, templatesOf, env, runsAsRoot, log: onEvent });
  onOpen(() => Promise.all([...nodes.values()].map((node) => node.close())));
  const environmentOf = (target: Target): EnvironmentConfig => {
    const environment = config.environments.get(target.environment);
    if (environment === undefined)
      throw new KraftwerkError('environment.unknown', `the configuration has no environment ${target.environment}`, {
        exit: 'denied',
      });
    return environment;
  };
  const ownNames = createOwnNames({ configured: config.nodes, nodes, hostname: hostname() });
  const claims = createDomainClaims(
    () =>
      journal.currentReleases().map(({ target, spec }) => ({
        target,
        names: [...spec.domains, ...spec.aliases],
        nodes: nodesWithDomain(config.environments.get(target.environment) ?? { nodes: [], router: null }),
      })),
    ownNames,
  );
  const instances = createInstances({ journal, environment: environmentOf });
  for (const { name, node, owner, target } of instances.adoptAll())
    onEvent('names.conflict', { name, node, target: targetName(target), owner: targetName(owner) });
  const routes = createRoutes({
    instances,
    nodes,
    configured: config.nodes,
    environment: environmentOf,
    templatesOf,
    resolve: (host) => resolveHost(host, lookup),
  });
  const failpoint = createFailpoint(env.KRAFTWERK_FAILPOINT);
  const links = createLinks({
    ...{ journal, instances, nodes, configured: config.nodes, environment: environmentOf, templatesOf, nowMs },
  });
  const deployer = createDeployer({
    links,
    dumpBeforeRelease: createDumpBeforeRelease(() => dataServices),
    keepInMaintenance: createKeepInMaintenance(() => dataServices),
    data,
    journal,
    templatesOf,
    claims,
    instances,
    routes,
    nowMs,
    log: onEvent,
    failpoint,
    environment: environmentOf,
    nodesOf: (environment) => environment.nodes.flatMap((name) => nodes.get(name) ?? []),
  });
  const sites = { journal, instances, routes, environment: environmentOf, templatesOf };
  const dataServices: DataServices = {
    data,
    journal,
    routes,
    deployer,
    links,
    instances,
    nodes,
    environment: environmentOf,
    templatesOf,
    describeSite: (target, node, chosen) => describeSite(sites, target, node, chosen),
    describeServices: (target, node, instance) => describeServices(sites, target, node, instance),
    nowMs,
    log: onEvent,
    failpoint,
  };
  const locks = createTargetLocks(nowMs);
  const stores = createStores(config.environments, credentials);
  onOpen(() => stores.close());
  const backupServices: BackupServices = { ...dataServices, locks, storeOf: stores.of };
  const hooks = await startHookServer(data, (error) => onEvent('hook.failed', { message: String(error) }));
  onOpen(() => hooks.close());

  const awake = await wakeNodes([...nodes.values()], runsAsRoot, onEvent);
  const open: ReconcileOptions = {
    data,
    journal,
    deployer,
    locks,
    awake,
    environment: (target) => config.environments.get(target.environment) ?? null,
    settleData: (target) =>
      settleOperations(dataServices, target, { signal: new AbortController().signal, emit: () => undefined }),
    log: onEvent,
  };
  await reconcile(open);
  const settling = keepSettling(open);
  onOpen(settling.stop);
  await mendRoutes({ routes, journal, nodes: [...nodes.values()], environments: config.environments, log: onEvent });

  let draining = false;
  const keyring = buildKeyring(config.admins, journal.keys);
  const resolve = createResolver(config, journal);
  const git: GitServices = {
    data,
    journal,
    templates,
    deployer,
    claims,
    instances,
    ownNames,
    locks,
    hooks,
    nowMs,
    log: onEvent,
    environments: [...config.environments.keys()],
    environment: environmentOf,
    resolve,
    draining: () => draining,
  };
  const api: ReceiverApi = {
    ...git,
    ...backupServices,
    version: readVersion(),
    keys: journal.keys,
    adminKeys: keyring.adminKeys,
    config,
    nodes,
    routes,
    agentVersion: readAgentVersion(),
    resolveTarget: (name, visible) => resolve(name, visible, false),
  };
  const ssh = await startSshServer({
    ...config.ssh,
    hostKey: loadHostKey(join(data, 'host_key')).privateKey,
    authenticate: keyring.identify,
    loggedIn: (fingerprint) => journal.keys.touch(fingerprint),
    handle: (session) => handle(session, git, api, onEvent),
    onEvent,
  });
  onOpen(() => ssh.close());
  const http = config.http === null ? null : await listenHttp(config.http, git, keyring, onEvent);
  const backups = startBackups(backupServices, config.environments);
  onOpen(() => backups.stop());
  onEvent('receiver.ready', { ssh: ssh.address, ...(http !== null && { http: http.address }) });

  return {
    async stop() {
      draining = true;
      onEvent('receiver.stopping', { deploys: locks.held() });
      ssh.stopAccepting();
      await backups.stop();
      await locks.idle();
      await deployer.settled();
      await Promise.all([ssh.close(), http?.close()]);
      await hooks.close();
      await settling.stop();
      stores.close();
      await Promise.all([...nodes.values()].map((node) => node.close()));
      journal.close();
      onEvent('receiver.stopped', {});
    },
  };
}

async function listenHttp(
  { host, port }: NonNullable<Config['http']>,
  git: GitServices,
  keyring: Keyring,
  onEvent: (event: string, fields: Record<string, unknown>) => void,
): Promise<HttpServer> {
  const { tokens } = git.journal;
  // Of an admin that the configuration names no more: they shall not come back with the name.
  for (const { id, fingerprint } of tokens.all()) if (keyring.find(fingerprint) === undefined) tokens.remove(id);
  const services = { ...git, emptyRepository: await prepareEmptyRepository(git.data) };
  return await startHttpServer({
    host,
    port,
    login: createHttpLogin({ keyring, tokens, nowMs: git.nowMs }),
    git: (request) => serveGitOverHttp(request, services),
    draining: git.draining,
    onEvent,
  });
}

function handle(
  session: ExecSession,
  git: GitServices,
  api: ReceiverApi,
  onEvent: (event: string, fields: Record<string, unknown>) => void,
): Promise<number> {
  try {
    const line = parseExecLine(session.line ?? '');
    if (line.kind === 'git') {
      return serveGit(session, line.service, line.path, git).catch((error: unknown) =>
        reportError(session.stderr, error, onEvent, { key: session.identity.name }),
      );
    }
    return runCommand(session, line.kind === 'help' ? ['help'] : [line.name, ...line.args], api, onEvent);
  } catch (error) {
    return Promise.resolve(
      reportError(session.stderr, error, onEvent, { key: session.identity.name }) || EXIT_CODES.failed,
    );
  }
}
