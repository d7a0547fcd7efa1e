/** What a request line asks for; null is 404. Pure: nothing is decoded, so what is written strangely is found nowhere. */
import type { GitService } from '../exec-line.ts';

export type Route =
  | { kind: 'health' }
  /** `advertise`: which refs there are; `serve`: the push or fetch itself. */
  | { kind: 'git'; step: 'advertise' | 'serve'; service: GitService; path: string };

const NAME = '[a-z][a-z0-9_-]{0,27}';
const REPOSITORY = `/(?<path>${NAME}(?:/${NAME})?)(?:\\.git)?`;
const ADVERTISE = new RegExp(`^${REPOSITORY}/info/refs\\?service=git-(?<service>receive-pack|upload-pack)$`);
const SERVE = new RegExp(`^${REPOSITORY}/git-(?<service>receive-pack|upload-pack)$`);

/** @param url as the request line has it */
export function parseRoute(method: string, url: string): Route | null {
  if (url === '/healthz') return method === 'GET' || method === 'HEAD' ? { kind: 'health' } : null;
  const step = method === 'GET' ? 'advertise' : method === 'POST' ? 'serve' : null;
  const found = step === null ? null : (step === 'advertise' ? ADVERTISE : SERVE).exec(url)?.groups;
  if (step === null || found === null || found === undefined) return null;
  return { kind: 'git', step, service: found.service as GitService, path: found.path ?? '' };
}
