/** What a client sends to a command on a node, as frames: its input as fast as it is taken, resizes and signals at once. */
import type { Readable } from 'node:stream';
import { FRAME_BYTES, type Frame, RUN_WINDOW_BYTES } from '../../node-agent/protocol-data.ts';
import type { ClientListener } from '../ssh/client-events.ts';

export interface RunFrames extends ClientListener {
  frames: AsyncIterable<Frame>;
  /** So many bytes of the input have come to the command. */
  onTaken(bytes: number): void;
  /** There is no more to send. */
  close(): void;
}

/** @param stdin read at once; one that is cut off ends nothing: the command is hung up then */
export function createRunFrames(stdin: Readable): RunFrames {
  const queue: Frame[] = [];
  let closed = false;
  let room = RUN_WINDOW_BYTES;
  let wakeReader = (): void => undefined;
  let wakeInput = (): void => undefined;
  const push = (frame: Frame): void => {
    queue.push(frame);
    wakeReader();
  };

  async function readInput(): Promise<void> {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length && !closed; ) {
        if (room === 0) {
          await new Promise<void>((resolve) => {
            wakeInput = resolve;
          });
          continue;
        }
        const piece = chunk.subarray(at, at + Math.min(FRAME_BYTES, room));
        at += piece.length;
        room -= piece.length;
        push({ data: piece.toString('base64') });
      }
      if (closed) return;
    }
    // Resizes and signals may follow.
    push({ data: '' });
  }

  async function* read(): AsyncGenerator<Frame> {
    readInput().catch(() => undefined);
    while (!closed) {
      const frame = queue.shift();
      if (frame !== undefined) yield frame;
      else
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
    }
  }

  return {
    frames: { [Symbol.asyncIterator]: read },
    onTaken(bytes) {
      room += bytes;
      wakeInput();
    },
    // A window that is drawn larger sends many: the newest is what counts.
    onResize(size) {
      const waiting = queue.findIndex((frame) => 'resize' in frame);
      if (waiting >= 0) queue.splice(waiting, 1);
      push({ resize: size });
    },
    onSignal: (name) => push({ signal: name }),
    close() {
      closed = true;
      wakeReader();
      wakeInput();
    },
  };
}
