/** `keys:add NAME`: let one more key in; the key comes on stdin. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Role } from '../access.ts';
import { formatPattern, parseTargetPattern, ROLES } from '../access.ts';
import type { StoredKey } from '../keys.ts';
import { KEY_NAME_PATTERN, parsePublicKey } from '../keys.ts';
import { suggest } from '../suggest.ts';
import type { Command, CommandContext } from './command.ts';
import { textOption, usageError } from './command.ts';
import { readInput, readLine } from './input.ts';

const MAX_KEY_BYTES = 64 * 1024;

export const keysAdd: Command = {
  name: 'keys:add',
  aliases: ['ssh-keys:add'],
  summary: 'let a key in (public key on stdin)',
  usage: 'NAME [--role admin|deploy|read] [TARGETS…] < KEY.pub',
  examples: [
    'keys:add alice < alice.pub',
    'keys:add ci --role deploy blog/stage < ci.pub',
    "keys:add tester --role read '*/stage' < tester.pub",
  ],
  verb: 'keys',
  target: 'none',
  args: { min: 1, max: 100 },
  options: { role: { type: 'string' } },
  async run(context) {
    const [name = '', ...targets] = context.args;
    if (!KEY_NAME_PATTERN.test(name)) {
      throw usageError(
        keysAdd,
        `bad name ${JSON.stringify(name.slice(0, 60))}: at most 64 of a-z A-Z 0-9 . _ @ + -, not one of the signs first`,
      );
    }
    const role = parseRole(textOption(context, 'role') ?? 'deploy');
    if (role === 'admin' && targets.length > 0) {
      throw usageError(
        keysAdd,
        'an admin may do everything: targets and --role admin exclude each other',
        'leave the targets away, or --role deploy',
      );
    }
    const grants =
      targets.length === 0 ? 'all' : [...new Set(targets.map((text) => formatPattern(parseTargetPattern(text))))];
    refuseUnknownEnvironments(context, targets);
    refuseName(context, name);
    const key = parsePublicKey(await readKey(context));
    // Asked again after waiting for the key: another session may have been quicker.
    refuseName(context, name);
    const same = allKeys(context).find(({ fingerprint }) => fingerprint === key.fingerprint);
    if (same !== undefined) {
      throw new KraftwerkError(
        'keys.duplicate',
        `keys:add: this key is there already, as ${same.name} (${same.role})`,
        {
          hint: removalHint(context, same),
        },
      );
    }
    context.receiver.keys.add({
      name,
      role,
      targets: grants,
      line: key.line,
      fingerprint: key.fingerprint,
      addedAt: new Date().toISOString(),
      addedBy: context.identity.name,
    });
    const where = grants === 'all' ? 'all targets' : grants.join(', ');
    context.stderr.write(`success: ${name} may come in: ${role}, ${where}, ${key.fingerprint}\n`);
    return 0;
  },
};

/** @throws KraftwerkError `environment.unknown`: such a key would never fit anything */
function refuseUnknownEnvironments({ receiver }: CommandContext, targets: readonly string[]): void {
  const known = [...receiver.config.environments.keys()];
  for (const text of targets) {
    const environment = text.split('/')[1];
    if (environment === undefined || environment === '*' || known.some((name) => name === environment)) continue;
    const meant = suggest(environment, known);
    throw new KraftwerkError('environment.unknown', `keys:add: ${text}: there is no environment ${environment}`, {
      hint: meant === null ? `there are: ${known.join(', ')}` : `did you mean ${meant}?`,
      exit: 'denied',
    });
  }
}

function parseRole(text: string): Role {
  const role = ROLES.find((candidate) => candidate === text);
  if (role !== undefined) return role;
  const meant = suggest(text, ROLES);
  throw usageError(
    keysAdd,
    `unknown role ${JSON.stringify(text.slice(0, 60))}: ${ROLES.join(', ')}`,
    meant === null ? undefined : `did you mean ${meant}?`,
  );
}

function allKeys({ receiver }: CommandContext): StoredKey[] {
  return [...receiver.adminKeys, ...receiver.keys.all()];
}

function refuseName(context: CommandContext, name: string): void {
  const taken = allKeys(context).find((key) => key.name === name);
  if (taken === undefined) return;
  throw new KraftwerkError('keys.duplicate', `keys:add: the name ${name} is taken, by ${taken.fingerprint}`, {
    hint: removalHint(context, taken),
  });
}

function removalHint({ receiver }: CommandContext, key: StoredKey): string {
  return receiver.adminKeys.includes(key)
    ? "that one is in the receiver's configuration, under admins"
    : `ssh kraftwerk@HOST keys:remove ${key.name} --confirm ${key.name}`;
}

async function readKey({ pty, signal, stderr, stdin }: CommandContext): Promise<string> {
  if (pty === null) return await readInput(stdin, MAX_KEY_BYTES, 'public key', signal);
  stderr.write('Paste the public key, then Enter: ');
  return await readLine(stdin, signal);
}
