/** A conversation with one agent: a request, its events, its result; then the next. */
import { createInterface } from 'node:readline';
import {
  type AgentEvent,
  type AgentRequest,
  encodeRequest,
  fromWireError,
  KraftwerkError,
} from '../../node-agent/protocol.ts';
import type { AgentChannel, AgentConnector } from './connector.ts';
import type { NodeOptions, NodeOrder, NodeSession, RequestOptions } from './node.ts';

/** A disconnect gives the agent this long to take things back before it is killed. */
const ABORT_GRACE_MS = 30_000;
const STDERR_BYTES = 8_000;

/** The request in work: what its events mean. */
interface Running {
  onEvent(event: AgentEvent): void;
  onEnd(how: string): void;
}

export function createSession(node: NodeOptions, connector: AgentConnector): NodeSession {
  let running: Running | null = null;
  let closed = false;
  let held = 0;
  let stderr = '';
  const opening = connector.open().then((channel) => {
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
      closed = true;
      running?.onEnd(how);
    });
    if (closed) channel.stdin.end();
    /** Reads on when `until` is over. */
    const hold = (until: Promise<void>): void => {
      if (held++ === 0) lines.pause();
      void until.finally(() => {
        if (--held === 0) lines.resume();
      });
    };
    return { channel, hold };
  });
  opening.catch(() => undefined);
  /** The request before, whatever became of it. */
  let before: Promise<unknown> = Promise.resolve();

  function lost(how: string): KraftwerkError {
    return new KraftwerkError('node.lost', `node ${node.name}: the agent ended ${how} without an answer`, {
      lines: stderr.split('\n').slice(-8),
      reason: `node ${node.name} was lost`,
    });
  }

  async function converse(order: NodeOrder, options: RequestOptions): Promise<unknown> {
    const { channel, hold } = await opening;
    if (closed) throw lost('before it was asked');
    return new Promise((resolve, reject) => {
      let graceTimer: NodeJS.Timeout | undefined;
      const onAbort = (): void => {
        // The end of its input tells the agent to give up; it may need a moment to take things back.
        closed = true;
        channel.stdin.end();
        graceTimer = setTimeout(channel.kill, ABORT_GRACE_MS);
      };
      const timer = setTimeout(channel.kill, options.timeoutMs);
      const settle = (): void => {
        running = null;
        clearTimeout(timer);
        clearTimeout(graceTimer);
        options.signal?.removeEventListener('abort', onAbort);
      };
      running = {
        onEvent(event) {
          if (event.event === 'result') {
            settle();
            if (event.ok) resolve(event.value);
            else reject(fromWireError(event.error));
          } else if (event.event === 'send') {
            sendArtifact(channel, options);
          } else {
            const until = options.onEvent?.(event);
            if (until !== undefined) hold(until);
          }
        },
        onEnd(how) {
          settle();
          reject(lost(how));
        },
      };
      channel.stdin.write(encodeRequest({ ...order, node: node.profile, files: node.files } as AgentRequest));
      if (options.signal?.aborted) onAbort();
      else options.signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  const opened = opening.then(() => undefined);
  opened.catch(() => undefined);
  return {
    opened,
    request(order, options) {
      const result = before.then(() => converse(order, options));
      before = result.catch(() => undefined);
      return result;
    },
    close() {
      closed = true;
      void opening.then(
        ({ channel }) => channel.stdin.end(),
        () => undefined,
      );
    },
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
