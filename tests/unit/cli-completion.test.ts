// Completion, run by the shells themselves in a project with two remotes.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../receiver/cli/commands.ts';
import { completeBash } from '../../receiver/cli/complete-bash.ts';
import { completeFish } from '../../receiver/cli/complete-fish.ts';
import { completeZsh } from '../../receiver/cli/complete-zsh.ts';
import { listCompletions, readDescribedOptions, readOptions } from '../../receiver/cli/completion-words.ts';
import { COMMANDS as REMOTE_COMMANDS } from '../../receiver/commands/table.ts';

const completions = listCompletions(COMMANDS, REMOTE_COMMANDS);
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'kraftwerk-completion-'));
  const git = (...args: string[]): void => void execFileSync('git', args, { cwd: folder });
  git('init', '--quiet');
  git('remote', 'add', 'stage', 'ssh://kraftwerk@paas:2200/blog/stage.git');
  git('remote', 'add', 'live', 'kraftwerk@paas:blog/live');
  git('remote', 'add', 'origin', 'git@github.com:alice/blog.git');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Typed so far -> what is offered. */
const CASES: [string, string[]][] = [
  ['kraftwerk sta', ['stab', 'start', 'status']],
  ['kraftwerk rem', ['remote']],
  ['kraftwerk keys:', ['keys:add', 'keys:remove']],
  ['kraftwerk keys:add --ro', ['--role']],
  ['kraftwerk keys:add --role ', ['admin', 'deploy', 'read']],
  ['kraftwerk -r ', ['live', 'origin', 'stage']],
  ['kraftwerk --remote st', ['stage']],
  ['kraftwerk -r live sta', ['stab', 'start', 'status']],
  ['kraftwerk logs -r l', ['live']],
  ['kraftwerk logs ', ['blog/live', 'blog/stage']],
  ['kraftwerk logs -r live --fo', ['--follow']],
  ['kraftwerk rollback blog/s', ['blog/stage']],
  ['kraftwerk rollback blog/stage ', []],
  ['kraftwerk help keys:r', ['keys:remove']],
  ['kraftwerk remote ', ['add', 'list']],
  ['kraftwerk remote add ', []],
  ['kraftwerk init --te', ['--templates']],
  ['kraftwerk completion f', ['fish']],
];

/** What the shell's program prints, for each case a line: what is offered, with blanks between. */
function run(shell: string, args: readonly string[]): string[][] {
  const result = spawnSync(shell, args, {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, HOME: folder },
  });
  expect(result.stderr).toBe('');
  const lines = result.stdout.split('\n').slice(0, -1);
  return lines.map((line) => [...new Set(line.split(' ').filter((word) => word !== ''))].sort());
}

function hasShell(shell: string): boolean {
  const there = spawnSync(shell, ['-c', ':']).status === 0;
  if (!there) console.log(`skipped: ${shell} is not installed, its completion is not tried`);
  return there;
}

const lines = CASES.map(([line]) => line);
const expected = CASES.map(([, words]) => words);

describe('completion', () => {
  it('bash', () => {
    const script = path.join(folder, 'bash');
    writeFileSync(script, completeBash(completions));
    const found = run('bash', ['--norc', '-euc', BASH, 'bash', script, ...lines]);
    // bash goes on behind the colon.
    expect(found).toEqual(expected.map((words) => words.map((word) => word.replace(/^.*:/, ''))));
  });

  it('bash evaluates nothing that a repository brings along', () => {
    const hostile = path.join(folder, 'hostile');
    const proof = path.join(hostile, 'proof');
    mkdirSync(hostile);
    const git = (...args: string[]): void => void execFileSync('git', args, { cwd: hostile });
    git('init', '--quiet');
    // git itself refuses most of these as names of remotes; a configuration that came in an archive it reads as it is.
    const names = [
      ...[
        `$(touch ${proof})`,
        `\`touch ${proof}\``,
        `\${x[$(touch ${proof})]}`,
        `a;touch ${proof}`,
        `a|touch ${proof}`,
      ],
      ...[
        `"$(touch ${proof})"`,
        `'$(touch ${proof})'`,
        `\\$(touch ${proof})`,
        `$(($(touch ${proof})))`,
        `<(touch ${proof})`,
      ],
      ...[
        `>${proof}`,
        `a&&touch ${proof}&&`,
        '*',
        '~',
        '-oProxyCommand=x',
        '{a,b}',
        '$HOME',
        'a b',
        'a\tb',
        '!!',
        '#x',
        '[ab]',
      ],
      ...[`a[$(touch ${proof})]`, 'at', 'words[$(touch x)]', '\u001b[2J', 'größe'],
    ];
    for (const [index, name] of names.entries()) {
      git('config', `remote.${name}.url`, `kraftwerk@paas:blog/r${index}$(touch ${proof})`);
      git('config', `remote.${name}.pushurl`, `kraftwerk@\`touch ${proof}\`:blog/r${index}`);
    }
    git('remote', 'add', 'good', 'kraftwerk@paas:blog/live');
    for (const [key, value] of [
      ...[
        ['core.fsmonitor', `touch ${proof}`],
        ['core.pager', `touch ${proof}`],
        ['pager.remote', `touch ${proof}`],
      ],
      ...[
        ['alias.remote', `!touch ${proof}`],
        ['core.sshCommand', `touch ${proof}`],
        ['core.hooksPath', hostile],
      ],
      ...[
        ['core.editor', `touch ${proof}`],
        ['diff.external', `touch ${proof}`],
        ['core.askPass', `touch ${proof}`],
      ],
    ])
      git('config', key as string, value as string);
    const script = path.join(folder, 'bash');
    writeFileSync(script, completeBash(completions));
    const typed = [
      'kraftwerk -r ',
      'kraftwerk -r $',
      'kraftwerk -r a',
      'kraftwerk logs ',
      `kraftwerk -r '$(touch ${proof})' `,
    ];
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-euc', BASH, 'bash', script, ...typed], {
      ...{ cwd: hostile, encoding: 'utf8', env: { PATH: process.env.PATH, HOME: folder } },
    });
    expect(stderr).toBe('');
    const [remotes, dollar, a, targets] = stdout.split('\n');
    expect([remotes, dollar, a]).toEqual(['at good', '', 'at']);
    expect(targets?.split(' ').every((word) => /^blog\/(?:live|r[0-9]+)$/.test(word))).toBe(true);
    expect(readdirSync(hostile)).toEqual(['.git']);
  });

  it('no shell is given a word that it would evaluate in any of them', () => {
    for (const text of [completeBash(completions), completeZsh(completions), completeFish(completions)]) {
      expect(text).not.toMatch(/compgen|\beval\b/);
      const asking = text.split('\n').filter((line) => /\bgit\b.* remote 2>/.test(line));
      expect(asking).toHaveLength(1);
      expect(asking[0]).toMatch(
        /command git --no-pager .*\| (?:LC_ALL=C grep -E|string match --regex) '\^\[A-Za-z0-9]/,
      );
    }
  });

  it.runIf(hasShell('zsh'))('zsh', () => {
    const script = path.join(folder, 'zsh');
    writeFileSync(script, completeZsh(completions));
    expect(run('zsh', ['-f', '-c', ZSH, 'zsh', script, ...lines])).toEqual(expected);
  });

  it.runIf(hasShell('fish'))('fish', () => {
    const script = path.join(folder, 'fish');
    writeFileSync(script, completeFish(completions));
    expect(run('fish', ['--no-config', '-c', FISH, script, ...lines])).toEqual(expected);
  });
});

