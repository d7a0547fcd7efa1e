/** git's pkt-line framing, as far as proc-receive and errors need it. @see git's Documentation/gitprotocol-common */

export const FLUSH = Buffer.from('0000');

/** One line: four hexadecimal digits of length, then the payload. */
export function pktLine(payload: string): Buffer {
  const body = Buffer.from(payload);
  return Buffer.concat([Buffer.from((body.length + 4).toString(16).padStart(4, '0')), body]);
}

/** `ERR …` as the first answer: git shows `fatal: remote error: …`. */
export function pktError(message: string): Buffer {
  return pktLine(`ERR ${message.replaceAll('\n', '\n  ')}`);
}

/** Bytes for the client's sideband: 1 what git says, 2 lines for people. */
export function sideband(band: 1 | 2, payload: Buffer): Buffer {
  const packets: Buffer[] = [];
  for (let at = 0; at < payload.length; at += 60_000) {
    const part = payload.subarray(at, at + 60_000);
    packets.push(Buffer.from((part.length + 5).toString(16).padStart(4, '0')), Buffer.from([band]), part);
  }
  return Buffer.concat(packets);
}

/** What git-receive-pack would report of a push of which it takes nothing: `! [remote rejected] … (reason)`. */
export function pktRejection(refs: readonly string[], reason: string): Buffer {
  const report = refs.map((ref) => pktLine(`ng ${ref} ${reason.replace(/\s+/g, ' ')}\n`));
  return Buffer.concat([sideband(1, Buffer.concat([pktLine('unpack ok\n'), ...report, FLUSH])), FLUSH]);
}

/** The payloads before the first flush; null: it is not there yet. What follows it may be anything. @throws Error on bytes that are no pkt-line */
export function readSection(bytes: Buffer): string[] | null {
  const lines: string[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const digits = bytes.toString('latin1', at, at + 4);
    const length = Number.parseInt(digits, 16);
    if (length === 0 && digits === '0000') return lines;
    if (!/^[0-9a-f]{4}$/i.test(digits) || length < 4) throw new Error('not a pkt-line');
    if (at + length > bytes.length) return null;
    lines.push(bytes.toString('utf8', at + 4, at + length).replace(/\n$/, ''));
    at += length;
  }
  return null;
}

/** Splits a byte stream into payloads; null is a flush. Keeps what is not whole yet. @throws Error on bytes that are no pkt-line */
export function createPktReader(): (chunk: Buffer) => (string | null)[] {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    const lines: (string | null)[] = [];
    while (rest.length >= 4) {
      const digits = rest.subarray(0, 4).toString('latin1');
      if (!/^[0-9a-f]{4}$/i.test(digits)) throw new Error('not a pkt-line');
      const length = Number.parseInt(digits, 16);
      if (length === 0) {
        lines.push(null);
        rest = rest.subarray(4);
        continue;
      }
      if (length < 4) throw new Error('not a pkt-line');
      if (rest.length < length) break;
      lines.push(rest.subarray(4, length).toString('utf8').replace(/\n$/, ''));
      rest = rest.subarray(length);
    }
    return lines;
  };
}
