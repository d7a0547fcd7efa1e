// Commands in a project's environment: the real ssh client, without a terminal and in a real one.
// Long because: every scenario shares the one receiver and the one deployed project.
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { processesWith, waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { openTerminal, type Terminal } from '../actors/terminal.ts';
import { thorough } from '../actors/thorough.ts';

/** As scripts/kraftwerk starts it, without a look whether it is to be built. */
const KRAFTWERK = fileURLToPath(new URL('../../build/receiver.mjs', import.meta.url));
const MEGABYTE = 1024 * 1024;
const NASTY = 'a\'b "c" $d `e` \\f\n  second line\n ü€😀 !x\t*';
const YAML = `environ:
  NASTY: ${JSON.stringify(NASTY)}
  EMPTY: ""
services: {files: {}}
keep_releases: 1
`;

let receiver: TestReceiver;
let alice: Pusher;
beforeAll(async () => {
  receiver = await startReceiver();
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'kraftwerk.yaml': YAML, 'version.txt': 'one' });
});
afterAll(() => receiver.cleanUp());
/** A test that has failed leaves nothing to the next. */
const open: (() => unknown)[] = [];
afterEach(() => {
  for (const kill of open.splice(0)) kill();
});

const tree = (version: number): string =>
  realpathSync(join(receiver.node, 'web', 'blog-stage', 'releases', `v${version}`));
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
const run = (...words: string[]) => receiver.ssh('run', 'blog', '--', ...words.map(quote));
const sh = (script: string) => run('sh', '-c', script);

function ssh(options: readonly string[], ...words: string[]): ChildProcessWithoutNullStreams {
  const [command = 'ssh', ...args] = receiver.sshCommand(receiver.admin);
  const child = spawn(command, [...args, ...options, 'receiver', ...words]);
  open.push(() => child.kill('SIGKILL'));
  return child;
}

/** ssh at a terminal. */
function terminal(words: readonly string[], size: { columns?: number; rows?: number } = {}): Terminal {
  const opened = openTerminal([...receiver.sshCommand(receiver.admin), '-tt', 'receiver', ...words], size);
  open.push(opened.kill);
  return opened;
}

/** The notes of running commands, and the helpers: all gone when a command has ended. */
const nothingLeft = () =>
  waitFor('nothing to be left of the commands', () => {
    const notes = readdirSync(join(receiver.node, 'run', 'kraftwerk')).filter((name) => name.includes('.run.v'));
    return notes.length === 0 && processesWith(join(receiver.node, 'run', 'kraftwerk', '.run-in-site.py')).length === 0;
  });

