/** Actor: a rootless node with a site that has two services, `files` and one that an admin has made, asked as the receiver asks. */
// Long because: every request about dumps, with what a test may vary of it.
// Long because: one node serves all tests of dumps.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  AbsolutePath,
  AgentEvent,
  EnvironmentName,
  InstanceName,
  ProjectName,
  ServiceName,
} from '../../node-agent/protocol.ts';
import type { DumpName, DumpReason, DumpSummary, DumpsResult, Frame } from '../../node-agent/protocol-data.ts';
import { createNode, type NodeOrder } from '../../receiver/nodes/node.ts';
import { readService, renderScripts, type ScriptName, serviceValues } from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { writeFolder } from './service-folders.ts';

const AGENT = fileURLToPath(new URL('../../build/agent.mjs', import.meta.url));
const LIMIT_MS = 120_000;

/** Does what `$site/do` says: fail at a step, say the disk is full, or kill the agent and stay. */
const LEDGER = `<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
whenever() {
  [[ -e $site/do && $(cat "$site/do") == *" $1" ]] || return 0
  case $(cat "$site/do") in
    fail*) fail "ledger: told to fail" 'tell it otherwise' ;;
    full*) echo 'cp: error writing: No space left on device' >&2; exit 1 ;;
    wrong*) fail_dump "the ledger is torn" ;;
    away*) fail_server "the ledger does not answer" ;;
    wait*) touch "$site/waiting"; sleep 1000 ;;
    kill*) rm "$site/do"; kill -9 "$PPID"; sleep 1000 ;;
  esac
}
`;
const SERVICE = {
  'services/ledger/service.yaml': 'description: a book\nrootless: true\ndata: true\nwritten: [LEDGER]\n',
  'services/ledger/setup.sh': `${LEDGER}mkdir -p "$site/ledger"\n`,
  'services/ledger/destroy.sh': `${LEDGER}folder_destroy "$site/ledger"\n`,
  'services/ledger/dump.sh': `${LEDGER}whenever begin
copy_tree take "$site/ledger" "$DUMP_TARGET" copy
whenever dump
`,
  'services/ledger/load.sh': `${LEDGER}step=\${1:-}
whenever "before-$step"
if [[ $step == new ]]; then
  folder_begin "$site/ledger"
  copy_tree put "$DUMP_SOURCE" "$site/ledger.part" copy ''
  folder_loaded "$site/ledger"
else
  folder_step "$step" "$site/ledger"
fi
whenever "$step"
`,
};

export type DumpNode = ReturnType<typeof createDumpNode>;

