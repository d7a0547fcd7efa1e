/** Moves several refs at once in two steps: first git locks and checks them, later it moves them; or all stay. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { startGit } from './run-git.ts';

/** `from` undefined: whatever it was; null: must not exist. */
export interface RefMove {
  ref: string;
  to: string;
  from?: string | null;
}

export type RefTransaction = ReturnType<typeof openRefTransaction>;

const ZERO_ID = '0'.repeat(40);
const LIMIT_MS = 60_000;

/** Nothing is started before `prepare`. @see git's Documentation/git-update-ref, "start", "prepare", "commit" */
export function openRefTransaction(repository: string) {
  let git: ReturnType<typeof startUpdate> | null = null;
  return {
    /** Locks the refs and compares them with `from`; once. @throws KraftwerkError `git.failed`: one has moved, or cannot be locked */
    async prepare(moves: readonly RefMove[]): Promise<void> {
      const updates = moves.map(
        ({ ref, to, from }) => `update ${ref} ${to}${from === undefined ? '' : ` ${from ?? ZERO_ID}`}\n`,
      );
      git = startUpdate(repository);
      await git.say(['start\n', ...updates, 'prepare\n'].join(''), 'prepare');
    },
    /** @throws KraftwerkError `git.failed` */
    async commit(): Promise<void> {
      await git?.say('commit\n', 'commit');
      git?.end();
    },
    /** Lets the refs go as they were. Resolves when no lock is left. */
    async abort(): Promise<void> {
      git?.end();
      await git?.closed;
    },
  };
}

function startUpdate(repository: string) {
  const child = startGit(['update-ref', '--stdin'], { repository });
  let heard = '';
  let words = '';
  let wake: () => void = () => undefined;
  let ended = false;
  const onEnd = (): void => {
    ended = true;
    wake();
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
    wake();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    if (words.length < 2_000) words += chunk.toString('utf8');
  });
  child.stdin?.on('error', () => undefined);
  child.on('error', onEnd);
  child.on('close', onEnd);
  const closed = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });

  /** Says `command` and waits for git's `word: ok`. @throws KraftwerkError `git.failed` */
  async function say(command: string, word: string): Promise<void> {
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    child.stdin?.write(command);
    while (!ended && !heard.includes(`${word}: ok\n`)) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    clearTimeout(timer);
    if (heard.includes(`${word}: ok\n`)) return;
    const [first = ''] = words.trim().split('\n');
    throw new KraftwerkError('git.failed', `git update-ref failed in ${repository}: ${first}`, {
      step: 'Switch',
      reason: 'the ref could not be moved',
    });
  }

  return { say, end: () => void child.stdin?.end(), closed };
}
