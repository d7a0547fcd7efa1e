// Cron expressions in the time zone of the receiver's machine: what is wrong with one, and when it is due. Pure.
import { Cron } from 'croner';

const NICKNAMES = /^@(?:yearly|annually|monthly|weekly|daily|hourly)$/;

/** Five fields as cron has them; nicknames (`@daily`), too. Null when it is good, else why not. */
export function findCronProblem(expression: string): string | null {
  const fields = expression.trim().split(/\s+/).filter(Boolean).length;
  if (expression.trim().startsWith('@'))
    return NICKNAMES.test(expression.trim()) ? null : 'it is no name that cron knows';
  if (fields !== 5) return `it has ${fields} of five fields`;
  try {
    // Any fixed day does: what is never due from it is never due.
    return parse(expression).nextRun(new Date(0)) === null ? 'that day never comes' : null;
  } catch (error) {
    const reason = (error as Error).message.replace(/^CronPattern: (?:Syntax error, )?/, '');
    return reason.charAt(0).toLowerCase() + reason.slice(1);
  }
}

/** The first time after `after`. @param expression one without a problem */
export function nextTime(expression: string, after: Date): Date {
  const next = parse(expression).nextRun(after);
  if (next === null) throw new RangeError(`cron: "${expression}" is never due after ${after.toISOString()}`);
  return next;
}

function parse(expression: string): Cron {
  // Without a function to call it starts no timer.
  return new Cron(expression, { mode: '5-part', paused: true });
}
