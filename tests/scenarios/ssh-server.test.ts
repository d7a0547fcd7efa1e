import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import ssh2 from 'ssh2';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ExecSession } from '../../receiver/ssh-server.ts';
import type { TestKey, TestServer } from '../actors/ssh.ts';
import { outcome, SshHome, startTestServer } from '../actors/ssh.ts';

let home: SshHome;
let alice: TestKey;
let stranger: TestKey;
const servers: TestServer[] = [];

beforeAll(() => {
  home = new SshHome();
  alice = home.key('alice');
  stranger = home.key('stranger');
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});
afterAll(() => home.remove());

async function start(options: Parameters<typeof startTestServer>[2] = {}, admins = [alice]): Promise<TestServer> {
  const server = await startTestServer(home, admins, options);
  servers.push(server);
  return server;
}

/** Handles exec lines that a shell would know. */
async function toyShell({ line, stdin, stdout, stderr }: ExecSession): Promise<number> {
  const [name, value] = (line ?? '').split(' ');
  if (name === 'exit') return Number(value);
  if (name === 'cat') await pipeline(stdin, stdout, { end: false });
  if (name === 'sum') {
    const hash = createHash('sha256');
    for await (const chunk of stdin) hash.update(chunk as Buffer);
    stdout.write(hash.digest('hex'));
  }
  if (name === 'both') {
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const fill = async (stream: typeof stdout): Promise<void> => {
      for (let at = 0; at < 80; at += 1) if (!stream.write(chunk)) await once(stream, 'drain');
    };
    await Promise.all([fill(stdout), fill(stderr)]);
  }
  return 0;
}

describe('who comes in', () => {
  it.each([
    ['ed25519', ['-t', 'ed25519']],
    ['ecdsa-256', ['-t', 'ecdsa', '-b', '256']],
    ['ecdsa-384', ['-t', 'ecdsa', '-b', '384']],
    ['ecdsa-521', ['-t', 'ecdsa', '-b', '521']],
    ['rsa', ['-t', 'rsa', '-b', '2048']],
  ])('an %s key that is known', async (kind, options) => {
    const key = home.key(`kind-${kind}`, ...options);
    const server = await start({}, [key]);
    expect(await server.ssh(key, ['whoami'])).toEqual({
      code: 0,
      stdout: `name     kind-${kind}\nrole     admin\ntargets  all\n`,
      stderr: '',
    });
    expect((await server.event('ssh.accepted')).fields).toEqual({ remote: '127.0.0.1', fingerprint: key.fingerprint });
  });

  it('not an unknown key: the answer is the ordinary one, the log has its fingerprint', async () => {
    const server = await start();
    const { code, stderr } = await server.ssh(stranger, ['whoami']);
    expect(code).toBe(255);
    expect(stderr).toBe('kraftwerk@127.0.0.1: Permission denied (publickey).\r\n');
    expect((await server.event('ssh.denied')).fields).toEqual({
      remote: '127.0.0.1',
      reason: 'unknown_key',
      fingerprint: stranger.fingerprint,
      type: 'ssh-ed25519',
    });
  });

  it('not a password', async () => {
    const server = await start();
    const client = new ssh2.Client();
    client.connect({ host: '127.0.0.1', port: server.port, username: 'kraftwerk', password: 'secret' });
    const [error] = await once(client, 'error');
    expect(String(error)).toContain('All configured authentication methods failed');
    expect((await server.event('ssh.denied')).fields).toMatchObject({ reason: 'method', method: 'password' });
  });

  it('not rsa with SHA-1', async () => {
    const key = home.key('sha1', '-t', 'rsa', '-b', '2048');
    const server = await start({}, [key]);
    const { code } = await server.ssh(key, ['whoami'], { options: ['-o', 'PubkeyAcceptedAlgorithms=ssh-rsa'] });
    expect(code).toBe(255);
  });

  // CVE-2024-45337: servers that remembered the key of the last probe let its offerer in under another's name.
  it('somebody who shows the key of a victim and signs with their own comes in as themselves', async () => {
    const victim = home.key('victim');
    const mallory = home.key('mallory');
    const server = await start({}, [victim, mallory]);
    const probe = ssh2.utils.parseKey(victim.line);
    const own = ssh2.utils.parseKey(readFileSync(mallory.path, 'utf8'));
    if (probe instanceof Error || own instanceof Error) throw new Error('keys');
    const foreign = Object.assign(Object.create(probe) as typeof probe, {
      isPrivateKey: () => true,
      sign: () => Buffer.alloc(64),
    });
    const offers = [foreign, own, foreign];
    const client = new ssh2.Client();
    client.connect({
      host: '127.0.0.1',
      port: server.port,
      username: 'kraftwerk',
      authHandler: (_left, _partial, next) => {
        const key = offers.shift();
        next((key === undefined ? false : { type: 'publickey', username: 'kraftwerk', key }) as never);
      },
    });
    await once(client, 'ready');
    const said = await new Promise<string>((resolve, reject) =>
      client.exec('whoami --json', (error, stream) => {
        if (error) return reject(error);
        let all = '';
        stream.on('data', (chunk: Buffer) => (all += chunk.toString()));
        stream.on('close', () => resolve(all));
      }),
    );
    client.end();
    expect(JSON.parse(said)).toMatchObject({ name: 'mallory' });
    expect((await server.event('ssh.denied')).fields).toMatchObject({
      reason: 'bad_signature',
      fingerprint: victim.fingerprint,
    });
  });

  it('not a key that was removed, even over a connection that is open already', async () => {
    const server = await start();
    const bob = home.key('bob');
    expect(await server.ssh(alice, ['keys:add', 'bob', '--role', 'read', 'blog'], { input: bob.line })).toMatchObject({
      code: 0,
      stderr: `success: bob may come in: read, blog, ${bob.fingerprint}\n`,
    });
    const control = join(home.folder, 'mux');
    const ready = ['-o', 'PermitLocalCommand=yes', '-o', 'LocalCommand=echo ready'];
    const master = spawn('ssh', server.args(bob, '-M', '-N', '-S', control, ...ready));
    await once(master.stdout, 'data');
    const over = (...words: string[]) => server.ssh(bob, words, { options: ['-S', control] });
    expect((await over('whoami')).stdout).toContain('name     bob\nrole     read\ntargets  blog\n');
    expect(await server.ssh(alice, ['keys:remove', 'bob'])).toMatchObject({ code: 2 });
    expect(await server.ssh(alice, ['keys:remove', 'bob', '--confirm', 'bob'])).toMatchObject({ code: 0 });
    expect(await over('whoami')).toEqual({ code: 4, stdout: '', stderr: 'error: your key was removed\n' });
    master.kill();
    await once(master, 'close');
  });
});

