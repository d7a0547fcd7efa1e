// The way to a system node on this machine, with a sudo that asks nobody.
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalSystemConnector } from '../../receiver/nodes/local-system.ts';
import { talk, writeTestAgent } from '../actors/sshd.ts';

const TEMPLATE = fileURLToPath(new URL('../../templates/node/agent-login', import.meta.url));
const hasNode = ['/usr/bin/node', '/usr/bin/nodejs', '/usr/local/bin/node'].some((path) => existsSync(path));
if (!hasNode) console.warn('skipped: tests/unit/node-ssh-local.test.ts: no node in /usr/bin or /usr/local/bin');

describe.skipIf(!hasNode)('a system node on this machine', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-local-'));
    copyFileSync(TEMPLATE, join(folder, 'agent-local'));
    writeFileSync(join(folder, 'sudo'), '#!/bin/sh\nexec env -i "$2"\n', { mode: 0o755 });
    writeFileSync(join(folder, 'sudo-no'), '#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n', {
      mode: 0o755,
    });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const connector = (sudo: string, more: { agentFile?: string; runsAsRoot?: boolean } = {}) =>
    createLocalSystemConnector({
      name: 'here',
      agentFile: writeTestAgent(folder, 'local'),
      version: '0.2.0',
      runsAsRoot: false,
      environment: {},
      log: () => undefined,
      agentLogin: join(folder, 'agent-local'),
      sudo: join(folder, sudo),
      ...more,
    });

  it('gets the agent and runs it', async () => {
    const one = await talk(connector('sudo'));
    one.order({ op: 'echo', text: 'here' });
    expect(await one.answer()).toMatchObject({ name: 'local', text: 'here' });
    one.order({ op: 'complain', text: 'oh' });
    one.channel.stdin.end();
    expect(await one.channel.ended).toBe('with exit code 0');
    expect(String(one.channel.stderr.read())).toBe('oh');
  });

  it('ends an agent whose pipes are gone', async () => {
    const one = await talk(connector('sudo'));
    one.order({ op: 'echo', text: '' });
    await one.answer();
    one.channel.kill();
    expect(await one.channel.ended).toMatch(/^(with exit code 0|because the receiver ended it)$/);
  });

  it.each([
    ['sudo-no', 'node here: sudo does not start the agent: ended with exit code 1', ['sudo: a password is required']],
    ['sudo-missing', expect.stringMatching(/^node here: sudo could not be started: spawn .* ENOENT$/), []],
  ])('says what is wrong with %s', async (sudo, message, lines) => {
    await expect(connector(sudo).open()).rejects.toMatchObject({ message, lines });
  });

  it('says when there is no agent to send', async () => {
    const agentFile = join(folder, 'none.mjs');
    await expect(connector('sudo', { agentFile }).open()).rejects.toMatchObject({
      code: 'agent.missing',
      message: expect.stringContaining(agentFile),
    });
  });

  it('asks no sudo as root', async () => {
    const one = await talk(connector('sudo-no', { runsAsRoot: true }));
    one.order({ op: 'echo', text: 'root' });
    expect(await one.answer()).toMatchObject({ text: 'root' });
    one.channel.stdin.end();
    expect(await one.channel.ended).toBe('with exit code 0');
  });
});
