// kraftwerk stop-node: ends a rootless node's nginx, runsvdir and processes, which outlive the receiver.
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { createNodes, nodeTemplates } from '../nodes/create-nodes.ts';
import { suggest } from '../suggest.ts';
import { loadConfig } from './find-config.ts';
import { parseOptions } from './parse-options.ts';

const LIMIT_MS = 60_000;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions('stop-node', argv, { config: { type: 'string' } }, 1);
  const surroundings = readSurroundings();
  const config = loadConfig(values.config, surroundings);
  const name = positionals[0] ?? '';
  const configured = config.nodes.get(name);
  if (configured === undefined) {
    const meant = suggest(name, config.nodes.keys());
    throw new KraftwerkError(
      'node.unknown',
      `${config.file} has no node ${name}${meant === null ? '' : `, did you mean ${meant}?`}`,
      {
        hint: `nodes: ${[...config.nodes.keys()].join(', ')}`,
        exit: 'denied',
      },
    );
  }
  if (configured.kind !== 'rootless')
    throw new KraftwerkError('node.system', `node ${name}: its nginx and runit are the machine's own`, {
      hint: 'only a node with a root of its own is stopped like this; see docs/nodes.md',
    });
  const nodes = createNodes({
    config: { data: config.data, nodes: new Map([[name, configured]]) },
    templatesOf: nodeTemplates(config.templates),
    env: surroundings.env,
    runsAsRoot: process.getuid?.() === 0,
    log: () => undefined,
  });
  const node = nodes.get(name);
  if (node === undefined) throw new TypeError('a node was not made');
  await node.request({ op: 'shutdown' }, { timeoutMs: LIMIT_MS });
  process.stderr.write(`${name} is stopped; a push, nodes, doctor, or a start of the receiver brings it up again\n`);
  return EXIT_CODES.ok;
}
