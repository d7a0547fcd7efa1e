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
