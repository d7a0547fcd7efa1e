/** `dumps TARGET`: the copies of its data; `dumps --destroyed`: those that are left of destroyed sites. */
import { EXIT_CODES } from '../../node-agent/protocol.ts';
import type { DumpReason, DumpSummary, DumpsResult } from '../../node-agent/protocol-data.ts';
import { listCopies, requireStore } from '../backups/copies.ts';
import { formatAmount } from '../data/amounts.ts';
import { askAll } from '../data/data-services.ts';
import { type ListedDump, listDumps, sumBytes } from '../data/dump.ts';
import { escapeForTerminal, printTable } from '../print-table.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson } from './command.ts';
import { formatSeconds, formatTime } from './units.ts';

const WHY: Readonly<Record<DumpReason, string>> = {
  asked: 'asked for',
  scheduled: 'scheduled',
  load: 'before a load',
  sync: 'for a sync',
  release: 'before a release command',
  move: 'for a move',
  destroy: 'before the end',
  upload: 'uploaded',
};

export const dumps: Command = {
  name: 'dumps',
  aliases: ['pg:backups'],
  summary: 'the copies of its data',
  usage: 'TARGET [--copies] [--json], or --destroyed',
  examples: ['dumps blog/live', 'dumps blog/live --copies', 'dumps blog/live --json', 'dumps --destroyed'],
  verb: 'dumps',
  target: 'required',
  withoutTarget: { option: 'destroyed', verb: 'doctor' },
  args: { min: 0, max: 0 },
  options: { destroyed: { type: 'boolean' }, copies: { type: 'boolean' } },
  async run(context) {
    if (context.target === null) return listDestroyed(context);
    const { json, receiver, stderr, stdout, target } = context;
    if (flagOption(context, 'copies')) return printCopies(context, target);
    const all = (await listDumps(receiver, target)).filter(
      ({ destroyed }) => destroyed || !flagOption(context, 'destroyed'),
    );
    if (json) printJson(stdout, all.map(toJson));
    else if (all.length === 0) stderr.write(`no dumps yet; make one: ssh kraftwerk@HOST dump ${targetName(target)}\n`);
    else
      stdout.write(
        printTable(
          COLUMNS,
          all.map((one) => toRow(one, receiver.nowMs())),
        ),
      );
    for (const { at, error, kind } of receiver.journal.data.scheduled(target))
      if (error !== null)
        stderr.write(`warning: the last ${kind} (${formatTime(at)}) failed: ${escapeForTerminal(error)}\n`);
    return EXIT_CODES.ok;
  },
};

const COLUMNS = [
  { title: 'dump' },
  { title: 'age' },
  { title: 'size', align: 'right' },
  { title: 'services' },
  { title: 'release' },
  { title: 'why' },
  { title: 'proven' },
] as const;

function toRow({ destroyed, name, parts }: ListedDump, nowMs: number): string[] {
  const [first] = parts;
  const services = parts.flatMap(({ summary }) => summary.services.map((service) => service.name));
  return [
    name,
    formatSeconds((nowMs - Date.parse(`${name}Z`)) / 1000),
    formatAmount(sumBytes(parts)),
    services.join(', '),
    first?.summary.release == null ? '-' : `v${first.summary.release}`,
    why(destroyed, first?.summary),
    proven(parts.map(({ summary }) => summary)) ?? 'never',
  ];
}

function why(destroyed: boolean, summary: DumpSummary | undefined): string {
  if (summary === undefined) return '';
  const text = summary.before === null ? WHY[summary.reason] : `before v${summary.before}'s release command`;
  return destroyed ? `${text} (of a destroyed site)` : text;
}

/** The oldest of its parts counts. */
function proven(summaries: readonly DumpSummary[]): string | null {
  const times = summaries.map(({ provenAt }) => provenAt);
  return times.includes(null) ? null : `${[...times].sort()[0]?.slice(0, 16) ?? ''}Z`;
}

function toJson({ destroyed, name, parts }: ListedDump) {
  return {
    name,
    destroyed,
    bytes: sumBytes(parts),
    parts: parts.map(({ node, summary }) => ({ node: node.name, ...summary })),
  };
}

/** In the store that the environment's backups are copied to. */
async function printCopies({ json, receiver, stderr, stdout }: CommandContext, target: Target): Promise<number> {
  const copies = await listCopies(requireStore(receiver, target), target);
  if (json) printJson(stdout, copies);
  else if (copies.length === 0) stderr.write('no copies yet\n');
  else {
    const columns = [
      { title: 'dump' },
      { title: 'size', align: 'right' },
      { title: 'node' },
      { title: 'key' },
    ] as const;
    const rows = copies.map(({ bytes, key, name, node }) => [name, formatAmount(bytes), node ?? 'all', key]);
    stdout.write(printTable(columns, rows));
    stderr.write(`one comes back with: load ${targetName(target)} TIMESTAMP --copy\n`);
  }
  return EXIT_CODES.ok;
}

/** Of all nodes: they name projects, so they are for admins. */
async function listDestroyed(context: CommandContext): Promise<number> {
  const { json, receiver, stderr, stdout } = context;
  const nodes = [...receiver.nodes.values()].map((node) => ({ node }));
  const answers = await askAll(nodes, async ({ node }) => ({
    node: node.name,
    ...((await node.request({ op: 'dumps', of: null }, { timeoutMs: 60_000 })) as DumpsResult),
  }));
  const rows = answers.flatMap(({ destroyed, node }) => destroyed.map((summary) => ({ node, ...summary })));
  if (json) printJson(stdout, rows);
  else if (rows.length === 0) stderr.write('no dumps of destroyed sites\n');
  else {
    const columns = [
      { title: 'target' },
      { title: 'dump' },
      { title: 'size', align: 'right' },
      { title: 'services' },
      { title: 'node' },
    ] as const;
    stdout.write(
      printTable(
        columns,
        rows.map(({ bytes, name, node, services, target }) => [
          target,
          name,
          formatAmount(bytes),
          services.map((service) => service.name).join(', '),
          node,
        ]),
      ),
    );
    stderr.write('one comes back under a new push of its name: git push, then load TARGET TIMESTAMP\n');
  }
  return EXIT_CODES.ok;
}
