// The conversation with agent-login, word for word, with a node that is made up.

import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AgentChannel } from '../../receiver/nodes/connector.ts';
import { createAgentStarter } from '../../receiver/nodes/start-agent.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-start-'));
  writeFileSync(join(folder, 'agent.mjs'), 'agent');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SHA = createHash('sha256').update('agent').digest('hex');
const OUTDATED = '{"event":"outdated","have":"none","version":"0.1.0"}\n';
const INSTALL = `install 0.2.0 ${SHA} 5`;

/** A node that answers each command with the next of `answers`; null: not at all. */
function node(answers: (string | null)[], stderr = '') {
  const commands: string[] = [];
  const killed: string[] = [];
  const start = createAgentStarter({
    name: 'web1',
    through: 'root@web1:22',
    remedy: 'kraftwerk setup-node web1',
    agentFile: join(folder, 'agent.mjs'),
    version: '0.2.0',
    answerMs: 50,
    log: () => undefined,
    async run(command): Promise<AgentChannel> {
      commands.push(command);
      const stdout = new PassThrough();
      const answer = answers.shift();
      if (answer !== null) stdout.write(answer ?? '');
      if (answer !== null && !answer?.includes('starting')) stdout.end();
      const errors = new PassThrough();
      errors.end(stderr);
      return {
        stdin: new PassThrough(),
        stdout,
        stderr: errors,
        ended: Promise.resolve('with exit code 1'),
        kill: () => void killed.push(command),
      };
    },
  });
  return { start, commands, killed };
}

it('leaves what follows the answer to be read', async () => {
  const { start, commands } = node([
    'welcome\nto {"event":"starting"}\n[1]\n"x"\n\n{"event":"starting"}\n{"event":"result"}\nmore',
  ]);
  const { stdout } = await start();
  expect(String(stdout.read())).toBe('{"event":"result"}\nmore');
  expect(commands).toEqual([`agent ${SHA}`]);
});

it('finds the answer behind a greeting that does not end', async () => {
  const { start } = node([`${'x'.repeat(200_000)}\n{"event":"starting"}\n`]);
  expect((await start()).stdout.read()).toBe(null);
});

it('sends the agent once for all who ask at the same time', async () => {
  const { start, commands } = node([
    OUTDATED,
    OUTDATED,
    '{"event":"installed"}\n',
    '{"event":"starting"}\n',
    '{"event":"starting"}\n',
  ]);
  await Promise.all([start(), start()]);
  expect(commands.filter((command) => command === INSTALL)).toHaveLength(1);
});

it.each([
  {
    answers: [OUTDATED, '{"event":"refused","version":"0.10.0"}\n'],
    code: 'node.newer',
    message: 'node web1: its agent is of kraftwerk 0.10.0, this receiver is 0.2.0',
  },
  {
    answers: ['{"event":"no-node","version":"none"}\n'],
    code: 'node.nodejs',
    message: 'node web1: the agent needs Node.js 18 or newer there, found none',
  },
  {
    answers: [OUTDATED, '{"event":"no-node","version":"v12.22.9"}\n'],
    code: 'node.nodejs',
    message: 'node web1: the agent needs Node.js 18 or newer there, found 12.22.9',
  },
  {
    answers: ['bash: agent: command not found\n'],
    code: 'node.agent',
    message: 'node web1: root@web1:22 does not start the agent: ended with exit code 1',
    lines: ['one', 'two'],
  },
  {
    answers: [null],
    code: 'node.agent',
    message: 'node web1: root@web1:22 does not start the agent: no answer within 0.05 s',
    lines: ['one', 'two'],
  },
  {
    answers: [OUTDATED, '{"event":"installed"}\n', OUTDATED, '{"event":"installed"}\n', OUTDATED],
    code: 'node.agent',
    message: 'node web1: the agent was installed, and is another one already',
  },
])('$message', async ({ answers, code, message, lines = [] }) => {
  const { start } = node(answers, 'one\n\ntwo\n');
  await expect(start()).rejects.toMatchObject({ code, message, lines });
});
