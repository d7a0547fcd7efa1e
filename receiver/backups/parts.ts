// A stream of any length, cut into parts of one size: in two buffers, whatever the length.
import type { Readable } from 'node:stream';

/**
 * All parts but the last one are full; none is empty. A part is good until the one after the next is asked for: whoever sends it is
 * done with it by then.
 */
export async function* collectParts(source: Readable, partBytes: number): AsyncGenerator<Buffer, void> {
  const buffers: [Buffer | null, Buffer | null] = [null, null];
  let turn: 0 | 1 = 0;
  let filled = 0;
  for await (const chunk of source) {
    let rest: Buffer = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    while (rest.length > 0) {
      buffers[turn] ??= Buffer.allocUnsafeSlow(partBytes);
      const buffer: Buffer = buffers[turn] ?? Buffer.alloc(0);
      const taken = rest.copy(buffer, filled);
      rest = rest.subarray(taken);
      filled += taken;
      if (filled < partBytes) continue;
      yield buffer;
      turn = turn === 0 ? 1 : 0;
      filled = 0;
    }
  }
  const last = buffers[turn];
  if (filled > 0 && last !== null) yield last.subarray(0, filled);
}
