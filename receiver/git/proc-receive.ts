/**
 * The `proc-receive` hook: a few lines of Perl (git itself needs it) that join git's pipes to our unix socket,
 * and this side of the conversation.
 * @see git's Documentation/githooks, "proc-receive"
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { CommitId } from '../../node-agent/protocol.ts';
import { createPktReader, FLUSH, pktLine } from './pkt-line.ts';

/** Frames to the hook: channel (0 end, 1 stdout, 2 stderr), length, bytes. From it: its token and a newline, then git's bytes. */
const HOOK = `#!/usr/bin/perl
# Joins git's pipes to the receiver, which decides about the push. Written by kraftwerk at its start.
use strict; # and nothing else: the module Socket takes longer to load than all of this to run
my $refuse = sub { print STDERR "error: kraftwerk's receiver does not answer\\n"; exit 1 };
my $r;
# AF_UNIX and SOCK_STREAM are 1 and 1 on Linux; its address is the family and the path.
socket($r, 1, 1, 0) && connect($r, pack('S a*', 1, ($ENV{KRAFTWERK_SOCKET} // '') . "\\0")) or $refuse->();
sub put { my ($to, $data) = @_; while (length $data) { my $n = syswrite($to, $data) // exit 1; substr($data, 0, $n) = '' } }
put($r, ($ENV{KRAFTWERK_PUSH} // '') . "\\n");
my ($in, $buffer) = (1, '');
while (1) {
  my $wait = ''; vec($wait, fileno($r), 1) = 1; vec($wait, 0, 1) = 1 if $in;
  next if select($wait, undef, undef, undef) < 0;
  if ($in && vec($wait, 0, 1)) { my $n = sysread(STDIN, my $data, 65536); if ($n) { put($r, $data) } else { $in = 0 } }
  next unless vec($wait, fileno($r), 1);
  sysread($r, $buffer, 65536, length $buffer) or exit 1;
  while (length $buffer >= 5) {
    my ($channel, $length) = unpack 'CN', $buffer; last if length $buffer < 5 + $length;
    my $data = substr($buffer, 5, $length); substr($buffer, 0, 5 + $length) = '';
    exit 0 if $channel == 0;
    put($channel == 1 ? \\*STDOUT : \\*STDERR, $data);
  }
}
`;

export interface RefUpdate {
  old: CommitId;
  new: CommitId;
  ref: string;
}

export interface RefVerdict {
  ref: string;
  /** Null: accepted. Else git's own words in parentheses. */
  rejected: string | null;
}

export interface ProcReceive {
  updates: readonly RefUpdate[];
  options: readonly string[];
  atomic: boolean;
  /** A line for the pusher, without a line break. */
  say(line: string): void;
}

export type ProcReceiveHandler = (push: ProcReceive) => Promise<readonly RefVerdict[]>;
export type HookServer = Awaited<ReturnType<typeof startHookServer>>;

/** Writes the hook and listens for it. A push is joined to its handler by a token that only its git process knows. */
export async function startHookServer(data: string, onError: (error: unknown) => void) {
  const hooks = join(data, 'hooks');
  // Short and in a folder of our own: a socket's path may have 107 bytes.
  const folder = join('/tmp', `kraftwerk-${process.getuid?.() ?? 0}-${randomBytes(6).toString('hex')}`);
  const path = join(folder, 'hook.sock');
  const note = join(data, 'hook-folder');
  await mkdir(hooks, { recursive: true, mode: 0o700 });
  // The data folder is ours alone: the folder of a receiver that was killed has no listener any more.
  const stale = await readFile(note, 'utf8').catch(() => '');
  if (/^\/tmp\/kraftwerk-[0-9]+-[0-9a-f]{12}$/.test(stale)) await rm(stale, { recursive: true, force: true });
  await writeFile(note, folder);
  await writeFile(join(hooks, 'proc-receive'), HOOK, { mode: 0o755 });
  await chmod(join(hooks, 'proc-receive'), 0o755);
  await mkdir(folder, { mode: 0o700 });

  const handlers = new Map<string, ProcReceiveHandler>();
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    converse(socket, (token) => {
      const handler = handlers.get(token);
      handlers.delete(token);
      return handler;
    }).catch((error: unknown) => {
      onError(error);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));

  return {
    hooks,
    /** @returns environment for git, and a way to forget the push */
    expect(handler: ProcReceiveHandler): { env: Record<string, string>; forget(): void } {
      const token = randomBytes(24).toString('hex');
      handlers.set(token, handler);
      return { env: { KRAFTWERK_SOCKET: path, KRAFTWERK_PUSH: token }, forget: () => void handlers.delete(token) };
    },
    async close(): Promise<void> {
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function converse(socket: Socket, take: (token: string) => ProcReceiveHandler | undefined): Promise<void> {
  const send = (channel: 0 | 1 | 2, payload: Buffer): void => {
    const head = Buffer.alloc(5);
    head.writeUInt8(channel, 0);
    head.writeUInt32BE(payload.length, 1);
    if (!socket.destroyed) socket.write(Buffer.concat([head, payload]));
  };
  const read = createPktReader();
  const lines: (string | null)[] = [];
  let token: string | null = null;
  let pending = Buffer.alloc(0);
  let handler: ProcReceiveHandler | undefined;
  let answeredVersion = false;
  let started = false;

  await new Promise<void>((resolve, reject) => {
    socket.on('close', () => resolve());
    socket.on('data', (chunk: Buffer) => {
      try {
        let data = chunk;
        if (token === null) {
          pending = Buffer.concat([pending, chunk]);
          const end = pending.indexOf(10);
          if (end === -1) {
            if (pending.length > 200) socket.destroy();
            return;
          }
          token = pending.subarray(0, end).toString('latin1');
          data = pending.subarray(end + 1);
          handler = take(token);
          if (handler === undefined) {
            socket.destroy();
            return;
          }
        }
        lines.push(...read(data));
        if (!answeredVersion && lines.includes(null)) {
          answeredVersion = true;
          send(1, Buffer.concat([pktLine('version=1\0push-options atomic\n'), FLUSH]));
        }
        if (started || handler === undefined) return;
        const whole = parseConversation(lines);
        if (whole === null) return;
        started = true;
        const say = (line: string): void => send(2, Buffer.from(`${line}\n`));
        handler({ ...whole, say }).then((verdicts) => {
          const report = verdicts.map(({ ref, rejected }) =>
            pktLine(rejected === null ? `ok ${ref}\n` : `ng ${ref} ${rejected.replace(/\s+/g, ' ')}\n`),
          );
          send(1, Buffer.concat([...report, FLUSH]));
          send(0, Buffer.alloc(0));
          socket.end();
        }, reject);
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** version, flush, commands, flush, and where the capability was given options, flush; null while it is not whole. */
function parseConversation(lines: readonly (string | null)[]): Omit<ProcReceive, 'say'> | null {
  const sections: string[][] = [[]];
  for (const line of lines) {
    if (line === null) sections.push([]);
    else sections.at(-1)?.push(line);
  }
  const capabilities = sections[0]?.[0]?.split('\0')[1]?.split(' ') ?? [];
  const withOptions = capabilities.includes('push-options');
  // The last section is open: as many flushes as sections are needed.
  if (sections.length - 1 < (withOptions ? 3 : 2)) return null;
  const updates = (sections[1] ?? []).map((line) => {
    const [old = '', next = '', ...ref] = line.split(' ');
    return { old: old as CommitId, new: next as CommitId, ref: ref.join(' ') };
  });
  return { updates, options: withOptions ? (sections[2] ?? []) : [], atomic: capabilities.includes('atomic') };
}
