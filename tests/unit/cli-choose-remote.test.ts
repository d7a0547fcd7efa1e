// Which receiver and which target a typed command means.
import { expect, test } from 'vitest';
import type { KraftwerkError } from '../../node-agent/protocol.ts';
import { type Asked, chooseRemote, kraftwerkRemotes } from '../../receiver/cli/choose-remote.ts';
import type { GitRemote } from '../../receiver/cli/project.ts';
import { formatHost, parseRemoteUrl } from '../../receiver/cli/remote-url.ts';

/** `NAME URL` each. */
function remotes(...lines: string[]): GitRemote[] {
  return lines.map((line) => {
    const [name = '', url = ''] = line.split(' ');
    return { name, url, pushUrl: false, parsed: parseRemoteUrl(url) };
  });
}

const STAGE = 'stage kraftwerk@paas:blog/stage';
const LIVE = 'live kraftwerk@paas:blog/live';
const OTHER = 'other ssh://kraftwerk@elsewhere:2200/blog/live';
const GITHUB = 'origin git@github.com:alice/blog.git';
const ALIAS = 'box mybox:blog/live';

function ask(words: string, more: Partial<Asked> = {}): Asked {
  const [command = '', ...args] = words.split(' ');
  return {
    command,
    words: [command, ...args],
    positionals: args,
    remote: null,
    takesTarget: true,
    given: null,
    ...more,
  };
}

const noTarget = { takesTarget: false };

test.each<[string, string[], Asked, [host: string, target: string | null]]>([
  ['the only remote', [GITHUB, LIVE], ask('logs'), ['paas', 'blog/live']],
  ['a remote without environment', ['paas kraftwerk@paas:blog'], ask('logs'), ['paas', 'blog']],
  ['the same place twice', ['origin kraftwerk@paas:blog/live', LIVE], ask('logs'), ['paas', 'blog/live']],
  ['--remote', [STAGE, LIVE], ask('logs', { remote: 'stage' }), ['paas', 'blog/stage']],
  [
    '--remote, of an address that is an ssh alias',
    [ALIAS, LIVE],
    ask('logs', { remote: 'box' }),
    ['mybox', 'blog/live'],
  ],
  [
    '--remote beside a project',
    [STAGE, LIVE],
    ask('stop blog', { remote: 'live', given: 'blog' }),
    ['paas', 'blog/live'],
  ],
  [
    '--remote beside a target',
    [STAGE, OTHER],
    ask('logs blog/x', { remote: 'other', given: 'blog/x' }),
    ['elsewhere:2200', null],
  ],
  [
    'a target that one remote names',
    [STAGE, OTHER],
    ask('logs blog/live', { given: 'blog/live' }),
    ['elsewhere:2200', null],
  ],
  [
    'the same with .git',
    [STAGE, OTHER],
    ask('logs blog/live.git', { given: 'blog/live.git' }),
    ['elsewhere:2200', null],
  ],
  ['a target of the only receiver', [STAGE, LIVE], ask('logs shop/live', { given: 'shop/live' }), ['paas', null]],
  [
    'a project, whose environment the receiver knows',
    [STAGE, LIVE],
    ask('logs blog', { given: 'blog' }),
    ['paas', null],
  ],
  [
    'a project that has the name of a remote',
    ['blog kraftwerk@paas:blog/live'],
    ask('stop blog', { given: 'blog' }),
    ['paas', null],
  ],
  ['a name that is no target', [STAGE], ask('keys:remove stage', noTarget), ['paas', null]],
  ['no target is needed, and there is one receiver', [STAGE, LIVE, GITHUB], ask('projects', noTarget), ['paas', null]],
])('%s', (_, lines, asked, [host, target]) => {
  const chosen = chooseRemote(asked, remotes(...lines));
  expect([formatHost(chosen.address), chosen.target]).toEqual([host, target]);
});

interface Refusal {
  message: string;
  lines?: string[];
  hints: string[];
  exit: string;
}

