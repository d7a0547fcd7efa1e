/**
 * create-node and destroy-node as a process of their own, with all that is real but two things that a test cannot have:
 * /etc/hosts, and port 22. Called by create-node.test.ts: COMMAND HOSTS_FILE SSH_PORT ARGUMENTS…
 */
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { createNode } from '../../receiver/cli/create-node.ts';
import { destroyNode } from '../../receiver/cli/destroy-node.ts';
import { readSurroundings } from '../../receiver/config.ts';
import { probeSsh } from '../../receiver/providers/wait-for-server.ts';
import { realWorld, withInterrupt } from '../../receiver/providers/world.ts';

const [command = '', hostsFile = '', sshPort = '', ...argv] = process.argv.slice(2);

process.exitCode = await withInterrupt(async (signal) => {
  const world = {
    ...realWorld(readSurroundings(), signal),
    hostsFile,
    isSshOpen: (address: string) => probeSsh(address, Number(sshPort)),
    lookUp: async () => null,
  };
  return command === 'create-node' ? await createNode(argv, [], world) : await destroyNode(argv, world);
}).catch((error: unknown) => {
  if (!(error instanceof KraftwerkError)) throw error;
  process.stderr.write([`error: ${error.message}`, ...error.hints.map((hint) => `hint: ${hint}`), ''].join('\n'));
  return EXIT_CODES[error.exit];
});
