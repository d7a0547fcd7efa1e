/** `v42` as people type it, and which of a target's releases that is. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { ReleaseRecord } from '../journal.ts';
import { targetName } from '../target.ts';
import { type Command, type CommandContext, usageError } from './command.ts';

/** Null: it is no release's number. */
export function readReleaseNumber(text: string): number | null {
  const digits = /^[vV]([1-9][0-9]{0,6})$/.exec(text)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** @throws KraftwerkError `command.usage` */
export function parseReleaseNumber(command: Command, text: string): number {
  const number = readReleaseNumber(text);
  if (number !== null) return number;
  const hint = /^[1-9][0-9]{0,6}$/.test(text) ? `did you mean v${text}?` : undefined;
  throw usageError(command, `expected a release such as v42, got ${JSON.stringify(text.slice(0, 60))}`, hint);
}

/** @throws KraftwerkError `release.unknown`, with those that are there */
export function findKept({ receiver, target }: CommandContext, number: number): ReleaseRecord {
  if (target === null) throw new TypeError('a command with a target has none');
  const kept = receiver.journal.release(target, number);
  if (kept !== null) return kept;
  const names = receiver.journal.releases(target).map(({ release }) => `v${release}`);
  throw new KraftwerkError('release.unknown', `${targetName(target)}: there is no v${number}, or it is not kept`, {
    hint: [`kept: ${names.join(', ') || 'none'}`, `ssh kraftwerk@HOST releases ${targetName(target)}`],
    exit: 'denied',
  });
}
