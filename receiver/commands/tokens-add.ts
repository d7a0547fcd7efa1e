/** `tokens:add`: a password for git over HTTP, with the rights of the key that asks. Shown once. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { createToken, isExpired } from '../tokens.ts';
import type { Command } from './command.ts';
import { printJson, textOption, usageError } from './command.ts';

const DEFAULT_DAYS = 30;
const MAX_DAYS = 366;
const MAX_TOKENS = 50;

export const tokensAdd: Command = {
  name: 'tokens:add',
  aliases: ['tokens:create'],
  summary: 'a token for git over HTTP, with your rights',
  usage: '[--days N] [--json]',
  examples: ['tokens:add', 'tokens:add --days 7'],
  verb: 'tokens',
  target: 'none',
  args: { min: 0, max: 0 },
  options: { days: { type: 'string' } },
  async run(context) {
    const { identity, receiver, stderr, stdout, json } = context;
    const days = parseDays(textOption(context, 'days'));
    const { tokens, audit } = receiver.journal;
    const { fingerprint } = identity;
    if (fingerprint === undefined) throw new Error('a token needs a key');
    const now = new Date(receiver.nowMs());
    const own = tokens.all().filter((token) => token.fingerprint === fingerprint);
    // Those that are over have told what they had to tell.
    for (const token of own) if (isExpired(token, now)) tokens.remove(token.id);
    if (own.filter((token) => !isExpired(token, now)).length >= MAX_TOKENS) {
      throw new KraftwerkError('tokens.many', `tokens:add: your key has ${MAX_TOKENS} tokens already`, {
        hint: ['ssh kraftwerk@HOST tokens', 'ssh kraftwerk@HOST tokens:remove ID'],
      });
    }
    const { token, stored } = createToken(fingerprint, days, now);
    tokens.add(stored);
    audit(identity.name, 'tokens:add', null, stored.id);
    if (json) printJson(stdout, { token, id: stored.id, key: identity.name, expiresAt: stored.expiresAt });
    else stdout.write(`${token}\n`);
    stderr.write(`success: token ${stored.id} of ${identity.name}, until ${stored.expiresAt.slice(0, 10)}\n`);
    if (receiver.config.http === null) {
      stderr.write("warning: git over HTTP is off: an admin adds http: to the receiver's configuration\n");
      return 0;
    }
    // A key's name may hold an @.
    const user = encodeURIComponent(identity.name);
    stderr.write(`hint: git remote add live http://${user}@HOST/blog/live.git\n`);
    stderr.write('hint: git asks for the password: the token, which is shown only this once\n');
    stderr.write('hint: from another machine only https, by a TLS proxy: plain http shows the token to the network\n');
    return 0;
  },
};

function parseDays(text: string | undefined): number {
  if (text === undefined) return DEFAULT_DAYS;
  const days = /^[0-9]{1,3}$/.test(text) ? Number(text) : 0;
  if (days >= 1 && days <= MAX_DAYS) return days;
  throw usageError(tokensAdd, `--days: expected 1 to ${MAX_DAYS}, got ${JSON.stringify(text.slice(0, 20))}`);
}
