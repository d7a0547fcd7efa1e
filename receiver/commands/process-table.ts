/** The processes of a target, as `ps` and `status` show them. Pure. */
import type { ProcessStatus } from '../../node-agent/protocol.ts';
import { printTable } from '../print-table.ts';
import type { TargetState } from './target-state.ts';
import { formatBytes, formatSeconds } from './units.ts';

export interface ProcessRow extends ProcessStatus {
  node: string;
  /** serves: visitors reach it. starting: on trial. draining: it finishes its last requests. */
  does: 'serves' | 'starting' | 'draining';
}

/** One for each slot that runs. */
export function runningProcesses({ busy, nodes }: TargetState): ProcessRow[] {
  return nodes.flatMap(({ instance, node }) =>
    (instance?.processes ?? [])
      .filter(({ pid, state }) => state === 'run' || pid !== null)
      .map((process) => {
        const other = busy !== null && process.release !== instance?.current?.release ? 'starting' : 'draining';
        return { ...process, node, does: process.serves ? 'serves' : other } as const;
      }),
  );
}

/** The node is named where there are several. */
export function printProcesses(rows: readonly ProcessRow[], nodeCount: number): string {
  const node = nodeCount > 1 ? [{ title: 'NODE' }] : [];
  const columns = [
    ...node,
    ...['PROCESS', 'RELEASE', 'DOES'].map((title) => ({ title })),
    ...['PID', 'UPTIME', 'MEMORY', 'WORKERS'].map((title) => ({ title, align: 'right' }) as const),
  ];
  return printTable(
    columns,
    rows.map((row) => [
      ...(nodeCount > 1 ? [row.node] : []),
      row.name,
      row.release === null ? '-' : `v${row.release}`,
      row.does,
      String(row.pid ?? '-'),
      row.uptimeS === null ? '-' : formatSeconds(row.uptimeS),
      row.memoryBytes === null ? '-' : formatBytes(row.memoryBytes),
      String(row.workers),
    ]),
  );
}

export function processJson(row: ProcessRow): object {
  const { does, memoryBytes, name, node, pid, release, slot, uptimeS, workers } = row;
  return { node, process: name, slot, release, does, pid, uptimeSeconds: uptimeS, memoryBytes, workers };
}
