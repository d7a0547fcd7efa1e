// Which receiver and which target a command means: by --remote, by a target's name, else by the only remote. Pure.
import { KraftwerkError, PROJECT_PATTERN } from '../../node-agent/protocol.ts';
import { quoteWord, type TargetName } from '../exec-line.ts';
import { suggest } from '../suggest.ts';
import type { GitRemote } from './project.ts';
import { type Address, addressKey, formatHost, formatTarget, RECEIVER_USER, showUrl } from './remote-url.ts';

export interface KraftwerkRemote {
  name: string;
  url: string;
  address: Address;
  target: TargetName;
}

/** What was typed. */
export interface Asked {
  command: string;
  /** All words behind `kraftwerk`, without --remote. */
  words: readonly string[];
  /** Those that are neither options nor a program's. */
  positionals: readonly string[];
  /** --remote */
  remote: string | null;
  /** Does the command take a target? */
  takesTarget: boolean;
  /** The target, where one was typed. */
  given: string | null;
}

export interface Chosen {
  address: Address;
  /** To be put in, or in the place of a project that was typed; null: the words are right as they are. */
  target: string | null;
}

/** The remotes whose user says that they are a receiver's; the same place under two names counts once. */
export function kraftwerkRemotes(remotes: readonly GitRemote[]): KraftwerkRemote[] {
  const own = remotes.flatMap(({ name, url, parsed }): KraftwerkRemote[] =>
    parsed.kind === 'ssh' && parsed.address.user === RECEIVER_USER
      ? [{ name, url, address: parsed.address, target: parsed.target }]
      : [],
  );
  const place = ({ address, target }: KraftwerkRemote): string => `${addressKey(address)} ${formatTarget(target)}`;
  const named = ({ name, target }: KraftwerkRemote): number => (name === target.environment ? 0 : 1);
  const seen = new Map<string, KraftwerkRemote>();
  for (const remote of [...own].sort((a, b) => named(a) - named(b))) {
    if (!seen.has(place(remote))) seen.set(place(remote), remote);
  }
  return own.filter((remote) => seen.get(place(remote)) === remote);
}

/** @throws KraftwerkError `remote.unknown`, `remote.unusable`, `remote.none`, `remote.ambiguous`, `remote.not_a_target` */
export function chooseRemote(asked: Asked, remotes: readonly GitRemote[]): Chosen {
  const { given, remote, takesTarget } = asked;
  const wants = takesTarget && given === null;
  if (remote !== null) {
    const { address, target } = findNamed(asked, remote, remotes);
    // `stop blog -r live` is never the receiver's default environment.
    return { address, target: wants || given === target.project ? formatTarget(target) : null };
  }
  const own = kraftwerkRemotes(remotes);
  const [first] = own;
  if (first === undefined) throw noRemote(asked, remotes);
  if (takesTarget) assertTarget(asked, own);
  if (wants) {
    if (own.length > 1) throw ambiguous(asked, 'target', own);
    return { address: first.address, target: formatTarget(first.target) };
  }
  const literal = given?.replace(/\.git$/, '');
  const matching = own.filter(({ target }) => target.project === literal || formatTarget(target) === literal);
  const pool = matching.length > 0 ? matching : own;
  if (new Set(pool.map(({ address }) => addressKey(address))).size > 1) throw ambiguous(asked, 'receiver', pool);
  return { address: (pool[0] ?? first).address, target: null };
}

