/** `keys:remove NAME`: a key may come in no more. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { suggest } from '../suggest.ts';
import type { Command } from './command.ts';
import { confirmName } from './confirm.ts';

export const keysRemove: Command = {
  name: 'keys:remove',
  aliases: ['keys:rm', 'ssh-keys:remove'],
  summary: 'a key may come in no more',
  usage: 'NAME [--confirm NAME]',
  examples: ['keys:remove alice --confirm alice'],
  verb: 'keys',
  target: 'none',
  args: { min: 1, max: 1 },
  options: { confirm: { type: 'string' } },
  async run(context) {
    const [name = ''] = context.args;
    const { adminKeys, keys } = context.receiver;
    const stored = keys.all();
    if (!stored.some((key) => key.name === name)) {
      if (adminKeys.some((key) => key.name === name)) {
        throw new KraftwerkError(
          'keys.configured',
          `keys:remove: ${name} is an admin of the receiver's configuration`,
          {
            hint: 'take it out of admins in /etc/kraftwerk.yaml (or the file of --config) and restart the receiver',
          },
        );
      }
      const meant = suggest(
        name,
        stored.map((key) => key.name),
      );
      throw new KraftwerkError('keys.unknown', `keys:remove: no key ${JSON.stringify(name.slice(0, 60))}`, {
        hint: meant === null ? 'ssh kraftwerk@HOST keys' : `did you mean ${meant}?`,
        exit: 'denied',
      });
    }
    const admins = [...adminKeys, ...stored].filter((key) => key.role === 'admin');
    if (admins.length === 1 && admins[0]?.name === name) {
      throw new KraftwerkError('keys.last', `keys:remove: ${name} is the last admin; nobody could add keys any more`, {
        hint: 'ssh kraftwerk@HOST keys:add NAME --role admin < KEY.pub',
      });
    }
    await confirmName(context, keysRemove, name);
    keys.remove(name);
    context.stderr.write(`success: ${name} is removed; sessions that are open end with their command\n`);
    return 0;
  },
};
