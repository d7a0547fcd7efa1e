/** The way to a node: something that starts an agent there and gives its pipes. */
import type { Readable, Writable } from 'node:stream';

/** One running agent. */
export interface AgentChannel {
  stdin: Writable;
  stdout: Readable;
  /** For people: what a broken agent says. Small; never the place for bulk data. */
  stderr: Readable;
  /** How it ended, once its output has been read: `with exit code 1`, `by SIGKILL`, `because the connection was lost`. */
  ended: Promise<string>;
  /** Ends the agent and everything that it has started. */
  kill(): void;
}

export interface AgentConnector {
  /** How many agents may wait, and for how long, for the next request after their last. Missing: none does. */
  rest?: { agents: number; ms: number };
  /** Starts an agent. @throws KraftwerkError `node.lost`, `node.unreachable` */
  open(): Promise<AgentChannel>;
  close(): Promise<void>;
}
