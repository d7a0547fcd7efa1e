import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadHostKey } from '../../receiver/ssh/host-key.ts';
import type { TestKey, TestServer } from '../actors/ssh.ts';
import { SshHome, startTestServer } from '../actors/ssh.ts';

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

describe('strangers', () => {
  const dial = async (server: TestServer): Promise<ReturnType<typeof connect>> => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };

  it('garbage on the port ends that connection only', async () => {
    const server = await start();
    for (const garbage of [
      'GET / HTTP/1.1\r\n\r\n',
      'SSH-2.0-x\r\n\0\0\0\0',
      randomBytes(100_000),
      'SSH-1.5-old\r\n',
    ]) {
      const socket = await dial(server);
      socket.resume();
      socket.end(garbage);
      await once(socket, 'close');
    }
    expect((await server.ssh(alice, ['version'])).stdout).toBe('kraftwerk 0.0.0-test\n');
  });

  it('have little time to log in', async () => {
    const server = await start({ limits: { loginGraceMs: 200 } });
    const socket = await dial(server);
    socket.resume();
    await once(socket, 'close');
    expect((await server.event('ssh.denied')).fields).toEqual({ remote: '127.0.0.1', reason: 'login_grace' });
  });

  it('have few tries', async () => {
    const server = await start({ limits: { tries: 3 } });
    const more = [1, 2, 3].flatMap((number) => ['-i', home.key(`guess-${number}`).path]);
    expect((await server.ssh(stranger, ['whoami'], { options: [...more, '-i', alice.path] })).code).toBe(255);
    expect(server.events.filter(({ fields }) => fields.reason === 'unknown_key')).toHaveLength(3);
    expect(server.events.at(-1)).toMatchObject({ event: 'ssh.denied', fields: { reason: 'tries', tries: 3 } });
  });

  it('have few connections per address', async () => {
    const server = await start({ limits: { strangersPerAddress: 2 } });
    const [first] = [await dial(server), await dial(server)];
    const third = await dial(server);
    third.resume();
    await once(third, 'close');
    expect((await server.event('ssh.refused')).fields).toEqual({ remote: '127.0.0.1', limit: 'strangersPerAddress' });
    first?.resume().end();
    if (first !== undefined) await once(first, 'close');
    expect((await server.ssh(alice, ['version'])).code).toBe(0);
  });
});

it('the host key stays, and is for its owner only', () => {
  const path = join(home.folder, 'host_key');
  const key = loadHostKey(path);
  expect(loadHostKey(path)).toEqual(key);
  chmodSync(path, 0o640);
  expect(() => loadHostKey(path)).toThrow(`${path}: mode 0640`);
  chmodSync(path, 0o600);
});
