/** Says hello to all nodes when the receiver starts: one that does not answer keeps neither the others nor the start. */
import { KraftwerkError, nodePlace } from '../../node-agent/protocol.ts';
import { allBounded } from '../bounded.ts';
import type { Node } from './node.ts';

type EventSink = (event: string, fields: Record<string, unknown>) => void;

/** A rootless node is a child of ours and needs a moment to start its nginx; others are there, or are not. */
const LIMIT_MS = 5_000;

/** @returns the names of those that have answered; one that answers later is added then */
export async function wakeNodes(nodes: readonly Node[], runsAsRoot: boolean, onEvent: EventSink): Promise<Set<string>> {
  const awake = new Set<string>();
  const wake = async (node: Node): Promise<void> => {
    const { name, profile } = node;
    const rootless = profile.profile === 'rootless';
    if (rootless && runsAsRoot)
      onEvent('node.runs_as_root', {
        node: name,
        hint: 'what is pushed runs as root on a rootless node that root has started',
      });
    const said = node.hello().then(
      ({ httpPort }) => {
        awake.add(name);
        onEvent('node.ready', { node: name, root: nodePlace(profile).root, httpPort });
      },
      // A node that does not come up must not keep the others from serving; a push to it will say what is wrong.
      (error: unknown) =>
        onEvent('node.failed', {
          node: name,
          message: error instanceof Error ? error.message : String(error),
          hints: error instanceof KraftwerkError ? error.hints : [],
        }),
    );
    await (rootless ? said : Promise.race([said, pass(LIMIT_MS)]));
  };
  await allBounded(nodes, wake);
  return awake;
}

function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
