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

/** @param stepTimes the deploys' steps, by name, in milliseconds */
export function formatReport(
  rows: readonly Row[],
  stepTimes: ReadonlyMap<string, readonly number[]>,
  json: boolean,
): string {
  const shown = (value: number): string =>
    value < 10 && !Number.isInteger(value) ? value.toFixed(1) : value.toFixed(0);
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
        ? [what, shown(value), unit, '', '', note]
        : [what, shown(value), unit, String(limit), value <= limit ? 'ok' : 'MISSED', note],
    ),
  );
  const stepTable = printTable(
    [{ title: 'step' }, { title: 'ms', align: right }],
    steps.map(({ step, ms }) => [step, ms.toFixed(1)]),
  );
  return `${table}\nSteps of the pushes with unchanged requirements, from the receiver's log, medians:\n\n${stepTable}`;
}
