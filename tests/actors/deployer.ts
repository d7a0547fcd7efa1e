/** Actor: what of a receiver deploys: trees to one system node, reached by the ssh client, as `fan-out.ts` does it. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, createReadStream, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  AbsolutePath,
  ActivateResult,
  AgentEvent,
  CommitId,
  HelloResult,
  InstanceName,
  InstanceStatus,
  Limits,
  PrepareResult,
  Serving,
  Sha256,
  StatusResult,
  TreePath,
} from '../../node-agent/protocol.ts';
import { planHealthcheck, type ReleaseSpec } from '../../receiver/deploy/plan.ts';
import { renderRelease } from '../../receiver/deploy/render.ts';
import type { AgentConnector } from '../../receiver/nodes/connector.ts';
import { createNode } from '../../receiver/nodes/node.ts';
import { createTemplates } from '../../receiver/templates.ts';

const SITES = fileURLToPath(new URL('../fixtures/sites', import.meta.url));
const LIMIT_MS = 120_000;
export const AGENT_ON_NODE = '/usr/local/lib/kraftwerk/agent.mjs';
/** Where an agent on the node looks which operation is to fail. */
export const FAILPOINT = '/run/kraftwerk-failpoint';
const templates = createTemplates({ configured: [] });

export interface TreeOptions {
  /** A folder of tests/fixtures/sites to begin with. */
  fixture?: string;
  /** Beside it, or instead of it. */
  files?: Readonly<Record<string, string>>;
  spec?: Partial<ReleaseSpec>;
  limits?: Limits | null;
}

export interface Deployed extends PrepareResult {
  release: number;
  events: AgentEvent[];
  /** From the first request to the answer of the last that the pusher waits for. */
  ms: number;
}

