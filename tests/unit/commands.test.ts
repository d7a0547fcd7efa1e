import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Identity } from '../../receiver/access.ts';
import { parseTargetPattern } from '../../receiver/access.ts';
import type { ReceiverApi } from '../../receiver/commands/command.ts';
import { reportError, runCommand } from '../../receiver/commands/run-command.ts';
import { COMMANDS } from '../../receiver/commands/table.ts';
import { buildKeyring } from '../../receiver/keys.ts';
import type { TestKey } from '../actors/ssh.ts';
import { memoryKeyStore, SshHome } from '../actors/ssh.ts';

const ADMIN: Identity = { name: 'root', role: 'admin', targets: 'all' };
let home: SshHome;
let configured: TestKey;
let bob: TestKey;
beforeAll(() => {
  home = new SshHome();
  configured = home.key('configured');
  bob = home.key('bob');
});
afterAll(() => home.remove());

function createReceiver(): ReceiverApi {
  const keys = memoryKeyStore();
  const { adminKeys } = buildKeyring([configured.line], keys);
  const config = { environments: new Map(['stage', 'live'].map((name) => [name, {}])) };
  return { version: '1.2.3', keys, adminKeys, config, resolveTarget: () => null } as unknown as ReceiverApi;
}

async function run(
  receiver: ReceiverApi,
  words: string,
  given: { input?: string; identity?: Identity; pty?: boolean } = {},
) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end(given.input ?? '');
  const [name = '', ...args] = words.split(' ');
  const code = await runCommand(
    {
      identity: given.identity ?? ADMIN,
      stdin,
      stdout,
      stderr,
      pty: given.pty === true ? { name: 'xterm', columns: 80, rows: 24 } : null,
      attach: () => () => undefined,
      signal: new AbortController().signal,
      remote: '127.0.0.1',
    },
    [name, ...args],
    receiver,
    () => {},
  );
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

it('keys come, are listed and go', async () => {
  const receiver = createReceiver();
  expect(await run(receiver, 'keys:add bob --role deploy blog/stage', { input: bob.line })).toEqual({
    code: 0,
    stdout: '',
    stderr: `success: bob may come in: deploy, blog/stage, ${bob.fingerprint}\n`,
  });
  expect(JSON.parse((await run(receiver, 'keys --json')).stdout)).toMatchObject([
    { name: 'configured', role: 'admin', targets: 'all', source: 'configuration' },
    { name: 'bob', role: 'deploy', targets: ['blog/stage'], addedBy: 'root', source: 'keys:add' },
  ]);
  expect((await run(receiver, 'keys')).stdout).toMatch(
    /^NAME +ROLE +TARGETS +FINGERPRINT +ADDED +LAST USED\nconfigured /,
  );
  expect(await run(receiver, 'keys:remove bob', { pty: true, input: 'bob\n' })).toMatchObject({ code: 0 });
  expect(receiver.keys.all()).toEqual([]);
});

it.each([
  ['keys:add bob', 'BOB', 'keys:add: the name bob is taken, by SHA256:', 1],
  ['keys:add other', 'BOB', 'keys:add: this key is there already, as bob (deploy)', 1],
  ['keys:add other', 'CONFIGURED', 'keys:add: this key is there already, as configured (admin)', 1],
  ['keys:add other', '-----BEGIN OPENSSH PRIVATE KEY-----\nsecret', 'this is a private key: it was not stored', 2],
  ['keys:add other', '', 'no public key', 2],
  ['keys:add other --role adnim', 'BOB', 'keys:add: unknown role "adnim": admin, deploy, read', 2],
  ['keys:add other --role admin blog', 'BOB', 'keys:add: an admin may do everything', 2],
  ['keys:add other Blog', 'BOB', 'bad target "Blog"', 2],
  ['keys:add other blog/life', 'BOB', 'keys:add: blog/life: there is no environment life', 4],
  ['keys:add other */* --json', 'BOB', 'keys:add: unknown option --json', 2],
  ['keys:add', '', 'keys:add: an argument is missing', 2],
  ['keys:remove bob', 'bob\n', 'keys:remove: nothing done: not confirmed', 2],
  ['keys:remove bob --confirm bo', '', 'keys:remove: nothing done: expected bob, got "bo"', 2],
  ['keys:remove bobb --confirm bobb', '', 'keys:remove: no key "bobb"', 4],
  ['keys:remove configured --confirm configured', '', "configured is an admin of the receiver's configuration", 1],
  ['whoami now', '', 'whoami: unexpected argument "now"', 2],
])('%s is refused', async (words, input, message, code) => {
  const receiver = createReceiver();
  await run(receiver, 'keys:add bob', { input: bob.line });
  const result = await run(receiver, words, {
    input: input.replace('BOB', bob.line).replace('CONFIGURED', configured.line),
  });
  expect(result).toMatchObject({ code, stdout: '' });
  expect(result.stderr.split('\n')[0]).toContain(message);
  expect(result.stderr).not.toContain('secret');
  expect(receiver.keys.all().map(({ name }) => name)).toEqual(['bob']);
});

it('the last admin stays', async () => {
  const receiver = { ...createReceiver(), adminKeys: [] };
  await run(receiver, 'keys:add bob --role admin', { input: bob.line });
  expect((await run(receiver, 'keys:remove bob --confirm bob')).stderr).toContain('bob is the last admin');
});

it('keys are for admins', async () => {
  const identity: Identity = { name: 'eve', role: 'deploy', targets: [parseTargetPattern('blog')] };
  expect(await run(createReceiver(), 'keys', { identity })).toEqual({
    code: 4,
    stdout: '',
    stderr: 'error: keys: your key eve has role deploy, which may not\nhint: ssh kraftwerk@HOST whoami\n',
  });
  expect((await run(createReceiver(), 'help', { identity })).stdout).not.toContain('keys:add');
});

it('every command has its help, and no two share a name', async () => {
  const names = COMMANDS.flatMap(({ name, aliases }) => [name, ...aliases]);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, usage, examples } of COMMANDS) {
    const { code, stdout } = await run(createReceiver(), `${name} --help`);
    expect([code, stdout.split('\n')[0]]).toEqual([0, `usage: ssh kraftwerk@HOST ${`${name} ${usage}`.trim()}`]);
    expect(examples.length).toBeGreaterThan(0);
  }
});

it('a bug is one line with an id; its stack goes to the log', async () => {
  const stderr = new PassThrough();
  const events: [string, Record<string, unknown>][] = [];
  const code = reportError(stderr, new TypeError('x is undefined'), (...event) => events.push(event), {
    command: 'ps',
  });
  stderr.end();
  const said = await text(stderr);
  const id = /^error: internal error ([0-9a-f]{8})\nhint: /.exec(said)?.[1];
  expect([code, events[0]?.[0], events[0]?.[1].id]).toEqual([1, 'command.failed', id]);
  expect(said).not.toContain('undefined');
});
