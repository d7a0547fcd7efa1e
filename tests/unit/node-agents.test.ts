// Agents that wait for the next request, with a node that is made up: which one is taken, which is kept, which is let go.
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Agent } from '../../receiver/nodes/agent.ts';
import { createAgents } from '../../receiver/nodes/agents.ts';
import type { AgentChannel } from '../../receiver/nodes/connector.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const OK = (value: unknown): string => JSON.stringify({ event: 'result', ok: true, value });

/** Starts agents 0, 1, 2…; each answers as its entry in `answers` says, null: not at all. */
function node(rest: { agents: number; ms: number } | undefined, answers: Record<number, string | null> = {}) {
  const ended = new Set<number>();
  const asked: string[] = [];
  let started = 0;
  const agents = createAgents(
    { name: 'web1', profile: { profile: 'system' }, files: null },
    {
      ...(rest && { rest }),
      async open(): Promise<AgentChannel> {
        const number = started++;
        const stdin = new PassThrough();
        const stdout = new PassThrough();
        stdin.on('data', (chunk: Buffer) => {
          const { op } = JSON.parse(String(chunk)) as { op: string };
          asked.push(`${number} ${op}`);
          const answer = answers[number] === undefined ? OK(op === 'rest' ? { current: true } : null) : answers[number];
          if (answer !== null) stdout.write(`${answer}\n`);
        });
        let tell: (how: string) => void = () => undefined;
        const over = new Promise<string>((resolve) => {
          tell = resolve;
        });
        const end = (how: string): void => {
          ended.add(number);
          stdout.end();
          tell(how);
        };
        stdin.on('end', () => end('with exit code 0'));
        return { stdin, stdout, stderr: new PassThrough(), ended: over, kill: () => end('by SIGKILL') };
      },
      close: async () => undefined,
    },
  );
  return { agents, answers, asked, ended: () => [...ended].sort() };
}

const work = (agent: Agent): Promise<unknown> => agent.ask({ op: 'shutdown' }, { timeoutMs: 100 });
/** Streams need a few turns to pass on what is in them. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

it('lets an agent end at once where none may wait', async () => {
  const { agents, ended, asked } = node(undefined);
  const agent = await agents.take();
  await work(agent);
  agents.giveBack(agent);
  await turns();
  expect([ended(), asked]).toEqual([[0], ['0 shutdown']]);
});

it('gives the one that was used last, when it has said that it is free', async () => {
  const { agents, asked, ended } = node({ agents: 2, ms: 60_000 });
  const [zero, one] = [await agents.take(), await agents.take()];
  agents.giveBack(one);
  agents.giveBack(zero);
  expect(await agents.take()).toBe(zero);
  expect(await agents.take()).toBe(one);
  expect(asked).toEqual(['1 rest', '0 rest', '0 rest', '1 rest']);
  expect(ended()).toEqual([]);
});

it('keeps no more than it may, and none for longer than it may', async () => {
  const { agents, ended } = node({ agents: 2, ms: 60_000 });
  for (const agent of [await agents.take(), await agents.take(), await agents.take()]) agents.giveBack(agent);
  await turns();
  expect(ended()).toEqual([2]);
  vi.advanceTimersByTime(59_999);
  await turns();
  expect(ended()).toEqual([2]);
  vi.advanceTimersByTime(1);
  await turns();
  expect(ended()).toEqual([0, 1, 2]);
});

it('lets all go when one is silent, and starts another', async () => {
  const { agents, answers, ended } = node({ agents: 2, ms: 60_000 });
  const [zero, one] = [await agents.take(), await agents.take()];
  agents.giveBack(zero);
  agents.giveBack(one);
  await turns();
  answers[1] = null;
  const taking = agents.take();
  await turns();
  vi.advanceTimersByTime(1_000);
  const two = await taking;
  expect([zero, one]).not.toContain(two);
  await turns();
  expect(ended()).toEqual([0, 1]);
});

it.each([
  ['whose file is another one', OK({ current: false })],
  ['that does not know the request', '{"event":"result","ok":false,"error":{"code":"x","message":"no"}}'],
])('keeps none %s', async (_what, answer) => {
  const { agents, ended } = node({ agents: 2, ms: 60_000 }, { 0: answer });
  agents.giveBack(await agents.take());
  await turns();
  expect(ended()).toEqual([0]);
});

it('keeps none that has failed, or is in the middle of something', async () => {
  const { agents, answers, ended } = node({ agents: 2, ms: 60_000 }, { 1: null });
  answers[0] = '{"event":"result","ok":false,"error":{"code":"x","message":"no"}}';
  const [zero, one] = [await agents.take(), await agents.take()];
  await expect(work(zero)).rejects.toThrow('no');
  // It would say that it is free, if it were asked.
  delete answers[0];
  agents.giveBack(zero);
  const working = work(one).catch((error: Error) => error.message);
  agents.giveBack(one);
  expect(await working).toBe('node web1: the agent ended with exit code 0 without an answer');
  expect(ended()).toEqual([0, 1]);
});

it('lets all end when it is closed, those that come back later, too', async () => {
  const { agents, ended } = node({ agents: 2, ms: 60_000 });
  const [zero, one] = [await agents.take(), await agents.take()];
  agents.giveBack(zero);
  await turns();
  agents.close();
  agents.giveBack(one);
  await turns();
  expect(ended()).toEqual([0, 1]);
});
