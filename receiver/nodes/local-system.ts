/** The way to a system node on this machine: sudo starts the agent there, for a receiver that is not root. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { AgentChannel, AgentConnector } from './connector.ts';
import { createLocalConnector } from './local.ts';
import { readStderr } from './ssh-channel.ts';
import { createAgentStarter } from './start-agent.ts';

export interface LocalSystemOptions {
  /** For messages. */
  name: string;
  agentFile: string;
  /** Of kraftwerk. */
  version: string;
  /** Root starts the agent itself. */
  runsAsRoot: boolean;
  /** What an agent that root starts inherits. */
  environment: Readonly<Record<string, string>>;
  log(event: string, fields: Record<string, unknown>): void;
  /** What sudo may start, as /etc/sudoers.d/kraftwerk says. */
  agentLogin?: string;
  sudo?: string;
}

const AGENT_LOCAL = '/usr/local/lib/kraftwerk/agent-local';
const STDERR_BYTES = 64 * 1024;
const LAST_WORDS_MS = 1_000;

export function createLocalSystemConnector(options: LocalSystemOptions): AgentConnector {
  const { name, agentFile, version, environment, log, agentLogin = AGENT_LOCAL, sudo = '/usr/bin/sudo' } = options;
  if (options.runsAsRoot) return createLocalConnector({ name, agentFile, environment });
  return {
    open: createAgentStarter({
      name,
      through: 'sudo',
      remedy: 'sudo kraftwerk setup-receiver   puts agent-local and the rule for sudo in place again',
      agentFile,
      version,
      run: (command) => startLogin(name, sudo, agentLogin, command),
      log,
    }),
    close: async () => undefined,
  };
}

async function startLogin(name: string, sudo: string, agentLogin: string, command: string): Promise<AgentChannel> {
  const child = spawn(sudo, ['-n', agentLogin], {
    cwd: '/',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  if (child.pid === undefined) {
    const [cause] = (await once(child, 'error')) as [Error];
    throw new KraftwerkError('node.lost', `node ${name}: sudo could not be started: ${cause.message}`, {
      hint: 'apt-get install sudo',
      cause,
    });
  }
  child.on('error', () => undefined);
  const { stdin, stdout } = child;
  for (const stream of [stdin, stdout, child.stderr]) stream.on('error', () => undefined);
  const stderr = readStderr(child.stderr, STDERR_BYTES);
  stdin.write(`${command}\n`);
  let tellEnded: (how: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    tellEnded = resolve;
    child.once('close', (code, signal) => resolve(signal === null ? `with exit code ${code}` : `by ${signal}`));
  });
  return {
    stdin,
    stdout,
    stderr,
    ended,
    kill() {
      // Root's process takes no signal from us: it is agent-login that finds its pipes gone and ends the agent.
      for (const stream of [stdin, stdout, child.stderr]) stream.destroy();
      setTimeout(() => tellEnded('because the receiver ended it'), LAST_WORDS_MS).unref();
    },
  };
}