const BASH = `
source "$1"; shift
complete -p kraftwerk >/dev/null
for COMP_LINE in "$@"; do
  COMP_POINT=\${#COMP_LINE}
  _kraftwerk
  echo "\${COMPREPLY[*]-}"
done`;

// zsh completes in its line editor alone: what it would be told is printed instead, as far as it fits.
const ZSH = `
compdef() { [[ "$*" == '_kraftwerk kraftwerk' ]] || echo "compdef $*" >&2 }
offer() {
  local word
  for word; do [[ $word == "$PREFIX"* ]] && print -rn -- "$word "; done
}
compadd() { shift; offer "$@" }
_describe() {
  local word
  for word in "\${(@P)2}"; do
    word=\${word//\\\\:/^}
    word=\${word%%:*}
    offer "\${word//^/:}"
  done
}
_files() { : }
_default() { : }
_message() { : }
source "$1"; shift
for line in "$@"; do
  words=("\${(@s: :)line}") CURRENT=$#words PREFIX=$words[-1]
  _kraftwerk
  print
done`;

const FISH = `
source $argv[1]
for line in $argv[2..-1]
    echo (complete -C $line | string replace -r '\\t.*' '')
end`;

describe('the words', () => {
  it.each([
    [
      'kraftwerk check [DIR | FILE] [--environment NAME] [--json]',
      [
        ['--environment', 'any'],
        ['--json', 'none'],
      ],
    ],
    ['NAME [--role admin|deploy|read] [TARGETS…] < KEY.pub', [['--role', ['admin', 'deploy', 'read']]]],
    [
      'kraftwerk x [--config PATH] [-f] [-n LINES] [-r REMOTE]',
      [
        ['--config', 'file'],
        ['-f', 'none'],
        ['-n', 'any'],
        ['-r', 'remote'],
      ],
    ],
    ['kraftwerk completion bash|zsh|fish', []],
    ['blog-stage', []],
  ])('options of %s', (usage, options) => {
    expect(readOptions(usage).map(({ names: [name], value }) => [name, value])).toEqual(options);
  });

  it('options of what is said about them', () => {
    const details = [
      '--host-key SHA256:…: the key',
      '--user, --yes: as for --confirm has it.',
      'a-b --key FILE|LINE: x',
    ];
    expect(readDescribedOptions(details).map(({ names: [name], value }) => [name, value])).toEqual([
      ['--host-key', 'any'],
      ['--user', 'none'],
      ['--yes', 'none'],
      ['--confirm', 'none'],
      ['--key', 'file'],
    ]);
  });

  it('are those of both tables, each name once', () => {
    const names = completions.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining([...COMMANDS, ...REMOTE_COMMANDS].map(({ name }) => name)));
    expect(completions.find(({ name }) => name === 'logs')).toMatchObject({
      first: 'target',
      options: expect.arrayContaining([
        { names: ['--lines', '-n'], value: 'any' },
        { names: ['--remote', '-r'], value: 'remote' },
      ]),
    });
  });
});
