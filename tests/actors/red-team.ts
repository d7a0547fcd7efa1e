/** Actor: a red team that is in one site of a node, beside another site, and whoever looks after each of its pushes at what it did. */
// Long because: one node, all that the team does to it, and who looks after it.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pack } from 'tar-stream';
import { createHeaderSum, SUMS_FILE, sumsLine } from '../../node-agent/dump-tar.ts';
import type {
  AgentEvent,
  InstanceName,
  KraftwerkError,
  ServiceName,
  Sha256,
  TreePath,
} from '../../node-agent/protocol.ts';
import type { DumpName, Frame, ServiceScript } from '../../node-agent/protocol-data.ts';
import type { ReleaseSpec } from '../../receiver/deploy/plan.ts';
import { readService, renderScripts, type ScriptName, serviceValues } from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { type Plant, scriptOf } from './plants.ts';
import { type Ran, SET_UP, shellSite, startSystemNode } from './system-node.ts';

const ALPHA = 'alpha' as InstanceName;
const SERVICES = ['files', 'sqlite'] as ServiceName[];
const LIMIT_MS = 120_000;
const templates = createTemplates({ configured: [] });
const programOf = (name: string): string => fileURLToPath(new URL(`./red-team-${name}.py`, import.meta.url));

/** Runs what is planted once, however often pip runs it. */
const SETUP_PY = `
import os, subprocess, sys, setuptools
if "egg_info" not in sys.argv and not os.path.exists("planted"):
    open("planted", "w").close()
    words = {**os.environ, "VENV": sys.prefix, "TREE": os.path.dirname(os.getcwd())}
    subprocess.check_call(["/bin/sh", "plants.sh"], env=words, cwd="..")
setuptools.setup(name="hostile", version="1.0", py_modules=["hostile"])
`;

/** What became of a push: `live`, or the code of the error that refused it. */
export interface Pushed {
  outcome: string;
  /** The error's message, and what the agent has heard of programs. */
  said: string;
}