function findNamed(asked: Asked, name: string, remotes: readonly GitRemote[]): KraftwerkRemote {
  const found = remotes.find((remote) => remote.name === name);
  if (found === undefined) {
    const meant = suggest(
      name,
      remotes.map((remote) => remote.name),
    );
    const shown = JSON.stringify(name.slice(0, 60));
    throw new KraftwerkError('remote.unknown', `${asked.command}: there is no git remote ${shown}`, {
      lines: list(kraftwerkRemotes(remotes)),
      hint: [
        ...(meant === null ? [] : [retype(asked, meant)]),
        ...(PROJECT_PATTERN.test(name) ? [`kraftwerk remote add ${name} HOST`] : []),
      ],
      exit: 'denied',
    });
  }
  const { parsed, url } = found;
  // Who names it knows what it is; a forge's user alone is surely a mistake.
  if (parsed.kind === 'ssh' && parsed.address.user !== 'git') {
    return { name, url, address: parsed.address, target: parsed.target };
  }
  const is = `${asked.command}: the git remote ${name} is ${showUrl(url)}`;
  if (parsed.kind === 'http') throw unusable(`${is}: commands go over SSH`, overSsh(found));
  const why = parsed.kind === 'refused' ? parsed.problem : "not a receiver's";
  throw unusable(`${is}: ${why}`, "a receiver's: kraftwerk remote add stage HOST");
}

function unusable(message: string, hint: string | readonly string[]): KraftwerkError {
  return new KraftwerkError('remote.unusable', message, { hint, exit: 'usage' });
}

/** The remote that HTTP's should have beside it. */
function overSsh({ name, parsed }: GitRemote): string[] {
  if (parsed.kind !== 'http') return [];
  const host = parsed.host.replace(/:[0-9]+$/, '');
  const beside = quoteWord(`${name}-ssh`);
  return [`git remote add ${beside} ${quoteWord(`${RECEIVER_USER}@${host}:${formatTarget(parsed.target)}`)}`];
}

function noRemote(asked: Asked, remotes: readonly GitRemote[]): KraftwerkError {
  const refused = remotes.flatMap(({ name, url, parsed }) =>
    parsed.kind === 'refused' ? [`  the git remote ${name} is ${showUrl(url)}: ${parsed.problem}`] : [],
  );
  // Others may be anybody's.
  const web = remotes.find(({ name, parsed }) => parsed.kind === 'http' && parsed.target.environment === name);
  const maybe = remotes.find(({ parsed }) => parsed.kind === 'ssh' && parsed.address.user !== 'git');
  return new KraftwerkError(
    'remote.none',
    `${asked.command}: no git remote of this project leads to a receiver over SSH`,
    {
      lines: refused,
      hint: [
        'kraftwerk remote add stage HOST',
        ...(maybe === undefined ? [] : [`if ${maybe.name} leads to one: ${retype(asked, maybe.name)}`]),
        ...(web === undefined ? [] : ['git goes over HTTP, too; commands do not:', ...overSsh(web)]),
      ],
      exit: 'denied',
    },
  );
}

function ambiguous(asked: Asked, what: 'target' | 'receiver', choices: readonly KraftwerkRemote[]): KraftwerkError {
  const message = `${asked.command}: which ${what}? There are ${choices.length} git remotes`;
  return new KraftwerkError('remote.ambiguous', message, {
    lines: list(choices),
    hint: choices.map(({ name }) => retype(asked, name)),
    exit: 'usage',
  });
}

function list(choices: readonly KraftwerkRemote[]): string[] {
  return choices.map(({ address, name, target }) => `  ${name}: ${formatTarget(target)} on ${formatHost(address)}`);
}

/** Who has the remotes `stage` and `live` may well type `dump live`. */
function assertTarget({ command, words, positionals }: Asked, own: readonly KraftwerkRemote[]): void {
  const targets = new Map(own.map(({ name, target }) => [name, formatTarget(target)]));
  const [first = ''] = positionals;
  const target = targets.get(first);
  if (target === undefined || own.some(({ target }) => target.project === first)) return;
  const meant = words.map((word) => (positionals.includes(word) ? (targets.get(word) ?? word) : word));
  throw new KraftwerkError(
    'remote.not_a_target',
    `${command}: ${first} is a git remote here; its target is ${target}`,
    {
      hint: ['kraftwerk', ...meant].map(quoteWord).join(' '),
      exit: 'usage',
    },
  );
}

/** What was typed, with --remote. */
function retype({ words }: Asked, remote: string): string {
  const [command = '', ...args] = words;
  return ['kraftwerk', command, '-r', remote, ...args].map(quoteWord).join(' ');
}
