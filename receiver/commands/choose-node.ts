/** Which node of a target's environment a command is for: the first, or the one that `--node` names. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Node } from '../nodes/node.ts';
import { escapeForTerminal } from '../print-table.ts';
import { type Target, targetName } from '../target.ts';
import { type CommandContext, textOption } from './command.ts';

/**
 * Says on stderr which it is where there are several and none was named.
 * @throws KraftwerkError `node.unknown`
 */
export function chooseNode(context: CommandContext, target: Target): Node {
  const nodes = context.receiver.deployer.nodesOf(target);
  const named = textOption(context, 'node');
  const chosen = named === undefined ? nodes[0] : nodes.find(({ name }) => name === named);
  if (chosen === undefined) {
    const names = nodes.map(({ name }) => name).join(', ') || 'none';
    throw new KraftwerkError(
      'node.unknown',
      named === undefined
        ? `${targetName(target)}: its environment has no nodes`
        : `${targetName(target)}: has no node ${escapeForTerminal(named.slice(0, 60))}`,
      { hint: `its nodes: ${names}`, exit: 'denied' },
    );
  }
  if (named === undefined && nodes.length > 1) {
    const others = nodes.flatMap(({ name }) => (name === chosen.name ? [] : [name]));
    context.stderr.write(`${targetName(target)} on ${chosen.name}; elsewhere: --node ${others.join(' or ')}\n`);
  }
  return chosen;
}
