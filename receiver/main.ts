// CLI entry: finds the command, runs it, turns what it throws into lines and an exit code.
import { randomBytes } from 'node:crypto';
import { EXIT_CODES, KraftwerkError } from '../node-agent/protocol.ts';
import { findCommand } from './cli/commands.ts';
import { formatHelp, formatOverview, unknownCommand } from './cli/help.ts';
import { findUsage } from './cli/usage.ts';
import { escapeForTerminal } from './print-table.ts';

async function main(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === undefined) {
    process.stderr.write(formatOverview());
    return EXIT_CODES.usage;
  }
  const name =
    first === '--help' || first === '-h' ? 'help' : first === '--version' || first === '-V' ? 'version' : first;
  const load = findCommand(name);
  const usage = findUsage(name);
  if (load === undefined || usage === undefined) throw unknownCommand(first);
  const options = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (options.includes('--help') || options.includes('-h')) {
    process.stdout.write(formatHelp(usage));
    return EXIT_CODES.ok;
  }
  const { run } = await load();
  return run(rest);
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
