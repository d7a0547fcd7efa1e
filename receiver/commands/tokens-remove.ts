/** `tokens:remove ID`: a token is worth nothing any more. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { TOKEN_ID_PATTERN } from '../tokens.ts';
import type { Command } from './command.ts';
import { usageError } from './command.ts';
import { visibleTokens } from './tokens.ts';

export const tokensRemove: Command = {
  name: 'tokens:remove',
  aliases: ['tokens:rm', 'tokens:revoke'],
  summary: 'a token is worth nothing any more',
  usage: 'ID',
  examples: ['tokens:remove 1a2b3c4d'],
  verb: 'tokens',
  target: 'none',
  args: { min: 1, max: 1 },
  options: {},
  async run(context) {
    const { identity, receiver, stderr } = context;
    const [id = ''] = context.args;
    // Not repeated in the message: it may be the whole token.
    if (!TOKEN_ID_PATTERN.test(id)) throw usageError(tokensRemove, 'expected the id of a token, eight of 0-9 a-f');
    if (!visibleTokens(context).some(({ token }) => token.id === id)) {
      throw new KraftwerkError('tokens.unknown', `tokens:remove: no token ${id} of yours`, {
        hint: 'ssh kraftwerk@HOST tokens',
        exit: 'denied',
      });
    }
    receiver.journal.tokens.remove(id);
    receiver.journal.audit(identity.name, 'tokens:remove', null, id);
    stderr.write(`success: the token ${id} is removed\n`);
    return 0;
  },
};
