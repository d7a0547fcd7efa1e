/** `dump TARGET`: a copy of all data; `--download` streams one as an archive. */
import { once } from 'node:events';
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { DUMP_NAME_PATTERN, type DumpName } from '../../node-agent/protocol-data.ts';
import { formatAmount } from '../data/amounts.ts';
import { findDump, type ListedDump, type MadeDump, makeDump, sumBytes } from '../data/dump.ts';
import { openExport } from '../data/transfer.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson, usageError } from './command.ts';
import { CHOICE_OPTIONS, readChoice, succeed, telling, withData } from './data-command.ts';

export const dump: Command = {
  name: 'dump',
  aliases: ['pg:backups:capture', 'backup'],
  summary: 'copy the data of all services',
  usage: 'TARGET [TIMESTAMP --download] [--download] [--only SERVICE] [--exclude SERVICE] [--json]',
  examples: [
    'dump blog/live',
    'dump blog/live --only postgres',
    'dump blog/live --download >blog.tar',
    'dump blog/live 2026-11-22T10:20:30 --download >blog.tar',
  ],
  verb: 'dump',
  target: 'required',
  args: { min: 0, max: 1 },
  file: { option: 'download', direction: 'write' },
  options: { ...CHOICE_OPTIONS, download: { type: 'boolean' } },
  async run(context) {
    const { args, json, receiver, stdout, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const download = flagOption(context, 'download');
    const choice = readChoice(dump, context);
    const name = args[0] === undefined ? null : parseName(dump, args[0]);
    if (name !== null && !download) throw usageError(dump, 'a dump that is there already can be had with --download');
    if (name !== null && (choice.only !== null || choice.exclude.length > 0))
      throw usageError(dump, '--only and --exclude are for a new dump');
    if (download && context.pty !== null)
      throw usageError(dump, 'an archive is nothing for a terminal: ssh -T … >FILE, or kraftwerk dump --download FILE');
    if (json && download) throw usageError(dump, '--json and --download both want stdout');
    return telling(context, async () => {
      if (name !== null) return sendDump(context, target, await findDump(receiver, target, name));
      const begin = receiver.nowMs();
      const made = await withData(context, target, 'dump', (audience) =>
        makeDump(receiver, { target, reason: 'asked', choice }, audience),
      );
      receiver.journal.audit(context.identity.name, 'dump', target, made.name);
      if (download) return sendDump(context, target, { name: made.name, destroyed: false, parts: made.parts });
      if (json) printJson(stdout, toJson(target, made));
      else stdout.write(`${made.name}\n`);
      const seconds = ((receiver.nowMs() - begin) / 1000).toFixed(1);
      succeed(context, `dump ${made.name}, ${formatAmount(sumBytes(made.parts))} in ${seconds}s`);
      return EXIT_CODES.ok;
    });
  },
};

/** @throws KraftwerkError `command.usage` */
export function parseName(command: Command, text: string): DumpName {
  if (DUMP_NAME_PATTERN.test(text)) return text as DumpName;
  throw usageError(
    command,
    `expected a dump as 2026-11-22T10:20:30, got ${JSON.stringify(text.slice(0, 60))}`,
    'ssh kraftwerk@HOST dumps TARGET',
  );
}

function toJson(target: Target, { name, parts }: MadeDump) {
  return {
    name,
    target: targetName(target),
    bytes: sumBytes(parts),
    parts: parts.map(({ node, summary }) => ({ node: node.name, ...summary })),
  };
}

/** Progress goes to stderr, the archive to stdout, no faster than it is read. */
async function sendDump(context: CommandContext, target: Target, { name, parts }: ListedDump): Promise<number> {
  const { pty, receiver, signal, stderr, stdout } = context;
  const [part] = parts;
  if (pty !== null) {
    throw new KraftwerkError('dump.terminal', 'dump: an archive is nothing for a terminal', {
      hint: `ssh kraftwerk@HOST dump ${targetName(target)} ${name} --download >${target.project}.tar`,
      exit: 'usage',
    });
  }
  if (part === undefined || parts.length > 1) {
    throw new KraftwerkError(
      'dump.parts',
      `${name} is on several nodes: ${parts.map(({ node }) => node.name).join(', ')}`,
      {
        hint: 'one service after the other: dump TARGET --only SERVICE --download',
      },
    );
  }
  const { archive, done } = openExport(receiver, target, part.node, name, signal);
  let sent = 0;
  const begin = receiver.nowMs();
  const timer = setInterval(() => {
    const seconds = Math.round((receiver.nowMs() - begin) / 1000);
    stderr.write(`       still sending, ${formatAmount(sent)} so far … ${seconds}s\n`);
  }, 5_000);
  try {
    for await (const chunk of archive) {
      sent += (chunk as Buffer).length;
      if (!stdout.write(chunk)) await once(stdout, 'drain', { signal });
    }
    await done;
  } finally {
    clearInterval(timer);
    archive.destroy();
  }
  receiver.journal.audit(context.identity.name, 'dump.download', target, name);
  succeed(context, `${name} sent, ${formatAmount(sent)}`);
  return EXIT_CODES.ok;
}