describe('what they may ask for', () => {
  it('an interactive login prints the help and ends well', async () => {
    const server = await start();
    const { code, stdout } = await server.ssh(alice, [], { options: ['-tt'] });
    expect(code).toBe(0);
    expect(stdout).toContain('ssh kraftwerk@HOST COMMAND\r\n  help [COMMAND]');
    expect(stdout.replaceAll('\r\n', '')).not.toContain('\n');
  });

  it('exit codes come through', async () => {
    const server = await start({ handle: toyShell });
    for (const code of [0, 1, 6, 130]) expect((await server.ssh(alice, ['exit', String(code)])).code).toBe(code);
  });

  it('mistakes are answered with what was meant', async () => {
    const server = await start();
    expect(await server.ssh(alice, ['whoam'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'error: unknown command "whoam"\nhint: did you mean whoami?\nhint: ssh kraftwerk@HOST help\n',
    });
    expect(await server.ssh(alice, ['whoami', '--jsno'])).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'error: whoami: unknown option --jsno\nusage: ssh kraftwerk@HOST whoami [--json]\nhint: did you mean --json?\n',
    });
    expect(await server.ssh(alice, ["say 'open"])).toMatchObject({ code: 2 });
  });

  it('forwarding, subsystems and agents are refused, and the connection lives on', async () => {
    const server = await start({ handle: toyShell });
    expect((await server.ssh(alice, ['sftp'], { options: ['-s'] })).code).not.toBe(0);
    const remote = await server.ssh(alice, ['exit', '3'], {
      options: ['-A', '-X', '-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1'],
    });
    expect(remote.stderr).toContain('remote port forwarding failed');
    const direct = await outcome(spawn('ssh', server.args(alice, '-W', '127.0.0.1:1')));
    expect(direct.stderr).toContain('administratively prohibited');
    expect((await server.ssh(alice, ['exit', '3'], { options: ['-A', '-o', 'SendEnv=PATH'] })).code).toBe(3);
  });
});

describe('data', () => {
  it('large input and output arrive whole', async () => {
    const server = await start({ handle: toyShell });
    const data = randomBytes(24 * 1024 * 1024).toString('hex');
    const sum = createHash('sha256').update(data).digest('hex');
    expect((await server.ssh(alice, ['sum'], { input: data })).stdout).toBe(sum);
    const echoed = await server.ssh(alice, ['cat'], { input: data });
    expect(createHash('sha256').update(echoed.stdout).digest('hex')).toBe(sum);
    expect(echoed.code).toBe(0);
  });

  // ssh2 1.17 sends a chunk again when both streams wait for the client's window.
  it('both streams may be large at the same time', async () => {
    const server = await start({ handle: toyShell });
    const { code, stdout, stderr } = await server.ssh(alice, ['both']);
    expect([code, stdout.length, stderr.length]).toEqual([0, 80 * 64 * 1024, 80 * 64 * 1024]);
  });

  it('input that nobody reads does not hold the command up', async () => {
    const server = await start({ handle: toyShell });
    expect((await server.ssh(alice, ['exit', '5'], { input: Buffer.alloc(20 * 1024 * 1024) })).code).toBe(5);
  });

  it.each(['kill', 'Ctrl-C'] as const)('a client that goes aborts what runs for it: %s', async (way) => {
    let entered = (_: ExecSession): void => {};
    const session = new Promise<ExecSession>((resolve) => (entered = resolve));
    let finished = (): void => {};
    const done = new Promise<void>((resolve) => (finished = resolve));
    const server = await start({
      async handle(running) {
        entered(running);
        running.stdout.write('running\n');
        if (!running.signal.aborted) await once(running.signal, 'abort');
        await new Promise((resolve) => running.stdout.write('nobody reads this\n', resolve));
        finished();
        return 0;
      },
    });
    const child = spawn('ssh', server.args(alice, ...(way === 'kill' ? [] : ['-tt'])).concat('logs'));
    await once(child.stdout, 'data');
    if (way === 'kill') child.kill('SIGKILL');
    else child.stdin.write('\x03');
    expect((await session).signal).toBeInstanceOf(AbortSignal);
    await done;
  });
});
