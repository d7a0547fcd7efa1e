/** Runs a deploy and tells it to whoever asked, line by line: pushes and commands alike. What was said is kept. */
import { randomBytes } from 'node:crypto';
import { type ExitName, KraftwerkError } from '../../node-agent/protocol.ts';
import { type Identity, seesTarget } from '../access.ts';
import type { DeployKind, Journal } from '../journal.ts';
import { nameOwner } from '../taken.ts';
import { type Target, targetName } from '../target.ts';
import { formatError, formatEvent, labelled } from '../transcript.ts';
import type { Deployer, DeployOrder, DeployOutcome } from './deploy.ts';

export type SayLines = (lines: readonly string[]) => void;

export interface TellServices {
  journal: Journal;
  deployer: Deployer;
  log(event: string, fields: Record<string, unknown>): void;
}

export interface Audience {
  target: Target;
  /** Whose key decides which other targets are named to it. */
  identity: Identity;
  /** The client is gone. */
  signal: AbortSignal;
  say(line: string): void;
}

export interface Told {
  /** Why nothing new serves, in a few words; null: it does. */
  rejected: string | null;
  exit: ExitName;
  /** What serves now; null: nothing new. */
  outcome: DeployOutcome | null;
}

const DONE: Readonly<Record<DeployKind, string>> = {
  push: 'live',
  deploy: 'live',
  rollback: 'live again',
  restart: 'restarted',
};

/** Steps that begin with a process. */
const STARTED: readonly string[] = ['Start', 'Health', 'Settle', 'Switch'];

/** @param prepare gives the order, or says in a few words why there is none; what it throws is told like any failure */
export async function tellDeploy(
  { target, identity, signal, say }: Audience,
  { journal, deployer, log }: TellServices,
  prepare: (sayLines: SayLines) => Promise<DeployOrder | string>,
): Promise<Told> {
  const lines: string[] = [];
  const sayLines: SayLines = (more) => {
    lines.push(...more);
    for (const line of more) say(line);
  };
  const before = journal.target(target);
  let deployId: number | null = null;
  let release: number | null = null;
  try {
    const order = await prepare(sayLines);
    if (typeof order === 'string') return { rejected: order, exit: 'ok', outcome: null };
    const outcome = await deployer.run(
      order,
      signal,
      (event) => sayLines(formatEvent(event)),
      (id) => {
        deployId = id;
        release = order.release;
      },
    );
    const done = `v${outcome.release} ${DONE[order.kind]} in ${(outcome.ms / 1000).toFixed(1)}s`;
    sayLines(labelled('success', `${done}   ${outcome.url}`));
    return { rejected: null, exit: 'ok', outcome };
  } catch (error) {
    const known = error instanceof KraftwerkError ? error : reportBug(error, log);
    // What is kept is read with other keys, too: an owner is named in what is said alone.
    const told = nameOwner(known, seesTarget(identity)) as KraftwerkError;
    lines.push(...formatError(known));
    for (const line of formatError(told)) say(line);
    const current = before?.current ?? null;
    sayLines(whatServes(target, current, before?.stopped ?? false, release, known.step));
    const still = current === null ? '' : `; v${current} still live`;
    return {
      rejected: `${told.reason ?? told.step?.toLowerCase() ?? 'not deployed'}${still}`,
      exit: known.exit,
      outcome: null,
    };
  } finally {
    if (deployId !== null) journal.saveTranscript(deployId, lines.join('\n'));
  }
}

/**
 * What serves after all, and where to read on. A command that does not fit is given a line of its own, whole, to be pasted.
 * @param release whose log tells more; null: there is none
 * @param step where it failed: before its process was started, the transcript is all there is
 */
function whatServes(
  target: Target,
  current: number | null,
  stopped: boolean,
  release: number | null,
  step: string | undefined,
): string[] {
  const name = targetName(target);
  const state = stopped ? 'stopped' : 'serving';
  const serves = current === null ? `nothing serves ${name} yet.` : `v${current} is still ${state}.`;
  if (release === null) return labelled('hint', serves);
  const which = step !== undefined && STARTED.includes(step) ? '--release' : '--deploy';
  const command = `ssh kraftwerk@HOST logs ${name} ${which} v${release}`;
  const whole = labelled('hint', `${serves} Log: ${command}`);
  return whole.length === 1 ? whole : [...labelled('hint', `${serves} Log:`), `      ${command}`];
}

/** The user gets one line and an id; the log gets the stack. */
function reportBug(error: unknown, log: TellServices['log']): KraftwerkError {
  const id = randomBytes(4).toString('hex');
  log('deploy.bug', { id, stack: error instanceof Error ? error.stack : String(error) });
  return new KraftwerkError('receiver.bug', `internal error ${id}`, {
    hint: "the receiver's log tells more under this id",
    reason: `internal error ${id}`,
  });
}