export async function startRedTeam(name: string) {
  const node = await startSystemNode(name);
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-red-team-'));
  let artifact: { path: string; sha256: Sha256; bytes: number } | null = null;
  let count = 0;
  let output: string[] = [];
  sendInstead();

  /** As a receiver in the team's hands: the artifact is another than the one that was asked for. */
  function sendInstead(): void {
    const open = node.node.session;
    node.node.session = (instance) => {
      const session = open(instance);
      return {
        ...session,
        request(order, options) {
          if (order.op !== 'prepare') return session.request(order, options);
          const heard = {
            ...options,
            onEvent: (event: AgentEvent) => {
              if (event.event === 'output') output.push(event.line);
              return options.onEvent?.(event);
            },
          };
          if (artifact === null) return session.request(order, heard);
          const { path, ...sums } = artifact;
          return session.request({ ...order, artifact: sums }, { ...heard, artifact: () => createReadStream(path) });
        },
      };
    };
  }

  const base = (files: Readonly<Record<string, string>>, spec: Partial<ReleaseSpec>) => {
    const site = shellSite(spec);
    return {
      files: {
        ...site.files,
        'app.py': `import keeper\n${site.files?.['app.py'] ?? ''}`,
        'keeper.py': readFileSync(programOf('keeper'), 'utf8'),
        'pkg/__init__.py': '',
        'pkg/canary.py': "VALUE = 'source'\n",
        ...files,
      },
      spec: { ...site.spec, services: SERVICES.map((service) => ({ name: service, options: {} })), ...spec },
    };
  };

  /** A tar of what plants make of the site's own tree. */
  function packPlanted(
    files: Readonly<Record<string, string>>,
    plants: readonly Plant[],
  ): NonNullable<typeof artifact> {
    const work = mkdtempSync(join(folder, 'tree-'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(work, path)), { recursive: true });
      writeFileSync(join(work, path), text);
    }
    const script = scriptOf(plants).replaceAll('/opt/red-team-plant.py', programOf('plant'));
    execFileSync('sh', ['-c', script], { cwd: work });
    const path = `${work}.tar`;
    const tar =
      'find . -mindepth 1 -maxdepth 1 -printf "%P\\0" | sort -z | tar --format=gnu --owner=0 --group=0 --null -T - -cf "$0"';
    execFileSync('sh', ['-c', tar, path], { cwd: work });
    const bytes = readFileSync(path);
    return { path, sha256: createHash('sha256').update(bytes).digest('hex') as Sha256, bytes: bytes.length };
  }

  async function pushed(tree: Parameters<typeof node.deploy>[1]): Promise<Pushed> {
    output = [];
    try {
      await node.deploy(ALPHA, tree);
      return { outcome: 'live', said: output.join('\n') };
    } catch (caught) {
      const error = caught as KraftwerkError;
      const stuck = await node.abandon(ALPHA).then(
        () => [],
        ({ message }: Error) => [`abandon: ${message}`],
      );
      return {
        outcome: error.code ?? 'error',
        said: [...output, error.message.slice(0, 500), ...(error.lines ?? []), ...stuck].join('\n'),
      };
    }
  }

  const asSite = async (script: string): Promise<Ran> => {
    await node.box.run(['sh', '-c', 'cat >/run/red-team.sh && chmod 644 /run/red-team.sh'], script);
    return node.inside(ALPHA, 'sh /run/red-team.sh');
  };

  /** A command in the site, as `stab` runs it. */
  async function run(script: string): Promise<Ran> {
    let out = '';
    const none = { release: null, environment: {}, written: [], limits: null, user: null, terminal: null };
    const result = await node.node.request(
      { op: 'run', instance: ALPHA, argv: ['sh', '-c', script], ...none, timeoutMs: LIMIT_MS },
      {
        timeoutMs: LIMIT_MS,
        onEvent(event) {
          if (event.event === 'data') out += Buffer.from(event.data, 'base64').toString();
        },
      },
    );
    return { ...(result as { code: number }), out };
  }

  /** Plants them, and pushes. All of them stand in one push. */
  async function push(plants: readonly Plant[]): Promise<Pushed> {
    const of = (where: Plant['where']): Plant[] => plants.filter((plant) => plant.where === where);
    const served = plants.flatMap((plant) => plant.served ?? []);
    const shell = shellSite().spec?.static ?? [];
    const spec: Partial<ReleaseSpec> = {
      static: [...shell, ...served.map((one) => ({ ...one, folder: one.folder as TreePath, named: true }))],
      build: of('build').length > 0 ? 'sh -e plants-of-build.sh' : null,
      release:
        of('release').length > 0 || plants.some(({ plant }) => plant.includes('plant hold'))
          ? `set -e\n${scriptOf(of('release'))}\nplant prove . venv/`
          : null,
    };
    const files: Record<string, string> = {
      ...(of('build').length > 0 && { 'plants-of-build.sh': scriptOf(of('build')) }),
      ...(of('pip').length > 0
        ? {
            'requirements.txt': './hostile\n',
            'hostile/setup.py': SETUP_PY,
            'hostile/hostile.py': '',
            'plants.sh': `set -e\n${scriptOf(of('pip'))}`,
          }
        : { 'count.txt': `${++count}\n` }),
    };
    const said: string[] = [];
    for (const [where, ask] of [
      ['site', asSite],
      ['run', run],
    ] as const) {
      if (of(where).length === 0) continue;
      const { code, out } = await ask(scriptOf(of(where)));
      if (code !== 0) return { outcome: 'not planted', said: out };
      said.push(out);
    }
    const tree = base(files, spec);
    if (of('tree').length > 0) artifact = packPlanted(tree.files, of('tree'));
    try {
      const result = await pushed(tree);
      return { ...result, said: [...said, result.said].join('\n') };
    } finally {
      artifact = null;
    }
  }

  const audit = async (...words: string[]): Promise<string[]> =>
    JSON.parse(await node.box.run(['/usr/bin/python3', '-I', '/opt/red-team-audit.py', ...words])) as string[];

  /** What is wrong after a push. Empty: nothing. */
  async function problems(plants: readonly Plant[], { outcome }: Pushed): Promise<string[]> {
    const found = await audit('problems', ALPHA, ...(outcome === 'live' ? ['strays'] : []));
    // Who is stuck does not fail all pushes that follow, too.
    if (found.some((problem) => problem.endsWith(': is left')))
      await node.asRoot('rm -rf /web/alpha/releases/.[!.]* /web/alpha/venvs/.[!.]*');
    for (const { name, proof } of plants)
      if (proof !== undefined) {
        const said = await node.asRoot(`{ ${proof}\n} 2>&1 || true`);
        if (said !== '') found.push(`${name}: ${said}`);
      }
    for (const [site, path] of [
      ['alpha', '/'],
      ['beta', '/'],
      ['beta', '/static/site.css'],
    ] as const) {
      const { status, body } = await node
        .visit(site, path)
        .catch((error: Error) => ({ status: 0, body: error.message }));
      if (status !== 200) found.push(`${site}${path} answers ${status} ${body.slice(0, 80)}`);
    }
    const python = 'venv/bin/python -c "import pkg.canary; print(pkg.canary.VALUE)"';
    const { out } = await node.inside(ALPHA, python).catch((error: Error) => ({ out: error.message }));
    if (out !== 'source\n') found.push(`a module is ${JSON.stringify(out)}`);
    return found;
  }

  const scripts = (which: ScriptName): ServiceScript[] =>
    SERVICES.map((service) => {
      const definition = readService(templates, service);
      const values = serviceValues(definition, {
        profile: { profile: 'system' },
        instance: ALPHA,
        project: 'alpha' as never,
        environment: 'live' as never,
        options: {},
      });
      return { name: service, script: renderScripts(templates, definition, values)[which] ?? '', environment: {} };
    });
  const ask = (order: Parameters<typeof node.node.request>[0], frames?: AsyncIterable<Frame>): Promise<unknown> =>
    node.node.request(order, { timeoutMs: LIMIT_MS, ...(frames && { frames }) });
  const load = (step: 'check' | 'new' | 'swap' | 'back' | 'done', dump: string | null): Promise<unknown> =>
    ask({
      ...{ op: 'load', instance: ALPHA, target: 'alpha/live', step, dump: dump as DumpName },
      ...{ services: scripts('load'), written: [] },
    });

  await node.asRoot(
    `${SET_UP}\nmkdir -p /root/prey/in && echo calm >/root/prey/in/file && echo calm >/opt/red-team-prey`,
  );
  for (const program of ['plant', 'audit'])
    await node.box.run(['sh', '-c', `cat >/opt/red-team-${program}.py`], readFileSync(programOf(program)));
  await node.asRoot('chmod 755 /opt /opt/red-team-*.py');
  await node.deploy('beta', shellSite());
  await node.deploy(ALPHA, base({}, {}));
  await audit('remember');

  return {
    ...node,
    asSite,
    push,
    problems,
    audit,
    good: (): Promise<Pushed> => push([]),
    dump: (name: string): Promise<unknown> =>
      ask({
        op: 'dump',
        instance: ALPHA,
        target: 'alpha/live',
        name: name as DumpName,
        reason: 'asked',
        release: null,
        before: null,
        services: scripts('dump'),
        keep: 10,
        spare: null,
      }),
    /** Check, new, swap, done; as the receiver does it. */
    async load(dump: string): Promise<void> {
      await load('check', dump);
      await load('new', dump);
      await load('swap', null);
      await load('done', null);
    },
    importArchive: (name: string, archive: Buffer): Promise<unknown> =>
      ask(
        {
          op: 'import',
          instance: ALPHA,
          target: 'alpha/live',
          name: name as DumpName,
          reason: 'upload',
          from: null,
          keep: 10,
        },
        framesOf(archive),
      ),
    destroy: (): Promise<unknown> =>
      ask({ op: 'destroy', instance: ALPHA, part: 'site', services: scripts('destroy') }),
    cleanUp(): void {
      rmSync(folder, { recursive: true, force: true });
      node.cleanUp();
    },
  };
}

