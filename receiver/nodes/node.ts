/** A node as the receiver sees it: something that speaks the agent's protocol. */
import type { Readable } from 'node:stream';
import type { AgentEvent, HelloResult, InstanceName, NodeFiles, NodeProfile } from '../../node-agent/protocol.ts';
import type { Frame } from '../../node-agent/protocol-data.ts';
import type { AgentRequest } from '../../node-agent/requests.ts';
import { createAgents } from './agents.ts';
import type { AgentConnector } from './connector.ts';
import { createSession } from './session.ts';

type WithoutBase<R> = R extends AgentRequest ? Omit<R, 'node' | 'files'> : never;
/** A request without what every request to the same node has. */
export type NodeOrder = WithoutBase<AgentRequest>;

export interface RequestOptions {
  /** A promise holds back what comes next: the agent waits as soon as the pipe is full. */
  onEvent?: (event: AgentEvent) => void | Promise<void>;
  /** Opened when the agent asks for it. */
  artifact?: () => Readable;
  /** What the request takes as input, sent as it comes; what comes after the result is dropped. */
  frames?: AsyncIterable<Frame>;
  /** Ends the session: the agent takes back what it has begun, if that is still possible. */
  signal?: AbortSignal;
  timeoutMs: number;
}

/** Several requests, one after the other, to one agent. */
export interface NodeSession {
  /** The node has taken the connection. Rejects with what keeps it from that: `node.unreachable`, `node.lost`. */
  opened: Promise<void>;
  /** @throws KraftwerkError what the agent answered, or `node.lost` */
  request(order: NodeOrder, options: RequestOptions): Promise<unknown>;
  /** The agent lets the lock go that it holds, and ends or is kept for others. */
  close(): void;
}

export interface Node extends NodeOptions {
  /** Known after the first request; null before. */
  facts(): HelloResult | null;
  /** Brings the node up and learns what it is. */
  hello(): Promise<HelloResult>;
  /** An agent that starts now, or has waited, and takes the site's lock, so that the requests of a deploy find it ready. */
  session(instance: InstanceName): NodeSession;
  /** One request to an agent that does nothing else meanwhile. @throws KraftwerkError what the agent answered, or `node.lost` */
  request(order: NodeOrder, options: RequestOptions): Promise<unknown>;
  close(): Promise<void>;
}

export interface NodeOptions {
  name: string;
  profile: NodeProfile;
  files: NodeFiles;
}

const HELLO_LIMIT_MS = 60_000;
/** As long as the agent waits for the site's lock. */
const READY_LIMIT_MS = 3_700_000;

export function createNode(options: NodeOptions, connector: AgentConnector): Node {
  const agents = createAgents(options, connector);
  let facts: HelloResult | null = null;

  const node: Node = {
    ...options,
    facts: () => facts,
    async hello() {
      facts = (await node.request({ op: 'hello' }, { timeoutMs: HELLO_LIMIT_MS })) as HelloResult;
      return facts;
    },
    session(instance) {
      const session = createSession(options, agents);
      // What is wrong with the node is told to whoever wants something of it.
      session.request({ op: 'ready', instance }, { timeoutMs: READY_LIMIT_MS }).catch(() => undefined);
      return session;
    },
    async request(order, requestOptions) {
      const session = createSession(options, agents);
      try {
        return await session.request(order, requestOptions);
      } finally {
        session.close();
      }
    },
    close() {
      agents.close();
      return connector.close();
    },
  };
  return node;
}
