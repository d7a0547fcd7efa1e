// Measures kraftwerk against its own lower limits in one run: only the ratios mean something on another machine.
// Long because: every measurement shares one receiver, one site and one table.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { waitFor } from '../tests/actors/processes.ts';
import { createPusher, type Pusher } from '../tests/actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../tests/actors/receiver.ts';
import { fetchWheels, makeWheel } from '../tests/actors/wheels.ts';
import { measureBoot } from './bench-parts/gunicorn-boot.ts';
import { type Site, startLoad, visit } from './bench-parts/http-load.ts';
import { copyProjects } from './bench-parts/many-projects.ts';
import { measureNodesInBoxes } from './bench-parts/nodes-in-boxes.ts';
import { startPlainGitServer } from './bench-parts/plain-git-server.ts';
import { formatReport, median, type Row } from './bench-parts/report.ts';
import { measureServicesInBoxes } from './bench-parts/services-in-boxes.ts';
import { time } from './bench-parts/time.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '10' },
    deploys: { type: 'string', default: '20' },
    /** Pushes and commands alone: what is tried again and again while something is made faster. */
    short: { type: 'boolean', default: false },
    /** Nodes on other machines instead: throw-away boxes, which need root. */
    nodes: { type: 'boolean', default: false },
    /** What services cost instead, in such a box; with so much data. */
    services: { type: 'boolean', default: false },
    megabytes: { type: 'string', default: '1024' },
    uploads: { type: 'string', default: '10000' },
  },
});
const ROUNDS = readCount('rounds', values.rounds);
const DEPLOYS = readCount('deploys', values.deploys);
const MEGABYTES = readCount('megabytes', values.megabytes, 10_000);
const UPLOADS = readCount('uploads', values.uploads, 1_000_000);
/** Dumps and loads take minutes. */
const LARGE_ROUNDS = 3;
const LIMIT_MS = values.services ? 7_200_000 : 900_000;
const BUDGET_MS = 100;
const PROJECTS = 100;
const TREE_FILES = 5_000;

const rows: Row[] = [];
const stepTimes = new Map<string, number[]>();

function readCount(name: string, text: string, most = 1000): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0 && count <= most) return count;
  process.stderr.write(`error: --${name}: expected a number from 1 to ${most}, got ${text}\n`);
  process.exit(2);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The old process has drained, its agent is gone: nothing of the last deploy runs into the next measurement. */
async function settle(receiver: TestReceiver): Promise<void> {
  await waitFor('the last deploy to be tidied up', () => receiver.agents().length === 0);
  await new Promise((resolve) => setTimeout(resolve, 150));
  await waitFor('the last deploy to be tidied up', () => receiver.agents().length === 0);
}

async function pushAndCheck(pusher: Pusher): Promise<void> {
  const result = await pusher.push('stage');
  if (result.code !== 0) throw new Error(`a push failed:\n${result.output}`);
}

const version = (number: number): Record<string, string> => ({
  'hello/version.py': `VERSION = "${number}"\n`,
});

