// Whether a server's host key is to be believed, and why. Pure.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { fingerprintOf } from '../keys.ts';

export const FINGERPRINT_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/;

export interface TrustEvidence {
  host: string;
  /** What the server shows, `ssh-ed25519 AAAA…`. */
  shown: string;
  /** --host-key. */
  given: string | null;
  /** What the receiver's configuration has pinned for the node. */
  pinned: string | null;
  /** From the admin's known_hosts. */
  known: readonly string[];
  /** --yes. */
  yes: boolean;
}

/** `ask`: a person has to say. */
export type Trust = { fingerprint: string; because: string } | { fingerprint: string; because: null };

export function fingerprintOfLine(line: string): string {
  return fingerprintOf(Buffer.from(line.split(' ')[1] ?? '', 'base64'));
}

/** @throws KraftwerkError `setup.hostKey` where something that is known speaks against it */
export function judgeHostKey({ host, shown, given, pinned, known, yes }: TrustEvidence): Trust {
  const fingerprint = fingerprintOfLine(shown);
  const type = shown.split(' ')[0] ?? '';
  if (given !== null) {
    if (given === fingerprint) return { fingerprint, because: 'as --host-key says' };
    throw wrongKey(`${host} shows the host key ${fingerprint}, not the one of --host-key`, fingerprint);
  }
  if (pinned !== null) {
    if (pinned === fingerprint) return { fingerprint, because: 'as the configuration says' };
    throw wrongKey(`${host} shows the host key ${fingerprint}, the configuration has ${pinned}`, fingerprint);
  }
  if (known.includes(shown)) return { fingerprint, because: 'known to your ssh' };
  if (known.some((line) => line.split(' ')[0] === type))
    throw wrongKey(`${host} shows the host key ${fingerprint}, and your known_hosts has another one`, fingerprint);
  return { fingerprint, because: yes ? 'not compared with anything (--yes)' : null };
}

function wrongKey(message: string, fingerprint: string): KraftwerkError {
  return new KraftwerkError('setup.hostKey', message, {
    hint: [
      'another machine may answer for it, or it was installed anew; see on its console:',
      'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub',
      `if that is the key: --host-key ${fingerprint}`,
    ],
  });
}

/** Nobody is there who could be asked. */
export function unconfirmed(host: string, fingerprint: string): KraftwerkError {
  return new KraftwerkError('setup.hostKey', `${host} shows the host key ${fingerprint}: nobody has confirmed it`, {
    hint: [
      "the right one, on the server's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
      `if that is the key: --host-key ${fingerprint}; to believe it unseen: --yes`,
    ],
  });
}
