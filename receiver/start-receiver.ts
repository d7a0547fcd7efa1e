/** Puts the receiver together, settles what a crash has left, and listens. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { EXIT_CODES, KraftwerkError, type NodeProfile } from '../node-agent/protocol.ts';
import type { ReceiverApi } from './commands/command.ts';
import { reportError, runCommand } from './commands/run-command.ts';
import type { Config, EnvironmentConfig } from './config.ts';
import { createDeployer } from './deploy/deploy.ts';
import { createDomainClaims } from './deploy/domains.ts';
import { reconcile } from './deploy/reconcile.ts';
import { renderNodeFiles } from './deploy/render.ts';
import { parseExecLine } from './exec-line.ts';
import { createFailpoint } from './failpoint.ts';
import { startHookServer } from './git/proc-receive.ts';
import { prepareEmptyRepository } from './git/repository.ts';
import { serveGitOverHttp } from './git-over-http.ts';
import { serveGit } from './git-over-ssh.ts';
import type { GitServices } from './git-session.ts';
import { createHttpLogin } from './http/login.ts';
import { type HttpServer, startHttpServer } from './http-server.ts';
import { installPath, readVersion } from './install-root.ts';
import { openJournal } from './journal.ts';
import { buildKeyring, type Keyring } from './keys.ts';
import { createLocalConnector } from './nodes/local.ts';
import { createNode, type Node } from './nodes/node.ts';
import { createResolver } from './resolve-target.ts';
import { loadHostKey } from './ssh/host-key.ts';
import { type ExecSession, startSshServer } from './ssh-server.ts';
import type { Target } from './target.ts';
import { createTargetLocks } from './target-locks.ts';
import { createTemplates, type Templates } from './templates.ts';

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
    const level = /failed|bug|error/.test(event) ? 'error' : 'info';
    log[level]({ event, ...fields });
  };
  for (const folder of ['', 'repositories', 'artifacts'])
    mkdirSync(join(data, folder), { recursive: true, mode: 0o700 });
  const journal = openJournal(join(data, 'journal.db'), () => new Date());
  onOpen(() => journal.close());
  const templates = createTemplates([...config.templates, installPath('templates')]);
  const nodes = createNodes(config, templates, env, runsAsRoot);
  const environmentOf = (target: Target): EnvironmentConfig => {
    const environment = config.environments.get(target.environment);
    if (environment === undefined)
      throw new KraftwerkError('environment.unknown', `the configuration has no environment ${target.environment}`, {
        exit: 'denied',
      });
    return environment;
  };
  const claims = createDomainClaims(() =>
    journal.currentReleases().map(({ target, spec }) => ({
      target,
      names: [...spec.domains, ...spec.aliases],
      nodes: config.environments.get(target.environment)?.nodes ?? [],
    })),
  );
  const deployer = createDeployer({
    data,
    journal,
    templates,
    claims,
    nowMs,
    log: onEvent,
    failpoint: createFailpoint(env.KRAFTWERK_FAILPOINT),
    environment: environmentOf,
    nodesOf: (environment) => environment.nodes.flatMap((name) => nodes.get(name) ?? []),
  });
  const locks = createTargetLocks(nowMs);
  const hooks = await startHookServer(data, (error) => onEvent('hook.failed', { message: String(error) }));
  onOpen(() => hooks.close());

  for (const node of nodes.values()) {
    if (runsAsRoot)
      onEvent('node.runs_as_root', {
        node: node.name,
        hint: 'what is pushed runs as root on a rootless node that root has started',
      });
    // A node that does not come up must not keep the others from serving; a push to it will say what is wrong.
    await node.hello().then(
      (facts) => onEvent('node.ready', { node: node.name, root: node.profile.root, httpPort: facts.httpPort }),
      (error: unknown) =>
        onEvent('node.failed', {
          node: node.name,
          message: error instanceof Error ? error.message : String(error),
          hints: error instanceof KraftwerkError ? error.hints : [],
        }),
    );
  }
  await reconcile({
    data,
    journal,
    deployer,
    environment: (target) => config.environments.get(target.environment) ?? null,
    log: onEvent,
  });

  let draining = false;
  const keyring = buildKeyring(config.admins, journal.keys);
  const resolve = createResolver(config, journal);
  const git: GitServices = {
    data,
    journal,
    templates,
    deployer,
    claims,
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
    version: readVersion(),
    keys: journal.keys,
    adminKeys: keyring.adminKeys,
    config,
    nodes,
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
  onEvent('receiver.ready', { ssh: ssh.address, ...(http !== null && { http: http.address }) });

  return {
    async stop() {
      draining = true;
      onEvent('receiver.stopping', { deploys: locks.held() });
      ssh.stopAccepting();
      await locks.idle();
      await deployer.settled();
      await Promise.all([ssh.close(), http?.close()]);
      await hooks.close();
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

/** What an agent on this machine inherits: the machine's package configuration, and the tests' failpoint. */
const INHERITED = /^(?:PIP_|UV_|(?:HTTPS?|NO|ALL)_PROXY$|SSL_CERT_|REQUESTS_CA_BUNDLE$|HOME$|KRAFTWERK_FAILPOINT$)/i;

export function createNodes(
  config: Config,
  templates: Templates,
  env: Readonly<Record<string, string | undefined>>,
  runsAsRoot: boolean,
): Map<string, Node> {
  const environment = Object.fromEntries(
    Object.entries(env).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && INHERITED.test(entry[0]),
    ),
  );
  return new Map(
    [...config.nodes.values()].map(({ name, root, httpPort }) => {
      const profile: NodeProfile = { profile: 'rootless', root, httpPort };
      const files = renderNodeFiles(templates, profile, runsAsRoot);
      return [
        name,
        createNode(
          { name, profile, files },
          createLocalConnector({ name, agentFile: installPath('build', 'agent.mjs'), environment }),
        ),
      ];
    }),
  );
}
