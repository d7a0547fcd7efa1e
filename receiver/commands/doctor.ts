/** `doctor [NODE]`: what is wrong with the nodes and with what they serve, how to mend it, and with --fix it is mended. */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { inspectNodes } from '../nodes/inspect.ts';
import type { Node } from '../nodes/node.ts';
import { escapeForTerminal } from '../print-table.ts';
import { wantedRoutes } from '../router/mend-routes.ts';
import type { RouteDifference } from '../router/routes.ts';
import { suggest } from '../suggest.ts';
import { type Target, targetName } from '../target.ts';
import { formatError, headline } from '../transcript.ts';
import { changeRunning } from './change-running.ts';
import { type Command, type CommandContext, flagOption, printJson } from './command.ts';
import { diagnoseName, diagnoseNode, diagnoseOpen, diagnoseRoute, diagnoseTarget, type Problem } from './diagnose.ts';
import { holdTarget } from './hold-target.ts';
import { deployAndTell, orderRelease, withTarget } from './run-deploy.ts';
import { readStates } from './target-state.ts';

export const doctor: Command = {
  name: 'doctor',
  aliases: ['diagnose', 'nodes:check'],
  summary: 'what is wrong with the nodes, and how to mend it',
  usage: '[NODE] [--fix] [--json]',
  examples: ['doctor', 'doctor web1.example.com', 'doctor --fix'],
  verb: 'doctor',
  target: 'none',
  args: { min: 0, max: 1 },
  options: { fix: { type: 'boolean' } },
  async run(context) {
    const { json, stderr, stdout } = context;
    const nodes = chooseNodes(context);
    let diagnosis = await diagnose(context, nodes);
    if (flagOption(context, 'fix') && diagnosis.problems.some(({ remedy }) => remedy !== null)) {
      await mend(context, diagnosis);
      diagnosis = await diagnose(context, nodes);
    }
    const { problems } = diagnosis;
    if (json) printJson(stdout, toJson(nodes, problems));
    else {
      stdout.write(printDiagnosis(nodes, problems));
      if (problems.some(({ remedy }) => remedy !== null)) stderr.write('hint: ssh kraftwerk@HOST doctor --fix\n');
    }
    return problems.length === 0 ? EXIT_CODES.ok : EXIT_CODES.failed;
  },
};

/** @throws KraftwerkError `node.unknown` */
function chooseNodes({ args, receiver }: CommandContext): Node[] {
  const [name] = args;
  if (name === undefined) return [...receiver.nodes.values()];
  const node = receiver.nodes.get(name);
  if (node !== undefined) return [node];
  const meant = suggest(name, receiver.nodes.keys());
  const shown = escapeForTerminal(name.slice(0, 60));
  throw new KraftwerkError('node.unknown', `no node ${shown}${meant === null ? '' : `, did you mean ${meant}?`}`, {
    hint: `nodes: ${[...receiver.nodes.keys()].join(', ')}`,
    exit: 'denied',
  });
}

interface Diagnosis {
  problems: Problem[];
  routes: RouteDifference[];
}

async function diagnose({ receiver }: CommandContext, nodes: readonly Node[]): Promise<Diagnosis> {
  const { journal, nowMs, agentVersion, config } = receiver;
  const asked = new Set(nodes.map(({ name }) => name));
  const inspections = await inspectNodes(nodes, nowMs);
  const concerned = journal.targets().filter(({ target }) => nodesOf(receiver, target).some((name) => asked.has(name)));
  const states = await readStates(
    receiver,
    concerned.map(({ target }) => target),
    { memory: false },
  );
  const open = journal.openDeploys().filter(({ target }) => {
    const waits = receiver.locks.holder(targetName(target)) === null;
    return waits && nodesOf(receiver, target).some((name) => asked.has(name));
  });
  const routes: RouteDifference[] = [];
  for (const { facts, node } of inspections) {
    const router = nodes.find(({ name }) => name === node);
    if (facts === null || router === undefined) continue;
    // A node whose address is not to be had is told about by itself.
    routes.push(
      ...(await receiver.routes.compare(router, facts, wantedRoutes(journal, config.environments)).catch(() => [])),
    );
  }
  const problems = [
    ...inspections.flatMap((inspection) => diagnoseNode(inspection, agentVersion)),
    ...open.map(diagnoseOpen),
    ...states.flatMap(({ conflict }) =>
      conflict !== null && asked.has(conflict.node) ? [diagnoseName(conflict)] : [],
    ),
    ...states.flatMap((state) => diagnoseTarget(state).filter(({ node }) => node !== null && asked.has(node))),
    ...routes.map(({ router, instance, what }) => diagnoseRoute(router.name, instance, what)),
  ];
  return { problems, routes };
}

