/** Actor: somebody whose site serves, pushes something bad, is told, and pushes something good again. */
import { expect } from 'vitest';
import { createPusher, type Files, type Pusher, type PushResult } from './pusher.ts';
import type { TestReceiver } from './receiver.ts';
import { agreement, get } from './site.ts';
import { thorough } from './thorough.ts';

export interface Refusal {
  /** In git's status line, without what still serves; null: git's connection was refused before that. */
  rejected: string | null;
  /** The first line that begins with `error:`, or what git says after `fatal: remote error: `; null: none. */
  error: string | RegExp | null;
  /** Further lines that the pusher must have seen. */
  says?: (string | RegExp)[];
}

export type Victim = Awaited<ReturnType<typeof createVictim>>;

/** A project on stage that serves version "one" and can be broken again and again. */
export async function createVictim(receiver: TestReceiver, project: string, files: Files = {}) {
  const pusher = createPusher(receiver, project);
  const host = `${project.replaceAll('_', '-')}-stage.localhost`;
  const target = `${project}/stage`;
  await pusher.deploy({ 'kraftwerk.yaml': QUICK, ...files });
  let turn = 1;
  let refusals = 0;

  async function refuses(push: () => Promise<PushResult>, expected: Refusal): Promise<PushResult> {
    const before = { agreed: agreement(receiver, target), body: (await get(receiver, host)).body, head: pusher.head() };
    const result = await push();
    const first =
      result.lines.find((line) => line.startsWith('error: '))?.slice('error: '.length) ??
      /^fatal: remote error: (.*)$/m.exec(result.output)?.[1];
    const still =
      expected.rejected === null ? null : (result.rejected ?? 'was taken').replace(/; v[0-9]+ still live$/, '');
    expect({ code: result.code === 0 ? 0 : 'not 0', rejected: still, output: '' }, result.output).toEqual({
      code: 'not 0',
      rejected: expected.rejected,
      output: '',
    });
    if (!(expected.error instanceof RegExp)) expect(first ?? null, result.output).toBe(expected.error);
    else expect(first, result.output).toMatch(expected.error);
    for (const line of expected.says ?? []) {
      const said = result.lines.some((one) => (typeof line === 'string' ? one === line : line.test(one)));
      expect(said, `${line} in\n${result.output}`).toBe(true);
    }
    for (const line of result.lines) expect(line.length, line).toBeLessThanOrEqual(72);
    expect(agreement(receiver, target)).toEqual(before.agreed);
    expect((await get(receiver, host)).body).toBe(before.body);
    return result;
  }

  /** Commits `files` on top of what serves, sees the push refused, forgets the commit, and goes on. */
  async function breaks(
    files: Files,
    expected: Refusal,
    options: Parameters<Pusher['push']>[2] = {},
  ): Promise<PushResult> {
    const good = pusher.head();
    pusher.commit(files, 'Break it');
    const result = await refuses(() => pusher.push('stage', 'master', options), expected).finally(() => {
      pusher.git(['reset', '-q', '--hard', good]);
      pusher.git(['clean', '-q', '-fdx']);
    });
    await goesOn();
    return result;
  }

  /** The next good push serves. */
  async function recovers(): Promise<void> {
    const version = `good ${++turn}`;
    await pusher.deploy({ 'version.txt': version });
    expect((await get(receiver, host)).body).toBe(version);
    expect(agreement(receiver, target).commit).toBe(pusher.head());
  }

  /** A good push after what was refused: nightly after each, in CI after the first and every fourth. */
  async function goesOn(): Promise<void> {
    if (refusals++ % 4 === 0 || thorough) await recovers();
  }

  return { ...pusher, pusher, host, target, refuses, breaks, goesOn, recovers };
}

/** One worker and few tries: what is broken is found broken soon. */
export const QUICK = `wsgi: app
src: .
workers: 1
healthcheck: {path: /, retries: 2, interval: 0.1}
`;
