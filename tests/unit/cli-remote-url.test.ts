// Git remotes' URLs: what names a receiver, what is somebody else's, what is refused.
import { expect, test } from 'vitest';
import {
  formatRemoteUrl,
  parseHost,
  parseRemoteUrl,
  type RemoteUrl,
  showUrl,
  sshDestination,
} from '../../receiver/cli/remote-url.ts';
import { parseTargetName } from '../../receiver/exec-line.ts';

function ssh(host: string, port: number | null, target: string, user: string | null = 'kraftwerk'): RemoteUrl {
  return { kind: 'ssh', address: { user, host, port }, target: parseTargetName(target) };
}

const foreign: RemoteUrl = { kind: 'foreign' };
const refused = (problem: string): RemoteUrl => ({ kind: 'refused', problem });

test.each<[string, RemoteUrl]>([
  ['kraftwerk@paas:blog/live', ssh('paas', null, 'blog/live')],
  ['kraftwerk@paas.example.com:blog/live.git', ssh('paas.example.com', null, 'blog/live')],
  ['kraftwerk@paas:/blog/live/', ssh('paas', null, 'blog/live')],
  ['kraftwerk@paas:~/blog/live', ssh('paas', null, 'blog/live')],
  ['kraftwerk@paas:blog', ssh('paas', null, 'blog')],
  ['kraftwerk@[::1]:blog/live', ssh('::1', null, 'blog/live')],
  ['ssh://kraftwerk@paas/blog/live', ssh('paas', null, 'blog/live')],
  ['ssh://kraftwerk@paas:2200/blog/live.git', ssh('paas', 2200, 'blog/live')],
  ['SSH://kraftwerk@paas:2200/blog/live', ssh('paas', 2200, 'blog/live')],
  ['git+ssh://kraftwerk@paas/blog/live', ssh('paas', null, 'blog/live')],
  ['ssh://kraftwerk@[2001:db8::1]:2200/blog/live', ssh('2001:db8::1', 2200, 'blog/live')],
  ['ssh://kraftwerk@10.0.0.1:22/a-b_c/live', ssh('10.0.0.1', 22, 'a-b_c/live')],
  ['receiver:blog/live', ssh('receiver', null, 'blog/live', null)],
  ['git@github.com:alice/blog.git', ssh('github.com', null, 'alice/blog', 'git')],

  [
    'https://paas.example.com/blog/live.git',
    { kind: 'http', host: 'paas.example.com', target: parseTargetName('blog/live') },
  ],
  ['http://alice:kw_1@paas:8022/blog/live', { kind: 'http', host: 'paas:8022', target: parseTargetName('blog/live') }],
  ['https://example.com/a/b/c.git', foreign],
  ['git@github.com:Alice/Blog.git', foreign],
  ['/srv/git/blog.git', foreign],
  ['../blog', foreign],
  ['file:///srv/git/blog.git', foreign],
  ['git://example.com/blog/live', foreign],
  ['ext::sh -c date', foreign],
  ['', foreign],

  ['-oProxyCommand=date@paas:blog/live', refused('begins with "-"')],
  ['ssh://-oProxyCommand=date/blog/live', refused('not a host\'s name: "-oProxyCommand=date"')],
  ['ssh://kraftwerk@-oProxyCommand=date/blog/live', refused('not a host\'s name: "-oProxyCommand=date"')],
  ['ssh://-oProxyCommand=date@paas/blog/live', refused('not a user\'s name: "-oProxyCommand=date"')],
  ['ssh://kraftwerk:secret@paas/blog/live', refused('a password has no place in it: ssh does not take it')],
  ['kraftwerk@-paas:blog/live', refused('not a host\'s name: "-paas"')],
  ['kraftwerk@paas;date:blog/live', refused('not a host\'s name: "paas;date"')],
  ['kraftwerk@$(date):blog/live', refused('not a host\'s name: "$(date)"')],
  ['kraftwerk@pa as:blog/live', refused('not a host\'s name: "pa as"')],
  ['ssh://kraftwerk@pa%20as/blog/live', refused('not a host\'s name: "pa%20as"')],
  ['ssh://kraftwerk@paas:99999/blog/live', refused('not a port: "99999"')],
  ['ssh://kraftwerk@paas:22x/blog/live', refused('not a port: "22x"')],
  ['kraftwerk@paas:Blog/live', refused('bad project name "Blog": a lower-case letter, then at most 27 of a-z 0-9 _ -')],
  ['kraftwerk@paas:a/b/c', refused('bad target "a/b/c": expected PROJECT/ENVIRONMENT')],
  ['kraftwerk@paas:', refused('bad target "": expected PROJECT/ENVIRONMENT')],
])('%s', (url, expected) => {
  expect(parseRemoteUrl(url)).toEqual(expected);
});

test.each([
  ['paas', 'kraftwerk@paas:blog/live', ['--', 'kraftwerk@paas']],
  ['paas:2200', 'ssh://kraftwerk@paas:2200/blog/live', ['-p', '2200', '--', 'kraftwerk@paas']],
  ['kraftwerk@paas', 'kraftwerk@paas:blog/live', ['--', 'kraftwerk@paas']],
  ['ssh://kraftwerk@paas:2200/', 'ssh://kraftwerk@paas:2200/blog/live', ['-p', '2200', '--', 'kraftwerk@paas']],
  ['[::1]', 'ssh://kraftwerk@[::1]/blog/live', ['--', 'kraftwerk@::1']],
  ['[::1]:22', 'ssh://kraftwerk@[::1]:22/blog/live', ['-p', '22', '--', 'kraftwerk@::1']],
])('HOST %s', (text, url, destination) => {
  const address = parseHost(text);
  if (typeof address === 'string') throw new Error(address);
  expect(formatRemoteUrl(address, parseTargetName('blog/live'))).toBe(url);
  expect(sshDestination(address)).toEqual(destination);
  expect(parseRemoteUrl(url)).toMatchObject({ kind: 'ssh', address });
});

test.each([
  ['', 'expected a host\'s name, perhaps with :PORT, got ""'],
  ['-paas', 'expected a host\'s name, perhaps with :PORT, got "-paas"'],
  ['paas:', 'expected a host\'s name, perhaps with :PORT, got "paas:"'],
  ['paas:ssh', 'expected a host\'s name, perhaps with :PORT, got "paas:ssh"'],
  ['paas:70000', 'expected a host\'s name, perhaps with :PORT, got "paas:70000"'],
  ['kraftwerk@paas:blog/live', 'expected a host\'s name, perhaps with :PORT, got "kraftwerk@paas:blog/live"'],
  ['a b', 'expected a host\'s name, perhaps with :PORT, got "a b"'],
  ['root@paas', 'the user is always kraftwerk, got "root"'],
])('HOST %j is refused', (text, problem) => {
  expect(parseHost(text)).toBe(problem);
});

test('a password in a URL is not shown', () => {
  expect(showUrl('https://alice:kw_secret@paas/blog/live.git')).toBe('https://alice:…@paas/blog/live.git');
  expect(showUrl('kraftwerk@paas:blog/live')).toBe('kraftwerk@paas:blog/live');
});