export function createDumpNode() {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'kraftwerk-dumps-')));
  const folder = writeFolder(SERVICE);
  const failpoint = join(root, 'failpoint');
  const templates = createTemplates({ configured: [folder] });
  const profile = { profile: 'rootless', root: root as AbsolutePath, httpPort: 8080 } as const;
  const agents = new Set<ChildProcess>();
  let peak = 0;
  let pieces = 0;
  const node = createNode(
    { name: 'try', profile, files: null },
    {
      async open() {
        const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', AGENT], {
          cwd: '/',
          env: { PATH: process.env.PATH, LANG: 'C.UTF-8', KRAFTWERK_FAILPOINT: `@${failpoint}` },
          detached: true,
          stdio: ['pipe', 'pipe', 'pipe'],
        });
        agents.add(child);
        const { stdin, stdout, stderr } = child;
        return {
          stdin,
          stdout,
          stderr,
          ended: new Promise((resolve) => child.once('close', (code, signal) => resolve(String(signal ?? code)))),
          kill: () => void child.kill('SIGKILL'),
        };
      },
      close: async () => undefined,
    },
  );
  const scripts = (script: ScriptName, names: readonly string[], instance: string) =>
    names.map((name) => {
      const definition = readService(templates, name as ServiceName);
      const values = serviceValues(definition, {
        profile,
        instance: instance as InstanceName,
        project: instance as ProjectName,
        environment: 'live' as EnvironmentName,
        options: {},
      });
      const environment = { SITE_ROOT: values.site };
      return { name: definition.name, script: renderScripts(templates, definition, values)[script] ?? '', environment };
    });

  interface Asking {
    events?: AgentEvent[];
    frames?: AsyncIterable<Frame>;
    signal?: AbortSignal;
    onEvent?: (event: AgentEvent) => void | Promise<void>;
  }
  function ask(order: NodeOrder, { events, frames, signal, onEvent }: Asking = {}): Promise<unknown> {
    return node.request(order, {
      timeoutMs: LIMIT_MS,
      ...(frames && { frames }),
      ...(signal && { signal }),
      onEvent: (event) => {
        events?.push(event);
        const looks = event.event === 'step' || (event.event === 'data' && ++pieces % 200 === 0);
        if (looks) for (const { pid } of agents) peak = Math.max(peak, memoryPeak(pid));
        return onEvent?.(event);
      },
    });
  }
  const site = (instance = 'blog', ...rest: string[]): string => join(root, 'web', instance, ...rest);
  const BOTH = ['files', 'ledger'];

  return {
    root,
    site,
    ask,
    /** Of all agents so far, at the ends of their steps. */
    peakBytes: () => peak,
    /** Makes an operation of the agents that start from now on fail; null: none. */
    failAt(text: string | null): void {
      writeFileSync(failpoint, text ?? '');
    },
    /** What the ledger's scripts do: `fail dump`, `kill swap`; null: their work. */
    tell(text: string | null, instance = 'blog'): void {
      rmSync(site(instance, 'do'), { force: true });
      if (text !== null) writeFileSync(site(instance, 'do'), text);
    },
    write(files: Readonly<Record<string, string | Uint8Array>>, instance = 'blog'): void {
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(site(instance, path)), { recursive: true });
        // As uploads are: a file that is written into would change in the dumps that are linked to it.
        rmSync(site(instance, path), { force: true });
        writeFileSync(site(instance, path), content);
      }
    },
    dump(
      name: string,
      more: {
        services?: string[];
        instance?: string;
        keep?: number;
        spare?: string;
        reason?: DumpReason;
        target?: string;
      } & Asking = {},
    ) {
      const { services = BOTH, instance = 'blog', keep = 10, spare = null, reason = 'asked' } = more;
      const { target = `${instance}/live`, ...asking } = more;
      return ask(
        {
          op: 'dump',
          instance: instance as InstanceName,
          target,
          name: name as DumpName,
          reason,
          release: 3,
          before: null,
          services: scripts('dump', services, instance),
          keep,
          spare: spare as DumpName | null,
        },
        asking,
      ) as Promise<DumpSummary>;
    },
    load(
      step: 'check' | 'new' | 'swap' | 'back' | 'done',
      name: string | null,
      more: { services?: string[]; instance?: string; target?: string } & Asking = {},
    ) {
      const { services = BOTH, instance = 'blog', target = `${instance}/live`, ...asking } = more;
      return ask(
        {
          op: 'load',
          instance: instance as InstanceName,
          target,
          step,
          dump: step === 'check' || step === 'new' ? (name as DumpName) : null,
          services: scripts('load', services, instance),
          written: [],
        },
        asking,
      );
    },
    list(instance: string | null = 'blog', target = `${instance}/live`) {
      const of = instance === null ? null : { instance: instance as InstanceName, target };
      return ask({ op: 'dumps', of }) as Promise<DumpsResult>;
    },
    /** What is to fail, which does not fail until it is given back. */
    takeFailpoint(): string {
      const text = readFileSync(failpoint, 'utf8');
      writeFileSync(failpoint, '');
      return text;
    },
    dropOf(instance: string, names: string[]) {
      return ask({
        op: 'drop-dumps',
        instance: instance as InstanceName,
        target: `${instance}/live`,
        names: names as DumpName[],
        destroyed: false,
      });
    },
    /** Scripts of the site that still run. */
    sleepers: (): string[] => {
      const { stdout } = spawnSync('pgrep', ['-a', '-f', `${root}/run/kraftwerk/`], { encoding: 'utf8' });
      return stdout.split('\n').filter((line) => line !== '');
    },
    drop(names: string[], destroyed = false, target = 'blog/live') {
      const order = { op: 'drop-dumps', instance: 'blog' as InstanceName, names: names as DumpName[] } as const;
      return ask({ ...order, target, destroyed });
    },
    prove(name: string, target = 'blog/live') {
      return ask({ op: 'prove', instance: 'blog' as InstanceName, target, name: name as DumpName });
    },
    async export(name: string, onPiece?: (bytes: number) => Promise<void>, target = 'blog/live'): Promise<Buffer> {
      const pieces: Buffer[] = [];
      await ask(
        { op: 'export', instance: 'blog' as InstanceName, target, name: name as DumpName },
        {
          onEvent: (event) => {
            if (event.event !== 'data') return;
            pieces.push(Buffer.from(event.data, 'base64'));
            return onPiece?.(pieces.length);
          },
        },
      );
      return Buffer.concat(pieces);
    },
    import(
      name: string,
      from: { archive: Uint8Array; end?: boolean } | { instance: string; name: string; target?: string },
      more: { instance?: string; keep?: number } & Asking = {},
    ) {
      const { instance = 'other', keep = 10, ...asking } = more;
      return ask(
        {
          op: 'import',
          instance: instance as InstanceName,
          target: `${instance}/live`,
          name: name as DumpName,
          reason: 'upload',
          from:
            'archive' in from
              ? null
              : {
                  instance: from.instance as InstanceName,
                  target: from.target ?? `${from.instance}/live`,
                  name: from.name as DumpName,
                },
          keep,
        },
        { ...asking, ...('archive' in from && { frames: framesOf(from.archive, from.end ?? true) }) },
      ) as Promise<DumpSummary>;
    },
    /** What the services hold, every byte, name and mode of it. */
    data: (instance = 'blog'): Record<string, string> => ({
      ...treeOf(site(instance, 'uploads')),
      ...treeOf(site(instance, 'ledger')),
    }),
    /** Whatever stands in a site's folder beside what is meant to. */
    leftOvers(instance = 'blog'): string[] {
      const inSite = readdirSync(site(instance)).filter((name) => /\.(part|new|old|gone)$/.test(name));
      const dumps = site(instance, 'dump');
      return [...inSite, ...(existsSync(dumps) ? readdirSync(dumps).filter((name) => name.startsWith('.')) : [])];
    },
    cleanUp(): void {
      for (const agent of agents) if (agent.exitCode === null && agent.signalCode === null) agent.kill('SIGKILL');
      for (const path of [root, folder]) rmSync(path, { recursive: true, force: true });
    },
  };
}

async function* framesOf(archive: Uint8Array, end: boolean): AsyncGenerator<Frame> {
  for (let at = 0; at < archive.length; at += 48 * 1024)
    yield { data: Buffer.from(archive.subarray(at, at + 48 * 1024)).toString('base64') };
  if (end) yield { end: true };
  else throw new Error('cut');
}

function memoryPeak(pid: number | undefined): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
  } catch {
    return 0;
  }
}

/** Path, kind, mode and content of everything below a folder. */
export function treeOf(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  const visit = (path: Buffer): void => {
    const stat = lstatSync(path);
    const mode = (stat.mode & 0o7777).toString(8);
    const name = path.toString('latin1').slice(Buffer.byteLength(dirname(folder)) + 1);
    if (stat.isSymbolicLink()) found[name] = `-> ${readlinkSync(path)}`;
    else if (stat.isFile())
      found[name] =
        `${mode} ${Math.trunc(stat.mtimeMs / 1000)} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
    else if (stat.isDirectory()) {
      found[name] = mode;
      for (const inner of readdirSync(path, { encoding: 'buffer' }))
        visit(Buffer.concat([path, Buffer.from('/'), inner]));
    }
  };
  if (existsSync(folder)) visit(Buffer.from(folder));
  return found;
}
