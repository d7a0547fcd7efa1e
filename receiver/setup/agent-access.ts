/** The key by which the receiver comes to its nodes: its public half always, its private half where this machine has it. */
import { chownSync, existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Surroundings } from '../config.ts';
import { type PublicKey, parsePublicKey } from '../keys.ts';
import { loadAgentKey } from '../nodes/agent-key.ts';
import type { ReceiverSettings } from './receiver-settings.ts';

export interface AgentAccess {
  publicKey: PublicKey;
  /** `kraftwerk-receiver:paas.example.com` */
  comment: string;
  /** Null: it is on the receiver's machine alone. */
  privateKey: string | null;
}

const COMMENT = 'kraftwerk-receiver';

/**
 * @param given --receiver-key: a line, or the file that holds it
 * @param machine this machine's name: who is let in, in the node's authorized_keys
 * @throws KraftwerkError `setup.receiverKey`, `key.*`, `agentKey.*`
 */
export function findAgentAccess(
  given: string | null,
  settings: ReceiverSettings | null,
  { cwd }: Surroundings,
  machine: string,
): AgentAccess {
  if (given !== null) {
    const isLine = /^(?:ssh-|ecdsa-|sk-)\S* /.test(given.trim());
    const file = path.resolve(cwd, given);
    if (!isLine && !existsSync(file))
      throw new KraftwerkError('setup.receiverKey', `--receiver-key: no file ${file}`, { exit: 'usage' });
    const publicKey = parsePublicKey(isLine ? given : readFileSync(file, 'utf8'));
    return {
      publicKey,
      comment: publicKey.comment.startsWith(COMMENT) ? publicKey.comment : COMMENT,
      privateKey: null,
    };
  }
  if (settings === null || !existsSync(settings.data)) {
    const why = settings === null ? 'this machine has no configuration of a receiver' : `there is no ${settings.data}`;
    throw new KraftwerkError('setup.receiverKey', `which receiver is to be let in? ${why}`, {
      hint: [
        'run this on the receiver; or copy agent_key.pub from its data folder (/var/lib/kraftwerk), and:',
        '--receiver-key agent_key.pub',
      ],
    });
  }
  const { publicKey, privateKey } = ensureAgentKey(settings.data);
  return { publicKey, comment: `${COMMENT}:${machine}`, privateKey };
}

/** The key in the receiver's data folder, made at need; it belongs to whom the folder belongs. */
export function ensureAgentKey(data: string): { publicKey: PublicKey; privateKey: string | null } {
  const file = path.join(data, 'agent_key');
  const owner = statSync(data);
  const isMine = owner.uid === process.getuid?.();
  if (isMine || !existsSync(`${file}.pub`)) {
    const { publicKey, privateKey } = loadAgentKey(data);
    if (!isMine) for (const path of [file, `${file}.pub`]) chownSync(path, owner.uid, owner.gid);
    return { publicKey: parsePublicKey(publicKey), privateKey };
  }
  // Root reads what is the receiver's; loading it would ask for one's own.
  return { publicKey: parsePublicKey(readFileSync(`${file}.pub`, 'utf8')), privateKey: readFileSync(file, 'utf8') };
}
