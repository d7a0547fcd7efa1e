/**
 * A tree that root alone can change, and that was checked whole: only in such a one does the agent link, write, chmod or list.
 * What a build or pip has had comes back by `takeTree`; `sealTree` is the one check. docs/isolation.md says why.
 */
import { type Account, readAccount, readBuilder } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError, LIMITS, type StepName } from './protocol.ts';
import { endBuild } from './site-processes.ts';
import { DEFAULT_PATH, errno, type System } from './system.ts';
import TAKE_TREE from './take-tree.py';

declare const sealed: unique symbol;

export interface SealedTree {
  readonly path: string;
  /** Of all real folders, relative; `` is the tree itself. No link is among them. */
  readonly folders: ReadonlySet<string>;
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

/**
 * The one check: every entry is a file, a folder, or a link that stays inside, whatever a deploy makes of the tree later. Nobody
 * but the agent's user can change the tree by now: it was unpacked by the agent, or taken back.
 * @throws KraftwerkError `artifact.hostile`
 */
export function sealTree(system: System, path: string, rules: TreeRules): SealedTree {
  const folders = new Set(['']);
  const links: string[] = [];
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
      } else if (entry.isSymbolicLink()) links.push(inner);
      else if (!entry.isFile()) throw refuse(rules, inner, 'is neither file nor folder nor link');
    }
  };
  walk('', 0);
  for (const link of links) {
    const target = system.readLink(`${path}/${link}`) ?? '';
    const outside = leadsOutside(system, path, link, rules);
    if (outside !== null && !(outside.real !== null && rules.mayLeadTo?.(outside.real)))
      throw refuse(rules, link, `is a symlink to ${JSON.stringify(target).slice(1, -1)}, which ${outside.what}`);
  }
  return { path, folders } as unknown as SealedTree;
}

/**
 * Where a folder that nginx is to serve really is, as nginx will resolve it; null where there is none.
 * @throws KraftwerkError `artifact.hostile`
 */
export function resolveServed(system: System, tree: SealedTree, served: string): string | null {
  const rules = RELEASE_RULES;
  const outside = leadsOutside(system, tree.path, served, rules);
  if (outside !== null) throw refuse(rules, served, `is served by nginx, and ${outside.what}`);
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

interface Outside {
  what: string;
  /** Where it really leads; null: nowhere, or in circles. */
  real: string | null;
}

/**
 * Whether a path of the tree leads out of it, now or when a deploy has made its own names. Followed as the kernel does, by what is
 * there, part by part; a part that is missing can be made by nobody, so the rest counts by its letters.
 */
function leadsOutside(system: System, root: string, relative: string, rules: TreeRules): Outside | null {
  let hops = 0;
  const outside = (what: string, real: string | null = null): Outside => ({ what, real });
  const follow = (from: string, path: string): string | Outside => {
    let at = from;
    for (const part of path.split('/')) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (at === '') return outside('leads outside the project');
        at = at.includes('/') ? at.slice(0, at.lastIndexOf('/')) : '';
        continue;
      }
      if (at === '' && rules.ours.includes(part))
        return outside(`leads through ${part}, which every deploy makes anew`);
      const next = at === '' ? part : `${at}/${part}`;
      const target = readLinkAt(system, `${root}/${next}`);
      if (target === null) {
        at = next;
        continue;
      }
      if (++hops > MAX_HOPS) return outside('leads in circles');
      if (target.startsWith('/')) return outside('leads outside the project', realOf(system, `${root}/${next}`));
      const led = follow(at, target);
      if (typeof led !== 'string') return led.real === null ? { ...led, real: realOf(system, `${root}/${next}`) } : led;
      at = led;
    }
    return at;
  };
  const end = follow('', relative);
  return typeof end === 'string' ? null : end;
}

function readLinkAt(system: System, path: string): string | null {
  try {
    return system.readLink(path);
  } catch (error) {
    if (errno(error) === 'ENAMETOOLONG') return null;
    throw error;
  }
}

function realOf(system: System, path: string): string | null {
  try {
    return system.realPath(path);
  } catch {
    return null;
  }
}

function refuse({ step, hint, reason }: TreeRules, path: string, what: string): KraftwerkError {
  return new KraftwerkError('artifact.hostile', `${showName(path)}: ${what}`, { step, hint, reason });
}
