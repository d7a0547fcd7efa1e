/** Actor: programs in a box through one process that stays there: a hundredth of what it costs to enter it each time. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Outcome } from './ssh.ts';

const BOX = fileURLToPath(new URL('../../scripts/box', import.meta.url));
const LIMIT_S = 180;

// One thread for each, so that what waits does not keep the others waiting.
const SERVER = `
import json, subprocess, sys, threading
lock = threading.Lock()
def run(id, argv, text):
    try:
        done = subprocess.run(argv, input=text.encode(), capture_output=True, timeout=${LIMIT_S})
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        answer = [id, code, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")]
    except Exception as error:
        answer = [id, None, "", str(error)]
    with lock:
        print(json.dumps(answer), flush=True)
for line in sys.stdin:
    threading.Thread(target=run, args=json.loads(line), daemon=True).start()
`;

export type Exec = (argv: readonly string[], input?: string) => Promise<Outcome>;

/** Needs a Python in the box. It ends with the box; after a power cut the next call starts another. */
export function createBoxRunner(name: string): Exec {
  const waiting = new Map<number, { resolve(outcome: Outcome): void; reject(error: Error): void }>();
  let server: ChildProcessWithoutNullStreams | null = null;
  let count = 0;

  function start(): ChildProcessWithoutNullStreams {
    const child = spawn(BOX, ['enter', name, 'python3', '-Ic', SERVER]);
    let said = '';
    child.stdin.on('error', () => {});
    child.stderr.on('data', (data) => {
      said += data;
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [id, code, stdout, stderr] = JSON.parse(line) as [number, number | null, string, string];
      waiting.get(id)?.resolve({ code, stdout, stderr });
      waiting.delete(id);
    });
    child.once('close', () => {
      if (server === child) server = null;
      for (const { reject } of waiting.values()) reject(new Error(`the box ${name} is gone: ${said}`));
      waiting.clear();
    });
    return child;
  }

  return (argv, input = '') =>
    new Promise((resolve, reject) => {
      server ??= start();
      count += 1;
      waiting.set(count, { resolve, reject });
      server.stdin.write(`${JSON.stringify([count, argv, input])}\n`);
    });
}
