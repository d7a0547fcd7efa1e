// One environment on three nodes: a push deploys to all of them, or to none.
// Nightly: more ways in which a node fails while it prepares.
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installPath } from '../../receiver/install-root.ts';
import type { Pusher } from '../actors/pusher.ts';
import type { TestReceiver } from '../actors/receiver.ts';
import { HOST, NODES, type SeveralNodes, startSeveralNodes, TARGET } from '../actors/several-nodes.ts';
import { agreement, get, readJournal, startLoad } from '../actors/site.ts';
import { thorough } from '../actors/thorough.ts';

let several: SeveralNodes;
let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  several = await startSeveralNodes();
  ({ receiver, alice } = several);
});
afterAll(() => several.cleanUp());

it('comes up on all nodes, and each step is told once', async () => {
  const next = several.nextVersion();
  const { lines } = await alice.deploy({ 'version.txt': next }, 'live');
  const steps = lines.flatMap((line) => /^-----> (\w+) /.exec(line)?.[1] ?? []);
  expect(steps).toEqual(['Config', 'Packages', 'Start', 'Health', 'Switch']);
  expect(lines.find((line) => line.startsWith('-----> Switch'))).toContain('v1 serves on 3 nodes');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(72);
  await several.expectAgreement([next]);
});

it('runs the release command once, on the first node, when all nodes have built', async () => {
  const next = several.nextVersion();
  const command = 'build: echo built\nrelease: echo hello >>../release-command; echo re""leased\n';
  const { lines } = await alice.deploy(
    { 'version.txt': next, 'kraftwerk.yaml': `wsgi: app\nsrc: .\nworkers: 2\n${command}` },
    'live',
  );
  const at = (text: string): number => lines.findIndex((line) => line.includes(text));
  expect(at('released')).toBeGreaterThan(at('-----> Build'));
  expect(lines.filter((line) => line.trim() === 'released')).toHaveLength(1);
  expect(lines.filter((line) => line.startsWith('-----> Release'))).toHaveLength(1);
  const ran = NODES.filter((name) => existsSync(join(receiver.nodeAt(name).node, 'web/blog/releases/release-command')));
  expect(ran).toEqual(['try']);
  await several.expectAgreement([next]);
});

it('renders the templates of each node', async () => {
  const builtIn = readFileSync(installPath('templates', 'project', 'nginx.conf'), 'utf8');
  const own = builtIn.replaceAll('send_timeout 60s;', 'send_timeout 60s;\n  add_header X-Served-By web2;');
  writeFileSync(join(receiver.folder, 'templates/nodes/web2/project/nginx.conf'), own);
  expect((await receiver.ssh('deploy', TARGET)).code).toBe(0);
  const served = await Promise.all(
    NODES.map(async (name) => (await get(receiver.nodeAt(name), HOST)).headers['x-served-by']),
  );
  expect(served).toEqual([undefined, 'web2', undefined]);
  rmSync(join(receiver.folder, 'templates/nodes'), { recursive: true });
  expect((await receiver.ssh('deploy', TARGET)).code).toBe(0);
});

it('sends the artifact to each node once', async () => {
  const sha256 = readJournal(
    receiver,
    (db) => db.prepare('SELECT sha256 FROM releases ORDER BY release DESC').get()?.sha256,
  );
  const artifact = join(receiver.data, 'artifacts', `${sha256}.tar`);
  const bytes = readFileSync(artifact);
  // What is sent from now on arrives damaged.
  writeFileSync(artifact, Buffer.alloc(bytes.length));
  const again = await receiver.ssh('deploy', 'blog/live');
  expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('serves on 3 nodes')]);
  await several.expectAgreement([several.lastVersion()]);

  const copy = join(receiver.nodeAt('web2').node, 'web/blog/.kraftwerk', `artifact-${sha256}.tar`);
  writeFileSync(copy, Buffer.alloc(bytes.length, 'x'));
  const asked = await receiver.ssh('deploy', 'blog/live');
  expect(asked.stderr).toMatch(/^error: node web2: the artifact /m);
  writeFileSync(artifact, bytes);
  expect((await receiver.ssh('deploy', 'blog/live')).code).toBe(0);
  expect(readFileSync(copy).equals(bytes)).toBe(true);
  await several.expectAgreement([several.lastVersion()]);
});

