/** Asks a web process over its own socket, and decides when it is healthy. */
import { connect } from 'node:net';
import type { HealthcheckRequest } from './protocol.ts';
import type { System } from './system.ts';

export type Answer = { status: number; ms: number } | { status: null; reason: 'refused' | 'silent' | 'garbage' };

/**
 * One GET over a unix socket. `path` is relative to the working directory where it would not fit into `sun_path`.
 * Answers after the status line and whatever follows within the time, so that the process is not cut off.
 */
export function ask(
  socketPath: string,
  request: { path: string; host: string; timeoutMs: number },
  nowMs: () => number,
): Promise<Answer> {
  return new Promise((resolve) => {
    const begin = nowMs();
    const socket = connect({ path: socketPath });
    let text = '';
    let received = 0;
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const judge = (missing: 'refused' | 'silent' | 'garbage'): void => {
      const status = /^HTTP\/1\.[01] ([1-5][0-9]{2})\b/.exec(text)?.[1];
      finish(
        status === undefined ? { status: null, reason: missing } : { status: Number(status), ms: nowMs() - begin },
      );
    };
    const timer = setTimeout(() => judge('silent'), request.timeoutMs);
    socket.on('error', () => judge(received > 0 ? 'garbage' : 'refused'));
    socket.on('data', (data) => {
      if (text.length < 64) text += data.toString('latin1');
      received += data.length;
      if (received > 1024 * 1024) judge('garbage');
    });
    socket.on('close', () => judge(received > 0 ? 'garbage' : 'refused'));
    socket.write(
      `GET ${request.path} HTTP/1.1\r\nHost: ${request.host}\r\nUser-Agent: kraftwerk-health\r\nAccept: */*\r\n` +
        'X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n',
    );
  });
}

export type Verdict =
  | { healthy: true; status: number; ms: number }
  | { healthy: false; why: 'died' | 'status' | 'silent' | 'boot' | 'aborted'; status: number | null; tries: number };

/** The first looks are this far apart, growing until the interval of the configuration is reached. */
const FIRST_PAUSE_MS = 4;

/**
 * Polls until the process answers well, has answered badly `retries` times, ends, or has not answered at all within `bootMs`.
 * Tries count from the first answer on: a boot may take its time.
 * @param alive whether the process still runs
 */
export async function waitForHealth(
  system: System,
  socketPath: string,
  health: HealthcheckRequest,
  alive: () => boolean,
  signal: AbortSignal,
): Promise<Verdict> {
  const begin = system.nowMs();
  let tries = 0;
  let pauseMs = FIRST_PAUSE_MS;
  let answered = false;
  let last: number | null = null;
  for (;;) {
    if (signal.aborted) return { healthy: false, why: 'aborted', status: last, tries };
    const answer = await ask(socketPath, health, system.nowMs);
    // A process that has gone to the background may answer, too; nobody supervises it.
    if (!alive()) return { healthy: false, why: 'died', status: answer.status, tries };
    if (answer.status !== null && answer.status >= health.statusMin && answer.status <= health.statusMax) {
      return { healthy: true, status: answer.status, ms: answer.ms };
    }
    answered ||= answer.status !== null;
    last = answer.status ?? last;
    if (answered && ++tries >= health.retries)
      return { healthy: false, why: answer.status === null ? 'silent' : 'status', status: last, tries };
    if (!answered && system.nowMs() - begin > health.bootMs)
      return { healthy: false, why: 'boot', status: null, tries };
    await system.sleep(pauseMs, signal);
    // While it boots, look closely: the pusher waits. Wrong answers are given time to mend.
    pauseMs = answered ? Math.min(Math.max(pauseMs * 4, 50), health.intervalMs) : Math.min(pauseMs * 1.05, 8);
  }
}