describe('without a terminal', () => {
  it('a command runs in the release that serves, with its variables and its virtualenv', async () => {
    const { code, stdout, stderr } = await sh(
      'pwd -P; echo "$KRAFTWERK_RELEASE $VIRTUAL_ENV"; command -v python; test -t 0 || echo no terminal; echo "[$TERM]"; umask',
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const folder = `${receiver.node}/web/blog-stage/releases/v1`;
    expect(stdout.split('\n')).toEqual([
      ...[tree(1), `v1 ${folder}/venv`, `${folder}/venv/bin/python`, 'no terminal', '[]', '0027', ''],
    ]);
    await nothingLeft();
  });

  it('passes every word as it is, with -- and without', async () => {
    const words = ['a b', '$HOME', '*', '"', '\\', '--json', '-u', '', 'ü', '; exit 3', "it's"];
    const print = ['python', '-c', 'import sys, json; print(json.dumps(sys.argv[1:]))'];
    expect(JSON.parse((await run(...print, ...words)).stdout)).toEqual(words);
    const bare = await receiver.ssh('run', 'blog', ...[...print, '--help', '-r', 'x'].map(quote));
    expect(JSON.parse(bare.stdout)).toEqual(['--help', '-r', 'x']);
  });

  it('keeps stdout and stderr apart, and gives the exit code, also of signals and of what is not there', async () => {
    expect(await sh('echo out; echo err >&2; echo more >/dev/stderr; exit 42')).toEqual({
      code: 42,
      stdout: 'out\n',
      stderr: 'err\nmore\n',
    });
    expect((await sh('kill -TERM $$')).code).toBe(143);
    expect(await run('no-such-program')).toEqual({
      code: 127,
      stdout: '',
      stderr: 'error: "no-such-program": there is no such program\n',
    });
    expect((await run('./version.txt')).code).toBe(126);
  });

  it('carries 50 MB both ways, byte for byte, and ends its input', async () => {
    const input = randomBytes(50 * MEGABYTE);
    const child = ssh([], 'run', 'blog', '--', 'cat');
    const hash = createHash('sha256');
    let bytes = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      hash.update(chunk);
    });
    child.stdin.end(input);
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(bytes).toBe(input.length);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(input).digest('hex'));
  });

  it.runIf(thorough)(
    'holds back a command whose output nobody reads, and a client whose input nobody reads',
    async () => {
      const peak = (pid: number): number => {
        try {
          return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
        } catch {
          // It has ended.
          return 0;
        }
      };
      const before = peak(receiver.pid ?? 0);
      let agentPeak = 0;
      const look = setInterval(() => {
        agentPeak = Math.max(agentPeak, ...receiver.agents().map(peak));
      }, 200);
      const unread = ssh([], 'run', 'blog', '--', quote('sh'), '-c', quote('yes abcdefgh | head -c 300000000; exit 3'));
      const deaf = ssh(
        [],
        'run',
        'blog',
        '--',
        'sh',
        '-c',
        quote('echo ready; read line; echo "$line"; exec sleep 100'),
      );
      await once(deaf.stdout, 'data');
      deaf.stdin.on('error', () => undefined);
      deaf.stdin.write(Buffer.concat([Buffer.from('hello\n'), Buffer.alloc(20 * MEGABYTE)]));
      expect(String((await once(deaf.stdout, 'data'))[0])).toBe('hello\n');
      // Not a single byte of it is read here until now.
      let bytes = 0;
      unread.stdout.on('data', (chunk: Buffer) => (bytes += chunk.length));
      const [code] = await once(unread, 'close');
      clearInterval(look);
      expect({ code, bytes }).toEqual({ code: 3, bytes: 300_000_000 });
      expect(peak(receiver.pid ?? 0) - before).toBeLessThan(120);
      expect(agentPeak).toBeGreaterThan(20);
      expect(agentPeak).toBeLessThan(200);
      deaf.kill();
      await nothingLeft();
    },
  );

  it('ends everything with the client, daemons, too', async () => {
    const mark = `kw-orphan-${process.pid}`;
    const script = `exec -a ${mark} sleep 1000 & setsid bash -c "exec -a ${mark} sleep 1000" & (trap "" HUP; exec -a ${mark} sleep 1000) & echo ready; wait`;
    const child = ssh([], 'run', 'blog', '--', 'bash', '-c', quote(script));
    await once(child.stdout, 'data');
    await waitFor('three of them', () => processesWith(mark).filter(({ argv }) => argv[0] === mark).length === 3);
    child.kill('SIGKILL');
    await waitFor('the command to be gone', () => processesWith(mark).length === 0);
    await nothingLeft();
  });

  it('ends what a command has left in the background, and does not wait for it', async () => {
    const mark = `kw-left-${process.pid}`;
    const script = `setsid bash -c "exec -a ${mark} sleep 1000" & echo done; exit 5`;
    expect(await run('bash', '-c', script)).toMatchObject({ code: 5, stdout: 'done\n' });
    expect(processesWith(mark)).toEqual([]);
  });

  it('ends everything when the agent is killed', async () => {
    const mark = `kw-killed-${process.pid}`;
    const child = ssh([], 'run', 'blog', '--', 'bash', '-c', quote(`echo ready; exec -a ${mark} sleep 1000`));
    await once(child.stdout, 'data');
    for (const pid of receiver.agents()) process.kill(pid, 'SIGKILL');
    const [code] = await once(child, 'close');
    expect(code).toBe(1);
    await waitFor('the command to be gone', () => processesWith(mark).length === 0);
  });

  it('is for who may, and is written down without its words', async () => {
    const bob = await receiver.addKey('bob', 'read', 'blog');
    const carol = await receiver.addKey('carol', 'deploy', 'blog');
    for (const words of [
      ['run', 'blog', '--', 'id'],
      ['env', 'blog'],
    ])
      expect(await receiver.sshAs(bob, words)).toMatchObject({ code: 4, stdout: '' });
    expect(await receiver.sshAs(carol, ['run', 'blog', '--', 'echo', 'secret-word'])).toMatchObject({ code: 0 });
    expect(await receiver.sshAs(carol, ['run', 'blog', '-u', 'nobody', 'id'])).toMatchObject({ code: 4 });
    const refused = await receiver.ssh('run', 'blog', '-u', 'nobody', 'id');
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('on a rootless node') });
    expect(await receiver.ssh('run', 'blog')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/no command given/),
    });
    expect(await receiver.ssh('run', 'blog', '--node', 'nowhere', 'id')).toMatchObject({ code: 4 });
    expect(receiver.log.findLast(({ event }) => event === 'run.ended')).toMatchObject({ key: 'alice' });
    expect(receiver.log.filter(({ event }) => event === 'run.started')).toContainEqual(
      expect.objectContaining({ key: 'carol', target: 'blog/stage', release: 1, program: 'echo' }),
    );
    expect(JSON.stringify(receiver.log)).not.toContain('secret-word');
  });
});

