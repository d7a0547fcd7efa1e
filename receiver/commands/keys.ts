/** `keys`: who may do what. */
import type { StoredKey } from '../keys.ts';
import { printTable } from '../print-table.ts';
import type { Command } from './command.ts';
import { printJson } from './command.ts';

export const keys: Command = {
  name: 'keys',
  aliases: ['keys:list', 'ssh-keys', 'ssh-keys:list'],
  summary: 'who may do what',
  usage: '[--json]',
  examples: ['keys', 'keys --json'],
  verb: 'keys',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run({ json, receiver, stdout }) {
    const configured = receiver.adminKeys.map((key) => ({ ...key, source: 'configuration' }));
    const stored = receiver.keys
      .all()
      .filter(({ fingerprint }) => !configured.some((key) => key.fingerprint === fingerprint))
      .map((key) => ({ ...key, source: 'keys:add' }));
    const all = [...configured, ...stored].map((key) => ({
      ...key,
      lastUsedAt: receiver.keys.lastUsed(key.fingerprint),
    }));
    if (json) printJson(stdout, all.map(toJson));
    else {
      const rows = all.map((key) => [
        key.name,
        key.role,
        key.targets === 'all' ? 'all' : key.targets.join(', '),
        key.fingerprint,
        key.source === 'configuration' ? 'configuration' : `${key.addedAt.slice(0, 10)} by ${key.addedBy}`,
        key.lastUsedAt?.slice(0, 10) ?? '-',
      ]);
      const titles = ['NAME', 'ROLE', 'TARGETS', 'FINGERPRINT', 'ADDED', 'LAST USED'];
      stdout.write(
        printTable(
          titles.map((title) => ({ title })),
          rows,
        ),
      );
    }
    return 0;
  },
};

function toJson({
  name,
  role,
  targets,
  fingerprint,
  line,
  addedAt,
  addedBy,
  lastUsedAt,
  source,
}: StoredKey & { source: string; lastUsedAt: string | null }): object {
  const type = line.split(' ')[0];
  return { name, role, targets, fingerprint, type, addedAt: addedAt || null, addedBy, lastUsedAt, source };
}
