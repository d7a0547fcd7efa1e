/** Runs one script of a service, as docs/services.md says: who, where, with what, and what its answer means. */
import { jobFile } from './jobs.ts';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError, type ServiceName, type StepName } from './protocol.ts';
import { DEFAULT_PATH, type RunResult, type System } from './system.ts';

export type ScriptName = 'setup' | 'destroy' | 'dump' | 'load';

export interface ScriptOrder {
  service: ServiceName;
  script: ScriptName;
  text: string;
  /** For `load`: its step. */
  args?: readonly string[];
  /** What the receiver gives, and what the agent adds: `DUMP_TARGET`, `DUMP_SOURCE`. */
  environment: Readonly<Record<string, string>>;
  step: StepName;
  limitMs: number;
  signal?: AbortSignal;
  /** What it prints for people. */
  onOutput(line: string): void;
}

/** What a service remembers of a site: root's alone. */
export function stateFolder(site: SiteLayout, service: ServiceName): string {
  return `${site.notes}/services/${service}`;
}

/** @throws KraftwerkError `service.failed`, `service.dump` (nobody can load it), `service.away` (its server does not answer) */
export async function runServiceScript(system: System, site: SiteLayout, order: ScriptOrder): Promise<void> {
  const { service, script, args = [] } = order;
  const state = stateFolder(site, service);
  for (const folder of [`${site.notes}/services`, state]) system.makeFolder(folder, 0o700);
  const file = `${site.runtime}/.script.${service}.${script}`;
  system.writeVolatile(file, order.text, 0o600);
  const said: string[] = [];
  try {
    const result = await system.run(['bash', '--norc', '--noprofile', file, ...args], {
      cwd: '/',
      env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8', ...order.environment, STATE_DIR: state },
      timeoutMs: order.limitMs,
      ...(order.signal && { signal: order.signal }),
      jobFile: jobFile(site, service),
      onLine: (line, stream) => {
        if (stream === 'out') order.onOutput(line);
        else said.push(line);
      },
    });
    if (result.code !== 0) throw scriptError(order, result, said);
  } finally {
    system.remove(file);
    system.remove(jobFile(site, service));
  }
}

const CODES: Readonly<Record<number, string>> = { 65: 'service.dump', 69: 'service.away' };

/** Its own words first; what it says beside is shown below. */
function scriptError(order: ScriptOrder, { code, timedOut }: RunResult, said: readonly string[]): KraftwerkError {
  const { service, script, args = [], step, limitMs } = order;
  const after = (prefix: string): string[] =>
    said.flatMap((line) => (line.startsWith(prefix) ? [line.slice(prefix.length)] : []));
  const [first, ...others] = after('error: ');
  const how = timedOut
    ? `took longer than ${limitMs < 60_000 ? `${limitMs / 1000} s` : `${Math.round(limitMs / 60_000)} minutes`}`
    : `ended with ${code === null ? 'a signal' : `exit code ${code}`}`;
  const hints = after('hint: ');
  return new KraftwerkError(
    CODES[code ?? 0] ?? 'service.failed',
    `${service}: ${first ?? `${[`${script}.sh`, ...args].join(' ')} ${how}`}`,
    {
      step,
      lines: [...others, ...said.filter((line) => !/^(?:error|hint): /.test(line)).slice(-20)],
      hint:
        hints.length > 0 ? hints : [`the script is templates/services/${service}/${script}.sh; ask the node's admin`],
      reason: `service ${service} failed`,
    },
  );
}
