/** Makes the machine behind a root shell a node: looks, says everything that is in the way, then runs the scripts. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { RootShell } from '../nodes/root-shell.ts';
import type { Templates } from '../templates.ts';
import { parseFacts, type ServerFacts } from './facts.ts';
import type { NodeFile } from './node-files.ts';
import { type PackageList, parsePackages } from './packages.ts';
import {
  describeServer,
  findNotes,
  findProblems,
  type Intentions,
  NEEDS,
  type Problem,
  problemsError,
} from './problems.ts';
import type { SetupReport } from './report.ts';

export const NODE_PACKAGES: readonly string[] = ['node/packages'];
/** How long a set-up waits for another one on the same machine. */
const WAIT_SECONDS = 1800;

export interface Provisioning {
  /** The machine, for messages. */
  host: string;
  shell: RootShell;
  templates: Templates;
  report: SetupReport;
  nowMs(): number;
}

/** What the server is; changes nothing. @throws KraftwerkError `setup.no-server`, `setup.root`, `setup.server` */
export async function inspect(
  { host, shell, templates, report, nowMs }: Provisioning,
  intentions: Intentions,
  more: (facts: ServerFacts) => readonly Problem[] = () => [],
): Promise<ServerFacts> {
  report.begin('Check');
  const lines: string[] = [];
  const { required } = readPackages(templates, NODE_PACKAGES);
  await shell.run('sh', templates.render('shell', 'node/probe.sh', { required }), (line) => lines.push(line));
  const facts = parseFacts(lines, host);
  const problems = [...findProblems(facts, intentions), ...more(facts)];
  if (problems.length > 0) throw problemsError(host, problems);
  for (const note of findNotes(facts, nowMs())) report.warn(`${host}: ${note}`);
  report.endStep(describeServer(facts));
  return facts;
}

export interface NodeSetup {
  /** Templates that list packages. */
  packages: readonly string[];
  files: readonly NodeFile[];
  /** nginx's settings for all sites. */
  nginxConf: string;
  /** Of the receiver that may come in, the line and the type and base64 in it; null: none is let in, what is there stays. */
  receiverKey: { line: string; key: string; replace: boolean } | null;
}

/** The three scripts of a node, each to its end. @throws KraftwerkError `setup.failed`, `setup.lost` */
export async function provisionNode(provisioning: Provisioning, setup: NodeSetup): Promise<void> {
  const packages = readPackages(provisioning.templates, setup.packages);
  const data = {
    host: provisioning.host,
    packages,
    pythonNeeded: NEEDS.python.join('.'),
    nodeNeeded: NEEDS.node,
    files: setup.files.map(({ path, mode, content }) => ({ path, mode, base64: content.toString('base64') })),
    nginxConf: Buffer.from(setup.nginxConf).toString('base64'),
    receiverKey: setup.receiverKey,
  };
  for (const name of ['node/pre_setup.sh', 'node/setup.sh', 'node/post_setup.sh'])
    await runScript(provisioning, name, data);
}

/** A template, with the functions that it may call, as root; it goes on to its end though the connection is lost. */
export async function runScript(
  { host, shell, templates, report }: Provisioning,
  name: string,
  data: object,
): Promise<void> {
  const script = ['node/functions.sh', name].map((part) => templates.render('shell', part, data)).join('\n');
  const bytes = Buffer.byteLength(script);
  const runner = templates.render('shell', 'node/run.sh', { bytes, name, waitSeconds: WAIT_SECONDS });
  const input = [runner, script].join('');
  const code = await shell.run('bash', input, report.onScriptLine);
  if (code === 0) return report.endStep();
  const failure = report.failure();
  const where = report.stepName() === '' ? name : report.stepName();
  throw new KraftwerkError('setup.failed', `${host}: ${where}: ${failure?.message ?? `exit code ${code}`}`, {
    lines: report.tail(),
    hint: [
      ...(failure?.hints ?? []),
      ...explain(report.tail()),
      `all of it: /var/log/kraftwerk-setup.log on ${host}; run this again: it goes on where it stopped`,
    ],
  });
}

const CAUSES: readonly (readonly [RegExp, string])[] = [
  [/No space left on device/, 'its disk is full: du -xh / | sort -h | tail; apt-get clean'],
  [
    /Temporary failure (?:in name resolution|resolving)|Could not resolve/,
    'it finds no name server: cat /etc/resolv.conf',
  ],
  [/Unable to fetch|Failed to fetch|Could not connect/, 'it does not reach its package sources: apt-get update'],
];

function explain(tail: readonly string[]): string[] {
  const cause = CAUSES.find(([pattern]) => tail.some((line) => pattern.test(line)));
  return cause === undefined ? [] : [cause[1]];
}

function readPackages(templates: Templates, names: readonly string[]): PackageList {
  return parsePackages(names.map((name) => templates.read(name)).join('\n'));
}
