/** A conversation with one agent: several requests, one after the other, and then it is given back. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Agents } from './agents.ts';
import type { NodeOptions, NodeSession } from './node.ts';

export function createSession(node: Pick<NodeOptions, 'name'>, agents: Agents): NodeSession {
  let closed = false;
  const taking = agents.take();
  const opened = taking.then(() => undefined);
  opened.catch(() => undefined);
  /** The request before, whatever became of it. */
  let before: Promise<unknown> = Promise.resolve();
  return {
    opened,
    request(order, options) {
      const result = before.then(async () => {
        const agent = await taking;
        // By now it may be somebody else's.
        if (closed) throw new KraftwerkError('node.lost', `node ${node.name}: nobody waits for its answer any more`);
        return await agent.ask(order, options);
      });
      before = result.catch(() => undefined);
      return result;
    },
    close() {
      if (closed) return;
      closed = true;
      void taking.then(agents.giveBack, () => undefined);
    },
  };
}
