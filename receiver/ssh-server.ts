/** The SSH server: lets keys in and hands each exec or login to `handle` as plain streams; refuses everything else. */
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Connection, ServerChannel, Session } from 'ssh2';
import ssh2 from 'ssh2';
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Identity } from './access.ts';
import { openStreams } from './ssh/channel.ts';
import type { ClientEvents, ClientListener, Pty } from './ssh/client-events.ts';
import { listenToClient } from './ssh/client-events.ts';
import { holdKeyExchange } from './ssh/key-exchange-start.ts';
import type { Limits, Place } from './ssh/limits.ts';
import { ConnectionCounter, DEFAULT_LIMITS } from './ssh/limits.ts';
import { createLogin } from './ssh/login.ts';

export interface ExecSession {
  identity: Identity;
  /** What the client wants executed; null for an interactive login. */
  line: string | null;
  /** For git's own variable of that name: `version=2`. */
  gitProtocol: string | null;
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  pty: Pty | null;
  /**
   * Until what it returns is called: a terminal's bytes go both ways as they are, Ctrl-C among them, for a command that has a
   * terminal of its own elsewhere; its window and the client's signals are told.
   */
  attach(listener: ClientListener): () => void;
  /** Aborted when the client is gone; what is written after that is dropped. */
  signal: AbortSignal;
  /** The client's address. */
  remote: string;
}

export interface SshServerOptions {
  host: string;
  /** 0: a free one. */
  port: number;
  /** A private key in OpenSSH's format. */
  hostKey: string;
  /** Whose key is it? Asked for offered keys and again for each session, so that a removed key is out at once. */
  authenticate(fingerprint: string): Identity | null;
  /** After a verified signature. */
  loggedIn?(fingerprint: string): void;
  /** @returns the exit code */
  handle(session: ExecSession): Promise<number>;
  onEvent(event: string, fields: Record<string, unknown>): void;
  limits?: Partial<Limits>;
}

export interface SshServer {
  /** `127.0.0.1:2222` */
  address: string;
  port: number;
  /** No new connections and no new sessions; running ones go on. */
  stopAccepting(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}

interface Peer {
  socket: Socket;
  place: Place;
  remote: string;
  client: Connection | null;
  fingerprint: string | null;
  sessions: number;
  /** Called when the connection is gone. */
  gone: Set<() => void>;
}

/** Curve25519 first: half the time of the others. GCM first: the fastest without native code. */
const ALGORITHMS: ssh2.Algorithms = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'ecdh-sha2-nistp384',
    'ecdh-sha2-nistp521',
    'diffie-hellman-group14-sha256',
    'diffie-hellman-group16-sha512',
  ],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
};
const CLOSE_WAIT_MS = 500;

