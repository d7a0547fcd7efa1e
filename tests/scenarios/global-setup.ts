// Once before all scenarios: what a checkout needs, and the wheels that the fixtures' requirements name.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { fetchWheels } from '../actors/wheels.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export default function setUp(): void {
  // Quick when all is there; builds the agent when its source is newer.
  execFileSync('scripts/bootstrap', ['--for', 'test'], { cwd: ROOT, stdio: 'inherit' });
  fetchWheels();
}
