/** What an SSH command is, and what it gets to work with. */
import type { Readable, Writable } from 'node:stream';
import type { ParseArgsOptionDescriptor } from 'node:util';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Identity, Verb } from '../access.ts';
import type { BackupServices } from '../backups/run-backups.ts';
import type { Config } from '../config.ts';
import type { TargetName } from '../exec-line.ts';
import type { GitServices } from '../git-session.ts';
import type { KeyStore, StoredKey } from '../keys.ts';
import type { Routes } from '../router/routes.ts';
import type { Pty } from '../ssh/client-events.ts';
import type { ExecSession } from '../ssh-server.ts';
import type { Target } from '../target.ts';

/** What commands may ask of the receiver. */
export interface ReceiverApi extends GitServices, BackupServices {
  version: string;
  keys: KeyStore;
  config: Config;
  routes: Routes;
  /** The hash of this receiver's agent. */
  agentVersion: string;
  /** The keys that the configuration names. */
  adminKeys: readonly StoredKey[];
  /**
   * Finds the environment of `blog` alone. Null: there is nothing of that name among what `visible` lets through.
   * @throws KraftwerkError when there are several to choose from
   */
  resolveTarget(name: TargetName, visible: (target: Target) => boolean): Target | null;
}

export type OptionValue = string | boolean | (string | boolean)[] | undefined;

export interface CommandContext {
  identity: Identity;
  /** Resolved and allowed; null for commands about no single project. */
  target: Target | null;
  /** As they were typed, behind the command's name. */
  words: readonly string[];
  /** The words that are neither options nor the target. */
  args: string[];
  options: Readonly<Record<string, OptionValue>>;
  json: boolean;
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  pty: Pty | null;
  attach: ExecSession['attach'];
  /** The client is gone, or has typed Ctrl-C. */
  signal: AbortSignal;
  receiver: ReceiverApi;
  /** All commands, for `help`. */
  commands: readonly Command[];
}

export interface Command {
  name: string;
  /** Names of the same thing at Heroku, Dokku, Piku. */
  aliases: readonly string[];
  /** A few words, no full stop. */
  summary: string;
  /** The line after the name: `TARGET [vN]`. */
  usage: string;
  /** Whole commands without `ssh kraftwerk@HOST`. */
  examples: readonly string[];
  verb: Verb;
  /** Is the first word a target? It is resolved, and access is decided for it, before `run`. */
  target: 'none' | 'required';
  /** With this option and no target it is about all of them; `verb` decides then. */
  withoutTarget?: { option: string; verb: Verb };
  /** How many words may follow the target. */
  args: { min: number; max: number };
  /** What follows the target is a program and its words, whatever they look like; it gets the client's terminal. */
  program?: true;
  /** An option behind which the `kraftwerk` of a project takes a file; over plain ssh the shell redirects. */
  file?: { option: string; direction: 'read' | 'write' };
  /** Beside `--json` and `--help`. */
  options: Readonly<Record<string, ParseArgsOptionDescriptor>>;
  /** @returns the exit code */
  run(context: CommandContext): Promise<number>;
}

export function usageLine(command: Command): string {
  return `usage: ssh kraftwerk@HOST ${`${command.name} ${command.usage}`.trim()}`;
}

export function usageError(command: Command, message: string, hint?: string): KraftwerkError {
  return new KraftwerkError('command.usage', `${command.name}: ${message}`, {
    lines: [usageLine(command)],
    hint: hint ?? `ssh kraftwerk@HOST help ${command.name}`,
    exit: 'usage',
  });
}

/** An option's value as text; undefined when it is not given. */
export function textOption(context: CommandContext, name: string): string | undefined {
  const value = context.options[name];
  return typeof value === 'string' ? value : undefined;
}

export function flagOption(context: CommandContext, name: string): boolean {
  return context.options[name] === true;
}

export function printJson(stdout: Writable, value: unknown): void {
  stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
