/** What may be pushed: which refs, one branch at a time, which options. Pure; decided before anything slow. */
import type { EnvironmentConfig } from './config.ts';
import { suggest } from './suggest.ts';
import { type Target, targetName } from './target.ts';

export interface PushedRef {
  old: string;
  new: string;
  ref: string;
}

export type RefDecision =
  | { ref: string; action: 'deploy'; branch: string }
  | { ref: string; action: 'store' }
  | { ref: string; action: 'reject'; reason: string; message: string; hints: readonly string[] };

export const PUSH_OPTIONS = [
  'plan',
  'upgrade-packages',
  'no-service-setup',
  'override',
  'skip-release',
  'no-dump',
] as const;
export type PushOption = (typeof PUSH_OPTIONS)[number];

const isZero = (id: string): boolean => /^0+$/.test(id);

/**
 * Decides about every ref of a push, without looking at what it holds.
 * @param deployed the branch that the target was last deployed from, `refs/heads/main`
 */
export function decideRefs(
  updates: readonly PushedRef[],
  target: Target,
  environment: Pick<EnvironmentConfig, 'branch'>,
  deployed: string | null,
): RefDecision[] {
  const allowed = environment.branch === null ? ['master', 'main'] : [environment.branch];
  const branches = updates.filter(({ ref }) => ref.startsWith('refs/heads/'));
  const remote = target.environment;
  return updates.map(({ ref, new: next }): RefDecision => {
    const reject = (reason: string, message: string, ...hints: string[]): RefDecision => ({
      ref,
      action: 'reject',
      reason,
      message,
      hints,
    });
    if (ref.startsWith('refs/tags/')) return { ref, action: 'store' };
    if (!ref.startsWith('refs/heads/'))
      return reject(
        'only branches and tags',
        `${ref}: only branches and tags can be pushed`,
        `git push ${remote} ${allowed[0]}`,
      );
    const name = ref.slice('refs/heads/'.length);
    if (isZero(next)) {
      return reject(
        'branches are not deleted here',
        `${name}: deleting a branch would leave ${targetName(target)} without the code that serves`,
        `to take the site down: ssh kraftwerk@HOST stop ${targetName(target)}`,
        `to remove it with all that it has: ssh kraftwerk@HOST destroy ${targetName(target)}`,
      );
    }
    if (branches.length > 1)
      return reject(
        'one branch at a time',
        `${branches.length} branches in one push; which one is to be deployed?`,
        `git push ${remote} ${allowed.find((branch) => branches.some((update) => update.ref === `refs/heads/${branch}`)) ?? name}`,
      );
    if (!allowed.includes(name)) {
      const last = deployed?.slice('refs/heads/'.length) ?? '';
      const main = allowed.includes(last) ? last : (allowed[0] ?? 'master');
      return reject(
        `${allowed.join(' or ')} deploys`,
        `the branch ${name} does not deploy ${targetName(target)}; ${allowed.join(' and ')} ${allowed.length === 1 ? 'does' : 'do'}`,
        `git push ${remote} ${name}:${main}`,
      );
    }
    return { ref, action: 'deploy', branch: ref };
  });
}

export interface ParsedOptions {
  options: ReadonlySet<PushOption>;
  /** What is wrong with each that is not known. */
  problems: readonly string[];
}

export function parsePushOptions(given: readonly string[]): ParsedOptions {
  const known = new Set<string>(PUSH_OPTIONS);
  const problems = given
    .filter((option) => !known.has(option))
    .map((option) => {
      const meant = suggest(option, PUSH_OPTIONS);
      return `unknown push option ${JSON.stringify(option.slice(0, 60))}${meant === null ? `; known: ${PUSH_OPTIONS.join(', ')}` : `, did you mean "${meant}"?`}`;
    });
  return { options: new Set(given.filter((option): option is PushOption => known.has(option))), problems };
}
