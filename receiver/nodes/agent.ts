/** One running agent: a request, its events, its result; then the next. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type AgentEvent, fromWireError, KraftwerkError } from '../../node-agent/protocol.ts';
import { encodeFrame, type Frame } from '../../node-agent/protocol-data.ts';
import { type AgentRequest, encodeRequest } from '../../node-agent/requests.ts';
import type { AgentChannel } from './connector.ts';
import type { NodeOptions, NodeOrder, RequestOptions } from './node.ts';

export interface Agent {
  /** It runs, nobody has told it to end, and whatever it was asked it has done. */
  isGood(): boolean;
  /** One at a time. @throws KraftwerkError what it answered, or `node.lost` */
  ask(order: NodeOrder, options: RequestOptions): Promise<unknown>;
  /** Its input ends, and so does it. */
  end(): void;
  /** Resolves when it has ended, however. */
  ended: Promise<unknown>;
}

/** A disconnect gives the agent this long to take things back before it is killed. */
const ABORT_GRACE_MS = 30_000;
const STDERR_BYTES = 8_000;

/** The request in work: what its events mean. */
interface Running {
  onEvent(event: AgentEvent): void;
  onEnd(how: string): void;
}

export function talkTo(node: NodeOptions, channel: AgentChannel): Agent {
  let running: Running | null = null;
  /** Its input has been ended, or it has ended by itself. */
  let over = false;
  let failed = false;
  let held = 0;
  let stderr = '';
  const lines = createInterface({ input: channel.stdout });
  lines.on('line', (line) => {
    const event = parseEvent(line);
    if (event !== null) running?.onEvent(event);
  });
  channel.stdin.on('error', () => undefined);
  channel.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < STDERR_BYTES) stderr += chunk.toString('utf8');
  });
  void channel.ended.then((how) => {
    over = true;
    running?.onEnd(how);
  });

  /** Reads on when `until` is over. */
  function hold(until: Promise<void>): void {
    if (held++ === 0) lines.pause();
    void until.finally(() => {
      if (--held === 0) lines.resume();
    });
  }

  function lost(how: string): KraftwerkError {
    return new KraftwerkError('node.lost', `node ${node.name}: the agent ended ${how} without an answer`, {
      lines: stderr.split('\n').slice(-8),
      reason: `node ${node.name} was lost`,
    });
  }

  function end(): void {
    over = true;
    channel.stdin.end();
  }

  return {
    isGood: () => !over && !failed && running === null,
    ask(order, options) {
      if (over) return Promise.reject(lost('before it was asked'));
      return new Promise((resolve, reject) => {
        let graceTimer: NodeJS.Timeout | undefined;
        const onAbort = (): void => {
          // The end of its input tells the agent to give up; it may need a moment to take things back.
          end();
          graceTimer = setTimeout(channel.kill, ABORT_GRACE_MS);
        };
        const timer = setTimeout(channel.kill, options.timeoutMs);
        const settle = (): void => {
          running = null;
          clearTimeout(timer);
          clearTimeout(graceTimer);
          options.signal?.removeEventListener('abort', onAbort);
        };
        const fail = (error: KraftwerkError): void => {
          failed = true;
          settle();
          reject(error);
        };
        running = {
          onEvent(event) {
            if (event.event === 'result') {
              if (!event.ok) return fail(fromWireError(event.error));
              settle();
              resolve(event.value);
            } else if (event.event === 'send') {
              sendArtifact(channel, options);
            } else {
              const until = options.onEvent?.(event);
              if (until !== undefined) hold(until);
            }
          },
          onEnd: (how) => fail(lost(how)),
        };
        channel.stdin.write(encodeRequest({ ...order, node: node.profile, files: node.files } as AgentRequest));
        if (options.signal?.aborted) onAbort();
        else options.signal?.addEventListener('abort', onAbort, { once: true });
        if (options.frames !== undefined) {
          // What of them it has not read would be taken for the next request: it is not kept.
          failed = true;
          void sendFrames(channel, options.frames, () => running !== null && !over);
        }
      });
    },
    end,
    ended: channel.ended,
  };
}

function parseEvent(line: string): AgentEvent | null {
  try {
    return JSON.parse(line) as AgentEvent;
  } catch {
    return null;
  }
}

function sendArtifact(channel: AgentChannel, options: RequestOptions): void {
  const source = options.artifact?.();
  source?.on('error', () => channel.stdin.end());
  // Its end is not the end of the input: that would mean that we are gone.
  source?.pipe(channel.stdin, { end: false });
}

/** Until the request has its result: what comes later is dropped. */
async function sendFrames(channel: AgentChannel, frames: AsyncIterable<Frame>, wanted: () => boolean): Promise<void> {
  try {
    for await (const frame of frames) {
      if (!wanted()) return;
      if (!channel.stdin.write(encodeFrame(frame)) && wanted())
        await Promise.race([once(channel.stdin, 'drain').catch(() => undefined), channel.ended]);
    }
  } catch {
    // Input that is cut off must not look like one that has ended.
    if (wanted()) channel.stdin.end();
  }
}
