// The words of a command on their way to a receiver, and the ssh that carries them.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  asksInTerminal,
  findTypedTarget,
  formatExecLine,
  putTarget,
  readRemoteWords,
} from '../../receiver/cli/remote-words.ts';
import { readScopes, readSshCommand } from '../../receiver/cli/ssh-command.ts';
import type { Command } from '../../receiver/commands/command.ts';
import { COMMANDS } from '../../receiver/commands/table.ts';
import { splitWords } from '../../receiver/exec-line.ts';

function command(name: string): Command {
  const found = COMMANDS.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no command ${name}`);
  return found;
}

describe('--remote', () => {
  test.each<[string, string[], { remote: string | null; args: string[]; positionals: string[] }]>([
    ['logs', ['-f'], { remote: null, args: ['-f'], positionals: [] }],
    ['logs', ['-r', 'live', '-f'], { remote: 'live', args: ['-f'], positionals: [] }],
    ['logs', ['-n', '5', '--remote', 'live'], { remote: 'live', args: ['-n', '5'], positionals: [] }],
    ['logs', ['blog/live', '--remote=live'], { remote: 'live', args: ['blog/live'], positionals: ['blog/live'] }],
    ['logs', ['-rlive', '-n5'], { remote: 'live', args: ['-n5'], positionals: [] }],
    // The value of another option is no option.
    ['logs', ['-p', '-r', 'x'], { remote: null, args: ['-p', '-r', 'x'], positionals: ['x'] }],
    // What stands behind -- belongs to the command.
    ['logs', ['a', '--', '-r', 'x'], { remote: null, args: ['a', '--', '-r', 'x'], positionals: ['a'] }],
    [
      'keys:add',
      ['ci', '--role', 'read', '-r', 'live'],
      { remote: 'live', args: ['ci', '--role', 'read'], positionals: ['ci'] },
    ],
  ])('%s %j', (name, typed, expected) => {
    const { remote, args, positionals } = readRemoteWords(command(name), typed);
    expect({ remote, args, positionals }).toEqual(expected);
  });

  test.each<[string[], string]>([
    [['-r'], 'logs: -r needs the name of a git remote'],
    [['--remote='], 'logs: --remote needs the name of a git remote'],
    [['-r', 'a', '-r', 'b'], 'logs: --remote is given twice'],
    [['-fr', 'live'], 'logs: write -r live by itself'],
  ])('%j is refused', (typed, message) => {
    expect(() => readRemoteWords(command('logs'), typed)).toThrow(message);
  });

  test('a command may have an option of its own with that name', () => {
    const own = { ...command('logs'), options: { recent: { type: 'boolean', short: 'r' } } } as Command;
    expect(readRemoteWords(own, ['-r', 'live'])).toMatchObject({ remote: null, args: ['-r', 'live'] });
  });
});

test.each<[string, string[], string | null]>([
  ['status', [], null],
  ['status', ['blog/live'], 'blog/live'],
  ['status', ['blog'], 'blog'],
  ['status', ['shop'], 'shop'],
  ['status', ['Blog/live'], 'Blog/live'],
  ['rollback', ['v41'], null],
  ['rollback', ['blog', 'v41'], 'blog'],
  ['rollback', ['blog'], 'blog'],
  ['rollback', ['shop', 'v41'], 'shop'],
  ['deploy', ['3f2c1ab'], null],
  ['deploy', ['shop/live', '3f2c1ab'], 'shop/live'],
  ['projects', [], null],
  ['keys:add', ['ci', 'blog/stage'], null],
])('the target of %s %j', (name, positionals, expected) => {
  expect(findTypedTarget(command(name), positionals, ['blog'])).toBe(expected);
});

test.each<[number, string[], string | null]>([
  [1, ['on'], null],
  [1, ['blog/live', 'on'], 'blog/live'],
  [100, ['URL=https://a/b', 'B=c'], null],
  [100, ['blog/live', 'URL=https://a/b'], 'blog/live'],
])('the target of a command with up to %i words, %j', (max, positionals, expected) => {
  expect(findTypedTarget({ target: 'required', args: { min: 1, max } }, positionals, ['blog'])).toBe(expected);
});

test.each<[string[], string | null, string | null, string[]]>([
  [['-n', '5', '-r', 'live'], 'blog/live', null, ['blog/live', '-n', '5']],
  [['-n', '5', '-r', 'live', 'blog'], 'blog/live', 'blog', ['-n', '5', 'blog/live']],
  [['shop/live', '-f'], null, 'shop/live', ['shop/live', '-f']],
])('%j with the target %s', (typed, target, given, expected) => {
  expect(putTarget(readRemoteWords(command('logs'), typed), target, given)).toEqual(expected);
});

test('a terminal is asked for where something is to be typed', () => {
  const none = new Set<string>();
  expect(COMMANDS.filter((one) => asksInTerminal(one, none)).map(({ name }) => name)).toEqual(
    expect.arrayContaining(['keys:add', 'keys:remove']),
  );
  expect(asksInTerminal(command('logs'), none)).toBe(false);
  expect(asksInTerminal(command('keys:remove'), new Set(['confirm']))).toBe(false);
});

describe('the line', () => {
  test.each<[string[], string]>([
    [['logs', 'blog/live', '-n', '5'], 'logs blog/live -n 5'],
    [['config:set', 'blog', 'A=it\'s "5 $"'], `config:set blog 'A=it'\\''s "5 $"'`],
    [['x', '', '*'], "x '' '*'"],
  ])('%j', (words, line) => {
    expect(formatExecLine(words as [string, ...string[]])).toBe(line);
  });

  test('is read by the receiver as the same words', () => {
    const word = fc.string({ unit: 'grapheme' }).filter((text) => !/[\p{Cc}\ufffd]/u.test(text));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 20 }), (words) => {
        expect(splitWords(formatExecLine(['x', ...words]))).toEqual(['x', ...words]);
      }),
    );
  });

  test.each<[string[], string]>([
    [['a\nb'], 'x: "a\\nb": contains control characters, line breaks or bytes that are not UTF-8; nothing was sent'],
    [
      ['\u001b[1m'],
      'x: "\\u001b[1m": contains control characters, line breaks or bytes that are not UTF-8; nothing was sent',
    ],
    [
      ['a\ufffd'],
      'x: "a\ufffd": contains control characters, line breaks or bytes that are not UTF-8; nothing was sent',
    ],
    [['a'.repeat(70_000)], 'x: the command line: longer than 64 KiB; nothing was sent'],
    [Array(300).fill('a'), 'x: the command line: more than 256 words; nothing was sent'],
  ])('case %#: what no line can hold', (words, message) => {
    expect(() => formatExecLine(['x', ...words])).toThrow(expect.objectContaining({ message, exit: 'usage' }));
  });
});