async function comparePushes(receiver: TestReceiver, pusher: Pusher, site: Site, folder: string): Promise<void> {
  const plain = await startPlainGitServer(folder, receiver.admin, join(receiver.home.folder, 'config'));
  pusher.git(['remote', 'add', 'plain', plain.url]);
  const pushPlain = async (): Promise<void> => {
    const { code, stderr } = await pusher.tryGit(['push', 'plain', 'master']);
    if (code !== 0) throw new Error(`a plain push failed:\n${stderr}`);
  };
  const times: { plain: number; boot: number; push: number }[] = [];
  for (let round = -2; round < ROUNDS; round++) {
    pusher.commit(version(100 + round));
    const mark = receiver.log.length;
    const plainMs = await time(pushPlain);
    const push = await time(() => pushAndCheck(pusher));
    const page = await visit(site);
    if (!page.includes(`says ${100 + round}<`)) throw new Error(`the site does not serve what was pushed: ${page}`);
    const done = await receiver.logged('deploy.done', () => true, mark);
    await settle(receiver);
    const boot = await measureBoot(receiver.node, 'bench-stage', Number(done.release));
    // The first two warm caches and code.
    if (round < 0) continue;
    times.push({ plain: plainMs, boot, push });
    for (const { step, ms } of done.steps as { step: string; ms: number }[])
      stepTimes.set(step, [...(stepTimes.get(step) ?? []), ms]);
    stepTimes.set('deploy in all', [...(stepTimes.get('deploy in all') ?? []), Number(done.durationMs)]);
  }
  await plain.close();
  const plainMs = median(times.map((one) => one.plain));
  const bootMs = median(times.map((one) => one.boot));
  const pushMs = median(times.map((one) => one.push));
  const beyond = median(times.map((one) => one.push - one.plain - one.boot));
  rows.push(
    { what: 'plain git push, no deploy', value: plainMs, unit: 'ms' },
    { what: "gunicorn's boot to its first 200", value: bootMs, unit: 'ms' },
    {
      what: 'push, unchanged requirements',
      value: pushMs,
      unit: 'ms',
      note: `${(pushMs / (plainMs + bootMs)).toFixed(2)}x plain push + boot, median of ${ROUNDS}`,
    },
    { what: '  beyond plain push + boot', value: beyond, unit: 'ms', limit: BUDGET_MS },
  );
}

async function deployUnderLoad(receiver: TestReceiver, pusher: Pusher, site: Site): Promise<void> {
  const load = startLoad(site, 200);
  const times: number[] = [];
  try {
    for (let count = 0; count < DEPLOYS; count++) {
      pusher.commit(version(1000 + count));
      times.push(await time(() => pushAndCheck(pusher)));
    }
    await settle(receiver);
  } finally {
    load.stop();
  }
  const { sent, perSecond, failures } = await load.result();
  rows.push(
    {
      what: `failed requests during ${DEPLOYS} deploys`,
      value: failures.length,
      unit: '',
      limit: 0,
      note: `of ${sent}, ${perSecond} a second${failures[0] === undefined ? '' : `; first: ${failures[0]}`}`,
    },
    { what: '  push under that load', value: median(times), unit: 'ms' },
  );
}

async function measureCommand(receiver: TestReceiver, words: string[], limit?: number): Promise<void> {
  const times: number[] = [];
  for (let count = 0; count < ROUNDS + 2; count++) {
    times.push(
      await time(async () => {
        const { code, stderr } = await receiver.ssh(...words);
        if (code !== 0) throw new Error(`ssh ${words.join(' ')}: ${stderr}`);
      }),
    );
  }
  rows.push({
    what: `ssh … ${words.join(' ')}`,
    value: median(times.slice(2)),
    unit: 'ms',
    ...(limit === undefined ? {} : { limit }),
  });
}

async function measureOtherDeploys(receiver: TestReceiver, pusher: Pusher): Promise<void> {
  const requirements = readFileSync(join(pusher.work, 'requirements.txt'), 'utf8');
  const changed: number[] = [];
  for (let number = 1; number <= 3; number++) {
    makeWheel(receiver.wheels, 'kwbench', `1.${number}`);
    pusher.commit({ 'requirements.txt': `${requirements.trimEnd()}\nkwbench==1.${number}\n` });
    changed.push(await time(() => pushAndCheck(pusher)));
    await settle(receiver);
  }
  rows.push({
    what: 'push, changed requirements',
    value: median(changed),
    unit: 'ms',
    note: 'pip, a small local wheel',
  });

  // To the release before, and forth again to the last.
  const last = Number(receiver.log.findLast(({ event }) => event === 'deploy.done')?.release);
  const back: number[] = [];
  for (let count = 0; count < 6; count++) {
    back.push(
      await time(async () => {
        const { code, stderr } = await receiver.ssh('rollback', 'bench/stage', `v${last - 1 + (count % 2)}`);
        if (code !== 0) throw new Error(`rollback: ${stderr}`);
      }),
    );
    await settle(receiver);
  }
  rows.push({ what: 'rollback', value: median(back), unit: 'ms' });
}