describe('a node that fails while it prepares', () => {
  async function expectRefused(files: Record<string, string>, error: RegExp, rejected: RegExp, said: string) {
    const before = await several.expectAgreement([several.lastVersion()]);
    alice.commit({ 'version.txt': 'never', ...files });
    const pushed = await alice.push('live');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expect(pushed.lines.find((line) => line.startsWith('error: '))).toMatch(error);
    expect(pushed.rejected).toMatch(rejected);
    expect(pushed.lines.join('\n')).toContain(said);
    expect(await several.expectAgreement([before])).toBe(before);
    await several.expectNoOrphans();
  }
  const config = (more: string): string => `wsgi: app\nsrc: .\nworkers: 2\n${more}`;
  const web2 = (): string => join(receiver.nodeAt('web2').node, 'web/blog');

  it('is named when its build fails, and the release command has not run', async () => {
    const command = `[ "$SITE_ROOT" != ${web2()} ] || { echo no luck here; exit 3; }`;
    const files = { 'kraftwerk.yaml': config(`build: '${command}'\nrelease: echo x >>../never\n`) };
    await expectRefused(
      files,
      /^error: node web2: build command/,
      /^build command failed on web2; v\d+ still live$/,
      'no luck',
    );
    expect(existsSync(join(receiver.nodeAt('try').node, 'web/blog/releases/never'))).toBe(false);
  });

  it.runIf(thorough)('is named when its process ends', async () => {
    const check = `import os\nassert os.environ["SITE_ROOT"] != ${JSON.stringify(web2())}, "not here"\n`;
    const files = { 'app.py': `${check}${alice.git(['show', 'HEAD:app.py'])}\n` };
    const rejected = /^the site cannot be imported on web2; v\d+ still live$|^unhealthy on web2; v\d+ still live$/;
    await expectRefused(files, /^error: node web2: v\d+ not deployed/, rejected, 'AssertionError: not here');
  });

  it.runIf(thorough)('is named when the release command fails', async () => {
    const files = { 'kraftwerk.yaml': config('release: echo sorry; exit 3\n') };
    await expectRefused(files, /^error: node try: release command/, /^release command failed on try; v\d+/, 'sorry');
  });
});

it('a node that fails at the switch: those before it are put back, and no visitor notices', async () => {
  const before = await several.expectAgreement([several.lastVersion()]);
  const load = startLoad({ ...receiver, ...receiver.nodeAt('try') }, HOST, '/', 100);
  alice.commit({ 'version.txt': several.nextVersion() });
  writeFileSync(several.failpoint('web2'), 'activate:symlink:1:ENOSPC');
  const pushed = await alice.push('live');
  rmSync(several.failpoint('web2'));
  expect(pushed.lines).toContain('error: node web2: the disk of the node is full');
  expect(pushed.rejected).toMatch(/^disk full on web2; v\d+ still live$/);
  expect(await several.expectAgreement([before])).toBe(before);
  const { failures, bodies } = await load.stop();
  expect(failures).toEqual([]);
  expect(bodies.size, 'the first node has switched and gone back').toBe(2);
  await several.expectNoOrphans();
  const next = several.nextVersion();
  await alice.deploy({ 'version.txt': next }, 'live');
  await several.expectAgreement([next]);
});

describe('a node that is down', () => {
  it('fails the push at once, with its name, and uses up no release', async () => {
    const begin = performance.now();
    alice.commit({ 'version.txt': 'nowhere' });
    const pushed = await alice.push('stage');
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expect(pushed.rejected).toBe('node gone is unreachable');
    expect(pushed.lines.find((line) => line.startsWith('error: '))).toMatch(/^error: node gone is unreachable: /);
    expect(pushed.lines.join('\n')).toContain('ssh kraftwerk@HOST deploy blog/stage');
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(existsSync(join(receiver.nodeAt('try').node, 'web/blog-stage'))).toBe(false);
  });
});

