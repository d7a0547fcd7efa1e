/** A node on this machine: the agent is a child that is started for one request. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import {
  type AgentEvent,
  type AgentRequest,
  encodeRequest,
  fromWireError,
  type HelloResult,
  KraftwerkError,
  type NodeFiles,
  type NodeProfile,
} from '../../node-agent/protocol.ts';
import type { Node, NodeOrder, RequestOptions } from './node.ts';

export interface LocalNodeOptions {
  name: string;
  profile: NodeProfile;
  files: NodeFiles;
  agentFile: string;
  /** What the agent inherits: the machine's own package configuration and nothing else. */
  environment: Readonly<Record<string, string>>;
}

/** A disconnect gives the agent this long to take things back before its process group is killed. */
const ABORT_GRACE_MS = 30_000;
const STDERR_BYTES = 8_000;
/** An agent that was started early and not used is ended. */
const WARM_MS = 120_000;

export function createLocalNode(options: LocalNodeOptions): Node {
  let facts: HelloResult | null = null;
  const waiting = new Set<ChildProcessWithoutNullStreams>();
  let waitingTimer: NodeJS.Timeout | undefined;

  function start(): ChildProcessWithoutNullStreams {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', options.agentFile], {
      cwd: '/',
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
        ...options.environment,
      },
      // A session of its own: it is ended as a group, and what it has begun to switch it finishes though we are gone.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.on('error', () => undefined);
    child.stdin.on('error', () => undefined);
    return child;
  }

  function take(): ChildProcessWithoutNullStreams {
    const [child] = waiting;
    if (child === undefined) return start();
    waiting.delete(child);
    return child;
  }

  const node: Node = {
    name: options.name,
    profile: options.profile,
    files: options.files,
    facts: () => facts,
    async hello() {
      facts = (await node.request({ op: 'hello' }, { timeoutMs: 60_000 })) as HelloResult;
      return facts;
    },
    warm(count) {
      while (waiting.size < count) {
        const child = start();
        waiting.add(child);
        child.once('error', () => waiting.delete(child));
        child.once('exit', () => waiting.delete(child));
      }
      clearTimeout(waitingTimer);
      waitingTimer = setTimeout(() => node.cool(), WARM_MS);
      waitingTimer.unref();
    },
    cool() {
      clearTimeout(waitingTimer);
      for (const child of waiting) child.kill('SIGKILL');
      waiting.clear();
    },
    request: (order, requestOptions) => converse(take(), options, order, requestOptions),
  };
  return node;
}

function converse(
  child: ChildProcessWithoutNullStreams,
  node: LocalNodeOptions,
  order: NodeOrder,
  options: RequestOptions,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let settled = false;
    let result: AgentEvent | null = null;
    let stderr = '';
    const kill = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    };
    let graceTimer: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      // The end of its input tells the agent to give up; it may need a moment to take things back.
      child.stdin.end();
      graceTimer = setTimeout(kill, ABORT_GRACE_MS);
    };
    const timer = setTimeout(kill, options.timeoutMs);
    const finish = (error: unknown, value?: unknown): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      clearTimeout(graceTimer);
      options.signal?.removeEventListener('abort', onAbort);
      child.stdin.end();
      if (error === null) resolve(value);
      else reject(error instanceof Error ? error : new Error(String(error)));
    };
    child.once('error', (cause) =>
      finish(
        new KraftwerkError('node.lost', `node ${node.name}: the agent could not be started: ${cause.message}`, {
          cause,
        }),
      ),
    );
    child.stderr.on('data', (chunk: Buffer) => {
      if (stderr.length < STDERR_BYTES) stderr += chunk.toString('utf8');
    });
    const lines = createInterface({ input: child.stdout });
    let held = 0;
    const hold = (until: Promise<void>): void => {
      if (held++ === 0) lines.pause();
      void until.finally(() => {
        if (--held === 0) lines.resume();
      });
    };
    lines.on('line', (line) => {
      let event: AgentEvent;
      try {
        event = JSON.parse(line) as AgentEvent;
      } catch {
        return;
      }
      if (event.event === 'result') {
        result = event;
        if (event.ok) finish(null, event.value);
        else finish(fromWireError(event.error));
      } else if (event.event === 'send') {
        const source = options.artifact?.();
        source?.on('error', () => child.stdin.end());
        // Its end is not the end of the input: that would mean that we are gone.
        source?.pipe(child.stdin, { end: false });
      } else {
        const until = options.onEvent?.(event);
        if (until !== undefined) hold(until);
      }
    });
    child.once('close', (code, signal) => {
      if (result !== null) return finish(null);
      const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
      finish(
        new KraftwerkError('node.lost', `node ${node.name}: the agent ended ${how} without an answer`, {
          lines: stderr.split('\n').slice(-8),
          reason: `node ${node.name} was lost`,
        }),
      );
    });
    child.stdin.write(encodeRequest({ ...order, node: node.profile, files: node.files } as AgentRequest));
    if (options.signal?.aborted) onAbort();
    else options.signal?.addEventListener('abort', onAbort, { once: true });
  });
}