test.each<[string, string[], Asked, Refusal]>([
  [
    'several targets',
    [STAGE, LIVE],
    ask('logs -f'),
    {
      message: 'logs: which target? There are 2 git remotes',
      lines: ['  stage: blog/stage on paas', '  live: blog/live on paas'],
      hints: ['kraftwerk logs -r stage -f', 'kraftwerk logs -r live -f'],
      exit: 'usage',
    },
  ],
  [
    "remotes' names for targets",
    [STAGE, LIVE],
    ask('sync-services live stage --only files'),
    {
      message: 'sync-services: live is a git remote here; its target is blog/live',
      hints: ['kraftwerk sync-services blog/live blog/stage --only files'],
      exit: 'usage',
    },
  ],
  [
    "the only remote's name for a target",
    [STAGE],
    ask('status stage', { given: 'stage' }),
    {
      message: 'status: stage is a git remote here; its target is blog/stage',
      hints: ['kraftwerk status blog/stage'],
      exit: 'usage',
    },
  ],
  [
    'several receivers',
    [STAGE, OTHER],
    ask('projects', noTarget),
    {
      message: 'projects: which receiver? There are 2 git remotes',
      lines: ['  stage: blog/stage on paas', '  other: blog/live on elsewhere:2200'],
      hints: ['kraftwerk projects -r stage', 'kraftwerk projects -r other'],
      exit: 'usage',
    },
  ],
  [
    'a target on several receivers',
    [LIVE, OTHER],
    ask('stop blog/live', { given: 'blog/live' }),
    {
      message: 'stop: which receiver? There are 2 git remotes',
      lines: ['  live: blog/live on paas', '  other: blog/live on elsewhere:2200'],
      hints: ['kraftwerk stop -r live blog/live', 'kraftwerk stop -r other blog/live'],
      exit: 'usage',
    },
  ],
  [
    'none that leads to a receiver',
    [GITHUB],
    ask('logs'),
    {
      message: 'logs: no git remote of this project leads to a receiver over SSH',
      hints: ['kraftwerk remote add stage HOST'],
      exit: 'denied',
    },
  ],
  [
    'one that may lead to a receiver, and one over HTTP',
    [ALIAS, 'live https://paas:8022/blog/live.git'],
    ask('logs -f'),
    {
      message: 'logs: no git remote of this project leads to a receiver over SSH',
      hints: [
        'kraftwerk remote add stage HOST',
        'if box leads to one: kraftwerk logs -r box -f',
        'git goes over HTTP, too; commands do not:',
        'git remote add live-ssh kraftwerk@paas:blog/live',
      ],
      exit: 'denied',
    },
  ],
  [
    'one with a mistake',
    ['live kraftwerk@paas:Blog/live'],
    ask('logs'),
    {
      message: 'logs: no git remote of this project leads to a receiver over SSH',
      lines: [
        '  the git remote live is kraftwerk@paas:Blog/live: bad project name "Blog": a lower-case letter, then at most 27 of a-z 0-9 _ -',
      ],
      hints: ['kraftwerk remote add stage HOST'],
      exit: 'denied',
    },
  ],
  [
    '--remote misspelt',
    [STAGE, LIVE],
    ask('logs -f', { remote: 'satge' }),
    {
      message: 'logs: there is no git remote "satge"',
      lines: ['  stage: blog/stage on paas', '  live: blog/live on paas'],
      hints: ['kraftwerk logs -r stage -f', 'kraftwerk remote add satge HOST'],
      exit: 'denied',
    },
  ],
  [
    '--remote over HTTP',
    ['live https://alice:secret@paas/blog/live.git'],
    ask('logs', { remote: 'live' }),
    {
      message: 'logs: the git remote live is https://alice:…@paas/blog/live.git: commands go over SSH',
      hints: ['git remote add live-ssh kraftwerk@paas:blog/live'],
      exit: 'usage',
    },
  ],
  [
    '--remote of a forge',
    [GITHUB],
    ask('logs', { remote: 'origin' }),
    {
      message: "logs: the git remote origin is git@github.com:alice/blog.git: not a receiver's",
      hints: ["a receiver's: kraftwerk remote add stage HOST"],
      exit: 'usage',
    },
  ],
  [
    '--remote with an option for ssh in it',
    ['evil -oProxyCommand=date@paas:blog/live'],
    ask('logs', { remote: 'evil' }),
    {
      message: 'logs: the git remote evil is -oProxyCommand=date@paas:blog/live: begins with "-"',
      hints: ["a receiver's: kraftwerk remote add stage HOST"],
      exit: 'usage',
    },
  ],
])('%s is an error', (_, lines, asked, expected) => {
  let thrown: unknown = null;
  try {
    chooseRemote(asked, remotes(...lines));
  } catch (error) {
    thrown = error;
  }
  const { message, lines: shown, hints, exit } = thrown as KraftwerkError;
  expect({ message, lines: shown, hints, exit }).toEqual({ lines: [], ...expected });
});

test('words with blanks are quoted in what can be pasted', () => {
  const asked = ask('logs', { words: ['logs', '-p', "a b'c"] });
  expect(() => chooseRemote(asked, remotes(STAGE, LIVE))).toThrow(
    expect.objectContaining({ hints: expect.arrayContaining(["kraftwerk logs -r stage -p 'a b'\\''c'"]) }),
  );
});

test('of two names for one place, the environment’s is kept', () => {
  expect(kraftwerkRemotes(remotes('origin kraftwerk@paas:blog/live', LIVE, STAGE)).map(({ name }) => name)).toEqual([
    'live',
    'stage',
  ]);
});
