/** What the bench has found, as a table or as JSON. */
import { cpus, loadavg } from 'node:os';
import { printTable } from '../../receiver/print-table.ts';

export interface Row {
  what: string;
  value: number;
  unit: 'ms' | 'MB' | '';
  /** What it is held against, in the same unit. */
  limit?: number;
  note?: string;
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** Of pushes or loads: by name, in milliseconds. */
export interface Steps {
  title: string;
  times: ReadonlyMap<string, readonly number[]>;
}

export function formatReport(rows: readonly Row[], { title, times: stepTimes }: Steps, json: boolean): string {
  // One time another: 1.04 and 1.14 are not the same.
  const shown = (value: number, unit: Row['unit']): string =>
    value < 10 && !Number.isInteger(value) ? value.toFixed(unit === '' ? 2 : 1) : value.toFixed(0);
  const steps = [...stepTimes].map(([step, times]) => ({ step, ms: median(times) }));
  if (json) {
    const machine = { cores: cpus().length, load: loadavg()[0], node: process.version };
    return `${JSON.stringify({ ...machine, rows, steps }, null, 2)}\n`;
  }
  const right = 'right' as const;
  const table = printTable(
    [
      { title: 'what' },
      { title: 'value', align: right },
      { title: '' },
      { title: 'at most', align: right },
      { title: '' },
      { title: '' },
    ],
    rows.map(({ what, value, unit, limit, note = '' }) =>
      limit === undefined
        ? [what, shown(value, unit), unit, '', '', note]
        : [what, shown(value, unit), unit, String(limit), value <= limit ? 'ok' : 'MISSED', note],
    ),
  );
  if (steps.length === 0) return table;
  const stepTable = printTable(
    [{ title: 'step' }, { title: 'ms', align: right }],
    steps.map(({ step, ms }) => [step, ms.toFixed(1)]),
  );
  return `${table}\n${title}:\n\n${stepTable}`;
}
