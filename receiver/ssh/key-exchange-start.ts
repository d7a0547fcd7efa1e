import type { Socket } from 'node:net';

/** For a client that says it is OpenSSH and then falls silent. */
const PATIENCE_MS = 1_000;
const NEWLINE = 10;

/**
 * Saves OpenSSH's clients 40 ms per connection. Until a session is open their small packets wait for the acknowledgement of
 * those before (Nagle), and Linux acknowledges at once only as long as nothing has been answered: then it waits up to 40 ms for
 * an answer that could carry it along. Our KEXINIT, sent as the answer to their version line, brought just that about: their
 * KEXINIT was acknowledged late, and their key waited behind it. So ours is held until theirs comes, and carries the
 * acknowledgement. Nothing is lost by that: OpenSSH sends its KEXINIT without having seen ours (RFC 4253, 7.1), and its key had
 * to wait for the round trip anyway. Other clients may wait for ours, or send their key at once: they get it as ever.
 *
 * To be called before the server listens to `socket`, in the same turn.
 */
export function holdKeyExchange(socket: Socket): void {
  const listen = (chunk: Buffer): void => {
    socket.off('data', listen);
    // Anything behind the version line is the KEXINIT, or its beginning.
    if (chunk.subarray(0, 16).toString('latin1') !== 'SSH-2.0-OpenSSH_' || chunk.indexOf(NEWLINE) !== chunk.length - 1)
      return;
    socket.cork();
    const release = (): void => {
      clearTimeout(patience);
      socket.off('data', release);
      socket.off('close', release);
      socket.uncork();
    };
    const patience = setTimeout(release, PATIENCE_MS);
    socket.on('data', release);
    socket.once('close', release);
  };
  socket.on('data', listen);
}
