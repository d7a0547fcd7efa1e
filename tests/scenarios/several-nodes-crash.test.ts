// One environment on three nodes: whatever is killed, and when, all of them agree afterwards, and the next push works.
// In CI at a few points, before and in the switch; nightly at all of them.
import { rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import type { Pusher } from '../actors/pusher.ts';
import type { TestReceiver } from '../actors/receiver.ts';
import { type SeveralNodes, startSeveralNodes } from '../actors/several-nodes.ts';
import { itSome } from '../actors/thorough.ts';

let several: SeveralNodes;
let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  several = await startSeveralNodes();
  ({ receiver, alice } = several);
  await alice.deploy({ 'version.txt': several.nextVersion() }, 'live');
});
afterAll(() => several.cleanUp());

/** Pushes through something that fails on `web2`; afterwards everything agrees, and the next push works. */
async function pushThrough(setting: string): Promise<void> {
  const before = await several.expectAgreement([several.lastVersion()]);
  const next = several.nextVersion();
  alice.commit({ 'version.txt': next, ...(setting.includes('virtualenv') && { 'requirements.txt': `# ${next}\n` }) });
  const side = setting.startsWith('receiver:') ? '%n' : 'web2';
  writeFileSync(several.failpoint(side), setting);
  const start = receiver.log.length;
  const pushed = await alice.push('live');
  const ends = /^receiver|kill-both$/.test(setting);
  if (ends) await waitFor('the receiver to be killed', () => receiver.pid === null);
  else if (setting.startsWith('retire')) await receiver.logged('deploy.retire_failed', undefined, start);
  else if (!setting.startsWith('activate')) {
    expect(pushed.lines.join('\n')).toMatch(/^error: node web2: the agent ended by SIGKILL/m);
    expect(pushed.rejected).toMatch(/^node web2 was lost/);
  }
  rmSync(several.failpoint(side));
  if (ends) await several.restart();
  const body = await several.expectAgreement([before, next]);
  if (pushed.code === 0) expect(body).toBe(next);
  else if (pushed.rejected !== null) expect(body).toBe(before);

  const last = several.nextVersion();
  await alice.deploy({ 'version.txt': last }, 'live');
  await several.expectAgreement([last]);
  await several.expectNoOrphans();
}

const AGENT_PHASES = [
  'prepare:prepare.unpacked',
  'prepare:virtualenv.built',
  'prepare:prepare.published',
  'prepare:prepare.healthy',
  'activate:activate.begin',
  'activate:activate.current',
  'retire:retire.drained',
] as const;

describe('the agent of the second node is killed', () => {
  itSome(AGENT_PHASES, ['activate:activate.current'])('at %s', async (phase) => {
    await pushThrough(`${phase}:1:kill`);
  });
});

describe('the receiver is killed', () => {
  const PHASES = ['prepared', 'activating', 'switched-1', 'switched', 'activated', 'ref-moved'] as const;
  itSome(PHASES, ['switched-1'])('when a deploy is at "%s"', async (phase) => {
    await pushThrough(`receiver:${phase}:1:kill`);
  });
  // The first node has switched by then, the third has not.
  itSome(['activate:activate.begin', 'activate:activate.current'], ['activate:activate.current'])(
    'with the agent of the second node, at %s',
    async (phase) => {
      await pushThrough(`${phase}:1:kill-both`);
    },
  );
});
