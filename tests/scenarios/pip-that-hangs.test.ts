// pip waits for an index that takes the connection and never answers: the time limit ends it, and nothing is left of it.
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import type { AbsolutePath, InstanceName, KraftwerkError, PrepareRequest } from '../../node-agent/protocol.ts';
import { createSystem } from '../../node-agent/system.ts';
import { ensureVirtualenv } from '../../node-agent/virtualenv.ts';
import { processesIn } from '../actors/processes.ts';

let folder: string;
let silent: Server;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-pip-'));
  silent = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(silent, 'listening');
});
afterAll(() => {
  silent.close();
  rmSync(folder, { recursive: true });
});

it('is ended by its time limit, with its last words and a hint', async () => {
  const site = siteLayout(
    nodeLayout({ profile: 'rootless', root: folder as AbsolutePath, httpPort: 0 }),
    'blog' as InstanceName,
  );
  const tree = join(site.releases, '.v1');
  for (const path of [tree, site.notes, site.runtime]) mkdirSync(path, { recursive: true });
  writeFileSync(join(tree, 'requirements.txt'), 'never-heard-of-it\n');
  const { port } = silent.address() as AddressInfo;
  const index = { PIP_INDEX_URL: `http://127.0.0.1:${port}/simple`, PIP_CONFIG_FILE: '/dev/null' };
  const request = {
    python: '/usr/bin/python3',
    requirements: 'requirements.txt',
    requirementsNamed: true,
    generation: 0,
    artifact: { sha256: 'x' },
    site: { limits: null },
    pipTimeoutMs: 2_500,
  } as unknown as PrepareRequest;
  const progress = { signal: new AbortController().signal, onProgress: () => undefined, onOutput: () => undefined };

  const failed = await ensureVirtualenv(createSystem(index), site, request, tree, progress).catch(
    (error: KraftwerkError) => error,
  );
  expect(failed).toMatchObject({
    code: 'packages.timeout',
    step: 'Packages',
    reason: 'pip timed out',
    hints: ['is the package index reachable from the node? (pip config list)'],
  });
  expect((failed as KraftwerkError).message).toMatch(/^installing packages took longer than 2.5 s; last: /);
  expect(readdirSync(site.virtualenvs)).toEqual([]);
  expect(processesIn(folder)).toEqual([]);
});
