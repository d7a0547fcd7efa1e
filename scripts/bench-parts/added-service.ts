/** What a push costs that adds a service which its node has already, against one that changes no service. */

import { type DataBox, LIVE, yaml } from '../../tests/actors/data-box.ts';
import { waitFor } from '../../tests/actors/processes.ts';
import { median, type Row } from './report.ts';
import { time } from './time.ts';

const TARGET = 'blog/live';
const LIMIT_MS = 150;

let version = 0;

/** Another version of the site, with these services. @returns milliseconds */
async function push({ alice, receiver, get }: DataBox, services: readonly string[]): Promise<number> {
  const text = `version ${++version}`;
  alice.commit({ 'version.txt': text, 'kraftwerk.yaml': yaml(...services) });
  const mark = receiver.log.length;
  let said = '';
  const ms = await time(async () => {
    const { code, output } = await alice.push('live');
    if (code !== 0) throw new Error(`a push failed:\n${output}`);
    said = output;
  });
  if (version > 1 && said.includes('(installed ')) throw new Error(`it is to be there already:\n${said}`);
  if ((await get(LIVE, '/')) !== text) throw new Error(`the site does not serve ${text}`);
  await receiver.logged('deploy.done', undefined, mark);
  await settle(receiver);
  return ms;
}

/** What a deploy has replaced goes afterwards; it must not run into the next push. */
async function settle(receiver: DataBox['receiver']): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  await waitFor('the last deploy to be tidied up', () => receiver.agents().length === 0);
}

/** As if the site had never asked for it: what it has made goes, too. */
async function remove(here: DataBox, services: readonly string[]): Promise<void> {
  await push(here, ['files']);
  for (const service of services)
    await here.good('destroy', TARGET, '--service', service, '--no-dump', '--confirm', service);
  await settle(here.receiver);
}

/** The site asks for `files` alone, before and afterwards. */
export async function compareAddedServices(
  here: DataBox,
  services: readonly string[],
  rounds: number,
  say: (text: string) => void,
): Promise<Row[]> {
  say(`a push that installs ${services.join(', ')}`);
  version = 0;
  await push(here, ['files', ...services]);
  await remove(here, services);
  const rows: Row[] = [];
  for (const service of services) {
    say(`${rounds} rounds: a push that changes no service, one that adds ${service}`);
    const times = { same: [] as number[], added: [] as number[] };
    // The first round warms caches and code.
    for (let round = -1; round < rounds; round++) {
      const one = { same: 0, added: 0 };
      const both = [
        async () => {
          one.same = await push(here, ['files']);
        },
        async () => {
          one.added = await push(here, ['files', service]);
          await remove(here, [service]);
        },
      ];
      for (const run of round % 2 === 0 ? both : both.toReversed()) await run();
      say(`  ${one.same.toFixed(0)} ms, ${one.added.toFixed(0)} ms${round < 0 ? ', not counted' : ''}`);
      if (round < 0) continue;
      times.same.push(one.same);
      times.added.push(one.added);
    }
    const [same, added] = [median(times.same), median(times.added)];
    const shown = (list: readonly number[]): string => list.map((ms) => ms.toFixed(0)).join(' ');
    rows.push(
      { what: 'push, unchanged services', value: same, unit: 'ms', note: shown(times.same) },
      { what: `push that adds ${service}`, value: added, unit: 'ms', note: shown(times.added) },
      { what: '  beyond the unchanged', value: added - same, unit: 'ms', limit: LIMIT_MS },
    );
  }
  return rows;
}
