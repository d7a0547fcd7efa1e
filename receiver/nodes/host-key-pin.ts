/** The one door to another machine's sshd: nothing is said to a host that does not show the key that was pinned for it. */
import { connect, type Socket } from 'node:net';
import ssh2, { type Client, type ConnectConfig } from 'ssh2';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { fingerprintOf } from '../keys.ts';

export interface HostKeySeen {
  /** `SHA256:…`, as ssh-keygen -l prints it. */
  fingerprint: string;
  /** `ssh-ed25519` and the like. */
  type: string;
  /** `ssh-ed25519 AAAA…`, for known_hosts. */
  publicKey: string;
}

export interface PinnedOptions {
  /** The node's name, for messages. */
  name: string;
  host: string;
  port: number;
  /** `SHA256:…` from the configuration. */
  pin: string;
  /** Who logs in and how: `username` with `privateKey`, `agent` or `password`. */
  login: Pick<ConnectConfig, 'username' | 'privateKey' | 'passphrase' | 'agent' | 'password'>;
  /** For all of it: name, connection, handshake, login. */
  timeoutMs: number;
}

export interface PinnedClient {
  client: Client;
  socket: Socket;
  /** What the connection ended with, once it has: an `error` has its listener from the start. */
  lastError(): Error | null;
}

const PIN_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/;
const PING_MS = 10_000;
/** Fast without native addons: OpenSSL does these, and in a third of the packets that ssh2's own order would cost. */
const CIPHERS = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'aes128-ctr',
  'aes256-ctr',
  'chacha20-poly1305@openssh.com',
] as const;

/**
 * Connects and logs in.
 * @throws KraftwerkError `node.host-key`: no pin, or another key; otherwise the Error that ended the attempt, with `code`
 *   ETIMEDOUT, ECONNREFUSED and the like, or `level` client-authentication
 */
export function connectPinned(options: PinnedOptions): Promise<PinnedClient> {
  const { name, host, port, pin } = options;
  if (!PIN_PATTERN.test(pin)) {
    return Promise.reject(
      new KraftwerkError('node.host-key', `node ${name}: no host key is pinned`, {
        hint: `kraftwerk setup-node ${name}   shows the key of ${host} and pins it`,
        exit: 'config',
        reason: `node ${name} has no pinned host key`,
      }),
    );
  }
  let seen: HostKeySeen | null = null;
  return dial(options, (key) => {
    seen = key;
    return key.fingerprint === pin;
  }).catch((error: unknown) => {
    if (seen === null || seen.fingerprint === pin) throw error;
    throw new KraftwerkError('node.host-key', `node ${name}: ${host}:${port} is not the server that was pinned`, {
      lines: [`expected ${pin}`, `got      ${seen.fingerprint} (${seen.type})`],
      hint: [
        `if the server was set up anew: kraftwerk setup-node ${name}   shows and pins its new key`,
        'if it was not, somebody stands between you and it: find out who before you go on',
      ],
      reason: `node ${name} shows another host key`,
    });
  });
}

/** The key that a host shows, for an admin to look at before it is pinned. Tells the host nothing. @throws KraftwerkError `node.unreachable` */
export async function probeHostKey(host: string, port: number, timeoutMs = 10_000): Promise<HostKeySeen> {
  let seen: HostKeySeen | null = null;
  const attempt = dial({ host, port, login: { username: 'probe' }, timeoutMs }, (key) => {
    seen = key;
    return false;
  });
  const failure = await attempt.then(
    ({ socket }) => socket.destroy(),
    (error: Error) => error,
  );
  if (seen !== null) return seen;
  throw new KraftwerkError('node.unreachable', `no SSH server at ${host}:${port}: ${explain(failure as Error)}`, {
    hint: `look whether the server is up: ssh -p ${port} root@${host} true`,
    cause: failure,
  });
}

/** What a failed attempt to connect means, in a few words. */
export function explain(error: Error): string {
  const { code } = error as NodeJS.ErrnoException;
  return (code !== undefined && CAUSES[code]) || error.message || code || 'closed';
}

const CAUSES: Readonly<Record<string, string>> = {
  ETIMEDOUT: 'timed out',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to it',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'its name could not be looked up',
};

type DialOptions = Pick<PinnedOptions, 'host' | 'port' | 'login' | 'timeoutMs'>;

function dial(options: DialOptions, verify: (key: HostKeySeen) => boolean): Promise<PinnedClient> {
  const { host, port, login, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    const socket = connect({ host, port, noDelay: true, autoSelectFamily: true });
    let last: Error | null = null;
    const fail = (error: Error): void => {
      last ??= error;
      clearTimeout(timer);
      socket.destroy();
      reject(last);
    };
    const timer = setTimeout(() => fail(Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' })), timeoutMs);
    // For good: an error that nobody hears ends the process.
    client.on('error', fail);
    client.on('close', () => fail(new Error('closed by the other side')));
    client.once('ready', () => {
      clearTimeout(timer);
      resolve({ client, socket, lastError: () => last });
    });
    try {
      client.connect({
        ...login,
        sock: socket,
        readyTimeout: 0,
        keepaliveInterval: PING_MS,
        // Whether the other side is alive is told by what it sends: a ping can wait behind a slow upload.
        keepaliveCountMax: Number.POSITIVE_INFINITY,
        algorithms: { cipher: [...CIPHERS] },
        hostVerifier: (blob: Buffer) => verify(describeKey(blob)),
      });
    } catch (error) {
      fail(error as Error);
    }
  });
}

function describeKey(blob: Buffer): HostKeySeen {
  const type = blob.toString('latin1', 4, 4 + blob.readUInt32BE(0));
  return { fingerprint: fingerprintOf(blob), type, publicKey: `${type} ${blob.toString('base64')}` };
}
