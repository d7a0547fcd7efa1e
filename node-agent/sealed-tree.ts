/**
 * A tree that root alone can change, and that was checked whole: only in such a one does the agent link, write, chmod or list.
 * What a build or pip has had comes back by `takeTree`; `sealTree` is the one check. docs/isolation.md says why.
 */
import { type Account, readAccount, readBuilder } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError, LIMITS, type StepName } from './protocol.ts';
import { endBuild } from './site-processes.ts';
import { DEFAULT_PATH, type System } from './system.ts';
import TAKE_TREE from './take-tree.py';

declare const sealed: unique symbol;

export interface SealedTree {
  readonly path: string;
  /** Of all real folders, relative; `` is the tree itself. No link is among them. */
  readonly folders: ReadonlySet<string>;
  /** What its links say, by their paths. */
  readonly links: ReadonlyMap<string, string>;
  readonly [sealed]: true;
}

/** Where links of a tree may lead, and which names at its top are a deploy's own. */
export interface TreeRules {
  step: StepName;
  /** Names at the top of the tree that a deploy makes itself: nothing may have one, and no link may lead through one. */
  ours: readonly string[];
  /** Whether the names of `ours` are there already, because this is a release that was published. */
  published?: boolean;
  /** Whether a link may lead to this path outside. */
  mayLeadTo?: (real: string) => boolean;
  /** What nginx resolves: nothing is a link there that leads elsewhere later, since `ours` are the only ones that change. */
  hint: string;
  reason: string;
}

/** The names that a deploy makes in a release: the link to its virtualenv, and the one to the folder with its socket. */
export const OURS_IN_RELEASE = ['.run', 'venv'] as const;

export const RELEASE_RULES: TreeRules = {
  step: 'Unpack',
  ours: OURS_IN_RELEASE,
  hint: 'remove it from the repository, commit and push again',
  reason: 'the pushed tree is refused',
};

export const PUBLISHED_RULES: TreeRules = { ...RELEASE_RULES, published: true };

const TAKE_LIMIT_MS = 1_800_000;
const MAX_ENTRIES = 1_000_000;
const MAX_HOPS = 40;
/** So many parts of paths are followed for all links of a tree: chains of links lead through each other. */
const MAX_STEPS = 1_000_000;

/**
 * The one check: every entry is a file, a folder, or a link that stays inside, whatever a deploy makes of the tree later. Nobody
 * but the agent's user can change the tree by now: it was unpacked by the agent, or taken back.
 * @throws KraftwerkError `artifact.hostile`, `artifact.limit`
 */
export function sealTree(system: System, path: string, rules: TreeRules): SealedTree {
  const folders = new Set(['']);
  const links = new Map<string, string>();
  const walk = (folder: string, depth: number): void => {
    if (depth > LIMITS.depth) throw refuse(rules, folder, `folders are nested deeper than ${LIMITS.depth}`);
    for (const entry of system.listEntries(`${path}/${folder}`)) {
      const inner = folder === '' ? entry.name : `${folder}/${entry.name}`;
      const own = folder === '' && rules.ours.includes(entry.name);
      if (own && rules.published) continue;
      if (own) throw refuse(rules, inner, 'the name is the one of a link that every deploy makes');
      if (entry.isDirectory()) {
        folders.add(inner);
        walk(inner, depth + 1);
      } else if (entry.isSymbolicLink()) links.set(inner, system.readLink(`${path}/${inner}`) ?? '');
      else if (!entry.isFile()) throw refuse(rules, inner, 'is neither file nor folder nor link');
    }
  };
  walk('', 0);
  const budget = { left: MAX_STEPS };
  for (const [link, target] of links) {
    if (Buffer.byteLength(target) > LIMITS.pathBytes)
      throw refuse(rules, link, 'is a symlink to too long a path', 'limit');
    const outside = leadsOutside(link, links, rules, budget);
    if (budget.left < 0) throw refuse(rules, link, 'the links of the tree lead through too many others', 'limit');
    if (outside === null) continue;
    const real = rules.mayLeadTo === undefined ? null : realOf(system, `${path}/${link}`);
    if (real !== null && rules.mayLeadTo?.(real)) continue;
    throw refuse(rules, link, `is a symlink to ${JSON.stringify(target).slice(1, -1)}, which ${outside}`);
  }
  return { path, folders, links } as unknown as SealedTree;
}

/**
 * Where a folder that nginx is to serve really is, as nginx will resolve it; null where there is none.
 * @throws KraftwerkError `artifact.hostile`
 */
export function resolveServed(system: System, tree: SealedTree, served: string): string | null {
  const rules = RELEASE_RULES;
  const outside = leadsOutside(served, tree.links, rules, { left: MAX_STEPS });
  if (outside !== null) throw refuse(rules, served, `is served by nginx, and ${outside}`);
  return system.realPath(`${tree.path}/${served}`);
}

/** The path of an entry, none of whose folders is a link. @throws KraftwerkError `agent.bug` */
export function below(tree: SealedTree, relative: string): string {
  const folder = relative.includes('/') ? relative.slice(0, relative.lastIndexOf('/')) : '';
  if (!tree.folders.has(folder))
    throw new KraftwerkError('agent.bug', `${relative}: ${folder} is no folder of the tree`);
  return `${tree.path}/${relative}`;
}

