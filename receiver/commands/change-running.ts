/** What stop and start have in common: the lock, the nodes, what the journal keeps. */
import { EXIT_CODES, type InstanceStatus, KraftwerkError } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import { mergeEvents } from '../deploy/merge-events.ts';
import { nameNode } from '../deploy/node-names.ts';
import { planHealthcheck } from '../deploy/plan.ts';
import { targetName } from '../target.ts';
import { formatError, formatEvent, labelled } from '../transcript.ts';
import { type CommandContext, printJson } from './command.ts';
import { type Deployed, withTarget } from './run-deploy.ts';
import { readStates } from './target-state.ts';

/** @returns the exit code */
export function changeRunning(context: CommandContext, op: 'stop' | 'start'): Promise<number> {
  return withTarget(context, op, async (deployed) => {
    const code = await changeDeployed(context, deployed, op);
    if (context.json && code === EXIT_CODES.ok) {
      const target = targetName(deployed.target);
      printJson(context.stdout, { target, release: deployed.release.release, state: RESULTS[op] });
    }
    return code;
  });
}

const RESULTS = { stop: 'stopped', start: 'running' } as const;

async function changeDeployed(context: CommandContext, deployed: Deployed, op: 'stop' | 'start'): Promise<number> {
  const { receiver, stderr } = context;
  const name = targetName(deployed.target);
  const [state] = await readStates(receiver, [deployed.target], { memory: false });
  const instances = state?.nodes.flatMap(({ instance }) => instance ?? []) ?? [];
  const all = instances.length === state?.nodes.length;
  if (all && deployed.record.stopped === (op === 'stop') && instances.every((instance) => agrees(instance, op))) {
    stderr.write(`${name}: v${deployed.release.release} is ${RESULTS[op]} already\n`);
    return EXIT_CODES.ok;
  }
  return await change(context, deployed, op);
}

function agrees(instance: InstanceStatus, op: 'stop' | 'start'): boolean {
  const runs = instance.processes.some(({ state }) => state === 'run');
  return op === 'stop' ? instance.stopped && !runs : !instance.stopped && runs;
}

async function change(context: CommandContext, deployed: Deployed, op: 'stop' | 'start'): Promise<number> {
  const { identity, receiver, signal, stderr } = context;
  const { release, target } = deployed;
  const { spec } = release;
  const instance = receiver.instances.of(target);
  const say = (lines: readonly string[]): void => lines.forEach((line) => void stderr.write(`${line}\n`));
  // What is wanted is written first: a node that cannot be asked now shows as a disagreement, not as a success.
  receiver.journal.setStopped(target, op === 'stop');
  receiver.journal.audit(identity.name, op, target, '');
  const health = op === 'start' ? planHealthcheck(spec) : null;
  const begin = receiver.nowMs();
  const nodes = receiver.deployer.nodesOf(target);
  const names = nodes.map(({ name }) => name);
  const merger = mergeEvents(names, (event) => say(formatEvent(event)), receiver.nowMs);
  const results = await allBounded(nodes, (node) =>
    node.request(
      { op, instance, timeoutMs: spec.timeoutMs, health },
      {
        // It may have to wait for what drains, and then for both slots.
        timeoutMs: spec.timeoutMs * 4 + 600_000,
        // A stop is finished though nobody waits for it.
        ...(op === 'start' && { signal }),
        onEvent: (event) => {
          if (event.event === 'step' || event.event === 'progress') merger.on(node.name, event);
        },
      },
    ),
  );
  merger.flush();
  const [failed] = results.flatMap((result, index) =>
    result.status === 'rejected'
      ? [{ reason: names.length === 1 ? result.reason : nameNode(result.reason, names[index] ?? '') }]
      : [],
  );
  if (failed === undefined) {
    const seconds = ((receiver.nowMs() - begin) / 1000).toFixed(1);
    const done = op === 'stop' ? 'stopped; it stays so until start, deploy or a push' : `running after ${seconds}s`;
    say(labelled('success', `v${release.release} ${done}`));
    return EXIT_CODES.ok;
  }
  if (!(failed.reason instanceof KraftwerkError)) throw failed.reason;
  say(formatError(failed.reason));
  say(labelled('hint', `ssh kraftwerk@HOST logs ${targetName(target)}`));
  return EXIT_CODES[failed.reason.exit];
}
