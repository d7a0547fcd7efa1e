// Which refs a push may move, and what the pusher is told.
import { describe, expect, it } from 'vitest';
import { decideRefs, parsePushOptions } from '../../receiver/push-policy.ts';
import type { Target } from '../../receiver/target.ts';

const TARGET = { project: 'blog', environment: 'live' } as Target;
const ID = 'a'.repeat(40);
const ZERO = '0'.repeat(40);
const update = (ref: string, next = ID) => ({ old: ZERO, new: next, ref });
const decide = (refs: ReturnType<typeof update>[], branch: string | null = null) =>
  decideRefs(refs, TARGET, { branch }, null).map((decision) =>
    decision.action === 'reject' ? `${decision.reason} | ${decision.hints.join(' | ')}` : decision.action,
  );

describe('refs', () => {
  it.each([
    [[update('refs/heads/master')], null, ['deploy']],
    [[update('refs/heads/main')], null, ['deploy']],
    [[update('refs/heads/release')], 'release', ['deploy']],
    [[update('refs/heads/master')], 'release', ['release deploys | git push live master:release']],
    [[update('refs/heads/topic')], null, ['master or main deploys | git push live topic:master']],
    [[update('refs/tags/v1')], null, ['store']],
    [[update('refs/tags/v1'), update('refs/heads/main')], null, ['store', 'deploy']],
    [[update('refs/notes/x')], null, ['only branches and tags | git push live master']],
    [[update('refs/kraftwerk/releases/v1')], null, ['only branches and tags | git push live master']],
    [
      [update('refs/heads/master', ZERO)],
      null,
      [
        'branches are not deleted here | to take the site down: ssh kraftwerk@HOST stop blog/live | to remove it with all that it has: ssh kraftwerk@HOST destroy blog/live',
      ],
    ],
    [
      [update('refs/heads/master'), update('refs/heads/main')],
      null,
      ['one branch at a time | git push live master', 'one branch at a time | git push live master'],
    ],
  ])('%j with branch %j', (refs, branch, expected) => {
    expect(decide(refs, branch)).toEqual(expected);
  });
});

describe('push options', () => {
  it('are known', () => {
    expect(parsePushOptions(['plan', 'override', 'plan'])).toEqual({
      options: new Set(['plan', 'override']),
      problems: [],
    });
  });
  it('or are named, with what was probably meant', () => {
    expect(parsePushOptions(['overide', 'x']).problems).toEqual([
      'unknown push option "overide", did you mean "override"?',
      'unknown push option "x"; known: plan, upgrade-packages, no-service-setup, override, skip-release, no-dump',
    ]);
  });
});