describe('in a terminal', () => {
  it('has its size, and gets the new one', async () => {
    // Not bash, which takes a Ctrl-C that comes while a command of its own ends for that command's.
    const program = [
      'import os, signal',
      'size = lambda *_: print(os.get_terminal_size().lines, os.get_terminal_size().columns, flush=True)',
      'signal.signal(signal.SIGINT, signal.SIG_DFL)',
      'signal.signal(signal.SIGWINCH, size)',
      'size()',
      'print(os.environ["TERM"], flush=True)',
      'print(os.ttyname(0), flush=True)',
      'any(signal.pause() for _ in iter(int, 1))',
    ].join('; ');
    const words = ['run', 'blog', '--', 'python', '-c', quote(program)];
    const shell = terminal(words, { columns: 101, rows: 37 });
    await shell.shows(/37 101\r\nxterm-256color\r\n\/dev\/pts\/\d+\r\n/);
    shell.resize(120, 50);
    await shell.shows(/50 120\r\n/);
    shell.type('\x03');
    expect(await shell.ended).toBe(130);
  });

  it('Ctrl-C interrupts the command, and nothing else', async () => {
    const shell = terminal([
      'run',
      'blog',
      '--',
      'bash',
      '-c',
      quote('trap "echo caught; exit 9" INT; echo ready; while :; do sleep 1; done'),
    ]);
    await shell.shows(/ready\r\n/);
    shell.type('\x03');
    await shell.shows(/\^Ccaught\r\n/);
    expect(await shell.ended).toBe(9);
    const plain = terminal(['run', 'blog', '--', 'sh', '-c', quote('echo ready; exec sleep 1000')]);
    await plain.shows(/ready/);
    plain.type('\x03');
    expect(await plain.ended).toBe(130);
  });

  it('a shell: where one is, jobs, Ctrl-D', async () => {
    const shell = terminal(['run', 'blog']);
    await shell.shows(/blog\/stage v1 [#$] /);
    shell.type('echo "$KRAFTWERK_PROJECT:$PWD"\r');
    await shell.shows(/blog:\S+\/releases\/v1\r\n/);
    shell.type('sh -c "echo up; exec sleep 500"\r');
    await shell.shows(/\nup\r\n|\rup\r\n/);
    shell.type('\x1a');
    await shell.shows(/Stopped/);
    shell.type('kill -KILL %1; while kill -0 %1 2>/dev/null; do sleep 0.1; done; (exit 7)\r');
    await shell.shows(/\(exit 7\)\r\n[\s\S]* [#$] /);
    shell.type('\x04');
    expect(await shell.ended).toBe(7);
    await nothingLeft();
  });

  it("Python's prompt, and raw bytes both ways", async () => {
    const shell = terminal(['run', 'blog', 'python', '-q']);
    await shell.shows(/>>> /);
    shell.type('import os; print(6 * 7, os.environ["KRAFTWERK_RELEASE"])\r');
    await shell.shows(/42 v1\r\n>>> /);
    // As an editor does it.
    shell.type(
      'import sys, tty; tty.setraw(0); sys.stdout.write("READY"); b = sys.stdin.buffer.read(256); os.write(1, b + bytes(range(256)) + b"END")\r',
    );
    await shell.shows(/READY(?!")/);
    const all = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
    // ssh takes ~ at the beginning of a line for itself: none stands there.
    shell.type(all);
    const shown = await shell.shows(/END/);
    const text = all.toString('latin1');
    expect(shown.includes(`${text}${text}END`)).toBe(true);
    shell.type('\x04');
    shell.type('\rexit()\r\x04');
    await shell.ended;
  });

  it('input that ends is Ctrl-D', async () => {
    const child = ssh(['-tt'], 'run', 'blog', '--', 'python', '-q');
    let seen = '';
    child.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
    child.stdin.end('print(6 * 7)\n');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(seen).toContain('42');
  });

  it('a client that is killed takes its shell with it', async () => {
    const mark = `kw-shell-${process.pid}`;
    const child = ssh(['-tt'], 'run', 'blog');
    child.stdin.write(`(trap "" HUP; exec -a ${mark} sleep 1000)\n`);
    await waitFor('it to run', () => processesWith(mark).some(({ argv }) => argv[0] === mark));
    child.kill('SIGKILL');
    await waitFor('it to be gone', () => processesWith(mark).length === 0);
    await nothingLeft();
  });

  it('one that shares its connection and closes its channel does so, too', async () => {
    const socket = join(receiver.folder, 'mux');
    const master = ssh(['-M', '-S', socket, '-N'], '');
    await waitFor('the shared connection', () => existsSync(socket));
    const mark = `kw-mux-${process.pid}`;
    const child = ssh(
      ['-S', socket],
      'run',
      'blog',
      '--',
      'bash',
      '-c',
      quote(`echo ready; exec -a ${mark} sleep 1000`),
    );
    child.stdin.on('error', () => undefined);
    child.stdin.write(Buffer.alloc(8 * MEGABYTE));
    await once(child.stdout, 'data');
    await waitFor('it to run', () => processesWith(mark).some(({ argv }) => argv[0] === mark));
    child.kill('SIGKILL');
    await waitFor('it to be gone', () => processesWith(mark).length === 0);
    master.kill();
  });

  it('errors are lines', async () => {
    const shell = terminal(['run', 'blog', 'no-such-program']);
    await shell.shows(/error: "no-such-program": there is no such program\r\n/);
    expect(await shell.ended).toBe(127);
    const usage = terminal(['run', 'blog', '--release', 'v9', 'id']);
    await usage.shows(/error: .*v9.*\r\nhint: .*\r\n/);
    expect(await usage.ended).toBe(4);
  });
});

describe('env', () => {
  it.each(['sh', 'bash', 'zsh'])('is what %s can source, byte for byte', async (shell) => {
    if (spawnSync('which', [shell]).status !== 0) return;
    const { code, stdout } = await receiver.ssh('env', 'blog');
    expect(code).toBe(0);
    const result = spawnSync(
      shell,
      ['-c', `eval "$SCRIPT"; unset SCRIPT; printf '%s|' "$NASTY" "$EMPTY" "$KRAFTWERK_RELEASE" "$HOME"`],
      {
        env: { SCRIPT: stdout, HOME: '/my/home', PATH: process.env.PATH },
      },
    );
    expect(result.stdout.toString()).toBe(`${NASTY}||v1|/my/home|`);
    expect(stdout).toMatch(/^# of the node try:\nexport UPLOADS_PATH='\//m);
    const variables = JSON.parse((await receiver.ssh('env', 'blog', '--json')).stdout) as Record<string, string>;
    expect(variables).toMatchObject({ NASTY, EMPTY: '', KRAFTWERK_PROJECT: 'blog' });
    expect((await run('printenv', 'NASTY')).stdout).toBe(`${NASTY}\n`);
  });
});

describe('locally', () => {
  const env = () => ({
    PATH: process.env.PATH ?? '',
    HOME: receiver.folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_SSH_COMMAND: receiver.sshCommand(receiver.admin).join(' '),
  });
  beforeAll(() => {
    for (const name of alice.git(['remote']).split('\n')) if (name !== '') alice.git(['remote', 'remove', name]);
    alice.git(['remote', 'add', 'stage', 'kraftwerk@receiver:blog/stage']);
  });
  const typed = (argv: readonly string[], input = '') =>
    spawnSync(process.execPath, [KRAFTWERK, ...argv], { cwd: alice.work, env: env(), input, encoding: 'utf8' });

  it('the target is found, words, input, output and exit code go through', () => {
    expect(typed(['run', 'sh', '-c', 'echo "$1"; cat; exit 6', 'x', 'a  b $c *'], 'input')).toMatchObject({
      status: 6,
      stdout: 'a  b $c *\ninput',
      stderr: '',
    });
    expect(typed(['run', 'blog/stage', 'echo', '--help', '-r', 'x']).stdout).toBe('--help -r x\n');
    expect(typed(['stab', '-r', 'stage', '--', 'echo', '-r']).stdout).toBe('-r\n');
    expect(typed(['run', 'echo', 'a\nb'])).toMatchObject({ status: 2, stderr: expect.stringContaining('on stdin') });
    expect(typed(['run', '--help']).stdout).toContain('usage: kraftwerk stab [TARGET]');
  });

  it('the environment of the project can be had', () => {
    const result = spawnSync(
      'bash',
      ['-c', 'eval "$("$@" env)"; printf %s "$NASTY"', 'bash', process.execPath, KRAFTWERK],
      {
        cwd: alice.work,
        env: env(),
      },
    );
    expect(result.stdout.toString()).toBe(NASTY);
  });

  it('a terminal goes along', async () => {
    const shell = openTerminal(
      [process.execPath, KRAFTWERK, 'run', 'bash', '-c', 'stty size; read x; echo "got $x"; exit 4'],
      {
        columns: 91,
        rows: 33,
        env: env(),
        cwd: alice.work,
      },
    );
    await shell.shows(/33 91\r\n/);
    shell.type('this\r');
    await shell.shows(/got this\r\n/);
    expect(await shell.ended).toBe(4);
  });
});

describe('deploys', () => {
  it('go on beside a command, whose release stays until it ends', async () => {
    const child = ssh(
      [],
      'run',
      'blog',
      '--',
      'sh',
      '-c',
      quote('echo ready; read x; cat version.txt; python -c "print(1)"'),
    );
    await once(child.stdout, 'data');
    const old = tree(1);
    for (const version of ['two', 'three', 'four']) await alice.deploy({ 'version.txt': version });
    const chunks: string[] = [];
    child.stdout.on('data', (chunk: Buffer) => void chunks.push(chunk.toString()));
    await waitFor('what is not needed to go', () => !existsSync(old.replace(/v1$/, 'v2')));
    expect(existsSync(old)).toBe(true);
    child.stdin.end('\n');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(chunks.join('')).toMatch(/^one\n?1\n$/);
    expect(
      await receiver.ssh(
        'run',
        'blog',
        '--release',
        'v3',
        'sh',
        '-c',
        quote('"cat version.txt; echo $KRAFTWERK_RELEASE"').slice(1, -1),
      ),
    ).toMatchObject({ code: 0, stdout: expect.stringMatching(/^three\n?v3\n$/) });
    await nothingLeft();
    await alice.deploy({ 'version.txt': 'five' });
    await waitFor('the old release to go', () => !existsSync(old));
  });
});
