/**
 * The steps of several nodes as one story: a step is told once, when the slowest node has it behind it, with that node's
 * time. With one node events pass as they come. Pure.
 */
import type { DeployEvent, StepName } from '../../node-agent/protocol.ts';
import { shortNames } from './node-names.ts';

const STEPS: readonly StepName[] = [
  'Unpack',
  'Packages',
  'Build',
  'Services',
  'Release',
  'Start',
  'Health',
  'Settle',
  'Stop',
  'Remove',
];
/** Heartbeats of several nodes come this far apart. */
const HEARTBEAT_MS = 4_000;
/** What a node prints is shown when it fails: so much of it. */
const KEPT_LINES = 100;

type Step = Extract<DeployEvent, { event: 'step' }>;
type Warning = Extract<DeployEvent, { event: 'warning' }>;
type Output = Extract<DeployEvent, { event: 'output' }>;

export type EventMerger = ReturnType<typeof mergeEvents>;

/** @param nodes by name; the first is the one whose output is shown while it comes */
export function mergeEvents(nodes: readonly string[], emit: (event: DeployEvent) => void, nowMs: () => number) {
  const short = shortNames(nodes);
  const steps = new Map<StepName, Map<string, Step>>();
  /** How far each node is, as an index of STEPS. */
  const reached = new Map(nodes.map((node) => [node, -1]));
  /** What the others print, and what the first has printed too early. */
  const output = new Map<string, Output[]>();
  let early: Output[] = [];
  let warnings: { node: string; event: Warning }[] = [];
  let lastBeat = Number.NEGATIVE_INFINITY;

  const label = (some: readonly string[]): string =>
    some.length === nodes.length ? '' : ` (${some.map((node) => short.get(node)).join(', ')})`;

  function tellWarnings(): void {
    for (const { event } of warnings.filter((one, at) => warnings.findIndex((other) => same(one, other)) === at)) {
      const by = warnings.filter((other) => same({ event }, other)).map(({ node }) => node);
      emit({ ...event, message: `${event.message}${label(by)}` });
    }
    warnings = [];
  }

  /** Output of the first node, up to a step: its line comes after what it has printed. */
  function tellOutput(upTo: number): void {
    for (const event of early.filter(({ step }) => STEPS.indexOf(step) <= upTo)) emit(event);
    early = early.filter(({ step }) => STEPS.indexOf(step) > upTo);
  }

  function tellStep(name: StepName): void {
    const told = [...(steps.get(name) ?? [])];
    if (told.length > 0) tellOutput(STEPS.indexOf(name));
    steps.delete(name);
    const [slowest] = told.toSorted(([, a], [, b]) => b.ms - a.ms);
    if (slowest === undefined) return;
    tellWarnings();
    const [node, step] = slowest;
    const alike = told.every(([, other]) => other.detail === step.detail);
    // A release command runs on one node, and everybody knows.
    const where = name === 'Release' ? '' : label(alike ? told.map(([other]) => other) : [node]);
    const quiet = told.every(([, other]) => other.quiet);
    emit({ event: 'step', step: name, detail: `${step.detail}${where}`, ms: step.ms, ...(quiet && { quiet }) });
  }

  /** Tells what every node has behind it. */
  function advance(): void {
    const slowest = Math.min(...reached.values());
    for (const [index, name] of STEPS.entries()) {
      if (steps.has(name) && (index <= slowest || name === 'Release')) tellStep(name);
    }
    tellOutput(slowest + 1);
  }

  function onStep(node: string, step: Step): void {
    const told = steps.get(step.step) ?? new Map<string, Step>();
    steps.set(step.step, told.set(node, step));
    reached.set(node, Math.max(reached.get(node) ?? -1, STEPS.indexOf(step.step)));
    // What has ended well is of no interest.
    output.set(
      node,
      (output.get(node) ?? []).filter((event) => event.step !== step.step),
    );
    advance();
  }

  function onOutput(node: string, event: Output): void {
    if (node === nodes[0]) {
      early.push(event);
      advance();
    } else output.set(node, [...(output.get(node) ?? []), event].slice(-KEPT_LINES));
  }

  return {
    on(node: string, event: DeployEvent): void {
      if (nodes.length === 1) emit(event);
      else if (event.event === 'step') onStep(node, event);
      else if (event.event === 'output') onOutput(node, event);
      else if (event.event === 'warning') warnings.push({ node, event });
      else if (nowMs() - lastBeat >= HEARTBEAT_MS) {
        lastBeat = nowMs();
        emit({ ...event, what: `${event.what} on ${short.get(node)}` });
      }
    },
    /** All nodes have done their part: what some of them had no need for is told now. */
    flush(): void {
      for (const name of STEPS) tellStep(name);
      tellOutput(STEPS.length);
      tellWarnings();
      const furthest = Math.max(...reached.values());
      for (const node of nodes) reached.set(node, furthest);
    },
    /** What the node that failed has printed last, where it was not shown. */
    failed(node: string): void {
      this.flush();
      for (const event of output.get(node) ?? []) emit(event);
    },
  };
}

function same(a: { event: Warning }, b: { event: Warning }): boolean {
  return a.event.message === b.event.message && a.event.hint === b.event.hint;
}
