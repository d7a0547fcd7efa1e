/** `maintenance TARGET on|off`: visitors get a page and 503, whatever they ask for; `maintenance TARGET` says which. */
import { EXIT_CODES } from '../../node-agent/protocol.ts';
import { requireAccess } from '../access.ts';
import { leaveMaintenance, putInMaintenance } from '../data/maintenance.ts';
import { addHints } from '../deploy/node-names.ts';
import { escapeForTerminal } from '../print-table.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, printJson, usageError } from './command.ts';
import { succeed, telling, withData } from './data-command.ts';
import { findDeployed } from './run-deploy.ts';
import { formatTime } from './units.ts';

export const maintenance: Command = {
  name: 'maintenance',
  aliases: [],
  summary: 'a 503 page for all visitors, on or off',
  usage: 'TARGET [on|off] [--json]',
  examples: ['maintenance blog/live on', 'maintenance blog/live off', 'maintenance blog/live --json'],
  verb: 'status',
  target: 'required',
  args: { min: 0, max: 1 },
  options: {},
  async run(context) {
    const { args, identity } = context;
    const { target } = findDeployed(context);
    const [word] = args;
    if (word === undefined) return say(context, target);
    if (word !== 'on' && word !== 'off')
      throw usageError(maintenance, `expected on or off, got ${JSON.stringify(word.slice(0, 60))}`);
    requireAccess(identity, 'process', 'maintenance', target);
    return telling(context, () => change(context, target, word === 'on'));
  },
};

function say({ json, receiver, stdout }: CommandContext, target: Target): number {
  const put = receiver.journal.data.maintenance(target);
  if (json) printJson(stdout, { target: targetName(target), maintenance: put !== null, ...put });
  else if (put === null) stdout.write('off\n');
  else stdout.write(`on since ${formatTime(put.since)} by ${escapeForTerminal(put.by)}\n`);
  return EXIT_CODES.ok;
}

/** On is written down first, off last: until all nodes have opened again, a deploy keeps the site closed. */
async function change(context: CommandContext, target: Target, on: boolean): Promise<number> {
  const { identity, json, receiver } = context;
  const name = targetName(target);
  const { data } = receiver.journal;
  await withData(context, target, 'maintenance', async () => {
    if (on) data.setMaintenance(target, true, identity.name);
    receiver.failpoint('maintenance.noted');
    try {
      await (on ? putInMaintenance(receiver, target) : leaveMaintenance(receiver, target));
    } catch (error) {
      const others = receiver.deployer.nodesOf(target).length > 1;
      const again = `ssh kraftwerk@HOST maintenance ${name} ${on ? 'on' : 'off'}`;
      throw addHints(error, others ? [`the other nodes are ${on ? 'closed' : 'open'}; again: ${again}`] : [again]);
    }
    if (!on) data.setMaintenance(target, false, identity.name);
  });
  receiver.journal.audit(identity.name, 'maintenance', target, on ? 'on' : 'off');
  if (json) say(context, target);
  succeed(context, on ? `${name} is in maintenance: visitors see its page` : `${name} is open to visitors again`);
  return EXIT_CODES.ok;
}