test.each<[Record<string, string>, string | null, string[]]>([
  [{}, null, ['ssh']],
  [{ GIT_SSH: '/usr/local/bin/ssh' }, null, ['/usr/local/bin/ssh']],
  [{ GIT_SSH: 'x' }, 'ssh -i ~/.ssh/deploy', ['ssh', '-i', '/home/alice/.ssh/deploy']],
  [{ GIT_SSH_COMMAND: "ssh -F '/tmp/a b' -i k" }, 'other', ['ssh', '-F', '/tmp/a b', '-i', 'k']],
  [{ GIT_SSH_COMMAND: '' }, null, ['ssh']],
])('ssh is what git would start: %j, %j', (env, configured, expected) => {
  expect(readSshCommand({ env, configured, home: '/home/alice' })).toEqual(expected);
});

test.each(['ssh -i $KEY', 'ssh -i "$(date)"', 'ssh; date', 'KEY=1 ssh', "ssh 'a", '  ', 'ssh | tee log'])(
  'what only a shell could run is not run: %s',
  (text) => {
    expect(() => readSshCommand({ env: { GIT_SSH_COMMAND: text }, configured: null, home: '/h' })).toThrow(
      `$GIT_SSH_COMMAND: only a shell could run ${JSON.stringify(text)}`,
    );
  },
);

test.each([
  ['', null, null],
  ['local\0x', null, 'x'],
  ['system\0a\0global\0b\0local\0c\0', 'b', 'c'],
  ['global\0b c\nd\0worktree\0e\0command\0f\0', 'f', 'e'],
  ['unknown\0x\0', null, 'x'],
])("of core.sshCommand %j, %j is the person's own and %j the repository's", (text, own, ofRepository) => {
  expect(readScopes(text)).toEqual({ own, ofRepository: ofRepository });
});
