// Agents behind a real sshd that wait for the next request: they serve it, hold nothing, and what becomes of them costs nobody an answer.
import { spawnSync } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { InstanceName, NodeProfile } from '../../node-agent/protocol.ts';
import { renderNodeFiles } from '../../receiver/deploy/render.ts';
import { installPath } from '../../receiver/install-root.ts';
import { nodeTemplates } from '../../receiver/nodes/create-nodes.ts';
import { createNode, type Node } from '../../receiver/nodes/node.ts';
import { waitFor } from '../actors/processes.ts';
import { lacksSshd, layCable, startSshd, type TestSshd } from '../actors/sshd.ts';

const lacking = lacksSshd();
if (lacking !== null) console.warn(`skipped: tests/scenarios/ssh-node-rest.test.ts: ${lacking}`);

describe.skipIf(lacking !== null)('an agent behind sshd that has done its work', () => {
  let sshd: TestSshd;
  let folder: string;
  const nodes: Node[] = [];
  const agentFile = installPath('build', 'agent.mjs');

  beforeAll(async () => {
    sshd = await startSshd();
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-rest-'));
  });
  afterEach(async () => {
    await Promise.all(nodes.splice(0).map((node) => node.close()));
    await waitFor('the agents to end', () => sshd.agents().length === 0);
  });
  afterAll(async () => {
    await sshd?.cleanUp();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  function connect(more: Parameters<TestSshd['connector']>[1] = {}, file = agentFile): Node {
    const root = join(folder, `node-${nodes.length}`);
    const profile = { profile: 'rootless', root, httpPort: 0 } as NodeProfile;
    const files = renderNodeFiles(nodeTemplates([])('web1'), profile, userInfo().uid === 0);
    const node = createNode({ name: 'web1', profile, files }, sshd.connector(file, more));
    nodes.push(node);
    return node;
  }

  const ask = (node: Node): Promise<unknown> =>
    node.request({ op: 'status', instances: [], memory: false }, { timeoutMs: 30_000 });
  const EMPTY = { instances: [] };

  /** Two requests. @returns the agent that has served both, and waits */
  async function rested(node: Node): Promise<number> {
    expect(await ask(node)).toEqual(EMPTY);
    expect(await ask(node)).toEqual(EMPTY);
    const [pid = 0, ...others] = sshd.agents();
    expect(others).toEqual([]);
    return pid;
  }

  it('serves the next request, however soon or late that comes', async () => {
    const node = connect();
    const first = await rested(node);
    expect(await ask(node)).toEqual(EMPTY);
    // Until it has answered that it rests, and nobody is waited for any more.
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await ask(node)).toEqual(EMPTY);
    expect(sshd.agents()).toEqual([first]);
  });

  it('ends when nobody wants anything for a while, and when the receiver ends', async () => {
    await rested(connect({ limits: { restMs: 50 } }));
    await waitFor('the agent to end', () => sshd.agents().length === 0);
    const node = connect();
    await rested(node);
    await node.close();
    await waitFor('the agent to end', () => sshd.agents().length === 0);
  });

  it('is one of several, where several things went on at once; two of them wait', async () => {
    const node = connect();
    expect(await Promise.all([ask(node), ask(node), ask(node), ask(node)])).toEqual([EMPTY, EMPTY, EMPTY, EMPTY]);
    await waitFor('two to end', () => sshd.agents().length === 2);
    const two = sshd.agents();
    expect(await Promise.all([ask(node), ask(node)])).toEqual([EMPTY, EMPTY]);
    expect(sshd.agents().sort()).toEqual(two.sort());
  });

  it('may be killed while it waits', async () => {
    const node = connect();
    const first = await rested(node);
    process.kill(first, 'SIGKILL');
    // Before anybody can have heard of it, and after.
    expect(await ask(node)).toEqual(EMPTY);
    const [second = 0] = sshd.agents();
    expect(second).not.toBe(first);
    process.kill(second, 'SIGKILL');
    await waitFor('it to be gone', () => sshd.agents().length === 0);
    expect(await ask(node)).toEqual(EMPTY);
  });

  it('may hang while it waits', async () => {
    const node = connect();
    const first = await rested(node);
    process.kill(first, 'SIGSTOP');
    expect(await ask(node)).toEqual(EMPTY);
    expect(sshd.agents().filter((pid) => pid !== first)).toHaveLength(1);
    process.kill(first, 'SIGCONT');
    await waitFor('it to end', () => !sshd.agents().includes(first));
  });

  it('may lose its connection while it waits, as when its machine reboots', async () => {
    const node = connect();
    await rested(node);
    sshd.cut();
    expect(await ask(node)).toEqual(EMPTY);
    await sshd.stop();
    await sshd.start();
    expect(await ask(node)).toEqual(EMPTY);
  });

  it('may have its cable cut, which nobody tells', async () => {
    const cable = await layCable(sshd.port);
    try {
      const node = connect({ port: cable.port, limits: { answerMs: 400 } });
      await rested(node);
      cable.pull();
      cable.heal();
      expect(await ask(node)).toEqual(EMPTY);
    } finally {
      cable.close();
    }
  });

  it('is not asked again when another agent has been put in its place', async () => {
    const node = connect();
    const first = await rested(node);
    const newer = join(folder, 'newer.mjs');
    copyFileSync(agentFile, newer);
    appendFileSync(newer, '// newer\n');
    expect(await ask(connect({ version: '0.3.0' }, newer))).toEqual(EMPTY);
    expect(sshd.agents()).toHaveLength(2);
    await expect(ask(node)).rejects.toThrow('node web1: its agent is of kraftwerk 0.3.0, this receiver is 0.2.0');
    await waitFor('it to end', () => !sshd.agents().includes(first));
    expect(readFileSync(join(sshd.lib, 'agent.version'), 'utf8')).toBe('0.3.0\n');
    rmSync(join(sshd.lib, 'agent.version'));
  });

  it('holds no lock, and is not kept when it has failed', async () => {
    const node = connect();
    const instance = 'blog' as InstanceName;
    try {
      const { httpPort } = await node.hello();
      expect(httpPort).toBeGreaterThan(0);
      const first = sshd.agents()[0] ?? 0;
      const lock = join(nodePlaceOf(node), 'run/kraftwerk/blog.lock');
      const isLocked = (): boolean => spawnSync('flock', ['-n', lock, 'true']).status !== 0;
      const session = node.session(instance);
      await session.request({ op: 'ready', instance }, { timeoutMs: 30_000 });
      expect(isLocked()).toBe(true);
      session.close();
      await waitFor('the lock to be free', () => !isLocked());
      // The very same agent takes it again.
      expect(sshd.agents()).toEqual([first]);
      const again = node.session(instance);
      await again.request({ op: 'ready', instance }, { timeoutMs: 30_000 });
      expect(isLocked()).toBe(true);
      const serve = { release: 7, boot: 'a.1' as never };
      await expect(again.request({ op: 'activate', instance, serve }, { timeoutMs: 30_000 })).rejects.toThrow(
        'v7 ended before it could serve',
      );
      again.close();
      await waitFor('the agent to end', () => !sshd.agents().includes(first));
      expect(isLocked()).toBe(false);
    } finally {
      await node.request({ op: 'shutdown' }, { timeoutMs: 60_000 });
    }
  });
});

function nodePlaceOf({ profile }: Node): string {
  if (profile.profile !== 'rootless') throw new TypeError('a system node has no folder of its own');
  return profile.root;
}
