/** A name that another target has. What is kept, or read by others, names nobody; who may see the owner is told by `nameOwner`. Pure. */
import { KraftwerkError, type KraftwerkErrorOptions } from '../node-agent/protocol.ts';
import { type Target, targetName } from './target.ts';

export interface TakenOrder {
  code: string;
  /** `the domain www.example.com belongs to`; the owner follows. */
  what: string;
  owner: Target;
  /** The same for git's status line. */
  reason: string;
  hint: KraftwerkErrorOptions['hint'];
}

/**
 * Its message, hints and reason name no owner: transcripts, the journal and logs keep them. Whatever copies the error loses the
 * owner, so that a mistake there tells too little and not too much.
 */
export class TakenError extends KraftwerkError {
  readonly order: TakenOrder;

  constructor(order: TakenOrder, owner = 'another project') {
    const { code, hint, reason, what } = order;
    super(code, `${what} ${owner}`, {
      ...(hint !== undefined && { hint }),
      step: 'Config',
      exit: 'config',
      reason: `${reason} ${owner}`,
    });
    this.order = order;
  }
}

/** The error as somebody reads it who may see some targets. Never to be kept. @see access.ts for who sees what */
export function nameOwner(error: unknown, sees: (target: Target) => boolean): unknown {
  if (!(error instanceof TakenError) || !sees(error.order.owner)) return error;
  return new TakenError(error.order, targetName(error.order.owner));
}
