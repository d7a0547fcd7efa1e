// Where a program's own words begin, typed locally and as the receiver gets them; who a command runs as; env's script.
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAccounts } from '../../node-agent/accounts.ts';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import type { InstanceName } from '../../node-agent/protocol.ts';
import { chooseIdentity } from '../../node-agent/run-identity.ts';
import { findTypedTarget, formatExecLine, putTarget, readRemoteWords } from '../../receiver/cli/remote-words.ts';
import { formatScript } from '../../receiver/commands/env.ts';
import { parseCommandArgs } from '../../receiver/commands/parse-args.ts';
import { stab } from '../../receiver/commands/stab.ts';
import { splitWords } from '../../receiver/exec-line.ts';

describe('the receiver reads', () => {
  test.each<[string, string[], Record<string, unknown>]>([
    ['blog/live -- ls -la', ['blog/live', 'ls', '-la'], {}],
    ['blog ls -la --json -u x', ['blog', 'ls', '-la', '--json', '-u', 'x'], {}],
    ['blog -u bob --release v4 python -u x.py', ['blog', 'python', '-u', 'x.py'], { user: 'bob', release: 'v4' }],
    ['-u bob blog -- -x -- y', ['blog', '-x', '--', 'y'], { user: 'bob' }],
    ['blog --', ['blog'], {}],
    ['blog', ['blog'], {}],
    ['--help', [], { help: true }],
    ['blog echo --help', ['blog', 'echo', '--help'], {}],
  ])('%s', (line, positionals, options) => {
    const parsed = parseCommandArgs(stab, line.split(' '));
    expect({ positionals: parsed.positionals, options: { ...parsed.options } }).toEqual({ positionals, options });
  });

  test.each([
    ['blog --relase v4 -- ls', 'unknown option --relase'],
    ['blog -x ls', 'unknown option -x'],
  ])('%s: refused', (line, message) => {
    expect(() => parseCommandArgs(stab, line.split(' '))).toThrow(message);
  });
});

describe('locally', () => {
  const sent = (typed: readonly string[]): [string | null, ...string[]] => {
    const words = readRemoteWords(stab, typed, ['blog']);
    const given = findTypedTarget(stab, words.positionals, ['blog']);
    return [words.remote, ...putTarget(words, given === null ? 'blog/stage' : null, given)];
  };
  test.each<[string, (string | null)[]]>([
    ['python manage.py shell', [null, 'blog/stage', '--', 'python', 'manage.py', 'shell']],
    ['python -r x --help', [null, 'blog/stage', '--', 'python', '-r', 'x', '--help']],
    ['-r live python -r x', ['live', 'blog/stage', '--', 'python', '-r', 'x']],
    ['blog/live -r live ls -r', ['live', 'blog/live', '--', 'ls', '-r']],
    ['blog ls', [null, 'blog', '--', 'ls']],
    ['bin/tool x', [null, 'blog/stage', '--', 'bin/tool', 'x']],
    ['other/live -- ls', [null, 'other/live', '--', 'ls']],
    ['-u bob -- ls', [null, 'blog/stage', '-u', 'bob', '--', 'ls']],
    ['', [null, 'blog/stage']],
  ])('%s', (line, expected) => {
    expect(sent(line === '' ? [] : line.split(' '))).toEqual(expected);
  });

  test("whatever a program's words are, it gets them", () => {
    const word = fc.string({ unit: 'grapheme' }).filter((text) => !/[\p{Cc}\ufffd]/u.test(text) && text.isWellFormed());
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 20 }), (program) => {
        const [, ...args] = sent(['--', ...program]);
        const [, ...read] = splitWords(formatExecLine(['stab', ...args]));
        expect(parseCommandArgs(stab, read).positionals).toEqual(['blog/stage', ...program]);
      }),
    );
  });
});

describe('who a command runs as', () => {
  const site = siteLayout(nodeLayout({ profile: 'system' }), 'blog' as InstanceName);
  const passwd = [
    'root:x:0:0::/root:/bin/bash',
    'web-blog:x:990:991::/web/blog:/x',
    'bob:x:1000:1000::/home/bob:/bin/bash',
    'toor:x:0:5::/:/x',
    'wheel:x:7:0::/:/x',
  ];
  const group =
    'root:x:0:bob\nweb-blog:x:991:\nngx-blog:x:992:web-blog\nweb:x:993:web-blog\nbob:x:1000:\ntape:x:26:bob\n';
  const accounts = parseAccounts(passwd.join('\n'), group);

  test("the site's user with its groups; another with the site's beside its own, never root's", () => {
    expect(chooseIdentity(site, null, accounts)).toEqual({ uid: 990, gid: 991, groups: [991, 992, 993] });
    const bob = chooseIdentity(site, 'bob', accounts);
    expect({ ...bob, groups: [...(bob?.groups ?? [])].sort((a, b) => a - b) }).toEqual({
      uid: 1000,
      gid: 1000,
      groups: [26, 991, 992, 993, 1000],
    });
  });

  test.each([
    ['root', 'run.root'],
    ['toor', 'run.root'],
    ['wheel', 'run.root'],
    ['nobody', 'run.user'],
  ])('%s: %s', (user, code) => {
    expect(() => chooseIdentity(site, user, accounts)).toThrow(expect.objectContaining({ code }));
  });
});

test('env is what sh takes, whatever the values are', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const value = text.replaceAll('\0', '').toWellFormed();
      const script = `${formatScript('blog/live v1', 'web1', { X: value })}printf %s "$X"`;
      expect(spawnSync('sh', ['-c', 'eval "$1"', 'sh', script]).stdout.toString()).toBe(value);
    }),
    { numRuns: 50 },
  );
});
