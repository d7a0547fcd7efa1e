/** Which processes belong to a site's master: the kernel's own list. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { childrenOf } from '../../node-agent/processes.ts';
import { createSystem } from '../../node-agent/system.ts';

const system = createSystem({});
const started: ReturnType<typeof spawn>[] = [];

afterEach(async () => {
  for (const child of started.splice(0)) {
    const closed = once(child, 'close');
    // With its group: its children hold its output open.
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    await closed;
  }
});

/** A shell that has started two programs, and tells their pids. */
async function startParent(): Promise<{ pid: number; children: number[] }> {
  const parent = spawn('/bin/sh', ['-c', 'sleep 60 & a=$!; sleep 60 & echo $a $!; wait'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  started.push(parent);
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  return { pid: parent.pid ?? 0, children: line.toString().trim().split(' ').map(Number) };
}

test("a process's children are those that it has started, and no others", async () => {
  const [one, other] = [await startParent(), await startParent()];
  expect(childrenOf(system, one.pid)).toEqual(one.children);
  expect(childrenOf(system, other.pid)).toEqual(other.children);
});

test('a process without children has none, nor has one that is gone', async () => {
  const { children } = await startParent();
  expect(childrenOf(system, children[0] ?? 0)).toEqual([]);
  expect(childrenOf(system, 0x7fffffff)).toEqual([]);
});
