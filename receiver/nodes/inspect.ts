/** Asks nodes how they do: each once, a few at a time, none longer than a moment. */
import { type HelloResult, KraftwerkError } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import type { Node } from './node.ts';

export interface Inspection {
  node: string;
  /** Null: it did not answer. */
  facts: HelloResult | null;
  /** Why not. */
  error: KraftwerkError | null;
  /** Its clock minus ours; null: it did not answer. */
  clockOffsetMs: number | null;
}

const LIMIT_MS = 20_000;

export async function inspectNodes(nodes: readonly Node[], nowMs: () => number): Promise<Inspection[]> {
  const answers = await allBounded(nodes, (node) => inspect(node, nowMs));
  return answers.map((answer) => {
    if (answer.status === 'rejected') throw answer.reason;
    return answer.value;
  });
}

async function inspect(node: Node, nowMs: () => number): Promise<Inspection> {
  const { name } = node;
  const asked = nowMs();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const words = `node ${name}: no answer within ${LIMIT_MS / 1000} s`;
    timer = setTimeout(() => reject(new KraftwerkError('node.unreachable', words)), LIMIT_MS);
  });
  try {
    const facts = await Promise.race([node.hello(), late]);
    const answered = nowMs();
    const clock = Date.parse(facts.clock);
    // It was read somewhere between question and answer.
    const clockOffsetMs = clock > answered ? clock - answered : clock < asked ? clock - asked : 0;
    return { node: name, facts, error: null, clockOffsetMs };
  } catch (error) {
    const known = error instanceof KraftwerkError ? error : new KraftwerkError('node.failed', String(error));
    return { node: name, facts: null, error: known, clockOffsetMs: null };
  } finally {
    clearTimeout(timer);
  }
}