describe('nodes that disagree', () => {
  it('are shown by status, and mended by doctor', async () => {
    const body = await several.expectAgreement([several.lastVersion()]);
    const { node } = receiver.nodeAt('web2');
    // As a node that was away would: it still serves the release before.
    const current = agreement(receiver, TARGET).release ?? 0;
    const older =
      readdirSync(join(node, 'web/blog/releases'))
        .filter((name) => name !== `v${current}`)
        .sort()
        .at(-1) ?? '';
    rmSync(join(node, 'web/blog/current'));
    symlinkSync(`releases/${older}`, join(node, 'web/blog/current'));
    const { stdout, stderr } = await receiver.ssh('status', TARGET);
    expect(stdout).toMatch(new RegExp(`^nodes +try, web2 \\(${older}\\), web3$`, 'm'));
    expect(stderr).toContain(`warning: node web2 serves ${older}, the journal says v${current}\n`);
    expect(stderr).toContain('hint: to make all agree: ssh kraftwerk@HOST deploy blog/live\n');

    const doctor = await receiver.ssh('doctor', 'web2');
    expect([doctor.code, doctor.stdout]).toEqual([
      1,
      `web2:\n  blog/live: serves ${older}, the journal says v${current}\n    ssh kraftwerk@HOST deploy blog/live\n`,
    ]);
    const fixed = await receiver.ssh('doctor', 'web2', '--fix');
    expect([fixed.code, fixed.stdout]).toEqual([0, 'web2: in order\n']);
    expect(await several.expectAgreement([body])).toBe(body);
    expect(agreement(receiver, TARGET).release).toBe(current);
  });

  it('deploy brings a node that has lost everything to the current release', async () => {
    const body = await several.expectAgreement([several.lastVersion()]);
    expect((await receiver.kraftwerk('stop-node', 'web3')).code).toBe(0);
    rmSync(receiver.nodeAt('web3').node, { recursive: true });
    const status = await receiver.ssh('status', TARGET);
    expect(status.stderr).toMatch(/^warning: node web3 has no release, the journal says v/m);
    // A new machine has its nginx on another port.
    await several.restart();
    expect((await receiver.ssh('deploy', TARGET)).code).toBe(0);
    expect(await several.expectAgreement([body])).toBe(body);
    await several.expectNoOrphans();
  });

  it('nodes and doctor tell of the one that is not there', async () => {
    const nodes = await receiver.ssh('nodes', '--json');
    expect(nodes.code).toBe(1);
    const rows = JSON.parse(nodes.stdout) as {
      node: string;
      state: string;
      version: string | null;
      diskFreeBytes: number;
    }[];
    expect(rows.map(({ node, state }) => [node, state])).toEqual([
      ['try', 'ready'],
      ['web2', 'ready'],
      ['web3', 'ready'],
      ['gone', 'no answer'],
    ]);
    expect(rows[0]?.version).toMatch(/^\d+\.\d+/);
    expect(rows[0]?.diskFreeBytes).toBeGreaterThan(0);
    expect((await receiver.ssh('nodes')).stdout).toMatch(/^gone +no answer +- +stage +- +- +- +-$/m);
    const doctor = await receiver.ssh('doctor', 'gone');
    expect(doctor.stdout).toMatch(/^gone:\n {2}no connection to 127\.0\.0\.1:1: connection refused\n {4}/);
    expect((await receiver.ssh('doctor', 'gon')).stderr).toMatch(/^error: no node gon, did you mean gone\?/);
    const bob = await receiver.addKey('bob', 'deploy', 'blog');
    expect((await receiver.sshAs(bob, ['doctor'])).code).toBe(4);
  });
});
