// Who may push what: names, keys and roles. Nothing is made for what is refused.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher, type Pusher, type PushResult } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';

let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'blog');
  await alice.deploy();
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

const remoteError = ({ output }: PushResult): string | undefined => /^fatal: remote error: (.*)$/m.exec(output)?.[1];

describe('a push is refused', () => {
  it('to an environment that is not there, with the one that was meant', async () => {
    const result = await alice.push('kraftwerk@receiver:blog/stag');
    expect({ code: result.code, error: remoteError(result) }).toEqual({
      code: 128,
      error: 'blog/stag: there is no environment stag, did you mean stage?',
    });
    expect(result.output).toContain('hint: environments here: stage, live\n');
  });

  it.each([
    ['Blog/stage'],
    ['1blog/stage'],
    ['bl og/stage'],
    ['../blog/stage'],
    ['blog/../stage'],
    ['/etc/passwd'],
    ['blog/stage/more'],
    ['blog;id/stage'],
    ['$(id)/stage'],
    [`${'a'.repeat(29)}/stage`],
    ['-blog/stage'],
    ['.git/stage'],
  ])('to %s, which is no name', async (path) => {
    const before = readdirSync(join(receiver.data, 'repositories')).sort();
    const result = await alice.push(`ssh://kraftwerk@receiver/${encodeURI(path)}`);
    expect({ path, code: result.code }).toEqual({ path, code: 128 });
    expect(readdirSync(join(receiver.data, 'repositories')).sort()).toEqual(before);
  });

  it('to a name that is too long with the environment’s suffix', async () => {
    const result = await alice.push(`kraftwerk@receiver:${'a'.repeat(28)}/stage`);
    expect(result.code).not.toBe(0);
    expect(result.output).toContain('the name on the node has more than 28');
    expect(existsSync(join(receiver.node, 'web', 'a'.repeat(28)))).toBe(false);
  });

  it('with a key that nobody knows', async () => {
    const key = receiver.home.key('nobody');
    const result = await alice.push('stage', 'master', { key });
    expect(result.code).toBe(128);
    expect(result.output).toContain('Permission denied (publickey)');
  });

  it('with a key that may only read; it may fetch', async () => {
    const key = await receiver.addKey('reader', 'read', 'blog');
    alice.commit({ 'version.txt': 'by the reader' });
    const result = await alice.push('stage', 'master', { key });
    expect(result.code).toBe(128);
    expect(remoteError(result)).toMatch(/^git push blog\/stage: your key reader has role read/);
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    expect((await alice.tryGit(['ls-remote', 'stage', 'master'], key)).stdout).toContain(alice.head());
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('one');
    expect(agreement(receiver, 'blog/stage').release).toBe(1);
  });

  it('with a key for other projects: it is not told that this one exists', async () => {
    const key = await receiver.addKey('outsider', 'deploy', 'elsewhere/live');
    const there = await alice.push('stage', 'master', { key });
    const nowhere = await alice.push('kraftwerk@receiver:nowhere/stage', 'master', { key });
    expect(there.code).toBe(128);
    expect(remoteError(there)).toBe(remoteError(nowhere)?.replace('nowhere', 'blog'));
    expect((await alice.tryGit(['ls-remote', 'stage'], key)).code).toBe(128);
  });

  it('of a new project by a key that may not create any; its own it may deploy', async () => {
    const key = await receiver.addKey('deployer', 'deploy', 'blog');
    alice.commit({ 'version.txt': 'by the deployer' });
    expect(await alice.push('stage', 'master', { key })).toMatchObject({ code: 0 });
    expect((await get(receiver, 'blog-stage.localhost')).body).toBe('by the deployer');
    const other = createPusher(receiver, 'brandnew', 'plain', key);
    other.commit();
    expect((await other.push()).code).toBe(128);
    expect(existsSync(join(receiver.data, 'repositories', 'brandnew'))).toBe(false);
    other.cleanUp();
  });
});
