/** The other lower limit: gunicorn's boot to its first 200, by the release's own run script, in the release's own folder. */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';

const LIMIT_MS = 30_000;

/**
 * @param node the node's folder
 * @returns milliseconds from the start of the script to the first 200
 */
export async function measureBoot(node: string, instance: string, release: number): Promise<number> {
  const socket = join(node, 'run', 'kraftwerk', `${instance}.bench.sock`);
  const begin = performance.now();
  // The script is executable by itself; its argument is the socket as seen from the release's folder.
  const script = join(node, 'web', instance, '.kraftwerk', `v${release}`, 'run');
  const child = spawn(script, [`../../../../run/kraftwerk/${instance}.bench.sock`], {
    cwd: join(node, 'web', instance, 'releases', `v${release}`),
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
    stdio: 'ignore',
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  try {
    while (!(await answers(socket))) {
      if (child.exitCode !== null || performance.now() - begin > LIMIT_MS)
        throw new Error(`gunicorn did not boot (exit code ${child.exitCode})`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return performance.now() - begin;
  } finally {
    child.kill('SIGTERM');
    const force = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(force);
    rmSync(socket, { force: true });
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/', agent: false, headers: { Host: 'localhost' } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode === 200));
      response.on('error', () => resolve(false));
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
