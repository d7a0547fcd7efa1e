/** What nodes on other machines cost, against a node on this one: throw-away boxes on the same cores. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { boxesAvailable } from '../../tests/actors/box.ts';
import { waitFor } from '../../tests/actors/processes.ts';
import { NAMES, type SeveralBoxes, startSeveralBoxes } from '../../tests/actors/several-boxes.ts';
import { bootTogether } from './boot-in-box.ts';
import { median, type Row } from './report.ts';
import { time } from './time.ts';

/**
 * `cold`: the receiver's connection to the node is there, but no agent runs on it, as a minute after the last request. Else
 * one waits, as within that minute.
 */
const PUSHES = [
  { what: 'local', environment: 'stage', cold: false },
  { what: 'one', environment: 'one', cold: false },
  { what: 'cold', environment: 'one', cold: true },
  { what: 'three', environment: 'live', cold: false },
] as const;
type What = (typeof PUSHES)[number]['what'];

/** Pushes a commit to each environment in turn, so that whatever else the machine does hits them alike. */
async function comparePushes(several: SeveralBoxes, rounds: number): Promise<Record<What, number[]>> {
  const { alice, receiver } = several;
  alice.git(['remote', 'add', 'one', alice.git(['remote', 'get-url', 'live']).trim().replace(/live$/, 'one')]);
  const times: Record<What, number[]> = { local: [], one: [], cold: [], three: [] };
  for (let round = -2; round < rounds; round++) {
    for (const { what, environment, cold } of PUSHES) {
      alice.commit({ 'version.txt': several.nextVersion() });
      if (cold) await several.endAgents('web1');
      const mark = receiver.log.length;
      const ms = await time(async () => {
        const { code, output } = await alice.push(environment);
        if (code !== 0) throw new Error(`a push failed:\n${output}`);
      });
      await receiver.logged('deploy.done', undefined, mark);
      // What the deploy has replaced goes afterwards; it must not run into the next push.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await waitFor('the last deploy to be tidied up', () => receiver.agents().length === 0);
      if (round >= 0) times[what].push(ms);
    }
  }
  return times;
}

/** Without kraftwerk: how much longer three boots take that share the cores than one. */
async function compareBoots(several: SeveralBoxes, rounds: number): Promise<{ one: number; three: number }> {
  const boxes = NAMES.map((name) => several.boxes[name]);
  const one: number[] = [];
  const three: number[] = [];
  for (let round = 0; round < rounds; round++) {
    one.push(...(await bootTogether(boxes.slice(0, 1), 'blog')));
    // A deploy waits for the slowest.
    three.push(Math.max(...(await bootTogether(boxes, 'blog'))));
  }
  return { one: median(one), three: median(three) };
}

/** `ssh … logs`, from its start to its first line and to its end. */
async function readLogs({ receiver }: SeveralBoxes): Promise<{ first: number; end: number }> {
  const [command = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
  const begin = performance.now();
  const child = spawn(command, [...args, 'receiver', 'logs', 'blog/one', '-n', '5'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let first = Number.NaN;
  child.stdout.once('data', () => {
    first = performance.now() - begin;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0 || Number.isNaN(first)) throw new Error(`logs: no line, exit code ${code}`);
  return { first, end: performance.now() - begin };
}

async function measureLogs(several: SeveralBoxes, rounds: number, cold: boolean): Promise<Row[]> {
  const times: { first: number; end: number }[] = [];
  for (let round = -1; round < rounds; round++) {
    if (cold) await several.endAgents('web1');
    const one = await readLogs(several);
    if (round >= 0) times.push(one);
  }
  const which = cold ? ', no agent waits' : '';
  return [
    {
      what: `ssh … logs of a node over SSH, first line${which}`,
      value: median(times.map(({ first }) => first)),
      unit: 'ms',
      limit: 100,
    },
    { what: '  to its end', value: median(times.map(({ end }) => end)), unit: 'ms' },
  ];
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
    const [one, three] = [median(times.one), median(times.three)];
    const beyond = (list: readonly number[]): number =>
      median(list.map((ms, round) => ms - (times.local[round] ?? Number.NaN)));
    say('one boot, three boots at once');
    const boots = await compareBoots(several, rounds);
    say('logs, setup-node once more');
    const logs = [...(await measureLogs(several, rounds, false)), ...(await measureLogs(several, rounds, true))];
    const setUp: number[] = [];
    for (let count = 0; count < 3; count++) setUp.push(await time(() => several.setUpAgain('web1')));
    return [
      { what: 'push to a node on this machine', value: median(times.local), unit: 'ms' },
      { what: 'push to one node over SSH, within a minute of the last', value: one, unit: 'ms' },
      { what: '  beyond the one here', value: beyond(times.one), unit: 'ms', limit: 60 },
      { what: 'push to one node over SSH, no agent waits', value: median(times.cold), unit: 'ms' },
      { what: '  beyond the one here', value: beyond(times.cold), unit: 'ms', limit: 60 },
      { what: 'push to three nodes over SSH', value: three, unit: 'ms' },
      { what: '  times one node', value: three / one, unit: '', limit: 1.3 },
      { what: "gunicorn's own boot in a box", value: boots.one, unit: 'ms' },
      {
        what: '  in three boxes at once, the slowest',
        value: boots.three,
        unit: 'ms',
        note: `${(boots.three / boots.one).toFixed(1)}x: they share these cores`,
      },
      {
        what: 'three nodes times one, each without its boots',
        value: (three - boots.three) / (one - boots.one),
        unit: '',
        limit: 1.3,
      },
      ...logs,
      { what: 'setup-node on a provisioned server', value: median(setUp), unit: 'ms', limit: 5_000 },
    ];
  } finally {
    say('cleaning up');
    await several.cleanUp();
  }
}