/** @throws KraftwerkError `ssh.listen` */
export async function startSshServer(options: SshServerOptions): Promise<SshServer> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const counter = new ConnectionCounter(limits);
  const peers = new Map<string, Peer>();
  let accepting = true;

  const ssh = new ssh2.Server({ hostKeys: [options.hostKey], algorithms: ALGORITHMS, ident: 'kraftwerk' });
  ssh.on('error', (error: Error) => options.onEvent('ssh.error', { error: error.message }));

  // Sockets are ours: ssh2 says nothing of a client before it has sent its version line.
  const listener = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    socket.on('error', () => {});
    const { remoteAddress: remote, remotePort } = socket;
    if (remote === undefined || remotePort === undefined) return void socket.destroy();
    const place = counter.enter(remote);
    if (typeof place === 'string') {
      options.onEvent('ssh.refused', { remote, limit: place });
      return void socket.destroy();
    }
    const id = `${remote} ${remotePort}`;
    const peer: Peer = { socket, place, remote, client: null, fingerprint: null, sessions: 0, gone: new Set() };
    peers.set(id, peer);
    const grace = setTimeout(() => {
      if (peer.fingerprint !== null) return;
      options.onEvent('ssh.denied', { remote, reason: 'login_grace' });
      socket.destroy();
    }, limits.loginGraceMs);
    const leave = (): void => {
      clearTimeout(grace);
      for (const call of peer.gone) call();
      peer.gone.clear();
    };
    socket.once('end', leave);
    socket.once('close', () => {
      leave();
      peers.delete(id);
      place.release();
    });
    holdKeyExchange(socket);
    ssh.injectSocket(socket);
  });

  ssh.on('connection', (client: Connection, info: { ip: string; port: number }) => {
    const peer = peers.get(`${info.ip} ${info.port}`);
    client.on('error', (error: Error & { level?: string }) => {
      // A peer that has fallen silent would never take part in an orderly end.
      if (error.level === 'client-timeout') peer?.socket.destroy();
      options.onEvent('ssh.client_error', { remote: info.ip, error: error.message });
    });
    if (peer === undefined) return void client.end();
    peer.client = client;
    client.on(
      'authentication',
      createLogin({
        limits,
        known: (fingerprint) => options.authenticate(fingerprint) !== null,
        accepted: (fingerprint) => {
          peer.fingerprint = fingerprint;
          peer.place.promote();
          options.loggedIn?.(fingerprint);
          options.onEvent('ssh.accepted', { remote: peer.remote, fingerprint });
        },
        denied: (reason, fields) => options.onEvent('ssh.denied', { remote: peer.remote, reason, ...fields }),
        disconnect: () => client.end(),
      }),
    );
    client.on('session', (accept, reject) => {
      if (!accepting || peer.sessions >= limits.sessions) return void reject();
      peer.sessions += 1;
      serveSession(options, peer, accept());
    });
  });

  await new Promise<void>((resolve, reject) => {
    listener.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new KraftwerkError('ssh.listen', `ssh: cannot listen on ${options.host}:${options.port}: ${cause.code}`, {
          ...(cause.code === 'EADDRINUSE' && { hint: 'another server has the port: set ssh.port' }),
          ...(cause.code === 'EACCES' && { hint: 'ports below 1024 need root: set ssh.port' }),
          exit: 'config',
          cause,
        }),
      ),
    );
    listener.listen(options.port, options.host, resolve);
  });
  listener.on('error', (error) => options.onEvent('ssh.error', { error: error.message }));
  const bound = listener.address();
  if (bound === null || typeof bound === 'string') throw new KraftwerkError('ssh.listen', 'ssh: no address');

  const stopAccepting = (): void => {
    if (!accepting) return;
    accepting = false;
    listener.close();
    for (const peer of peers.values()) if (peer.sessions === 0) end(peer);
  };
  return {
    address: `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    port: bound.port,
    stopAccepting,
    async close() {
      stopAccepting();
      const open = [...peers.values()];
      const closed = open.map(({ socket }) => new Promise((resolve) => socket.once('close', resolve)));
      for (const peer of open) end(peer);
      const force = setTimeout(() => open.forEach(({ socket }) => void socket.destroy()), CLOSE_WAIT_MS);
      await Promise.all(closed);
      clearTimeout(force);
    },
  };
}

function end({ client, socket }: Peer): void {
  if (client === null) socket.destroy();
  else client.end();
}

function serveSession(options: SshServerOptions, peer: Peer, session: Session): void {
  const events = listenToClient(session);
  let gitProtocol: string | null = null;
  session.on('env', (accept, reject, info: { key: string; val?: string; value?: string }) => {
    const value = info.val ?? info.value ?? '';
    if (info.key !== 'GIT_PROTOCOL' || !/^[a-z0-9=:.-]{1,64}$/.test(value)) return void reject?.();
    gitProtocol = value;
    accept?.();
  });
  const run = (line: string | null, accept: () => ServerChannel | undefined): void => {
    const channel = accept();
    if (channel !== undefined)
      void serveChannel(options, peer, session, channel, { line, pty: events.pty, gitProtocol }, events);
  };
  session.once('exec', (accept, _reject, info) => run(info.command, accept));
  session.once('shell', (accept) => run(null, accept));
}

type Asked = Pick<ExecSession, 'line' | 'pty' | 'gitProtocol'>;

async function serveChannel(
  options: SshServerOptions,
  peer: Peer,
  session: Session,
  channel: ServerChannel,
  asked: Asked,
  events: ClientEvents,
): Promise<void> {
  const { remote } = peer;
  const streams = openStreams(channel, {
    terminal: asked.pty !== null,
    flood: () => {
      options.onEvent('ssh.flood', { remote });
      peer.socket.destroy();
    },
  });
  const { stdin, stdout, stderr, signal, clientGone } = streams;
  const attach = (listener: ClientListener): (() => void) => {
    events.listener = listener;
    streams.setRaw(true);
    return () => {
      events.listener = null;
      streams.setRaw(false);
    };
  };
  peer.gone.add(clientGone);
  session.once('close', clientGone);
  let exitCode = 1;
  try {
    const identity = peer.fingerprint === null ? null : options.authenticate(peer.fingerprint);
    if (identity === null) {
      stderr.write('error: your key was removed\n');
      exitCode = 4;
    } else {
      exitCode = await options.handle({ identity, ...asked, stdin, stdout, stderr, attach, signal, remote });
    }
  } catch (error) {
    const stack = error instanceof Error ? error.stack : String(error);
    options.onEvent('ssh.failed', { remote, stack });
    stderr.write('error: internal error, see the log of the receiver\n');
  }
  await streams.finish(exitCode);
  peer.gone.delete(clientGone);
  peer.sessions -= 1;
}
