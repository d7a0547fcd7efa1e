/** How nodes are named where there are several: short in steps, whole in errors. Pure. */
import { KraftwerkError } from '../../node-agent/protocol.ts';

/** `web1` for `web1.example.com`, where no other begins like it. */
export function shortNames(names: readonly string[]): ReadonlyMap<string, string> {
  const first = (name: string): string => (/^[0-9.]+$/.test(name) ? name : (name.split('.')[0] ?? name));
  const unique = (name: string): boolean => names.filter((other) => first(other) === first(name)).length === 1;
  return new Map(names.map((name) => [name, unique(name) ? first(name) : name]));
}

/** The same error, naming the node that it happened on. What is no `KraftwerkError` is a bug, and stays as it is. */
export function nameNode(error: unknown, node: string): unknown {
  if (!(error instanceof KraftwerkError) || error.message.includes(`node ${node}`)) return error;
  const { code, message, hints, lines, exit, step, reason } = error;
  return new KraftwerkError(code, `node ${node}: ${message}`, {
    hint: hints,
    lines,
    exit,
    ...(step !== undefined && { step }),
    reason: `${reason ?? step?.toLowerCase() ?? 'failed'} on ${node}`,
    cause: error.cause,
  });
}

export function addHints(error: unknown, more: readonly string[]): unknown {
  if (!(error instanceof KraftwerkError) || more.length === 0) return error;
  const { code, message, hints, lines, exit, step, reason, cause } = error;
  return new KraftwerkError(code, message, {
    hint: [...hints, ...more],
    lines,
    exit,
    ...(step !== undefined && { step }),
    ...(reason !== undefined && { reason }),
    cause,
  });
}