/** A new folder of a sealed tree, or the one that is there. */
export function addFolder(system: System, tree: SealedTree, relative: string, mode: number): void {
  if (tree.folders.has(relative)) return;
  const path = below(tree, relative);
  system.makeNewFolder(path, mode);
  (tree.folders as Set<string>).add(relative);
}

/**
 * Lends a tree to the site's builder, from the bottom up: what the agent still works on is still its own. Whatever was known of
 * the tree is void from here on.
 */
export function lendTree(system: System, site: SiteLayout, tree: SealedTree): void {
  const builder = readBuilder(system, site);
  if (builder === null) return;
  // Longer ones are deeper, or beside.
  for (const folder of [...tree.folders].sort((a, b) => b.length - a.length)) {
    const path = folder === '' ? tree.path : `${tree.path}/${folder}`;
    for (const entry of system.listEntries(path))
      if (!entry.isDirectory()) system.setOwner(`${path}/${entry.name}`, builder.uid, builder.gid);
    system.setOwner(path, builder.uid, builder.gid);
  }
}

/**
 * Ends what the builder has left running, and takes back what it has had.
 * @param byteCode `drop`: whatever a build has compiled is not believed
 * @throws KraftwerkError `artifact.hostile`, `artifact.limit`, `build.processes`
 */
export async function takeTree(
  system: System,
  site: SiteLayout,
  path: string,
  { byteCode, step, reason }: { byteCode: 'keep' | 'drop'; step: StepName; reason: string },
): Promise<{ copied: number }> {
  await endBuild(system, site, step);
  const [builder, account] = [readBuilder(system, site), readAccount(system, site)];
  const numbers = (one: Account | null, which: 'uid' | 'gid'): string => (one === null ? '-' : String(one[which]));
  const limits = [LIMITS.depth, LIMITS.pathBytes, MAX_ENTRIES].map(String);
  const argv = [path, numbers(builder, 'uid'), numbers(account, 'gid'), ...limits, byteCode];
  const { code, tail, timedOut } = await system.run(['/usr/bin/python3', '-I', '-S', '-', ...argv], {
    cwd: '/',
    env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
    input: TAKE_TREE,
    timeoutMs: TAKE_LIMIT_MS,
  });
  const answer = code === 0 ? parseAnswer(tail.at(-1) ?? '') : null;
  if (answer === null) {
    const said = tail.at(-1) ?? '';
    if (/Errno 28\b|Errno 122\b/.test(said)) throw Object.assign(new Error(said), { code: 'ENOSPC' });
    throw new KraftwerkError('agent.take', `what was built could not be taken back: ${timedOut ? 'no end' : said}`, {
      step,
      lines: tail.slice(-5),
    });
  }
  if ('copied' in answer) return answer;
  throw new KraftwerkError(`artifact.${answer.refused}`, `${showName(answer.path)}: ${answer.what}`, {
    step,
    hint: 'look at what the build, or a package, makes there',
    reason,
  });
}

type Answer = { copied: number } | { refused: 'hostile' | 'limit'; path: string; what: string };

function parseAnswer(line: string): Answer | null {
  try {
    return JSON.parse(line) as Answer;
  } catch {
    return null;
  }
}

/** Long ones by their ends; a name may hold anything. */
function showName(path: string): string {
  const short = path.length > 200 ? `${path.slice(0, 100)}…${path.slice(-80)}` : path;
  return JSON.stringify(short).slice(1, -1);
}

/**
 * In what way a path of the tree leads out of it, now or when a deploy has made its own names; null: it stays inside. Followed as the
 * kernel does, part by part, by the links that there are; a part that is missing can be made by nobody, so the rest counts by its letters.
 * @param budget of steps, for all links of a tree; below 0 it was not enough
 */
function leadsOutside(
  relative: string,
  links: ReadonlyMap<string, string>,
  rules: TreeRules,
  budget: { left: number },
): string | null {
  let hops = 0;
  const at: string[] = [];
  // What is still to be followed, the next last.
  const rest = relative.split('/').reverse();
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (--budget.left < 0) return 'leads too far';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (at.length === 0) return 'leads outside the project';
      at.pop();
      continue;
    }
    if (at.length === 0 && rules.ours.includes(part)) return `leads through ${part}, which every deploy makes anew`;
    at.push(part);
    const target = links.get(at.join('/'));
    if (target === undefined) continue;
    if (++hops > MAX_HOPS) return 'leads in circles';
    if (target.startsWith('/')) return 'leads outside the project';
    at.pop();
    rest.push(...target.split('/').reverse());
  }
  return null;
}

function realOf(system: System, path: string): string | null {
  try {
    return system.realPath(path);
  } catch {
    return null;
  }
}

function refuse(
  { step, hint, reason }: TreeRules,
  path: string,
  what: string,
  kind: 'hostile' | 'limit' = 'hostile',
): KraftwerkError {
  return new KraftwerkError(`artifact.${kind}`, `${showName(path)}: ${what}`, { step, hint, reason });
}
