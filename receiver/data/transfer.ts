/** Dumps on their way: out of a node as one archive, into a node, from one node to another. */
import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import {
  type DumpName,
  type DumpReason,
  type DumpSummary,
  type ExportResult,
  FRAME_BYTES,
  type Frame,
} from '../../node-agent/protocol-data.ts';
import type { Node } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { formatAmount } from './amounts.ts';
import { type Audience, DATA_LIMIT_MS, type DataServices, tellRequest } from './data-services.ts';
import { KEPT, type ListedDump } from './dump.ts';

/** Nobody waits longer than this without a sign of life. */
const HEARTBEAT_MS = 5_000;

/** The archive of a dump as it comes; it ends with an error where the agent's request does. */
export function openExport(
  services: Pick<DataServices, 'instances'>,
  target: Target,
  node: Node,
  name: DumpName,
  signal: AbortSignal,
): { archive: Readable; done: Promise<ExportResult> } {
  const archive = new PassThrough({ highWaterMark: 1024 * 1024 });
  const instance = services.instances.of(target, node.name);
  const done = node
    .request(
      { op: 'export', instance, target: targetName(target), name },
      {
        timeoutMs: DATA_LIMIT_MS,
        signal,
        // What nobody reads holds the agent back, not our memory.
        onEvent: (event) => {
          if (event.event !== 'data' || archive.destroyed || archive.write(Buffer.from(event.data, 'base64'))) return;
          return Promise.race([once(archive, 'drain'), once(archive, 'close')]).then(
            () => undefined,
            () => undefined,
          );
        },
      },
    )
    .then(
      (result) => {
        archive.end();
        return result as ExportResult;
      },
      (error: unknown) => {
        archive.destroy(error instanceof Error ? error : new Error(String(error)));
        throw error;
      },
    );
  done.catch(() => undefined);
  return { archive, done };
}

export interface ImportOrder {
  target: Target;
  node: Node;
  /** Its name there. */
  name: DumpName;
  reason: DumpReason;
}

/** @throws KraftwerkError `dump.*`: then nothing is kept of it */
export async function importArchive(
  services: DataServices,
  { target, node, name, reason }: ImportOrder,
  archive: AsyncIterable<Uint8Array>,
  audience: Audience,
): Promise<DumpSummary> {
  const { instance } = services.describeServices(target, node);
  const counted = { bytes: 0 };
  const begin = services.nowMs();
  const timer = setInterval(() => {
    const what = `taking the archive in, ${formatAmount(counted.bytes)} so far`;
    audience.emit({ event: 'progress', step: 'Copy', what, ms: services.nowMs() - begin });
  }, HEARTBEAT_MS);
  try {
    const summary = await node.request(
      { op: 'import', instance, target: targetName(target), name, reason, from: null, keep: KEPT[reason] },
      {
        timeoutMs: DATA_LIMIT_MS,
        signal: audience.signal,
        frames: toFrames(archive, counted),
      },
    );
    const detail = `${formatAmount(counted.bytes)} taken in as ${name}`;
    audience.emit({ event: 'step', step: 'Copy', detail, ms: services.nowMs() - begin });
    return summary as DumpSummary;
  } finally {
    clearInterval(timer);
  }
}

/** One dump of another target, brought to where this one's data is. @throws KraftwerkError `dump.parts` */
export async function bringDump(
  services: DataServices,
  from: { target: Target; dump: ListedDump },
  to: ImportOrder,
  audience: Audience,
): Promise<DumpSummary> {
  const [part] = from.dump.parts;
  if (part === undefined || from.dump.parts.length > 1) {
    throw new KraftwerkError('dump.parts', `${from.dump.name} of ${targetName(from.target)} is on several nodes`, {
      hint: 'one service after the other: --only SERVICE',
    });
  }
  if (part.node === to.node) {
    const { instance } = services.describeServices(to.target, to.node);
    const source = services.describeServices(from.target, part.node).instance;
    const order = {
      op: 'import',
      instance,
      target: targetName(to.target),
      name: to.name,
      reason: to.reason,
      from: { instance: source, target: targetName(from.target), name: from.dump.name },
      keep: KEPT[to.reason],
    } as const;
    return (await tellRequest(to.node, order, audience)) as DumpSummary;
  }
  const { archive, done } = openExport(services, from.target, part.node, from.dump.name, audience.signal);
  const [summary] = await Promise.all([importArchive(services, to, archive, audience), done]);
  return summary;
}

async function* toFrames(archive: AsyncIterable<Uint8Array>, counted: { bytes: number }): AsyncGenerator<Frame> {
  for await (const chunk of archive) {
    counted.bytes += chunk.length;
    for (let at = 0; at < chunk.length; at += FRAME_BYTES)
      yield { data: Buffer.from(chunk.subarray(at, at + FRAME_BYTES)).toString('base64') };
  }
  yield { end: true };
}
