/** `projects`: everything that the key may see, one line each. */

import { KraftwerkError } from '../../node-agent/protocol.ts';
import { decide, seesTarget } from '../access.ts';
import { printTable } from '../print-table.ts';
import { nameOwner } from '../taken.ts';
import { targetName } from '../target.ts';
import type { Command } from './command.ts';
import { printJson } from './command.ts';
import { describeState, isClosed, readStates, urlsOf } from './target-state.ts';
import { formatTime } from './units.ts';

export const projects: Command = {
  name: 'projects',
  aliases: ['apps', 'apps:list', 'ls'],
  summary: 'projects, their releases, states and domains',
  usage: '[--json]',
  examples: ['projects', 'projects --json'],
  verb: 'projects',
  target: 'none',
  args: { min: 0, max: 0 },
  options: {},
  async run({ identity, json, receiver, stderr, stdout }) {
    const visible = receiver.journal
      .targets()
      .map(({ target }) => target)
      .filter((target) => decide(identity, 'status', target).allow);
    const states = await readStates(receiver, visible, { memory: false });
    const all = states.map((state) => ({ ...state, deploy: receiver.journal.deployOfCurrent(state.target) }));
    if (json) {
      const rows = all.map(({ deploy, ...state }) => ({
        target: targetName(state.target),
        project: state.target.project,
        environment: state.target.environment,
        release: state.record.current,
        commit: state.release?.commit ?? null,
        state: state.state,
        nameTaken: state.conflict !== null,
        maintenance: isClosed(state),
        busy: state.busy !== null,
        domains: state.release?.spec.domains ?? [],
        urls: urlsOf(state),
        deployedAt: deploy?.endedAt ?? null,
        deployedBy: deploy?.by ?? null,
      }));
      printJson(stdout, rows);
      return 0;
    }
    if (all.length === 0) stderr.write('no projects yet; the first git push creates one\n');
    const columns = ['TARGET', 'RELEASE', 'STATE', 'DOMAIN', 'DEPLOYED'].map((title) => ({ title }));
    const rows = all.map(({ deploy, ...state }) => [
      targetName(state.target),
      state.record.current === null ? '-' : `v${state.record.current}`,
      describeState(state),
      state.release?.spec.domains[0] ?? '-',
      formatTime(deploy?.endedAt ?? null),
    ]);
    stdout.write(printTable(columns, rows));
    const silent = new Map(
      states.flatMap(({ nodes }) => nodes.flatMap(({ error, node }) => (error ? [[node, error]] : []))),
    );
    for (const { conflict, target } of states) {
      const told = conflict === null ? null : nameOwner(receiver.instances.refusal(target), seesTarget(identity));
      if (told instanceof KraftwerkError) stderr.write(`warning: ${targetName(target)}: ${told.message}\n`);
    }
    for (const [node, error] of silent) stderr.write(`warning: node ${node} cannot be asked: ${error}\n`);
    return 0;
  },
};
