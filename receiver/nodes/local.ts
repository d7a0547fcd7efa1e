/** The way to a node on this machine: the agent is a child. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { AgentConnector } from './connector.ts';

export interface LocalConnectorOptions {
  /** For messages. */
  name: string;
  agentFile: string;
  /** What the agent inherits: the machine's own package configuration and nothing else. */
  environment: Readonly<Record<string, string>>;
}

export function createLocalConnector({ name, agentFile, environment }: LocalConnectorOptions): AgentConnector {
  return {
    async open() {
      const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', agentFile], {
        cwd: '/',
        env: {
          PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
          LANG: 'C.UTF-8',
          ...environment,
        },
        // A session of its own: it is ended as a group, and what it has begun to switch it finishes though we are gone.
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      if (child.pid === undefined) {
        const [cause] = (await once(child, 'error')) as [Error];
        throw new KraftwerkError('node.lost', `node ${name}: the agent could not be started: ${cause.message}`, {
          cause,
        });
      }
      child.on('error', () => undefined);
      const { pid, stdin, stdout, stderr } = child;
      return {
        stdin,
        stdout,
        stderr,
        ended: new Promise((resolve) =>
          child.once('close', (code, signal) => resolve(signal === null ? `with exit code ${code}` : `by ${signal}`)),
        ),
        kill() {
          try {
            process.kill(-pid, 'SIGKILL');
          } catch {
            // It has ended.
          }
        },
      };
    },
    close: async () => undefined,
  };
}
