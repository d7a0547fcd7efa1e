/** `nodes`: what there is, how it does, and who uses it. */
import type { Config } from '../config.ts';
import { type Inspection, inspectNodes } from '../nodes/inspect.ts';
import { escapeForTerminal, printTable } from '../print-table.ts';
import { type Command, type CommandContext, printJson } from './command.ts';
import { formatSize } from './units.ts';

export const nodes: Command = {
  name: 'nodes',
  aliases: ['nodes:list', 'servers'],
  summary: 'the nodes: state, version, disk, memory, load',
  usage: '[--json]',
  examples: ['nodes', 'nodes --json'],
  verb: 'nodes',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    const { json, receiver, stderr, stdout } = context;
    const rows = (await inspectNodes([...receiver.nodes.values()], receiver.nowMs)).map((one) =>
      describe(one, context),
    );
    if (json) printJson(stdout, rows);
    else {
      stdout.write(printRows(rows));
      for (const { error } of rows) if (error !== null) stderr.write(`warning: ${escapeForTerminal(error)}\n`);
      if (rows.some(({ error }) => error !== null)) stderr.write('hint: ssh kraftwerk@HOST doctor\n');
    }
    return rows.every(({ error }) => error === null) ? 0 : 1;
  },
};

export interface NodeRow {
  node: string;
  kind: string;
  state: 'ready' | 'no answer';
  error: string | null;
  /** Of kraftwerk; null: another agent than this receiver's, or not known. */
  version: string | null;
  environments: string[];
  /** Environments that it balances. */
  routes: string[];
  cores: number | null;
  load1: number | null;
  memoryBytes: number | null;
  memoryFreeBytes: number | null;
  diskBytes: number | null;
  diskFreeBytes: number | null;
  clockOffsetMs: number | null;
}

function describe({ node, facts, error, clockOffsetMs }: Inspection, { receiver }: CommandContext): NodeRow {
  const { config, version, agentVersion } = receiver;
  const all = [...config.environments.values()];
  return {
    node,
    kind: kindOf(config, node),
    state: facts === null ? 'no answer' : 'ready',
    error: error?.message ?? null,
    version: facts?.agentVersion === agentVersion ? version : null,
    environments: all.filter(({ nodes: names }) => names.includes(node)).map(({ name }) => name),
    routes: all.filter(({ router }) => router === node).map(({ name }) => name),
    cores: facts?.cores ?? null,
    load1: facts?.load1 ?? null,
    memoryBytes: facts?.memoryBytes ?? null,
    memoryFreeBytes: facts?.memoryFreeBytes ?? null,
    diskBytes: facts?.diskBytes ?? null,
    diskFreeBytes: facts?.diskFreeBytes ?? null,
    clockOffsetMs,
  };
}

function kindOf({ nodes: configured }: Config, name: string): string {
  return configured.get(name)?.kind ?? '-';
}

/** Pure. */
export function printRows(rows: readonly NodeRow[]): string {
  const columns = [
    ...['NODE', 'STATE', 'VERSION', 'ENVIRONMENTS'].map((title) => ({ title })),
    ...['DISK FREE', 'MEMORY FREE', 'LOAD', 'CORES'].map((title) => ({ title, align: 'right' }) as const),
  ];
  const free = (part: number | null, whole: number | null): string =>
    part === null || whole === null ? '-' : `${formatSize(part)} of ${formatSize(whole)}`;
  return printTable(
    columns,
    rows.map((row) => [
      row.node,
      row.state,
      row.version ?? (row.state === 'ready' ? 'another' : '-'),
      [...row.environments, ...row.routes.map((name) => `${name} (router)`)].join(', ') || '-',
      free(row.diskFreeBytes, row.diskBytes),
      free(row.memoryFreeBytes, row.memoryBytes),
      row.load1 === null ? '-' : row.load1.toFixed(2),
      row.cores === null ? '-' : String(row.cores),
    ]),
  );
}