async function measureLargeTree(receiver: TestReceiver): Promise<void> {
  const large = createPusher(receiver, 'large', 'plain');
  try {
    const text = 'A line of text that is like many others.\n'.repeat(20);
    large.commit(
      Object.fromEntries(
        Array.from({ length: TREE_FILES }, (_, at) => [`data/${at % 50}/${at}.txt`, `${at}\n${text}`]),
      ),
    );
    const first = await time(() => pushAndCheck(large));
    await settle(receiver);
    large.commit({ 'version.txt': 'two\n' });
    const second = await time(() => pushAndCheck(large));
    await settle(receiver);
    rows.push(
      { what: `first push, ${TREE_FILES} files`, value: first, unit: 'ms' },
      { what: `push, one of ${TREE_FILES} files changed`, value: second, unit: 'ms' },
    );
  } finally {
    large.cleanUp();
  }
}

async function measureIdle(receiver: TestReceiver): Promise<void> {
  rows.push({ what: 'agents between requests', value: receiver.agents().length, unit: '', limit: 0 });
  await receiver.stop();
  copyProjects(join(receiver.data, 'journal.db'), 'bench', PROJECTS);
  rows.push({
    what: `start of the receiver, ${PROJECTS} projects`,
    value: await time(() => receiver.restart()),
    unit: 'ms',
  });
  // After a few commands, so that what is loaded on demand is loaded.
  for (let count = 0; count < 5; count++) await receiver.ssh('projects');
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${receiver.pid}/status`, 'utf8'))?.[1];
  rows.push({ what: `idle receiver's RSS, ${PROJECTS} projects`, value: Number(rss) / 1024, unit: 'MB', limit: 90 });
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const [load = 0] = loadavg();
  if (load > cpus().length / 2)
    say(`warning: other programs keep this machine busy (load ${load.toFixed(1)}): times will be too high`);
  if (values.nodes) {
    rows.push(...(await measureNodesInBoxes(ROUNDS, say)));
    process.stdout.write(formatReport(rows, { title: '', times: stepTimes }, values.json));
    return;
  }
  if (values.services) {
    const largeRounds = Math.min(ROUNDS, LARGE_ROUNDS);
    const order = { megabytes: MEGABYTES, uploads: UPLOADS, rounds: ROUNDS, largeRounds };
    const found = await measureServicesInBoxes(order, say);
    const steps = { title: 'Steps of the loads, from their transcripts, medians', times: found.steps };
    process.stdout.write(formatReport(found.rows, steps, values.json));
    return;
  }
  fetchWheels();
  say('starting a receiver and a node');
  const receiver = await startReceiver();
  const pusher = createPusher(receiver, 'bench', 'flask');
  try {
    pusher.write({
      'hello/__init__.py': `from flask import Flask, render_template

from .version import VERSION

app = Flask(__name__)


@app.get("/")
def index():
    return render_template("index.html", version=VERSION)
`,
    });
    pusher.commit(version(0));
    say('first push');
    rows.push({ what: 'first push of a project', value: await time(() => pushAndCheck(pusher)), unit: 'ms' });
    await settle(receiver);
    const site = { port: receiver.httpPort, host: 'bench-stage.localhost' };
    say(`${ROUNDS} rounds: plain push, push, boot`);
    await comparePushes(receiver, pusher, site, folder);
    if (!values.short) {
      say(`${DEPLOYS} deploys at 200 requests a second`);
      await deployUnderLoad(receiver, pusher, site);
    }
    say('commands');
    await measureCommand(receiver, ['whoami'], 40);
    await measureCommand(receiver, ['status', 'bench/stage'], 100);
    if (!values.short) {
      say('changed requirements, rollback');
      await measureOtherDeploys(receiver, pusher);
      say(`a tree of ${TREE_FILES} files`);
      await measureLargeTree(receiver);
      say(`idle, with ${PROJECTS} projects`);
      await measureIdle(receiver);
    }
    const title = "Steps of the pushes with unchanged requirements, from the receiver's log, medians";
    process.stdout.write(formatReport(rows, { title, times: stepTimes }, values.json));
  } finally {
    say('cleaning up');
    pusher.cleanUp();
    await receiver.cleanUp();
  }
}

// The actors clean up when the process exits, and only then.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));
setTimeout(() => {
  say(`error: not done within ${LIMIT_MS / 60_000} minutes`);
  process.exit(1);
}, LIMIT_MS).unref();
await main();
