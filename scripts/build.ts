// Bundles the node agent (one file for every node) and the receiver (the npm package's command).
import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { type BuildOptions, build } from 'esbuild';

const root = resolve(import.meta.dirname, '..');

// ESM output has no require(); bundled CommonJS packages call it for Node's own modules.
const createRequireBanner =
  "import { createRequire as kraftwerkCreateRequire } from 'node:module';\n" +
  'const require = kraftwerkCreateRequire(import.meta.url);';

// The receiver needs Node 24. A machine with an older one has it all the same: in the package `node`, a dependency. --no-addons: what
// npm has compiled of optional addons is for the machine's own Node, and brings that one's library, a second V8, into ours.
const launcher = `#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';

const major = Number(process.versions.node.split('.')[0]);
if (major >= 24) {
  await import('./receiver.mjs');
} else {
  const require = createRequire(import.meta.url);
  let node = '';
  try {
    node = join(dirname(require.resolve('node/package.json')), 'bin', 'node');
  } catch {}
  if (node === '' || !existsSync(node)) {
    console.error(\`error: kraftwerk needs Node 24 or newer, got \${process.version}\`);
    console.error('hint: install kraftwerk-paas again, or Node 24; did npm leave out optional packages, or install scripts?');
    process.exit(1);
  }
  const child = spawn(node, ['--no-addons', '--disable-warning=ExperimentalWarning', process.argv[1], ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
}
`;

/** Writes build/agent.mjs: one ESM file that runs on Node 18 and newer. Returns its absolute path. */
export async function buildAgent(): Promise<string> {
  return await bundle('node-agent/main.ts', 'build/agent.mjs', {
    target: 'node18',
    // Programs in Python that it hands to the interpreter.
    loader: { '.py': 'text' },
    // It is read at every start; its names stay, for the sake of stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    banner: { js: createRequireBanner },
  });
}

/** Writes build/receiver.mjs and its launcher build/kraftwerk.mjs (the npm bin). Returns the launcher's absolute path. */
export async function buildReceiver(): Promise<string> {
  // Dependencies stay outside: npm installs them beside the package.
  await bundle('receiver/main.ts', 'build/receiver.mjs', { target: 'node24', packages: 'external' });
  const output = resolve(root, 'build/kraftwerk.mjs');
  publish(output, launcher);
  chmodSync(output, 0o755);
  return output;
}

async function bundle(entry: string, output: string, options: BuildOptions): Promise<string> {
  const entryPath = resolve(root, entry);
  if (!existsSync(entryPath)) throw new Error(`cannot build ${output}: ${entry} is missing`);
  const outputPath = resolve(root, output);
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entryPath],
    outfile: outputPath,
    bundle: true,
    platform: 'node',
    format: 'esm',
    minify: false,
    legalComments: 'none',
    logLevel: 'warning',
    external: ['*.node', 'cpu-features'],
    ...options,
    write: false,
  });
  for (const file of result.outputFiles ?? []) publish(file.path, file.contents);
  return outputPath;
}

// By rename, so that a command that starts meanwhile sees the old file or the new one, never a half.
function publish(path: string, contents: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}

if (import.meta.main) {
  const only = process.argv[2];
  const steps = { agent: buildAgent, receiver: buildReceiver };
  if (only !== undefined && !(only in steps)) {
    console.error(`error: scripts/build.ts: expected agent or receiver, got ${only}`);
    process.exit(2);
  }
  for (const [name, step] of Object.entries(steps)) {
    if (only !== undefined && only !== name) continue;
    try {
      console.log(`built ${relative(root, await step())}`);
    } catch (error) {
      console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    }
  }
}
