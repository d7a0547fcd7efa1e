/** Actor: somebody with a token, who speaks HTTP to a receiver, by git's client or by hand. */
import { type IncomingHttpHeaders, request } from 'node:http';
import { expect } from 'vitest';
import type { TestReceiver } from './receiver.ts';
import type { TestKey } from './ssh.ts';

export const HTTP_ON = 'http: {host: 127.0.0.1, port: 0}';
export const PUSH = { 'Content-Type': 'application/x-git-receive-pack-request' };
export const FETCH = { 'Content-Type': 'application/x-git-upload-pack-request' };

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Asked {
  /** Null: nobody. */
  user?: string | null;
  password?: string;
  headers?: Record<string, string>;
  body?: Buffer | string;
}

export type HttpUser = Awaited<ReturnType<typeof createHttpUser>>;

/** @param receiver with `HTTP_ON` in its configuration */
export async function createHttpUser(receiver: TestReceiver) {
  const address = (): string => String(receiver.log.findLast(({ event }) => event === 'receiver.ready')?.http);
  const token = await tokenFor(receiver.admin);

  async function tokenFor(key: TestKey, ...options: string[]): Promise<string> {
    const made = await receiver.sshAs(key, ['tokens:add', ...options]);
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^kw_[0-9a-f]{8}_[0-9a-f]{48}\n$/) as string });
    return made.stdout.trim();
  }

  /** Without git's client. */
  function ask(
    method: string,
    path: string,
    { user = 'alice', password = token, headers, body }: Asked = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const [host, port] = address().split(':');
      const known = user === null ? {} : { Authorization: basic(user, password) };
      const options = { host, port, method, path, agent: false as const, headers: { ...known, ...headers } };
      const asked = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      });
      asked.on('error', reject);
      asked.end(body ?? '');
    });
  }

  return {
    token,
    tokenFor,
    ask,
    address,
    url: (path: string, user = 'alice', password = token): string => `http://${user}:${password}@${address()}/${path}`,
    /** Whatever has happened: both servers answer, and no token is in the log. */
    async expectWell(): Promise<void> {
      expect(await receiver.ssh('whoami')).toMatchObject({ code: 0 });
      expect(await ask('GET', '/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
      expect(JSON.stringify(receiver.log)).not.toMatch(/kw_[0-9a-f]{8}_/);
    },
  };
}

export function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

export function pkt(payload: string): string {
  return (Buffer.byteLength(payload) + 4).toString(16).padStart(4, '0') + payload;
}

/** The body of a push that needs no pack: it moves a ref to a commit that is there. */
export function moveRef(from: string, to: string, ref = 'refs/heads/master'): string {
  return `${pkt(`${from} ${to} ${ref}\0 report-status side-band-64k agent=hand`)}0000`;
}
