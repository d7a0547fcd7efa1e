// What git could push, and kraftwerk does not take.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { createVictim, QUICK, type Victim } from '../actors/refusal.ts';
import { agreement, get, readRef, repositoryOf } from '../actors/site.ts';

let receiver: TestReceiver;
let alice: Victim;
beforeAll(async () => {
  receiver = await startReceiver({
    environments: `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [try], domain: "{project}.localhost", branch: master, fast_forward_only: true}
`,
  });
  alice = await createVictim(receiver, 'blog');
});
afterAll(async () => {
  alice.cleanUp();
  await receiver.cleanUp();
});

describe('a push is refused', () => {
  it('from another branch, with the command that was probably meant', async () => {
    const good = alice.head();
    alice.commit({ 'version.txt': 'feature' });
    alice.git(['branch', 'feature']);
    alice.git(['reset', '-q', '--hard', good]);
    await alice.refuses(() => alice.push('stage', 'feature'), {
      rejected: 'master or main deploys',
      error: 'the branch feature does not deploy blog/stage; master and main do',
      says: ['hint: git push stage feature:master'],
    });
    await alice.recovers();
  });

  it('from main where the environment names master', async () => {
    const bob = createPusher(receiver, 'branchy');
    bob.commit();
    const { code, lines, rejected } = await bob.push('live', 'master:main');
    expect({ code, rejected, lines }).toEqual({
      code: 1,
      rejected: 'master deploys',
      lines: ['error: the branch main does not deploy branchy/live; master does', 'hint: git push live main:master'],
    });
    expect((await bob.tryGit(['ls-remote', 'live'])).code).not.toBe(0);
    bob.cleanUp();
  });

  it('that deletes the branch', async () => {
    await alice.refuses(() => alice.push('stage', ':master'), {
      rejected: 'branches are not deleted here',
      error: /^master: deleting a branch would leave blog\/stage/,
    });
    await alice.recovers();
  });

  it('of two branches at once, neither of them deployed', async () => {
    alice.commit({ 'version.txt': 'two branches' });
    await alice.refuses(() => alice.push('stage', 'master master:main'), {
      rejected: 'one branch at a time',
      error: '2 branches in one push; which one is to be deployed?',
      says: ['hint: git push stage master'],
    });
    expect(readRef(repositoryOf(receiver, 'blog/stage'), 'refs/heads/main')).toBeNull();
    await alice.recovers();
  });

  it('of refs that are neither branch nor tag', async () => {
    for (const ref of ['refs/notes/x', 'refs/kraftwerk/releases/v99', 'refs/for/master', 'refs/pull/1/head']) {
      await alice.refuses(() => alice.push('stage', `HEAD:${ref}`), {
        rejected: ref.startsWith('refs/kraftwerk') ? 'deny updating a hidden ref' : 'only branches and tags',
        error: ref.startsWith('refs/kraftwerk') ? null : `${ref}: only branches and tags can be pushed`,
      });
      expect(readRef(repositoryOf(receiver, 'blog/stage'), ref)).toBeNull();
    }
  });

  it('of a tag and a bad branch: the tag is stored, the branch is not', async () => {
    alice.commit({ 'kraftwerk.yaml': 'nonsense: 1\n' });
    alice.git(['tag', 'nice']);
    await alice.refuses(() => alice.push('stage', 'master nice'), {
      rejected: 'kraftwerk.yaml has an error',
      error: 'kraftwerk.yaml:1:1 unknown key "nonsense"',
    });
    expect(readRef(repositoryOf(receiver, 'blog/stage'), 'refs/tags/nice')).toBe(alice.head());
    alice.git(['tag', 'never']);
    await alice.refuses(() => alice.push('stage', 'master never', { args: ['--atomic'] }), {
      rejected: 'kraftwerk.yaml has an error',
      error: 'kraftwerk.yaml:1:1 unknown key "nonsense"',
    });
    alice.git(['reset', '-q', '--hard', 'HEAD~1']);
    await alice.recovers();
  });

  it('with a submodule', () => {
    const { pusher } = alice;
    const good = pusher.head();
    pusher.git(['update-index', '--add', '--cacheinfo', `160000,${good},lib`]);
    pusher.git(['commit', '-q', '-m', 'Add a submodule']);
    return alice
      .refuses(() => pusher.push(), {
        rejected: 'the pushed tree is refused',
        error: 'lib: is a submodule; its content is not in the push',
      })
      .finally(() => pusher.git(['reset', '-q', '--hard', good]))
      .then(alice.recovers);
  });
});

describe('history that was rewritten', () => {
  it('is refused by git without -f, and deployed with it', async () => {
    await alice.recovers();
    alice.git(['commit', '-q', '--amend', '-m', 'Another past']);
    alice.commit({ 'version.txt': 'rewritten' });
    const before = agreement(receiver, alice.target);
    const refused = await alice.push();
    expect({ code: refused.code, output: refused.output }).toEqual({
      code: 1,
      output: expect.stringContaining(' ! [rejected]        master -> master (non-fast-forward)') as string,
    });
    expect(agreement(receiver, alice.target)).toEqual(before);
    expect(await alice.push('stage', 'master', { args: ['-f'] })).toMatchObject({ code: 0 });
    expect((await get(receiver, alice.host)).body).toBe('rewritten');
    expect(agreement(receiver, alice.target).commit).toBe(alice.head());
  });

  it('never goes where the environment says fast_forward_only', async () => {
    const bob = createPusher(receiver, 'strict');
    await bob.deploy({}, 'live');
    const served = bob.head();
    bob.git(['commit', '-q', '--amend', '-m', 'Another past']);
    const { code, rejected, lines } = await bob.push('live', 'master', { args: ['-f'] });
    expect({ code, rejected }).toEqual({ code: 1, rejected: 'non-fast-forward; v1 still live' });
    expect(lines[0]).toBe('error: master: what serves is not in the history of what is pushed, and');
    expect(agreement(receiver, 'strict/live')).toEqual({ release: 1, commit: served });
    bob.git(['reset', '-q', '--hard', served]);
    await bob.deploy({ 'version.txt': 'two' }, 'live');
    expect((await get(receiver, 'strict.localhost')).body).toBe('two');
    bob.cleanUp();
  });
});

describe('a shallow clone', () => {
  it('is refused with what to do in CI; the whole history is deployed', async () => {
    const bob = createPusher(receiver, 'shallow');
    bob.commit({ 'kraftwerk.yaml': QUICK });
    bob.commit({ 'version.txt': 'two' });
    const shallow = join(bob.folder, 'shallow');
    bob.git(['clone', '-q', '--depth', '1', `file://${bob.work}`, shallow]);
    const refused = await bob.tryGit(['-C', shallow, 'push', 'kraftwerk@receiver:shallow/stage', 'master']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(' ! [remote rejected] master -> master (shallow update not allowed)');
    expect(refused.stderr).toContain('hint: this clone is shallow: git fetch --unshallow, in CI fetch-depth: 0\n');
    expect((await bob.tryGit(['ls-remote', 'stage'])).code, 'no project was made').not.toBe(0);

    bob.git(['-C', shallow, 'fetch', '-q', '--unshallow']);
    expect(await bob.tryGit(['-C', shallow, 'push', 'kraftwerk@receiver:shallow/stage', 'master'])).toMatchObject({
      code: 0,
    });
    expect((await get(receiver, 'shallow-stage.localhost')).body).toBe('two');
    bob.cleanUp();
  });
});
