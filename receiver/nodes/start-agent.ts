/** Starts the agent of this receiver on a node, bringing its file up to date first. The other side: templates/node/agent-login. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { AgentChannel } from './connector.ts';

export interface StartAgentOptions {
  /** The node's name, for messages. */
  name: string;
  /** Who is asked to start it, for messages: `root@web1.example.com`. */
  through: string;
  /** The command that mends an agent-login which is missing or broken. */
  remedy: string;
  agentFile: string;
  /** Of kraftwerk. */
  version: string;
  /** Starts agent-login with a command of its. */
  run(command: string): Promise<AgentChannel>;
  /** How long agent-login may take for an answer; an upload has ten times that. */
  answerMs?: number;
  log(event: string, fields: Record<string, unknown>): void;
}

/** What agent-login answers; see there. */
type Answer =
  | { event: 'starting' }
  | { event: 'outdated'; have: string; version: string }
  | { event: 'installed' }
  | { event: 'refused'; version: string }
  | { event: 'no-node'; version: string };

const EVENTS: readonly string[] = ['starting', 'outdated', 'installed', 'refused', 'no-node'];
const ANSWER_MS = 30_000;
const LAST_WORDS_MS = 1_000;
/** Greetings of a login shell, before the answer. */
const GREETING_BYTES = 64 * 1024;

/** @throws (when called) KraftwerkError `node.agent`, `node.newer`, `node.nodejs`, and what `run` throws */
export function createAgentStarter(options: StartAgentOptions): () => Promise<AgentChannel> {
  const { name, version, run, log, answerMs = ANSWER_MS } = options;
  // The one that this receiver was started with: an upgrade puts another in its place while this one still runs.
  let file: { bytes: Buffer; sha256: string } | null = null;
  let installing: Promise<void> | null = null;

  function readAgent(): { bytes: Buffer; sha256: string } {
    if (file !== null) return file;
    try {
      const bytes = readFileSync(options.agentFile);
      file = { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
      return file;
    } catch (cause) {
      throw new KraftwerkError('agent.missing', `${options.agentFile}: ${(cause as Error).message}`, {
        hint: 'npm run build',
        cause,
      });
    }
  }

  async function install(from: string): Promise<void> {
    const { bytes, sha256 } = readAgent();
    const startedMs = performance.now();
    const channel = await run(`install ${version} ${sha256} ${bytes.length}`);
    channel.stdin.end(bytes);
    const answer = await ask(channel, answerMs * 10);
    if (answer.event !== 'installed') throw unexpected(answer);
    log('node.agent_installed', {
      node: name,
      version,
      from,
      bytes: bytes.length,
      durationMs: Math.round(performance.now() - startedMs),
    });
  }

  /** The answer to a command; whatever is not one ends the channel. */
  async function ask(channel: AgentChannel, limitMs: number): Promise<Answer> {
    const answer = await readAnswer(channel.stdout, limitMs);
    if (answer !== null && answer.event !== 'no-node') return answer;
    const late = answer === null && !channel.stdout.readableEnded;
    channel.stdout.resume();
    // What has ended by itself has last words.
    const timer = setTimeout(channel.kill, late ? 0 : LAST_WORDS_MS);
    const how = await channel.ended;
    clearTimeout(timer);
    if (answer !== null) throw noNode(answer.version);
    const lines = String(channel.stderr.read() ?? '').split('\n');
    throw new KraftwerkError(
      'node.agent',
      `node ${name}: ${options.through} does not start the agent: ${late ? `no answer within ${limitMs / 1000} s` : `ended ${how}`}`,
      {
        lines: lines.filter((line) => line.trim() !== '').slice(-8),
        hint: options.remedy,
        reason: `the agent of node ${name} does not start`,
      },
    );
  }

  function unexpected(answer: Answer): KraftwerkError {
    if (answer.event === 'refused') {
      return new KraftwerkError(
        'node.newer',
        `node ${name}: its agent is of kraftwerk ${answer.version}, this receiver is ${version}`,
        {
          hint: [
            `bring the receiver up to date: npm install -g kraftwerk-paas@${answer.version}`,
            'a node belongs to one receiver: is there a second one that uses it?',
          ],
          reason: `node ${name} belongs to a newer receiver`,
        },
      );
    }
    return new KraftwerkError('node.agent', `node ${name}: the agent was installed, and is another one already`, {
      hint: 'a node belongs to one receiver: is there a second one that uses it?',
      reason: `the agent of node ${name} does not stay`,
    });
  }

  function noNode(found: string): KraftwerkError {
    const got = found === 'none' ? 'none' : found.replace(/^v/, '');
    return new KraftwerkError('node.nodejs', `node ${name}: the agent needs Node.js 18 or newer there, found ${got}`, {
      hint: options.remedy,
      reason: `node ${name} has no Node.js`,
    });
  }

  return async () => {
    const { sha256 } = readAgent();
    for (let turn = 0; ; turn++) {
      const channel = await run(`agent ${sha256}`);
      const answer = await ask(channel, answerMs);
      if (answer.event === 'starting') return channel;
      channel.stdin.end();
      channel.stdout.resume();
      if (answer.event !== 'outdated' || turn === 2) throw unexpected(answer);
      installing ??= install(answer.version).finally(() => {
        installing = null;
      });
      await installing;
    }
  };
}

/** The first line that is an answer; null where the output ends, or the time, before there is one. What follows it stays unread. */
function readAnswer(stdout: Readable, limitMs: number): Promise<Answer | null> {
  return new Promise((resolve) => {
    let unread = Buffer.alloc(0);
    const settle = (answer: Answer | null): void => {
      clearTimeout(timer);
      stdout.off('readable', onReadable);
      stdout.off('end', onEnd);
      stdout.off('close', onEnd);
      resolve(answer);
    };
    const onEnd = (): void => settle(null);
    const onReadable = (): void => {
      for (let chunk: Buffer | null = stdout.read(); chunk !== null; chunk = stdout.read()) {
        unread = Buffer.concat([unread, chunk]);
        for (let end = unread.indexOf('\n'); end !== -1; end = unread.indexOf('\n')) {
          const answer = parseAnswer(unread.toString('utf8', 0, end));
          unread = unread.subarray(end + 1);
          if (answer === null) continue;
          if (unread.length > 0) stdout.unshift(unread);
          settle(answer);
          return;
        }
        if (unread.length > GREETING_BYTES) unread = Buffer.alloc(0);
      }
    };
    const timer = setTimeout(onEnd, limitMs);
    stdout.on('readable', onReadable);
    stdout.on('end', onEnd);
    stdout.on('close', onEnd);
  });
}

function parseAnswer(line: string): Answer | null {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null || !('event' in value)) return null;
    const { event, version = 'none' } = value as { event: unknown; version?: unknown };
    if (typeof event !== 'string' || !EVENTS.includes(event) || typeof version !== 'string') return null;
    // It comes from another machine, and goes into messages.
    return { ...value, event, version: /^v?[0-9A-Za-z.-]{1,40}$/.test(version) ? version : 'none' } as Answer;
  } catch {
    return null;
  }
}
