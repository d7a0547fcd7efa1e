import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { loadAgentKey } from '../../receiver/nodes/agent-key.ts';

let data: string;
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'kraftwerk-agent-key-'));
});
afterEach(() => rmSync(data, { recursive: true, force: true }));

function failure(): unknown {
  try {
    return loadAgentKey(data);
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    return { code: error.code, message: error.message, hints: error.hints };
  }
}

it('is made once, for its owner alone, with a public half for people', () => {
  const key = loadAgentKey(data);
  expect(statSync(join(data, 'agent_key')).mode & 0o777).toBe(0o600);
  const said = execFileSync('ssh-keygen', ['-y', '-f', join(data, 'agent_key')], { encoding: 'utf8' });
  expect(said.split(' ').slice(0, 2).join(' ').trim()).toBe(key.publicKey);
  expect(readFileSync(join(data, 'agent_key.pub'), 'utf8')).toBe(`${key.publicKey} kraftwerk-receiver\n`);
  writeFileSync(join(data, 'agent_key.pub'), 'something else');
  expect(loadAgentKey(data)).toEqual(key);
  expect(readFileSync(join(data, 'agent_key.pub'), 'utf8')).toBe(`${key.publicKey} kraftwerk-receiver\n`);
});

it('is not used when others may read it, or when it is none', () => {
  const path = join(data, 'agent_key');
  loadAgentKey(data);
  chmodSync(path, 0o644);
  expect(failure()).toMatchObject({
    code: 'agentKey.mode',
    message: expect.stringMatching(/: mode 0644, owner \d+: others may read the key to all nodes$/),
  });
  writeFileSync(path, 'nonsense');
  chmodSync(path, 0o600);
  expect(failure()).toEqual({
    code: 'agentKey.invalid',
    message: `${path}: not an unencrypted private key of OpenSSH`,
    hints: ['move it away to have a new one made; then run kraftwerk setup-node again for each node'],
  });
});
