// CLI entry: finds the command, runs it here or on the receiver, turns what it throws into lines and an exit code.
import { randomBytes } from 'node:crypto';
import { EXIT_CODES, KraftwerkError } from '../node-agent/protocol.ts';
import type { CliCommand } from './cli/command.ts';
import { COMMANDS, findCliCommand } from './cli/commands.ts';
import { escapeForTerminal } from './print-table.ts';

const NAMES: Readonly<Record<string, string>> = {
  '--help': 'help',
  '-h': 'help',
  '--version': 'version',
  '-V': 'version',
};

async function main(argv: readonly string[]): Promise<number> {
  const { remote, words } = takeRemote(argv);
  const [first, ...rest] = words;
  const options = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  const name = first === undefined ? 'help' : (NAMES[first] ?? first);
  const here = findCliCommand(name);
  if (here !== undefined && first !== undefined && remote === null && !options.some(isRemoteOption)) {
    return await runHere(here, rest, options.some(isHelpOption));
  }
  const help = await import('./cli/help.ts');
  if (first === undefined) {
    process.stderr.write(help.formatOverview(COMMANDS));
    return EXIT_CODES.usage;
  }
  // `version` and `help` are both: with a remote, the receiver's are meant.
  const there = help.findRemoteCommand(name);
  if (there === undefined) {
    if (here === undefined) throw help.unknownCommand(first, COMMANDS);
    if (remote === null) return await runHere(here, rest, options.some(isHelpOption));
    throw new KraftwerkError('cli.usage', `${name}: runs on this machine and takes no --remote`, {
      hint: here.usage,
      exit: 'usage',
    });
  }
  // A program's words are its own.
  const begin = there.program === true ? options.findIndex((word) => !word.startsWith('-')) : -1;
  if ((begin < 0 ? options : options.slice(0, begin)).some(isHelpOption)) {
    process.stdout.write(help.formatRemoteHelp(there));
    return EXIT_CODES.ok;
  }
  const { runRemote } = await import('./cli/run-remote.ts');
  return await runRemote(there, rest, remote).catch((error: unknown) => {
    throw withUsage(error, help.remoteUsage(there.name, there.usage));
  });
}

async function runHere(command: CliCommand, args: string[], wantsHelp: boolean): Promise<number> {
  if (wantsHelp) {
    const { formatHelp } = await import('./cli/help.ts');
    process.stdout.write(formatHelp(command));
    return EXIT_CODES.ok;
  }
  const { run } = await command.load();
  return await run(args, COMMANDS).catch((error: unknown) => {
    throw withUsage(error, command.usage);
  });
}

/** A mistake in a command's words, with the command's usage where nothing else was said. */
function withUsage(error: unknown, usage: string): unknown {
  if (!(error instanceof KraftwerkError) || error.code !== 'cli.usage' || error.hints.length > 0) return error;
  return new KraftwerkError(error.code, error.message, { lines: error.lines, hint: usage, exit: error.exit });
}

/** --remote in front of the command's name. */
function takeRemote(argv: readonly string[]): { remote: string | null; words: readonly string[] } {
  const [first = '', second] = argv;
  if (!isRemoteOption(first)) return { remote: null, words: argv };
  const joined = /^(?:--remote=|-r)(.+)$/s.exec(first)?.[1];
  if (joined !== undefined) return { remote: joined, words: argv.slice(1) };
  if (second === undefined) {
    throw new KraftwerkError('cli.usage', `${first} needs the name of a git remote`, {
      hint: 'kraftwerk help',
      exit: 'usage',
    });
  }
  return { remote: second, words: argv.slice(2) };
}

function isRemoteOption(word: string): boolean {
  return /^(?:-r|--remote$|--remote=)/.test(word);
}

function isHelpOption(word: string): boolean {
  return word === '--help' || word === '-h';
}

function report(error: unknown): number {
  if (error instanceof KraftwerkError) {
    const lines = [
      ...[error.message, ...(error.exit === 'config' ? error.lines : [])].map((line) => `error: ${line}`),
      ...(error.exit === 'config' ? [] : error.lines),
      ...error.hints.map((hint) => `hint: ${hint}`),
    ];
    process.stderr.write(`${lines.map(escapeForTerminal).join('\n')}\n`);
    return EXIT_CODES[error.exit];
  }
  const id = randomBytes(4).toString('hex');
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`error: a bug in kraftwerk, id ${id}\nhint: please report it with these lines:\n`);
  process.stderr.write(`${stack.split('\n').map(escapeForTerminal).join('\n')}\n`);
  return EXIT_CODES.failed;
}

// `kraftwerk schema | head` closes the pipe early: no mistake.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_CODES.ok);
  throw error;
});

// The receiver's sockets may still be closing: the code is set, the process ends by itself.
process.exitCode = await main(process.argv.slice(2)).catch(report);
