// kraftwerk stop-node: ends a rootless node's nginx, runsvdir and processes, which outlive the receiver.
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { installPath } from '../install-root.ts';
import { createNodes } from '../start-receiver.ts';
import { suggest } from '../suggest.ts';
import { createTemplates } from '../templates.ts';
import { loadConfig } from './find-config.ts';
import { parseOptions } from './parse-options.ts';

const LIMIT_MS = 60_000;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions('stop-node', argv, { config: { type: 'string' } }, 1);
  const surroundings = readSurroundings();
  const config = loadConfig(values.config, surroundings);
  const templates = createTemplates([...config.templates, installPath('templates')]);
  const nodes = createNodes(config, templates, surroundings.env, process.getuid?.() === 0);
  const name = positionals[0] ?? '';
  const node = nodes.get(name);
  if (node === undefined) {
    const meant = suggest(name, nodes.keys());
    throw new KraftwerkError(
      'node.unknown',
      `${config.file} has no node ${name}${meant === null ? '' : `, did you mean ${meant}?`}`,
      {
        hint: `nodes: ${[...nodes.keys()].join(', ')}`,
        exit: 'denied',
      },
    );
  }
  await node.request({ op: 'shutdown' }, { timeoutMs: LIMIT_MS });
  process.stderr.write(`${name} is stopped; the next push, or start of the receiver, brings it up again\n`);
  return EXIT_CODES.ok;
}
