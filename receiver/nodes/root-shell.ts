/** A root shell on a server, for the set-up commands alone; this file has the one on this machine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { KraftwerkError } from '../../node-agent/protocol.ts';

export interface RootShell {
  /**
   * Gives `script` to a shell there.
   * @param onLine each line that it prints, on stdout and stderr alike
   * @returns its exit code
   * @throws KraftwerkError `setup.lost` when the connection ended before the script
   */
  run(interpreter: 'sh' | 'bash', script: string, onLine: (line: string) => void): Promise<number>;
  close(): Promise<void>;
}

/** bash on this machine, as the one who calls. */
export function createLocalShell(signal: AbortSignal): RootShell {
  return {
    async run(interpreter, script, onLine) {
      const args = ['-s'];
      const child = spawn(interpreter, args, {
        cwd: '/',
        env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LANG: 'C.UTF-8' },
        // Not of our group: Ctrl-C leaves an installation that has begun to its end, as a lost connection does.
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe'],
        signal,
      });
      const code = await feed(child, script, onLine);
      if (signal.aborted) throw interrupted('this machine');
      return code ?? 1;
    },
    close: async () => undefined,
  };
}

/** Gives a child its input and takes its lines. @returns its exit code; null: it was killed */
export async function feed(
  child: ChildProcess,
  script: string,
  onLine: (line: string) => void,
): Promise<number | null> {
  for (const stream of [child.stdout, child.stderr])
    if (stream) createInterface({ input: stream }).on('line', (line) => onLine(line));
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(script);
  return await exitOf(child);
}

export function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.name === 'AbortError') return resolve(null);
      const [program = ''] = child.spawnargs;
      reject(
        new KraftwerkError('setup.program', `cannot start ${program}: ${error.code ?? error.message}`, {
          hint: 'on this machine: apt-get install openssh-client',
          cause: error,
        }),
      );
    });
    child.once('close', (code) => resolve(code));
  });
}

export function interrupted(host: string): KraftwerkError {
  return new KraftwerkError('setup.interrupted', `interrupted; what has begun on ${host} goes on to its end there`, {
    hint: 'run it again: it goes on where it stopped',
  });
}
