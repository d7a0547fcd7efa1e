// Two kinds of tests: pure ones (unit) and those with real git, ssh, nginx, runit and gunicorn (scenarios).
// What runs in boxes, on Debian 12, is run again on Debian 13 (trixie): in CI one file, nightly all of them.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const globalSetup = './tests/scenarios/global-setup.ts';
const hasGlobalSetup = existsSync(fileURLToPath(new URL(globalSetup, import.meta.url)));

/** In boxes, many minutes each or shown by others in short: npm run test:nightly. Single tests: tests/actors/thorough.ts. */
const NIGHTLY_ONLY = [
  'services',
  'services-in-a-push',
  'several-nodes-services',
  'destroy-system-node',
  'stab-system-node',
  'setup-receiver',
  'several-boxes',
  'quick-succession',
  'backups',
  'debian-13',
];
/** Those that start throw-away servers. */
const IN_BOXES = readdirSync(new URL('./tests/scenarios/', import.meta.url))
  .map((name) => `tests/scenarios/${name}`)
  .filter(
    (path) => path.endsWith('.test.ts') && /\buseBoxes\(/.test(readFileSync(new URL(path, import.meta.url), 'utf8')),
  );
/** The agent's Python programs are text to it, as in scripts/build.ts. */
const python = {
  name: 'python-as-text',
  load: (id: string) => (id.endsWith('.py') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))};` : null),
};
const nightly = process.env.KRAFTWERK_NIGHTLY === '1';

const scenarios = {
  testTimeout: 120_000,
  hookTimeout: 120_000,
  maxWorkers: 2,
  // Projects that share a pool must agree on its size, unless they run one after the other.
  sequence: { groupOrder: 1 },
  ...(hasGlobalSetup ? { globalSetup } : {}),
};

export default defineConfig({
  test: {
    passWithNoTests: true,
    projects: [
      {
        plugins: [python],
        test: {
          name: 'unit',
          include: ['tests/unit/**/*.test.ts'],
          // Some start the command line; a busy machine takes its time.
          testTimeout: 30_000,
        },
      },
      {
        plugins: [python],
        test: {
          name: 'scenarios',
          include: ['tests/scenarios/**/*.test.ts'],
          exclude: nightly ? [] : NIGHTLY_ONLY.map((name) => `tests/scenarios/${name}.test.ts`),
          ...scenarios,
        },
      },
      {
        plugins: [python],
        test: {
          name: 'trixie',
          include: nightly ? IN_BOXES : ['tests/scenarios/debian-13.test.ts'],
          // tests/actors/suite.ts reads it.
          env: { KRAFTWERK_SUITE: 'trixie' },
          ...scenarios,
        },
      },
    ],
  },
});
