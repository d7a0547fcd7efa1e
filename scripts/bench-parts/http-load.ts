/** Visitors of a site: one, or so many a second, over new connections and kept ones in turn. */
import { Agent, request } from 'node:http';

export interface Site {
  port: number;
  host: string;
}

/** @returns the page; throws when the answer is not 200 */
export function visit({ port, host }: Site, agent: Agent | false = false): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port, path: '/', agent, headers: { Host: host }, timeout: 30_000 },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text;
        });
        response.on('error', reject);
        response.on('end', () =>
          response.statusCode === 200 ? resolve(body) : reject(new Error(`answered ${response.statusCode}`)),
        );
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer within 30 s')));
    asked.on('error', reject);
    asked.end();
  });
}

export function startLoad(site: Site, perSecond: number) {
  const kept = new Agent({ keepAlive: true, maxSockets: 16 });
  const open = new Set<Promise<void>>();
  const failures: string[] = [];
  const begin = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = ((performance.now() - begin) / 1000) * perSecond;
    while (sent < due) {
      const asked: Promise<void> = visit(site, sent++ % 2 === 0 ? kept : false)
        .then(
          () => undefined,
          (error: unknown) => void failures.push(String(error)),
        )
        .then(() => void open.delete(asked));
      open.add(asked);
    }
  }, 5);
  return {
    stop: (): void => clearInterval(timer),
    async result(): Promise<{ sent: number; perSecond: number; failures: readonly string[] }> {
      clearInterval(timer);
      const seconds = (performance.now() - begin) / 1000;
      await Promise.all(open);
      kept.destroy();
      return { sent, perSecond: Math.round(sent / seconds), failures };
    },
  };
}
