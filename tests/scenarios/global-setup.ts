// Once before all scenarios: what a checkout needs, and the wheels that the fixtures' requirements name.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { hasWheel, NEEDED_WHEELS, WHEELS } from '../actors/wheels.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DOWNLOAD_LIMIT_MS = 180_000;

export default function setUp(): void {
  // Quick when all is there; builds the agent when its source is newer.
  execFileSync('scripts/bootstrap', ['--for', 'test'], { cwd: ROOT, stdio: 'inherit' });
  const missing = NEEDED_WHEELS.filter((name) => !hasWheel(name));
  if (missing.length === 0) return;
  mkdirSync(WHEELS, { recursive: true });
  // One by one, through the machine's own pip configuration: an index that cannot be reached fails the tests that need it.
  for (const name of missing) {
    const { status, stderr } = spawnSync(
      '/usr/bin/python3',
      ['-m', 'pip', 'download', '--quiet', '--retries', '0', '--only-binary', ':all:', '--dest', WHEELS, name],
      { timeout: DOWNLOAD_LIMIT_MS, encoding: 'utf8' },
    );
    if (status !== 0) console.error(`pip could not download ${name}; the tests that install it will fail\n${stderr}`);
  }
}
