/** `env TARGET`: every variable of the project, as a script for sh, bash and zsh. */
import { EXIT_CODES, VARIABLE_PATTERN } from '../../node-agent/protocol.ts';
import type { VariablesResult } from '../../node-agent/protocol-data.ts';
import { targetName } from '../target.ts';
import { chooseNode } from './choose-node.ts';
import { type Command, printJson } from './command.ts';

const READ_LIMIT_MS = 60_000;

export const env: Command = {
  name: 'env',
  // Heroku's and Dokku's.
  aliases: ['config:export'],
  summary: "all of the project's variables, as a shell script",
  usage: 'TARGET [--node NAME] [--json]',
  examples: ['env blog/live', 'env blog/live --json'],
  verb: 'env',
  target: 'required',
  args: { min: 0, max: 0 },
  options: { node: { type: 'string' } },
  async run(context) {
    const { identity, json, receiver, signal, stdout, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const node = chooseNode(context, target);
    const { environment, instance, release, written } = await receiver.describeSite(target, node);
    const more = written.some((service) => service.written.length > 0)
      ? ((await node.request(
          { op: 'variables', instance, written },
          { timeoutMs: READ_LIMIT_MS, signal },
        )) as VariablesResult)
      : {};
    receiver.journal.audit(identity.name, 'env', target, `v${release.release}`);
    const variables = { ...environment, ...more };
    if (json) printJson(stdout, variables);
    else stdout.write(formatScript(`${targetName(target)} v${release.release}`, node.name, variables));
    return EXIT_CODES.ok;
  },
};

/**
 * Lines that a shell takes as they are. HOME is left out: whoever evaluates them has one. Pure.
 * @param what for the first line
 */
export function formatScript(what: string, node: string, variables: Readonly<Record<string, string>>): string {
  const names = Object.keys(variables).filter((name) => VARIABLE_PATTERN.test(name));
  const lines = names.sort().flatMap((name) => {
    const value = variables[name] ?? '';
    if (name === 'HOME') return [];
    const line = `export ${name}='${value.replaceAll("'", "'\\''")}'`;
    return isOfNode(value) ? [`# of the node ${node}:`, line] : [line];
  });
  return `# ${what}\n${lines.join('\n')}\n`;
}

/** A path, or an address that has a socket's path in it. */
function isOfNode(value: string): boolean {
  return /^\/|^unix:|(?:\/|%2f)run(?:\/|%2f)/i.test(value);
}