/** @param ssh the words before a remote command: `ssh -F config box` */
export function createDeployer(ssh: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-system-node-'));
  const environment = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'PIP_NO_INDEX=1', `KRAFTWERK_FAILPOINT=@${FAILPOINT}`];
  const node = createNode(
    { name: 'box', profile: { profile: 'system' }, files: null },
    sshConnector([...ssh, 'env', '-i', ...environment, 'node', AGENT_ON_NODE]),
  );
  const releases = new Map<string, number>();

  function pack(tree: TreeOptions): { path: string; artifact: { sha256: Sha256; bytes: number } } {
    const work = mkdtempSync(join(folder, 'tree-'));
    if (tree.fixture !== undefined) cpSync(join(SITES, tree.fixture), work, { recursive: true });
    for (const [name, text] of Object.entries(tree.files ?? {})) {
      mkdirSync(dirname(join(work, name)), { recursive: true });
      writeFileSync(join(work, name), text);
    }
    const path = `${work}.tar`;
    const names = readdirSync(work).sort();
    execFileSync('tar', ['-C', work, '-cf', path, '--format=ustar', '--owner=0', '--group=0', '--', ...names]);
    const bytes = execFileSync('cat', [path], { maxBuffer: 1 << 28 });
    return {
      path,
      artifact: { sha256: createHash('sha256').update(bytes).digest('hex') as Sha256, bytes: bytes.length },
    };
  }

  /** As a push would: prepare, activate, retire. @throws what the agent says */
  async function deploy(project: string, tree: TreeOptions): Promise<Deployed> {
    const begin = performance.now();
    const release = (releases.get(project) ?? 0) + 1;
    releases.set(project, release);
    const { path, artifact } = pack(tree);
    const spec: ReleaseSpec = { ...PLAIN, domains: [`${project}.example`], ...tree.spec };
    const instance = project as InstanceName;
    const facts = node.facts() ?? (await node.hello());
    const rendered = renderRelease(
      templates,
      { profile: node.profile, ...facts },
      {
        target: { project, environment: 'live' } as never,
        instance,
        release,
        commit: 'c'.repeat(40) as CommitId,
        spec,
        router: null,
        limits: tree.limits ?? null,
      },
    );
    const events: AgentEvent[] = [];
    const session = node.session(instance);
    let result: PrepareResult;
    let ms: number;
    try {
      result = (await session.request(
        {
          op: 'prepare',
          part: 'all',
          instance,
          target: `${project}/live`,
          release,
          artifact,
          site: rendered.site,
          services: rendered.services,
          linked: rendered.linked,
          setUpServices: true,
          python: spec.python,
          requirements: spec.requirements,
          requirementsNamed: spec.requirementsNamed,
          generation: spec.generation,
          build: spec.build,
          releaseCommand: spec.release,
          buildEnvironment: rendered.buildEnvironment,
          environment: rendered.environment,
          startLabel: rendered.startLabel,
          health: planHealthcheck(spec),
          timeoutMs: spec.timeoutMs,
          override: false,
          pipTimeoutMs: LIMIT_MS,
        },
        { timeoutMs: LIMIT_MS, artifact: () => createReadStream(path), onEvent: (event) => void events.push(event) },
      )) as PrepareResult;
      const serve: Serving = { release, boot: result.boot };
      (await session.request({ op: 'activate', instance, serve }, { timeoutMs: LIMIT_MS })) as ActivateResult;
      ms = performance.now() - begin;
    } finally {
      session.close();
    }
    await node.request(
      {
        op: 'retire',
        instance,
        old: result.previous?.boot ?? null,
        release,
        timeoutMs: spec.timeoutMs,
        healthPath: '/',
        host: spec.domains[0] ?? '',
        keep: [release, release - 1].filter((number) => number > 0),
      },
      { timeoutMs: LIMIT_MS },
    );
    return { ...result, release, events, ms };
  }

  return {
    node,
    deploy,
    /** What the receiver does when a deploy has failed, or its agent was lost. */
    async abandon(project: string): Promise<void> {
      const release = releases.get(project) ?? 1;
      const keep = [release - 1, release - 2].filter((number) => number > 0);
      await node.request(
        { op: 'abandon', instance: project as InstanceName, restore: null, keep },
        { timeoutMs: LIMIT_MS },
      );
    },
    hello: (): Promise<HelloResult> => node.hello(),
    async status(project: string): Promise<InstanceStatus | undefined> {
      const order = { op: 'status', instances: [project as InstanceName], memory: true } as const;
      return ((await node.request(order, { timeoutMs: LIMIT_MS })) as StatusResult).instances[0];
    },
    cleanUp: (): void => rmSync(folder, { recursive: true, force: true }),
  };
}

const PLAIN: ReleaseSpec = {
  domains: [],
  aliases: [],
  wsgi: 'app:application',
  pythonPath: '.' as TreePath,
  workers: 1,
  threads: 1,
  workerClass: 'sync',
  environ: {},
  requirements: 'requirements.txt' as TreePath,
  requirementsNamed: false,
  python: '/usr/bin/python3' as AbsolutePath,
  static: [],
  healthcheck: {
    path: '/',
    statusMin: 200,
    statusMax: 399,
    timeoutMs: 5000,
    intervalMs: 1000,
    retries: 10,
    settleMs: 0,
  },
  timeoutMs: 30_000,
  keepReleases: 5,
  build: null,
  release: null,
  scrub: null,
  services: [],
  generation: 0,
};

/** An agent for each conversation, started by the ssh client. */
function sshConnector(words: readonly string[]): AgentConnector {
  const [command = 'ssh', ...args] = words;
  return {
    async open() {
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
      const { stdin, stdout, stderr } = child;
      return {
        stdin,
        stdout,
        stderr,
        ended: new Promise((resolve) =>
          child.once('close', (code, signal) => resolve(signal === null ? `with exit code ${code}` : `by ${signal}`)),
        ),
        kill: () => void child.kill('SIGKILL'),
      };
    },
    close: async () => undefined,
  };
}
