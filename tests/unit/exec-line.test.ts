import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { parseExecLine, parseTargetName, parseTargetPath, quoteWord, splitWords } from '../../receiver/exec-line.ts';

function failure(act: () => unknown): { code: string; message: string; hints: readonly string[]; exit: string } {
  try {
    act();
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    return { code: error.code, message: error.message, hints: error.hints, exit: error.exit };
  }
  throw new Error('nothing was thrown');
}

describe('parseExecLine', () => {
  it.each([
    ['', { kind: 'help' }],
    ['   ', { kind: 'help' }],
    ['--help', { kind: 'help' }],
    ["git-receive-pack '/blog/live.git'", { kind: 'git', service: 'receive-pack', path: '/blog/live.git' }],
    ["git receive-pack 'blog/live'", { kind: 'git', service: 'receive-pack', path: 'blog/live' }],
    ["git-upload-pack '~/blog/live'", { kind: 'git', service: 'upload-pack', path: '~/blog/live' }],
    ['git upload-pack blog', { kind: 'git', service: 'upload-pack', path: 'blog' }],
    ["git-upload-pack 'it'\\''s'", { kind: 'git', service: 'upload-pack', path: "it's" }],
    ["git-upload-pack 'a'\\!'b'", { kind: 'git', service: 'upload-pack', path: 'a!b' }],
    ['help keys:add', { kind: 'command', name: 'help', args: ['keys:add'] }],
    ['logs blog/live  -n 5', { kind: 'command', name: 'logs', args: ['blog/live', '-n', '5'] }],
    [
      `config:set blog 'A=b c' "D=\\"e\\" \\$f \\g" ''`,
      { kind: 'command', name: 'config:set', args: ['blog', 'A=b c', 'D="e" $f \\g', ''] },
    ],
    ['a\\ b $HOME;`id`|>x *', { kind: 'command', name: 'a b', args: ['$HOME;`id`|>x', '*'] }],
  ])('reads %j', (line, expected) => {
    expect(parseExecLine(line)).toEqual(expected);
  });

  it.each([
    ["say 'open", 'exec.invalid', "command line: a ' is not closed"],
    ['say "open', 'exec.invalid', 'command line: a " is not closed'],
    ['say \\', 'exec.invalid', 'command line: ends with a \\'],
    ['say a\nb', 'exec.invalid', 'command line: contains control characters, line breaks or bytes that are not UTF-8'],
    ['say\tb', 'exec.invalid', 'command line: contains control characters, line breaks or bytes that are not UTF-8'],
    [
      'say \u009b31m',
      'exec.invalid',
      'command line: contains control characters, line breaks or bytes that are not UTF-8',
    ],
    [
      'say \ufffd',
      'exec.invalid',
      'command line: contains control characters, line breaks or bytes that are not UTF-8',
    ],
    [`say ${'a '.repeat(256)}`, 'exec.invalid', 'command line: more than 256 words'],
    ['é'.repeat(40_000), 'exec.invalid', 'command line: longer than 64 KiB'],
    ['git-receive-pack', 'exec.invalid', 'command line: git receive-pack: expected one path, got 0'],
    ['git-receive-pack a b', 'exec.invalid', 'command line: git receive-pack: expected one path, got 2'],
    ["git-upload-archive 'blog/live'", 'exec.git', 'git-upload-archive: only git push, clone and fetch are served'],
    ['git', 'exec.git', 'git: only git push, clone and fetch are served'],
    ['git -c core.pager=x log', 'exec.git', 'git -c: only git push, clone and fetch are served'],
    [
      'git-lfs-authenticate blog download',
      'exec.git',
      'git-lfs-authenticate: only git push, clone and fetch are served',
    ],
  ])('refuses %j', (line, code, message) => {
    expect(failure(() => parseExecLine(line))).toMatchObject({
      code,
      message,
      exit: 'usage',
      hints: [expect.any(String)],
    });
  });

  it('takes 256 words', () => {
    expect(splitWords('a '.repeat(256))).toHaveLength(256);
  });

  it('throws nothing but KraftwerkError, whatever comes', () => {
    const nasty = fc.array(
      fc.constantFrom("'", '"', '\\', ' ', 'a', 'git', '-', 'receive-pack', '\0', '\n', '$', 'é', '\ud800'),
    );
    const lines = fc.oneof(
      fc.string({ unit: 'binary' }),
      nasty.map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(lines, (line) => {
        try {
          const parsed = parseExecLine(line);
          if (parsed.kind === 'git') parseTargetPath(parsed.path);
        } catch (error) {
          if (!(error instanceof KraftwerkError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('gives quoted words back as they were', () => {
    const word = fc.string({ unit: 'grapheme' }).filter((text) => !/[\p{Cc}\ufffd]/u.test(text));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 20 }), (words) => {
        expect(splitWords(words.map(quoteWord).join(' '))).toEqual(words);
        expect(splitWords(words.map((text) => `"${text.replace(/["\\$`]/g, '\\$&')}"`).join('  '))).toEqual(words);
        expect(splitWords(words.map((text) => `'${text.replace(/['!]/g, "'\\$&'")}'`).join(' '))).toEqual(words);
      }),
    );
  });
});

describe('parseTargetPath', () => {
  it.each([
    ['/blog/live.git', { project: 'blog', environment: 'live' }],
    ['~/blog/live', { project: 'blog', environment: 'live' }],
    ['blog/live', { project: 'blog', environment: 'live' }],
    ['//blog/live/', { project: 'blog', environment: 'live' }],
    ['blog.git', { project: 'blog' }],
    ['/b-1_x', { project: 'b-1_x' }],
  ])('reads %j', (path, expected) => {
    expect(parseTargetPath(path)).toEqual(expected);
  });

  const rule = 'a lower-case letter, then at most 27 of a-z 0-9 _ -';
  it.each([
    ['/Blog/live', `bad project name "Blog": ${rule}`, ['did you mean blog/live?']],
    ['my blog', `bad project name "my blog": ${rule}`, ['did you mean my-blog?']],
    ['blog/Live.git', `bad environment name "Live": ${rule}`, ['did you mean blog/live?']],
    ['blog/', null, []],
    ['../blog', `bad project name "..": ${rule}`, []],
    ['blog/..', `bad environment name "..": ${rule}`, []],
    ['blog//live', 'bad target "blog//live": expected PROJECT/ENVIRONMENT', ['for example blog/live']],
    ['/srv/blog/live', 'bad target "/srv/blog/live": expected PROJECT/ENVIRONMENT', ['for example blog/live']],
    ['', 'bad target "": expected PROJECT/ENVIRONMENT', ['for example blog/live']],
    ['1'.repeat(40), `bad project name "${'1'.repeat(40)}": ${rule}`, []],
    ['a'.repeat(29), `bad project name "${'a'.repeat(29)}": ${rule}`, [`did you mean ${'a'.repeat(28)}?`]],
    ['blog/live.git.git', `bad environment name "live.git": ${rule}`, ['did you mean blog/live-git?']],
  ])('%j', (path, message, hints) => {
    if (message === null) expect(parseTargetPath(path)).toEqual({ project: 'blog' });
    else
      expect(failure(() => parseTargetPath(path))).toEqual({ code: 'target.invalid', message, hints, exit: 'usage' });
  });

  it('is the same for commands, without the ways of git', () => {
    expect(parseTargetName('blog/live')).toEqual({ project: 'blog', environment: 'live' });
    expect(parseTargetName('blog')).toEqual({ project: 'blog' });
    expect(failure(() => parseTargetName('/blog/live')).code).toBe('target.invalid');
  });
});
