/** `tokens`: the passwords for git over HTTP; an admin sees everybody's. */
import type { StoredKey } from '../keys.ts';
import { printTable } from '../print-table.ts';
import { isExpired, type StoredToken } from '../tokens.ts';
import type { Command, CommandContext } from './command.ts';
import { printJson } from './command.ts';
import { formatTime } from './units.ts';

export const tokens: Command = {
  name: 'tokens',
  aliases: ['tokens:list'],
  summary: 'your tokens for git over HTTP',
  usage: '[--json]',
  examples: ['tokens', 'tokens --json'],
  verb: 'tokens',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    const now = new Date(context.receiver.nowMs());
    const all = visibleTokens(context).map(({ token, key }) => ({
      id: token.id,
      key: key?.name ?? null,
      createdAt: token.createdAt,
      expiresAt: token.expiresAt,
      expired: isExpired(token, now),
      lastUsedAt: token.lastUsedAt,
    }));
    if (context.json) printJson(context.stdout, all);
    else {
      const rows = all.map(({ id, key, createdAt, expiresAt, expired, lastUsedAt }) => [
        id,
        key ?? '-',
        formatTime(createdAt),
        expired ? 'expired' : formatTime(expiresAt),
        lastUsedAt?.slice(0, 10) ?? '-',
      ]);
      const titles = ['ID', 'KEY', 'CREATED', 'EXPIRES', 'LAST USED'];
      context.stdout.write(
        printTable(
          titles.map((title) => ({ title })),
          rows,
        ),
      );
    }
    return 0;
  },
};

/** One's own; all of them for whoever may remove keys. */
export function visibleTokens({ identity, receiver }: CommandContext): { token: StoredToken; key: StoredKey | null }[] {
  const keys = [...receiver.adminKeys, ...receiver.keys.all()];
  return receiver.journal.tokens
    .all()
    .filter(({ fingerprint }) => identity.role === 'admin' || fingerprint === identity.fingerprint)
    .map((token) => ({ token, key: keys.find(({ fingerprint }) => fingerprint === token.fingerprint) ?? null }));
}
