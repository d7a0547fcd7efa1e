/** Runs one SSH command: find it, read its words, decide access, run, and turn what goes wrong into lines and a code. */
import { randomBytes } from 'node:crypto';
import type { Writable } from 'node:stream';
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { requireAccess, seesTarget } from '../access.ts';
import { escapeForTerminal } from '../print-table.ts';
import type { ExecSession } from '../ssh-server.ts';
import { nameOwner } from '../taken.ts';
import type { Command, ReceiverApi } from './command.ts';
import { usageError } from './command.ts';
import { findCommand } from './find-command.ts';
import { findTarget } from './find-target.ts';
import { help } from './help.ts';
import { parseCommandArgs } from './parse-args.ts';
import { COMMANDS } from './table.ts';

export type EventSink = (event: string, fields: Record<string, unknown>) => void;
export type CommandSession = Omit<ExecSession, 'line' | 'gitProtocol'>;

/** A client that typed Ctrl-C expects what a shell would answer. */
const INTERRUPTED = 130;

/**
 * @param words the command's name and its words
 * @returns the exit code
 */
export async function runCommand(
  session: CommandSession,
  words: readonly [name: string, ...args: string[]],
  receiver: ReceiverApi,
  onEvent: EventSink,
): Promise<number> {
  const { identity, stderr } = session;
  const [name, ...args] = words;
  try {
    const command = findCommand(COMMANDS, name);
    const { options, positionals } = parseCommandArgs(command, args);
    const base = { ...session, words: args, options, json: options.json === true, receiver, commands: COMMANDS };
    if (options.help === true) return await help.run({ ...base, target: null, args: [command.name] });
    const { withoutTarget } = command;
    const all = withoutTarget && options[withoutTarget.option] === true && positionals.length === 0;
    const target =
      command.target === 'none' || all
        ? null
        : findTarget(command, command.verb, positionals.shift(), session.identity, receiver);
    if (target === null) requireAccess(identity, all ? withoutTarget.verb : command.verb, command.name, null);
    checkCount(command, positionals);
    return await command.run({ ...base, target, args: positionals });
  } catch (error) {
    if (session.signal.aborted) return INTERRUPTED;
    const told = nameOwner(error, seesTarget(identity));
    return reportError(stderr, told, onEvent, { command: name.slice(0, 60), key: identity.name });
  }
}

function checkCount(command: Command, args: readonly string[]): void {
  const { min, max } = command.args;
  if (args.length < min) throw usageError(command, `${args.length === 0 ? 'an' : 'another'} argument is missing`);
  if (args.length > max) throw usageError(command, `unexpected argument ${JSON.stringify(args[max]?.slice(0, 60))}`);
}

/**
 * `error:` and `hint:` lines on `stderr`. A bug becomes one line with an id; its stack goes to the log.
 * @returns the exit code
 */
export function reportError(
  stderr: Writable,
  error: unknown,
  onEvent: EventSink,
  fields: Record<string, unknown>,
): number {
  const print = (prefix: string, text: string): void => void stderr.write(`${prefix}${escapeForTerminal(text)}\n`);
  if (error instanceof KraftwerkError) {
    print('error: ', error.message);
    for (const line of error.lines) print('', line);
    for (const hint of error.hints) print('hint: ', hint);
    return EXIT_CODES[error.exit];
  }
  const id = randomBytes(4).toString('hex');
  onEvent('command.failed', { id, ...fields, stack: error instanceof Error ? error.stack : String(error) });
  print('error: ', `internal error ${id}`);
  print('hint: ', "the receiver's log tells more under this id");
  return EXIT_CODES.failed;
}
