/** A node's agents: started when they are needed; where starting one takes long, one that has done its work waits a while for more. */
import type { RestResult } from '../../node-agent/protocol.ts';
import { type Agent, talkTo } from './agent.ts';
import type { AgentConnector } from './connector.ts';
import type { NodeOptions } from './node.ts';

export interface Agents {
  /** One that is alive and holds nothing. @throws what `connector.open` throws */
  take(): Promise<Agent>;
  /** It ends, or waits for whoever comes next. */
  giveBack(agent: Agent): void;
  /** Lets those that wait end. */
  close(): void;
}

interface Resting {
  agent: Agent;
  timer: NodeJS.Timeout;
  /** Whether it has come to rest. */
  coming: Promise<boolean>;
}

/** A line to it that is dead must not cost more than a new start; whoever is slow for another reason is replaced, too. */
const ANSWER_MS = 1_000;

export function createAgents(node: NodeOptions, connector: AgentConnector): Agents {
  const { ms: restMs } = connector.rest ?? { ms: 0 };
  let most = connector.rest?.agents ?? 0;
  /** The last one used comes last. */
  const resting: Resting[] = [];

  /** Whether it is alive, still of the version that is on the node, and from now on holds nothing. */
  async function isFree(agent: Agent): Promise<boolean> {
    const answer = await agent.ask({ op: 'rest' }, { timeoutMs: ANSWER_MS }).catch(() => null);
    return (answer as RestResult | null)?.current === true;
  }

  function endAll(): void {
    for (const { agent, timer } of resting.splice(0)) {
      clearTimeout(timer);
      agent.end();
    }
  }

  /** It waits no longer: whoever has taken it before is not disturbed. */
  function end(one: Resting): void {
    const at = resting.indexOf(one);
    if (at === -1) return;
    resting.splice(at, 1);
    clearTimeout(one.timer);
    one.agent.end();
  }

  function rest(agent: Agent): void {
    if (resting.length >= most || !agent.isGood()) {
      agent.end();
      return;
    }
    const one: Resting = { agent, timer: setTimeout(() => end(one), restMs).unref(), coming: isFree(agent) };
    resting.push(one);
    void one.coming.then((free) => free || end(one));
    void agent.ended.then(() => end(one));
  }

  return {
    async take() {
      for (let last = resting.pop(); last !== undefined; last = resting.pop()) {
        clearTimeout(last.timer);
        // What it has answered before says nothing about now.
        if ((await last.coming) && (await isFree(last.agent))) return last.agent;
        last.agent.end();
        // What has taken this one, a cable or a new version, has taken the others.
        endAll();
      }
      return talkTo(node, await connector.open());
    },
    giveBack: rest,
    close() {
      most = 0;
      endAll();
    },
  };
}
