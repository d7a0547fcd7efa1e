/** The proof that a node will do: the receiver's own key gets in, and the agent answers. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { installPath, readVersion } from '../install-root.ts';
import { createNode } from '../nodes/node.ts';
import { createSshConnector } from '../nodes/ssh.ts';
import type { NodeLine } from './node-line.ts';
import type { Provisioning } from './provision.ts';

/** @throws KraftwerkError what keeps the receiver from the node */
export async function proveNode(
  { shell, templates, report }: Provisioning,
  { name, host, port, user, hostKey }: NodeLine,
  privateKey: string | null,
): Promise<void> {
  report.begin('Agent');
  const agentFile = installPath('build', 'agent.mjs');
  if (privateKey === null) {
    const sha256 = createHash('sha256').update(readFileSync(agentFile)).digest('hex');
    const lines: string[] = [];
    await shell.run('sh', templates.render('shell', 'node/prove.sh', { sha256 }), (line) => lines.push(line));
    if (!lines.includes('{"event":"starting"}'))
      throw new KraftwerkError('setup.agent', `${name}: the agent does not start`, { lines });
    return report.endStep('starts; the key is tried by the receiver itself');
  }
  const connector = createSshConnector({
    ...{ name, host, port, user, hostKey, privateKey, agentFile },
    version: readVersion(),
    log: () => undefined,
  });
  const node = createNode({ name, profile: { profile: 'system' }, files: null }, connector);
  try {
    await node.hello();
  } finally {
    await node.close();
  }
  report.endStep("answers to the receiver's key");
}
