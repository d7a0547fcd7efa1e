/** `logs TARGET`: what the processes have written, on all nodes, or what a deploy has said. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { EXIT_CODES, KraftwerkError, type LogLine } from '../../node-agent/protocol.ts';
import type { Node } from '../nodes/node.ts';
import { escapeForTerminal } from '../print-table.ts';
import { type Target, targetName } from '../target.ts';
import { type Command, type CommandContext, flagOption, printJson, textOption, usageError } from './command.ts';
import { formatJsonLine, formatLine } from './log-lines.ts';
import { parseReleaseNumber } from './release-number.ts';

const DEFAULT_LINES = 100;
const MAX_LINES = 10_000;
const READ_LIMIT_MS = 60_000;
/** As long as a timer can: somebody follows until they go. */
const FOLLOW_LIMIT_MS = 2 ** 31 - 1;
const CHUNK_CHARACTERS = 64 * 1024;
const PROCESSES: readonly string[] = ['web'];

export const logs: Command = {
  name: 'logs',
  aliases: ['log'],
  summary: "the processes' logs, or a deploy's own",
  usage: 'TARGET [-f] [-n LINES] [-p PROCESS] [--release vN] [--deploy vN] [--json]',
  examples: [
    'logs blog/live',
    'logs blog/live -f',
    'logs blog/live -n 500 --release v41',
    'logs blog/live --deploy v42',
  ],
  verb: 'logs',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {
    follow: { type: 'boolean', short: 'f' },
    lines: { type: 'string', short: 'n' },
    process: { type: 'string', short: 'p' },
    release: { type: 'string' },
    deploy: { type: 'string' },
    // As Heroku and Dokku call them.
    tail: { type: 'boolean', short: 't' },
    num: { type: 'string' },
  },
  async run(context) {
    const { target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const query = readQuery(context);
    if (query.deploy !== null) return printDeploy(context, target, query.deploy);
    if (query.release !== null) requireKnown(context, target, query.release);
    return query.follow ? follow(context, target, query) : print(context, target, query);
  },
};

interface LogQuery {
  follow: boolean;
  lines: number;
  process: string | null;
  release: number | null;
  deploy: number | null;
}

/** @throws KraftwerkError `command.usage`, `process.unknown` */
function readQuery(context: CommandContext): LogQuery {
  const release = textOption(context, 'release');
  const deploy = textOption(context, 'deploy');
  const process = textOption(context, 'process') ?? null;
  const text = textOption(context, 'lines') ?? textOption(context, 'num') ?? String(DEFAULT_LINES);
  const follow = flagOption(context, 'follow') || flagOption(context, 'tail');
  if (!/^[0-9]{1,5}$/.test(text) || Number(text) > MAX_LINES)
    throw usageError(logs, `-n: expected a number from 0 to ${MAX_LINES}, got ${JSON.stringify(text.slice(0, 60))}`);
  if (deploy !== undefined && (follow || release !== undefined || process !== null))
    throw usageError(logs, '--deploy shows what one deploy has said: it goes with no other option but --json');
  if (process !== null && !PROCESSES.includes(process)) {
    const shown = escapeForTerminal(process.slice(0, 60));
    throw new KraftwerkError('process.unknown', `logs: there is no process ${shown}`, {
      hint: `processes: ${PROCESSES.join(', ')}`,
      exit: 'denied',
    });
  }
  return {
    follow,
    lines: Number(text),
    process,
    release: release === undefined ? null : parseReleaseNumber(logs, release),
    deploy: deploy === undefined ? null : parseReleaseNumber(logs, deploy),
  };
}

/** Releases that have failed have logs, too. */
function requireKnown({ receiver }: CommandContext, target: Target, number: number): void {
  const { journal } = receiver;
  if (journal.release(target, number) === null && journal.deployOf(target, number) === null)
    throw unknownRelease(target, number);
}

function unknownRelease(target: Target, number: number): KraftwerkError {
  const name = targetName(target);
  return new KraftwerkError('release.unknown', `${name}: there was no deploy of v${number}, or it is forgotten`, {
    hint: `ssh kraftwerk@HOST releases ${name}`,
    exit: 'denied',
  });
}

async function printDeploy({ json, receiver, signal, stderr, stdout }: CommandContext, target: Target, number: number) {
  const deploy = receiver.journal.deployOf(target, number);
  if (deploy === null) throw unknownRelease(target, number);
  const { by, commit, endedAt, error, id, kind, phase, release, startedAt, transcript } = deploy;
  const lines = transcript === '' ? [] : transcript.split('\n');
  if (json) {
    const steps = receiver.journal.steps(id);
    printJson(stdout, { release, how: kind, commit, by, startedAt, endedAt, result: phase, error, steps, lines });
  } else if (lines.length > 0) await write(stdout, `${transcript}\n`, signal);
  else stderr.write(`nothing was kept of this deploy: ${escapeForTerminal(error ?? 'it goes on')}\n`);
  return EXIT_CODES.ok;
}

/** All nodes' newest lines as one stream, by their times. */
async function print(context: CommandContext, target: Target, query: LogQuery): Promise<number> {
  const { receiver, signal, stderr, stdout } = context;
  const nodes = receiver.deployer.nodesOf(target);
  const all: { node: string; line: LogLine }[] = [];
  const asked = await Promise.allSettled(
    nodes.map((node) => request(context, target, node, query, (line) => void all.push({ node: node.name, line }))),
  );
  all.sort((a, b) => (a.line.at < b.line.at ? -1 : a.line.at > b.line.at ? 1 : 0));
  const format = formatter(context, nodes.length);
  let chunk = '';
  for (const { line, node } of query.lines === 0 ? [] : all.slice(-query.lines)) {
    chunk += format(node, line);
    if (chunk.length < CHUNK_CHARACTERS) continue;
    await write(stdout, chunk, signal);
    chunk = '';
  }
  await write(stdout, chunk, signal);
  const failed = asked.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  if (all.length === 0) stderr.write(`${targetName(target)}: no lines\n`);
  return EXIT_CODES.ok;
}

/**
 * Ends when the client goes. A client that reads slowly holds the agent back, not the receiver's memory. A node that is lost
 * is told, and the others are followed on.
 */
async function follow(context: CommandContext, target: Target, query: LogQuery): Promise<number> {
  const { receiver, signal, stderr, stdout } = context;
  const nodes = receiver.deployer.nodesOf(target);
  const format = formatter(context, nodes.length);
  let waiting = '';
  let flushing: Promise<void> | null = null;
  // Lines of one moment go out as one packet.
  const flush = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    const chunk = waiting;
    waiting = '';
    flushing = null;
    await write(stdout, chunk, signal);
  };
  const ended = await Promise.allSettled(
    nodes.map((node) =>
      request(context, target, node, query, (line) => {
        waiting += format(node.name, line);
        flushing ??= flush();
        return flushing;
      }).catch((error: unknown) => {
        if (nodes.length > 1 && error instanceof KraftwerkError && !signal.aborted)
          stderr.write(`warning: ${escapeForTerminal(error.message)}\n`);
        throw error;
      }),
    ),
  );
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return EXIT_CODES.ok;
}

function request(
  { receiver, signal }: CommandContext,
  target: Target,
  node: Node,
  { follow, lines, process, release }: LogQuery,
  onLine: (line: LogLine) => void | Promise<void>,
): Promise<unknown> {
  const instance = receiver.instances.of(target, node.name);
  return node.request(
    { op: 'logs', instance, lines, follow, process, release },
    {
      timeoutMs: follow ? FOLLOW_LIMIT_MS : READ_LIMIT_MS,
      signal,
      onEvent: (event) => (event.event === 'log' ? onLine(event) : undefined),
    },
  );
}

function formatter({ json }: CommandContext, nodeCount: number): (node: string, line: LogLine) => string {
  if (json) return formatJsonLine;
  return (node, line) => formatLine(nodeCount > 1 ? node : null, line);
}

async function write(stdout: Writable, text: string, signal: AbortSignal): Promise<void> {
  if (text === '' || stdout.write(text) || signal.aborted) return;
  await once(stdout, 'drain', { signal }).catch(() => undefined);
}
