/** A node as the receiver sees it: something that speaks the agent's protocol, one request at a time. */
import type { Readable } from 'node:stream';
import type { AgentEvent, AgentRequest, HelloResult, NodeFiles, NodeProfile } from '../../node-agent/protocol.ts';

type WithoutBase<R> = R extends AgentRequest ? Omit<R, 'node' | 'files'> : never;
/** A request without what every request to the same node has. */
export type NodeOrder = WithoutBase<AgentRequest>;

export interface RequestOptions {
  /** A promise holds back what comes next: the agent waits as soon as the pipe is full. */
  onEvent?: (event: AgentEvent) => void | Promise<void>;
  /** Opened when the agent asks for it. */
  artifact?: () => Readable;
  /** Ends the request: the agent takes back what it has begun, if that is still possible. */
  signal?: AbortSignal;
  timeoutMs: number;
}

export interface Node {
  name: string;
  profile: NodeProfile;
  files: NodeFiles;
  /** Known after the first request; null before. */
  facts(): HelloResult | null;
  /** Brings the node up and learns what it is. */
  hello(): Promise<HelloResult>;
  /** Makes the next `count` requests faster: their agents are started now, where none wait. */
  warm(count: number): void;
  /** Ends an agent that waits in vain. */
  cool(): void;
  /** @throws KraftwerkError what the agent answered, or `node.lost` */
  request(order: NodeOrder, options: RequestOptions): Promise<unknown>;
}
