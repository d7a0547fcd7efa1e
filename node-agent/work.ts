/** What every request works with, and the steps, heartbeats and commands that a deploy is made of. */
import type { Readable } from 'node:stream';
import { makeBuildFolder, NO_ROOM, roomHint } from './build-folder.ts';
import type { SiteLayout } from './layout.ts';
import { projectProgram } from './project-command.ts';
import { type DeployEvent, KraftwerkError, type Limits, type StepName } from './protocol.ts';
import type { Frame } from './protocol-data.ts';
import { JOB_MARK } from './site-processes.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/** What a request works with. */
export interface Work {
  system: System;
  site: SiteLayout;
  httpPort: number;
  emit(event: DeployEvent): void;
  /** Asks the receiver for the artifact's bytes and gives the stream on which they come. */
  receiveArtifact(bytes: number): Readable;
  /** For `retire`, which alone does not hold the site's lock: a moment under it. */
  locked<T>(body: () => Promise<T>): Promise<T>;
  /** Under a lock of the node's, whatever else is held. */
  lockedAt<T>(path: string, body: () => Promise<T>): Promise<T>;
  /** The next frame of the request's input; null when nobody is there any more. @throws KraftwerkError `protocol.invalid` */
  readFrame(): Promise<Frame | null>;
  /** A piece of bulk output; waits for whoever reads slowly. */
  sendData(stream: 'out' | 'err', bytes: Uint8Array): Promise<void>;
  /** So many bytes of its frames are passed on, see `RUN_WINDOW_BYTES`. */
  taken(bytes: number): void;
  /** The client went away, or the receiver did. Heeded until activation. */
  signal: AbortSignal;
}

/** Nobody waits longer than this without a sign of life; then less often. */
const FIRST_HEARTBEAT_MS = 2_000;
const HEARTBEAT_MS = 5_000;
const COMMAND_LIMIT_MS = 1_800_000;

export async function step<T extends { detail: string; quiet?: boolean }>(
  work: Work,
  name: StepName,
  body: (progress: (what: string) => void) => Promise<T>,
): Promise<T> {
  const begin = work.system.nowMs();
  const result = await withHeartbeat(work, name, '', body);
  work.emit({
    event: 'step',
    step: name,
    detail: result.detail,
    ms: work.system.nowMs() - begin,
    ...(result.quiet && { quiet: true }),
  });
  return result;
}

/** Anything that takes longer says so every few seconds. */
export async function withHeartbeat<T>(
  work: Work,
  name: StepName,
  what: string,
  body: (progress: (what: string) => void) => Promise<T>,
): Promise<T> {
  const begin = work.system.nowMs();
  let current = what;
  const beat = (): void => {
    work.emit({ event: 'progress', step: name, what: current || name.toLowerCase(), ms: work.system.nowMs() - begin });
    timer = setTimeout(beat, HEARTBEAT_MS);
  };
  let timer = setTimeout(beat, FIRST_HEARTBEAT_MS);
  try {
    return await body((next) => {
      current = next;
    });
  } finally {
    clearTimeout(timer);
  }
}

/** `build` or `release` of kraftwerk.yaml: the project's own shell command, in its tree. */
export async function runStep(
  work: Work,
  name: 'Build' | 'Release',
  command: string,
  cwd: string,
  environment: Readonly<Record<string, string>>,
  limits: Limits | null,
): Promise<void> {
  const { system, site } = work;
  await step(work, name, async (progress) => {
    progress(command);
    const home = name === 'Build' ? await makeBuildFolder(system, site, 'Build') : {};
    const own = { ...home, VIRTUAL_ENV: `${cwd}/venv`, PATH: `${cwd}/venv/bin:${DEFAULT_PATH}` };
    const { argv, ...how } = await projectProgram(system, site, ['/bin/sh', '-c', command], {
      limits,
      apart: name === 'Build',
      environment: { ...environment, ...own, ...(site.owner === null && { [JOB_MARK]: site.site }) },
    });
    const result = await system.run(argv, {
      ...how,
      cwd,
      timeoutMs: COMMAND_LIMIT_MS,
      signal: work.signal,
      jobFile: site.job,
      onLine: (line) => work.emit({ event: 'output', step: name, line }),
    });
    stopIfGone(work, name);
    if (result.code === 0) return { detail: command };
    const ending = result.timedOut
      ? `took longer than ${COMMAND_LIMIT_MS / 60_000} minutes`
      : `ended with ${result.code === null ? 'a signal' : `exit code ${result.code}`}`;
    throw new KraftwerkError(`${name.toLowerCase()}.failed`, `${name.toLowerCase()} command "${command}" ${ending}`, {
      step: name,
      hint: [
        name === 'Release'
          ? 'its output is above; -o skip-release deploys without it'
          : "its output is above; it runs in the new tree, without the site's variables",
        ...(result.tail.some((line) => NO_ROOM.test(line)) ? [roomHint(site.buildFolder)] : []),
      ],
      reason: `${name.toLowerCase()} command failed`,
    });
  });
}

export function stopIfGone(work: Work, at: StepName): void {
  if (work.signal.aborted) throw gone(at);
}

export function gone(at: StepName): KraftwerkError {
  return new KraftwerkError('deploy.aborted', 'the client went away before the new release served', {
    step: at,
    reason: 'cancelled',
  });
}
