/** What nodes on other machines cost, against a node on this one: throw-away boxes on the same cores. */
import { boxesAvailable } from '../../tests/actors/box.ts';
import { waitFor } from '../../tests/actors/processes.ts';
import { type SeveralBoxes, startSeveralBoxes } from '../../tests/actors/several-boxes.ts';
import { median, type Row } from './report.ts';

async function time(body: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
}

/** Pushes one commit to each environment in turn, so that whatever else the machine does hits them alike. */
async function comparePushes(several: SeveralBoxes, rounds: number): Promise<Record<string, number[]>> {
  const { alice, receiver } = several;
  alice.git(['remote', 'add', 'one', alice.git(['remote', 'get-url', 'live']).trim().replace(/live$/, 'one')]);
  const times: Record<string, number[]> = { stage: [], one: [], live: [] };
  for (let round = -2; round < rounds; round++) {
    alice.commit({ 'version.txt': several.nextVersion() });
    for (const [environment, list] of Object.entries(times)) {
      const mark = receiver.log.length;
      const ms = await time(async () => {
        const { code, output } = await alice.push(environment);
        if (code !== 0) throw new Error(`a push failed:\n${output}`);
      });
      await receiver.logged('deploy.done', undefined, mark);
      // What the deploy has replaced goes afterwards; it must not run into the next push.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await waitFor('the last deploy to be tidied up', () => receiver.agents().length === 0);
      if (round >= 0) list.push(ms);
    }
  }
  return times;
}

/** @throws when there can be no boxes here */
export async function measureNodesInBoxes(rounds: number, say: (text: string) => void): Promise<Row[]> {
  const missing = boxesAvailable();
  if (missing !== null) throw new Error(`boxes cannot run here: ${missing}`);
  say('three boxes and a receiver: a minute or two where they have to be made first');
  const several = await startSeveralBoxes();
  try {
    say(`${rounds} rounds: push to this machine, to one node, to three`);
    const times = await comparePushes(several, rounds);
    const [local = Number.NaN, one = Number.NaN, three = Number.NaN] = ['stage', 'one', 'live'].map((name) =>
      median(times[name] ?? []),
    );
    const beyond = median((times.one ?? []).map((ms, round) => ms - (times.stage?.[round] ?? Number.NaN)));
    say('setup-node once more, logs');
    const setUp: number[] = [];
    for (let count = 0; count < 3; count++) setUp.push(await time(() => several.setUpAgain('web1')));
    const logs: number[] = [];
    for (let count = 0; count < rounds; count++) {
      logs.push(
        await time(async () => {
          const { code, stderr } = await several.receiver.ssh('logs', 'blog/one', '-n', '5');
          if (code !== 0) throw new Error(`logs: ${stderr}`);
        }),
      );
    }
    return [
      { what: 'push to a node on this machine', value: local, unit: 'ms' },
      { what: 'push to one node over SSH', value: one, unit: 'ms' },
      { what: '  beyond the one here', value: beyond, unit: 'ms', limit: 60 },
      { what: 'push to three nodes over SSH', value: three, unit: 'ms' },
      { what: '  times one node', value: three / one, unit: '', limit: 1.3, note: 'three sites boot on these cores' },
      { what: 'setup-node on a provisioned server', value: median(setUp), unit: 'ms', limit: 5_000 },
      { what: 'ssh … logs of a node over SSH, to its end', value: median(logs), unit: 'ms', limit: 100 },
    ];
  } finally {
    say('cleaning up');
    await several.cleanUp();
  }
}
