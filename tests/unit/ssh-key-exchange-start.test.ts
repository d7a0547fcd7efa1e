import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { holdKeyExchange } from '../../receiver/ssh/key-exchange-start.ts';

/** Answers with its KEXINIT to the first that it hears, as ssh2 does. */
let server: Server;
let ours: Socket;
let client: Socket;
let received = '';

beforeEach(async () => {
  received = '';
  server = createServer({ noDelay: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true });
  client.on('data', (chunk) => {
    received += chunk.toString();
  });
  [ours] = (await once(server, 'connection')) as [Socket];
  holdKeyExchange(ours);
  ours.write('version\n');
  ours.once('data', () => ours.write('kexinit'));
});

afterEach(() => {
  client.destroy();
  ours.destroy();
  server.close();
});

/** Once our side has heard it. */
async function say(text: string): Promise<void> {
  const heard = once(ours, 'data');
  client.write(text);
  await heard;
}

async function receives(text: string): Promise<void> {
  while (received !== text) await once(client, 'data');
}

describe("the server's KEXINIT", () => {
  it("goes with the acknowledgement of OpenSSH's", async () => {
    await say('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n');
    expect(ours.writableLength).toBe('kexinit'.length);
    await receives('version\n');
    await say('k');
    expect(ours.writableLength).toBe(0);
    await receives('version\nkexinit');
    ours.write(' more');
    await receives('version\nkexinit more');
  });

  it.each([
    ['a client that may wait for it', 'SSH-2.0-libssh_0.9.8\r\n'],
    ['one that has sent its own', 'SSH-2.0-OpenSSH_9.2p1\r\nk'],
    ['one whose version line comes in pieces', 'SSH-2.0-OpenSSH_'],
    ['what speaks no SSH', 'GET / HTTP/1.1\r\n'],
  ])('goes at once to %s', async (_who, text) => {
    await say(text);
    expect(ours.writableLength).toBe(0);
    await receives('version\nkexinit');
  });

  it('goes to an OpenSSH that stays silent, after a while', async () => {
    await say('SSH-2.0-OpenSSH_9.2p1\r\n');
    await receives('version\nkexinit');
  });

  it('is not waited for when the client is gone', async () => {
    await say('SSH-2.0-OpenSSH_9.2p1\r\n');
    client.destroy();
    await once(ours, 'close');
    expect(ours.writableCorked).toBe(0);
  });
});
