/** `stab TARGET -- COMMAND`: a program in the project's environment, with the client's terminal if there is one. */
import type { Writable } from 'node:stream';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { requireAccess } from '../access.ts';
import type { NodeOrder } from '../nodes/node.ts';
import { type Target, targetName } from '../target.ts';
import { chooseNode } from './choose-node.ts';
import { type Command, type CommandContext, textOption, usageError } from './command.ts';
import { findKept, parseReleaseNumber } from './release-number.ts';
import { createRunFrames } from './run-frames.ts';

/** A forgotten shell ends some time. */
const RUN_LIMIT_MS = 24 * 3_600_000;
/** The agent's own limit comes first: it tells why. */
const MORE_MS = 60_000;
const MAX_WORDS = 250;
const USER_PATTERN = /^[a-z_][a-z0-9_-]{0,31}$/;
/** Neither /etc/profile, which would take the virtualenv out of PATH, nor what a site may have left as its own. */
const SHELL: readonly string[] = ['/bin/bash', '--noprofile', '--norc', '-i'];

export const stab: Command = {
  name: 'stab',
  // `run`: Heroku, Dokku.
  aliases: ['run'],
  summary: "run a command in the project's environment, or a shell",
  usage: 'TARGET [-u USER] [--release vN] [--node NAME] [-- COMMAND…]',
  examples: [
    'stab blog/live -- python manage.py check',
    'run blog/live python manage.py shell',
    'stab blog/live --release v41 -- pip list',
    'stab blog/live',
  ],
  verb: 'run',
  target: 'required',
  args: { min: 0, max: MAX_WORDS },
  program: true,
  options: {
    user: { type: 'string', short: 'u' },
    release: { type: 'string' },
    node: { type: 'string' },
  },
  async run(context) {
    const { args, attach, identity, json, pty, receiver, signal, stderr, stdin, stdout, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    if (json) throw usageError(stab, 'takes no --json, its output is that of the command');
    const user = readUser(context);
    const asked = textOption(context, 'release');
    const release = asked === undefined ? null : findKept(context, parseReleaseNumber(stab, asked));
    if (args.length === 0 && pty === null) {
      throw usageError(
        stab,
        'no command given, and no terminal for a shell',
        'with a shell: ssh -t kraftwerk@HOST stab …',
      );
    }
    const node = chooseNode(context, target);
    const site = await receiver.describeSite(target, node, release);
    const number = site.release.release;
    const order: NodeOrder = {
      op: 'run',
      instance: site.instance,
      release: number,
      argv: args.length === 0 ? SHELL : args,
      environment: { ...(args.length === 0 && { PS1: prompt(target) }), ...site.environment },
      written: site.written,
      limits: site.limits,
      user,
      terminal: pty === null ? null : { name: pty.name, columns: pty.columns, rows: pty.rows },
      timeoutMs: RUN_LIMIT_MS,
    };
    const facts = { key: identity.name, target: targetName(target), node: node.name, release: number, user };
    // Its name and no more: words may be secret.
    const program = (order.argv[0] ?? '').slice(0, 60);
    receiver.journal.audit(identity.name, 'stab', target, `v${number} ${program}`);
    receiver.log('run.started', { ...facts, program });
    const begin = receiver.nowMs();
    const input = createRunFrames(stdin);
    const detach = attach(input);
    try {
      const result = await node.request(order, {
        timeoutMs: RUN_LIMIT_MS + MORE_MS,
        signal,
        frames: input.frames,
        onEvent(event) {
          if (event.event === 'taken') return input.onTaken(event.bytes);
          if (event.event !== 'data') return;
          return write(event.stream === 'out' ? stdout : stderr, Buffer.from(event.data, 'base64'), signal);
        },
      });
      const { code } = result as { code: number };
      receiver.log('run.ended', { ...facts, program, code, durationMs: receiver.nowMs() - begin });
      return code;
    } catch (error) {
      const how = error instanceof KraftwerkError ? error.code : String(error);
      receiver.log('run.ended', { ...facts, program, error: how, durationMs: receiver.nowMs() - begin });
      throw error;
    } finally {
      detach();
      input.close();
    }
  },
};

/** @throws KraftwerkError `command.usage`, `access.denied` */
function readUser(context: CommandContext): string | null {
  const user = textOption(context, 'user');
  if (user === undefined) return null;
  requireAccess(context.identity, 'run.user', 'stab -u', null);
  if (!USER_PATTERN.test(user))
    throw usageError(stab, `-u: expected the name of a user, got ${JSON.stringify(user.slice(0, 60))}`);
  return user;
}

/** Says where one is: `blog/live v42 $ ` in the release's tree. */
function prompt(target: Target): string {
  return `${targetName(target)} \\W \\$ `;
}

/** Until the bytes have gone, or their reader: a client that reads slowly holds the command back. */
function write(stream: Writable, bytes: Buffer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    signal.addEventListener('abort', done, { once: true });
    stream.write(bytes, done);
  });
}