function nodesOf({ config }: CommandContext['receiver'], { environment }: Target): readonly string[] {
  return config.environments.get(environment)?.nodes ?? [];
}

/** Everything that can be mended from here; what fails is told, and the rest is gone on with. */
async function mend(context: CommandContext, { problems, routes }: Diagnosis): Promise<void> {
  const { receiver, stderr } = context;
  const attempt = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof KraftwerkError)) throw error;
      for (const line of formatError(error)) stderr.write(`${line}\n`);
    }
  };
  // First: what they leave may be in order.
  for (const { target } of withRemedy(problems, 'settle')) {
    await attempt(async () => {
      const lock = await holdTarget(context, target, 'doctor');
      try {
        for (const deploy of receiver.journal.openDeploys(target)) await receiver.deployer.settle(deploy);
      } finally {
        lock.release();
      }
    });
  }
  for (const route of routes) await attempt(() => receiver.routes.mend(route));
  for (const { target } of withRemedy(problems, 'stop')) {
    await attempt(() => changeRunning({ ...context, target, args: [] }, 'stop'));
  }
  for (const { target } of withRemedy(problems, 'deploy')) await attempt(() => bringUpToDate(context, target));
}

/** One for each target. */
function withRemedy(problems: readonly Problem[], remedy: Problem['remedy']): { target: Target }[] {
  const found = new Map(
    problems.flatMap((problem) =>
      problem.remedy === remedy && problem.target !== null
        ? [[targetName(problem.target), { target: problem.target }] as const]
        : [],
    ),
  );
  return [...found.values()];
}

/** The current release once more, on all nodes: those that have it start it anew, the others get it. It keeps its number. */
async function bringUpToDate(context: CommandContext, target: Target): Promise<void> {
  const about = { ...context, target, args: [] };
  await withTarget(about, 'doctor', async ({ release }) =>
    deployAndTell(about, target, async (sayLines) => {
      sayLines(headline(targetName(target), release.commit, release.subject));
      return orderRelease(about, release, { kind: 'restart', release: release.release, ref: null });
    }),
  );
}

/** A paragraph for each node that has problems, a line for each that has none. Pure. */
export function printDiagnosis(nodes: readonly { name: string }[], problems: readonly Problem[]): string {
  const about = (node: string | null): string =>
    problems
      .filter((problem) => problem.node === node)
      .map(({ what, mend: ways }) =>
        [`  ${what}`, ...ways.map((way) => `    ${way}`)].map(escapeForTerminal).join('\n'),
      )
      .map((text) => `${text}\n`)
      .join('');
  const parts = nodes.map(({ name }) => {
    const text = about(name);
    return text === '' ? `${name}: in order\n` : `${name}:\n${text}`;
  });
  return parts.join('') + (about(null) === '' ? '' : `deploys:\n${about(null)}`);
}

function toJson(nodes: readonly { name: string }[], problems: readonly Problem[]): object {
  return {
    nodes: nodes.map(({ name }) => name),
    problems: problems.map(({ node, target, what, mend: ways, remedy }) => ({
      node,
      target: target && targetName(target),
      what,
      mend: ways,
      fixable: remedy !== null,
    })),
  };
}
