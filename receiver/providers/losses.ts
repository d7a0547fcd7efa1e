// What it means when fetch fails: in words, and whether the provider may have acted on the request. Pure.

export const REQUEST_LIMIT_MS = 30_000;
export const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** Nothing of the request has reached the provider. */
const NEVER_SENT = new Set([
  ...['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'],
  'UND_ERR_CONNECT_TIMEOUT',
]);

const LOSSES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'cannot connect (refused)',
  ENOTFOUND: 'cannot connect (the name is not known)',
  EAI_AGAIN: 'cannot connect (no name server answers)',
  EHOSTUNREACH: 'cannot connect (no route)',
  ENETUNREACH: 'cannot connect (no network)',
  UND_ERR_CONNECT_TIMEOUT: 'cannot connect (no answer in time)',
  ECONNRESET: 'the connection was cut before the answer',
  UND_ERR_SOCKET: 'the connection was cut before the answer',
  TimeoutError: `no answer within ${REQUEST_LIMIT_MS / 1000} s`,
  ERR_TOO_LONG: `an answer of more than ${MAX_BODY_BYTES / 1024 / 1024} MiB`,
};

/** `wasHandled`: it may have been carried out, though no answer came. */
export function explainLoss(error: unknown): { why: string; wasHandled: boolean } {
  const { code, syscall } = findCode(error);
  const why = LOSSES[code] ?? (code === '' ? 'no answer' : `no answer (${code})`);
  // A route may also end while the answer is waited for.
  const wasConnected = syscall === 'read' || syscall === 'write';
  return { why, wasHandled: wasConnected || !NEVER_SENT.has(code) };
}

/** fetch hides what happened in causes of causes. */
function findCode(error: unknown): { code: string; syscall: string | undefined } {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth += 1) {
    const { code, syscall } = at as NodeJS.ErrnoException;
    if (typeof code === 'string') return { code, syscall };
    if (at.name === 'TimeoutError') return { code: at.name, syscall };
  }
  return { code: '', syscall: undefined };
}