export type RedTeam = Awaited<ReturnType<typeof startRedTeam>>;

async function* framesOf(archive: Buffer): AsyncGenerator<Frame> {
  yield { data: archive.toString('base64') };
  yield { end: true };
}

/** An archive of a dump as no site has it: right sums, and entries that lead elsewhere. */
export async function hostileArchive(
  entries: readonly { name: string; type: 'file' | 'directory' | 'symlink'; linkname?: string; content?: string }[],
): Promise<Buffer> {
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const files = entries.filter(({ type }) => type === 'file');
  const services = SERVICES.map((name) => {
    const own = files.filter((entry) => entry.name.startsWith(`${name}/`));
    return { name, files: own.length, bytes: own.reduce((sum, { content = '' }) => sum + content.length, 0) };
  });
  const manifest = JSON.stringify({
    version: 1,
    name: '2026-11-25T10:00:00',
    target: 'alpha/live',
    reason: 'asked',
    release: null,
    before: null,
    endedAt: '2026-11-25T10:00:00Z',
    services,
    bytes: services.reduce((sum, { bytes }) => sum + bytes, 0),
    list: { sha256: '0'.repeat(64), entries: entries.length },
  });
  const tar = pack();
  const mtime = new Date(0);
  const headers = createHeaderSum();
  const lines = [sumsLine('manifest.json', sha256(manifest))];
  tar.entry({ name: 'manifest.json', mtime }, manifest);
  for (const { content = '', ...rest } of entries) {
    const { name, type, linkname: to = '' } = rest;
    const mode = type === 'file' ? 0o4755 : 0o755;
    if (type === 'file') tar.entry({ mtime, mode, name }, content);
    else tar.entry({ mtime, mode, ...rest });
    const kind = type === 'file' ? 'file' : type === 'symlink' ? 'link' : 'folder';
    headers.add({ kind, path: name, mode, mtime: 0, to, size: content.length, sha256: null } as never, content.length);
  }
  lines.push(headers.line(), ...files.map(({ name, content = '' }) => sumsLine(name, sha256(content))));
  tar.entry({ name: SUMS_FILE, mtime }, Buffer.concat(lines));
  tar.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
