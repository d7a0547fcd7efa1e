/** What the commands about data have in common: the target's lock, what was cut off before, the telling, the choice of services. */
import {
  type DeployEvent,
  EXIT_CODES,
  KraftwerkError,
  PROJECT_PATTERN,
  type ServiceName,
} from '../../node-agent/protocol.ts';
import { seesTarget } from '../access.ts';
import type { Audience, Choice } from '../data/data-services.ts';
import { settleOperations } from '../data/settle-operations.ts';
import { mergeEvents } from '../deploy/merge-events.ts';
import { refuseWhileDraining } from '../git-session.ts';
import { nameOwner } from '../taken.ts';
import type { Target } from '../target.ts';
import { formatError, formatEvent, labelled } from '../transcript.ts';
import { type Command, type CommandContext, usageError } from './command.ts';
import { holdTarget } from './hold-target.ts';

/**
 * Holds the target for `body`.
 * @param what for whoever finds it busy: `dump`
 * @param body `goesOn` takes what goes on when all is told: the target is held until then
 * @throws KraftwerkError `target.busy`, `deploy.aborted`, `receiver.draining`
 */
export async function withData<T>(
  context: CommandContext,
  target: Target,
  what: string,
  body: (audience: Audience, goesOn: (rest: Promise<void>) => void) => Promise<T>,
): Promise<T> {
  const { receiver } = context;
  refuseWhileDraining(receiver);
  const lock = await holdTarget(context, target, what);
  try {
    const audience = audienceOf(context);
    await settleOperations(receiver, target, audience);
    return await body(audience, (rest) => lock.releaseAfter(rest, `${what}, removing the old data`));
  } finally {
    lock.release();
  }
}

/** Lines on stderr, as a push has them. */
export function audienceOf({ receiver, signal, stderr }: CommandContext): Audience {
  const emit = (event: DeployEvent): void => {
    for (const line of formatEvent(event)) stderr.write(`${line}\n`);
  };
  return { signal, emit: mergeEvents(['one'], emit, receiver.nowMs).on.bind(null, 'one') };
}

/** Tells what went wrong as a push does. @returns the exit code */
export async function telling({ identity, stderr }: CommandContext, body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof KraftwerkError)) throw error;
    const told = nameOwner(error, seesTarget(identity)) as KraftwerkError;
    for (const line of formatError(told)) stderr.write(`${line}\n`);
    return EXIT_CODES[error.exit];
  }
}

export function succeed({ stderr }: CommandContext, text: string): void {
  for (const line of labelled('success', text)) stderr.write(`${line}\n`);
}

/** `--only` and `--exclude`, each several times or with commas. */
export const CHOICE_OPTIONS = {
  only: { type: 'string', multiple: true },
  exclude: { type: 'string', multiple: true },
} as const;

/** @throws KraftwerkError `command.usage` */
export function readChoice(command: Command, { options }: CommandContext): Choice {
  const read = (name: 'only' | 'exclude'): ServiceName[] =>
    (Array.isArray(options[name]) ? options[name] : [])
      .flatMap((value) => String(value).split(','))
      .map((value) => {
        if (PROJECT_PATTERN.test(value)) return value as ServiceName;
        throw usageError(
          command,
          `--${name}: expected the name of a service, got ${JSON.stringify(value.slice(0, 60))}`,
        );
      });
  const [only, exclude] = [read('only'), read('exclude')];
  if (only.length > 0 && exclude.length > 0) throw usageError(command, '--only and --exclude do not go together');
  return { only: only.length > 0 ? only : null, exclude };
}
