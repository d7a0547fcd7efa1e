/** The way to a node over SSH: one connection that stays open, a program on it for each agent. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { AgentChannel, AgentConnector } from './connector.ts';
import { explain } from './host-key-pin.ts';
import { NoChannel, openConnection, type SshConnection } from './ssh-connection.ts';
import { createAgentStarter } from './start-agent.ts';

export interface SshConnectorOptions {
  /** The node's name, for messages. */
  name: string;
  host: string;
  port: number;
  user: string;
  /** `SHA256:…` */
  hostKey: string;
  /** OpenSSH's own format; see agent-key.ts. */
  privateKey: string;
  agentFile: string;
  /** Of kraftwerk. */
  version: string;
  log(event: string, fields: Record<string, unknown>): void;
  limits?: Partial<SshLimits>;
}

export interface SshLimits {
  /** How long `open` may wait for a connection. */
  connectMs: number;
  /** Nothing heard for so long: a connection is lost. */
  silenceMs: number;
  /** The same, while a new channel is waited for. */
  answerMs: number;
  /** How long agent-login may take. */
  loginMs: number;
  /** How long an agent waits for the next request, and how many do at once. */
  restMs: number;
  resting: number;
  /** Agents at once on one connection. */
  channels: number;
  /** Connections at once; all but one end when they are idle. */
  connections: number;
  /** How long a place on a connection is waited for before there is one more, or none. */
  roomMs: number;
  fullMs: number;
}

export const DEFAULT_SSH_LIMITS: SshLimits = {
  connectMs: 10_000,
  silenceMs: 35_000,
  answerMs: 3_000,
  loginMs: 30_000,
  restMs: 60_000,
  resting: 2,
  channels: 8,
  connections: 4,
  roomMs: 1_000,
  fullMs: 60_000,
};

/** sshd is being restarted, or its machine. */
const PASSING: readonly unknown[] = ['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'];
const PAUSES_MS = [150, 350, 1_000];
/** At least so long, where the kept connection has turned out to be dead. */
const RECONNECT_MS = 3_000;
/** A node that has kept one waiting keeps the next no longer: its request would end the same way. */
const REMEMBER_MS = 3_000;

export function createSshConnector(options: SshConnectorOptions): AgentConnector {
  const { name, host, port, user, log } = options;
  const limits = { ...DEFAULT_SSH_LIMITS, ...options.limits };
  const connections = new Set<SshConnection>();
  /** Those who wait for a place. */
  const waiting = new Set<() => void>();
  let connecting: Promise<void> | null = null;
  let timedOut: { error: KraftwerkError; atMs: number } | null = null;
  let closed = false;

  const opens = (): SshConnection[] => [...connections].filter((connection) => connection.isOpen());

  function unreachable(error: Error): KraftwerkError {
    if (error instanceof KraftwerkError) return error;
    if ((error as { level?: unknown }).level === 'client-authentication') {
      return new KraftwerkError('node.login', `node ${name}: ${user}@${host}:${port} does not admit the receiver`, {
        hint: `kraftwerk setup-node ${name}   lets it in again`,
        reason: `node ${name} does not admit the receiver`,
        cause: error,
      });
    }
    return new KraftwerkError('node.unreachable', `node ${name}: no connection to ${host}:${port}: ${explain(error)}`, {
      hint: [
        `look whether it is up: ssh -p ${port} ${user}@${host} true`,
        `to go on without it, take ${name} out of the environment in the receiver's configuration`,
      ],
      reason: `node ${name} is unreachable`,
      cause: error,
    });
  }

  async function connect(deadlineMs: number): Promise<void> {
    const startedMs = performance.now();
    for (let turn = 0; ; turn++) {
      try {
        const connection = await openConnection(
          {
            name,
            host,
            port,
            pin: options.hostKey,
            login: { username: user, privateKey: options.privateKey },
            timeoutMs: Math.max(1, deadlineMs - performance.now()),
          },
          limits,
          {
            released() {
              if (connection.isIdle() && opens().some((other) => other !== connection)) void connection.close();
              tellWaiting();
            },
            ended(why) {
              connections.delete(connection);
              if (why !== 'closed') log('node.disconnected', { node: name, why });
              tellWaiting();
            },
          },
        );
        connections.add(connection);
        log('node.connected', { node: name, host, port, durationMs: Math.round(performance.now() - startedMs) });
        if (closed) await connection.close();
        return;
      } catch (error) {
        const pauseMs = PAUSES_MS[turn];
        const { code } = error as NodeJS.ErrnoException;
        const passing = PASSING.includes(code);
        if (closed || !passing || pauseMs === undefined || performance.now() + pauseMs > deadlineMs) {
          const told = unreachable(error as Error);
          if (code === 'ETIMEDOUT') timedOut = { error: told, atMs: performance.now() };
          throw told;
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  }

  function tellWaiting(): void {
    for (const wake of waiting) wake();
  }

  function someRoom(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, limitMs);
      waiting.add(wake);
    });
  }

  /** Takes a place on a connection, waiting or connecting for it. @throws NoChannel, and KraftwerkError where there is none to be had */
  async function start(command: string, deadlineMs: number): Promise<AgentChannel> {
    const startedMs = performance.now();
    for (;;) {
      if (closed) throw new KraftwerkError('node.lost', `node ${name}: the receiver is stopping`, { exit: 'busy' });
      // Between the look and the taking nobody else comes: all that wait are woken together.
      for (const connection of connections) if (connection.hasRoom()) return connection.run(command);
      const waitedMs = performance.now() - startedMs;
      const wantsOneMore = waitedMs >= limits.roomMs && connections.size < limits.connections;
      if (connecting !== null || opens().length === 0 || wantsOneMore) {
        if (timedOut !== null && performance.now() - timedOut.atMs < REMEMBER_MS) throw timedOut.error;
        connecting ??= connect(deadlineMs).finally(() => {
          connecting = null;
        });
        try {
          await connecting;
        } catch (error) {
          if (opens().length === 0) throw error;
          await someRoom(limits.roomMs);
        }
      } else if (waitedMs >= limits.fullMs) {
        const agents = limits.channels * connections.size;
        throw new KraftwerkError('node.busy', `node ${name}: ${agents} agents run there already`, {
          hint: 'end some `logs -f`, or try again later',
          exit: 'busy',
          reason: `node ${name} is busy`,
        });
      } else {
        await someRoom(waitedMs < limits.roomMs ? limits.roomMs - waitedMs : limits.fullMs - waitedMs);
      }
    }
  }

  /** On the kept connection, or, where that turns out to be dead or full, on a new one. */
  async function run(command: string): Promise<AgentChannel> {
    const deadlineMs = performance.now() + limits.connectMs;
    for (let turn = 0; ; turn++) {
      try {
        return await start(command, turn === 0 ? deadlineMs : Math.max(deadlineMs, performance.now() + RECONNECT_MS));
      } catch (error) {
        if (!(error instanceof NoChannel)) throw error;
        if (turn === 2) throw unreachable(error);
      }
    }
  }

  return {
    rest: { agents: limits.resting, ms: limits.restMs },
    open: createAgentStarter({
      name,
      through: `${user}@${host}:${port}`,
      remedy: `kraftwerk setup-node ${name}`,
      agentFile: options.agentFile,
      version: options.version,
      answerMs: limits.loginMs,
      run,
      log,
    }),
    async close() {
      closed = true;
      tellWaiting();
      await Promise.all([...connections].map((connection) => connection.close()));
    },
  };
}
