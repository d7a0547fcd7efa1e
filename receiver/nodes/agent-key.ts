/** The key with which the receiver logs in to its nodes: made at the first start, the same ever after. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { type HostKey, loadHostKey } from '../ssh/host-key.ts';

/** `publicKey` is type and base64, without a comment. */
export type AgentKey = HostKey;

/**
 * Loads `agent_key` of the data folder, made at need, and keeps `agent_key.pub` beside it for people.
 * @throws KraftwerkError `agentKey.invalid`, `agentKey.mode`
 */
export function loadAgentKey(data: string): AgentKey {
  const path = join(data, 'agent_key');
  const key = loadKey(path);
  const line = `${key.publicKey} kraftwerk-receiver\n`;
  if (readText(`${path}.pub`) !== line) {
    writeFileSync(`${path}.pub.new`, line, { mode: 0o644 });
    renameSync(`${path}.pub.new`, `${path}.pub`);
  }
  return key;
}

/** Made, checked and published like the host key; only what it is for, and so the remedy, is another. */
function loadKey(path: string): AgentKey {
  try {
    return loadHostKey(path);
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    const { code, message, hints, exit, cause } = error;
    throw new KraftwerkError(
      code.replace('hostKey', 'agentKey'),
      message.replace('the host key', 'the key to all nodes').replace('host key:', 'agent key:'),
      {
        hint: code.endsWith('.mode')
          ? hints
          : 'move it away to have a new one made; then run kraftwerk setup-node again for each node',
        exit,
        cause,
      },
    );
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
