// A deploy that was cut off after its switch leaves the old process running, and the next deploy ends it in the very slot that it then
// uses. What the old process and its log still say must not be taken for the new one's.
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAlive, processesWith, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { get } from '../actors/site.ts';

const HOST = 'blog-stage.localhost';
const YAML = 'wsgi: app:application\nsrc: .\nworkers: 1\n';
const app = (body: string): string => `
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'${body}']
`;

let receiver: TestReceiver;
let alice: Pusher;
let failpoint: string;
let version = 0;
beforeAll(async () => {
  receiver = await startReceiver();
  failpoint = join(receiver.folder, 'failpoint');
  await receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
  alice = createPusher(receiver, 'blog');
  await deploy();
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
});

async function deploy(): Promise<string> {
  const body = `version ${++version}`;
  await alice.deploy({ 'app.py': app(body), 'kraftwerk.yaml': YAML }, 'stage');
  return body;
}
const isStopped = (pid: number): boolean => {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    // It has ended meanwhile.
    return false;
  }
};
const site = (): string => join(receiver.node, 'web/blog-stage');
/** The slot that does not serve. */
const idle = (): string => {
  const serving = readFileSync(join(site(), '.kraftwerk/boots'), 'utf8').trim();
  const [boot = ''] = readdirSync(join(receiver.node, 'run/kraftwerk/blog-stage')).filter((name) =>
    name.endsWith(`.${serving}`),
  );
  return boot.startsWith('a') ? 'b' : 'a';
};

/** The next deploy's switch is followed by no retire: the old process runs on in the slot that is to be used next. */
async function leaveOldProcess(): Promise<void> {
  const start = receiver.log.length;
  writeFileSync(failpoint, 'retire:retire.drained:1:kill');
  await deploy();
  await receiver.logged('deploy.retire_failed', undefined, start);
  rmSync(failpoint);
}

describe('after a deploy that has left the old process running', () => {
  const ways: Readonly<Record<string, () => Promise<unknown>>> = {
    'the next push': () => deploy(),
    'a rollback': async () => expect(await receiver.ssh('rollback', 'blog/stage')).toMatchObject({ code: 0 }),
    'a restart': async () => expect(await receiver.ssh('restart', 'blog/stage')).toMatchObject({ code: 0 }),
    'a new deploy of the same': async () =>
      expect(await receiver.ssh('deploy', 'blog/stage')).toMatchObject({ code: 0 }),
  };
  it.each(Object.keys(ways))('%s works, though the old one ends in its slot and its log comes late', async (way) => {
    await leaveOldProcess();
    const folder = join(site(), `log/web.${idle()}`);
    const [logger] = processesWith(folder).filter(({ argv }) => argv[0] === 'svlogd');
    if (logger === undefined) throw new Error('the idle slot has no logger');
    // What the old process says at its end is written only when the new one is about to start.
    writeFileSync(failpoint, 'prepare:trial:1:stop');
    process.kill(logger.pid, 'SIGSTOP');
    const done = ways[way]?.();
    done?.catch(() => undefined);
    const agent = await waitFor('the agent to stop at the trial', () =>
      processesWith('agent.mjs').find(({ pid }) => isStopped(pid)),
    );
    rmSync(failpoint);
    process.kill(logger.pid, 'SIGCONT');
    await waitFor("the old one's end mark", () =>
      /web ended with exit code 0\n$/.test(readFileSync(join(folder, 'current'), 'utf8')),
    );
    process.kill(agent.pid, 'SIGCONT');
    await done;
    expect((await get(receiver, HOST, '/')).status).toBe(200);
  });

  it('its late retire removes nothing that the next deploy keeps', async () => {
    writeFileSync(failpoint, 'retire:retire.drained:1:stop');
    await deploy();
    const kept = readFileSync(join(site(), 'current/app.py'), 'utf8');
    const release = readlinkSync(join(site(), 'current')).split('/').pop() ?? '';
    const agent = await waitFor('the agent to stop', () =>
      processesWith('agent.mjs').find(({ pid }) => isStopped(pid)),
    );
    rmSync(failpoint);
    await deploy();
    const boots = (): string[] =>
      readdirSync(join(receiver.node, 'run/kraftwerk/blog-stage')).filter((name) => /^[ab]\.[0-9]/.test(name));
    await waitFor("the next deploy's own retire", () => boots().length === 1);
    process.kill(agent.pid, 'SIGCONT');
    await waitFor('the retire to end', () => !isAlive(agent.pid));
    expect(readFileSync(join(site(), 'releases', release, 'app.py'), 'utf8')).toBe(kept);
  });
});
