// An index that does not answer, or is not there: the error says so, and nothing is left of pip.
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { nodeLayout, type SiteLayout, siteLayout } from '../../node-agent/layout.ts';
import type { AbsolutePath, InstanceName, PrepareRequest } from '../../node-agent/protocol.ts';
import { RELEASE_RULES, sealTree } from '../../node-agent/sealed-tree.ts';
import { createSystem } from '../../node-agent/system.ts';
import { ensureVirtualenv } from '../../node-agent/virtualenv.ts';
import { processesIn } from '../actors/processes.ts';

let folder: string;
let site: SiteLayout;
let silent: Server;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-pip-'));
  site = siteLayout(
    nodeLayout({ profile: 'rootless', root: folder as AbsolutePath, httpPort: 0 }),
    'blog' as InstanceName,
  );
  silent = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(silent, 'listening');
});
afterAll(() => {
  silent.close();
  rmSync(folder, { recursive: true });
});

afterEach(() => {
  expect(readdirSync(site.virtualenvs)).toEqual([]);
  expect(processesIn(folder)).toEqual([]);
});

/** Installs what no index has, with one that listens on `port`. */
async function install(port: number, pipTimeoutMs: number): Promise<unknown> {
  const tree = join(site.releases, '.v1');
  for (const path of [tree, site.notes, site.runtime]) mkdirSync(path, { recursive: true });
  writeFileSync(join(tree, 'requirements.txt'), 'never-heard-of-it\n');
  const index = { PIP_INDEX_URL: `http://127.0.0.1:${port}/simple`, PIP_CONFIG_FILE: '/dev/null' };
  const request = {
    python: '/usr/bin/python3',
    requirements: 'requirements.txt',
    requirementsNamed: true,
    generation: 0,
    artifact: { sha256: 'x' },
    site: { limits: null },
    pipTimeoutMs,
  } as unknown as PrepareRequest;
  const progress = { signal: new AbortController().signal, onProgress: () => undefined, onOutput: () => undefined };
  const system = createSystem(index);
  const sealed = sealTree(system, tree, RELEASE_RULES);
  return ensureVirtualenv(system, site, request, sealed, progress).catch((error: unknown) => error);
}

it('that takes the connection and never answers: pip is ended by its time limit, with its last words and a hint', async () => {
  const failed = await install((silent.address() as AddressInfo).port, 2_500);
  expect(failed).toMatchObject({
    code: 'packages.timeout',
    step: 'Packages',
    reason: 'pip timed out',
    hints: ['is the package index reachable from the node? (pip config list)'],
    message: expect.stringMatching(/^installing packages took longer than 2.5 s; last: /) as string,
  });
});

it('that is not there: not only the name of the package is doubted', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address() as AddressInfo;
  closed.close();
  await once(closed, 'close');
  expect(await install(port, 60_000)).toMatchObject({
    code: 'packages.install',
    message: 'requirements.txt:1 never-heard-of-it: pip could not install it',
    hints: [
      'is the package index reachable from the node? (pip config list)',
      "is the name right, and does this version exist for the node's Python?",
    ],
  });
});
