/** Decides each request of a client to log in; an identity comes from a verified signature and from nothing else. */
import type { AuthContext } from 'ssh2';
import { fingerprintOf, verifyLogin } from '../keys.ts';
import type { Limits } from './limits.ts';

export interface LoginOptions {
  limits: Limits;
  /** Does this key belong to anybody? Asked for keys that are only offered, too. */
  known(fingerprint: string): boolean;
  accepted(fingerprint: string): void;
  denied(reason: DeniedReason, fields: Record<string, unknown>): void;
  /** Ends the connection. */
  disconnect(): void;
}

export type DeniedReason = 'unknown_key' | 'bad_signature' | 'method' | 'tries';

/** A listener for ssh2's `authentication`, for one connection. The user's name does not matter: the key says who it is. */
export function createLogin(options: LoginOptions): (context: AuthContext) => void {
  let requests = 0;
  let failures = 0;

  const reject = (context: AuthContext): void => {
    // A client's first question, "none", only asks which methods there are.
    if (context.method !== 'none') failures += 1;
    if (failures >= options.limits.tries) {
      options.denied('tries', { tries: failures });
      options.disconnect();
    } else {
      context.reject(['publickey']);
    }
  };

  return (context) => {
    requests += 1;
    if (requests > options.limits.loginRequests) {
      options.denied('tries', { tries: requests });
      options.disconnect();
      return;
    }
    if (context.method !== 'publickey') {
      if (context.method !== 'none') options.denied('method', { method: context.method });
      reject(context);
      return;
    }
    const { key, signature, blob, hashAlgo } = context;
    const fingerprint = fingerprintOf(key.data);
    if (!options.known(fingerprint)) {
      options.denied('unknown_key', { fingerprint, type: key.algo });
      reject(context);
      return;
    }
    if (signature === undefined || blob === undefined) {
      context.accept();
      return;
    }
    if (!verifyLogin({ type: key.algo, blob: key.data, data: blob, signature, hash: hashAlgo })) {
      options.denied('bad_signature', { fingerprint, type: key.algo });
      reject(context);
      return;
    }
    options.accepted(fingerprint);
    context.accept();
  };
}
