// kraftwerk setup-node: makes a Debian or Ubuntu server with root SSH a node.
import { statSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import { EXIT_CODES } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { formatNodeLine } from '../setup/node-line.ts';
import { createReport } from '../setup/report.ts';
import { type SetupNodeOrder, setupNode } from '../setup/setup-node.ts';
import { FINGERPRINT_PATTERN } from '../setup/trust.ts';
import { parseOptions, usageError } from './parse-options.ts';

const NODE_NAME = /^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/;

export async function run(argv: string[]): Promise<number> {
  const order = readOrder(argv);
  const interactive = process.stdin.isTTY === true && process.stderr.isTTY === true;
  const report = createReport({ write: (line) => process.stderr.write(`${line}\n`), now: () => performance.now() });
  const abort = new AbortController();
  const onInterrupt = (): void => abort.abort();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, onInterrupt);
  try {
    const line = await setupNode(order, {
      surroundings: readSurroundings(),
      signal: abort.signal,
      report,
      ask: interactive ? (question) => confirm(question, abort.signal) : null,
      nowMs: () => Date.now(),
    });
    process.stdout.write(`${formatNodeLine(line)}\n`);
    return EXIT_CODES.ok;
  } finally {
    report.close();
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, onInterrupt);
  }
}

function readOrder(argv: readonly string[]): SetupNodeOrder {
  const { values, positionals } = parseOptions(
    'setup-node',
    argv,
    {
      as: { type: 'string' },
      config: { type: 'string' },
      'host-key': { type: 'string' },
      identity: { type: 'string' },
      port: { type: 'string' },
      'receiver-key': { type: 'string' },
      'take-over': { type: 'boolean' },
      templates: { type: 'string' },
      user: { type: 'string' },
      write: { type: 'boolean' },
      yes: { type: 'boolean' },
    },
    1,
  );
  const [written = ''] = positionals;
  const [, writtenUser, host = ''] = /^(?:([^@]*)@)?(.*)$/s.exec(written) ?? [];
  if (host === '') throw usageError('setup-node', 'HOST is missing');
  // It becomes a word of ssh's command line.
  if (!/^[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,252}$/.test(host))
    throw usageError(
      'setup-node',
      `HOST: expected a host name or an address, got ${JSON.stringify(host.slice(0, 60))}`,
    );
  const user = values.user ?? writtenUser ?? 'root';
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(user))
    throw usageError('setup-node', `--user: expected the name of a user, got ${JSON.stringify(user.slice(0, 60))}`);
  const name = values.as ?? host.toLowerCase();
  if (!NODE_NAME.test(name))
    throw usageError(
      'setup-node',
      `${values.as === undefined ? 'HOST' : '--as'}: the name of a node has a-z 0-9 - and dots, got ${JSON.stringify(name)}`,
      'give it a name: --as web1',
    );
  const port = values.port === undefined ? null : Number(values.port);
  if (port !== null && !(Number.isInteger(port) && port >= 1 && port <= 65_535))
    throw usageError('setup-node', `--port: expected a port from 1 to 65535, got ${JSON.stringify(values.port)}`);
  const hostKey = values['host-key'] ?? null;
  if (hostKey !== null && !FINGERPRINT_PATTERN.test(hostKey))
    throw usageError('setup-node', `--host-key: expected SHA256:…, got ${JSON.stringify(hostKey.slice(0, 60))}`);
  return {
    host,
    name,
    user,
    port,
    identity: values.identity ?? null,
    templates: values.templates === undefined ? undefined : requireFolder(values.templates),
    config: values.config,
    receiverKey: values['receiver-key'] ?? null,
    hostKey,
    yes: values.yes ?? false,
    takeOver: values['take-over'] ?? false,
    write: values.write ?? false,
  };
}

function requireFolder(written: string): string {
  const folder = path.resolve(readSurroundings().cwd, written);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return folder;
  throw usageError('setup-node', `--templates: no folder ${folder}`);
}

async function confirm(question: string, signal: AbortSignal): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(?:es)?$/i.test((await terminal.question(question, { signal })).trim());
  } catch {
    return false;
  } finally {
    terminal.close();
  }
}
