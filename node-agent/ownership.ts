/**
 * Who owns what of a site on a system node. docs/isolation.md says who may do what, and why.
 * Root never works by path below a folder that the site's user could change meanwhile: it would be led elsewhere by a link.
 */
import { type Account, readAccount, readAccounts } from './accounts.ts';
import type { SiteLayout, Slot } from './layout.ts';
import { type BootName, COMPILE_USER, KraftwerkError, LOG_USER, NGINX_USER, type TreePath } from './protocol.ts';
import type { System } from './system.ts';
import { assertInside } from './unpack.ts';

/** What is made in such a folder is of the folder's group. */
export const SET_GROUP = 0o2000;

/** A folder with just this owner and mode; where they are right already, nothing is written. */
export function makeOwned(system: System, path: string, { uid, gid }: Account, mode: number): void {
  if (system.stat(path) === null) system.makeFolder(path);
  const stat = system.stat(path);
  if (stat === null || !stat.isDirectory())
    throw new KraftwerkError('node.folder', `${path} on the node is not a folder`, {
      hint: 'move it away, then push again',
    });
  if (stat.uid !== uid || stat.gid !== gid) system.setOwner(path, uid, gid);
  if ((stat.mode & 0o7777) !== mode || stat.uid !== uid || stat.gid !== gid) system.setMode(path, mode);
}

/** The folder of a boot's socket. On a system node root makes the socket there, and nginx may connect; the site gets it open. */
export function makeSocketFolder(system: System, site: SiteLayout, boot: BootName): void {
  if (site.owner === null) system.makeFolder(site.boot(boot), 0o750);
  else makeOwned(system, site.boot(boot), nginxOnly(system), 0o750);
}

/** Root's, and what nginx may enter. */
export function nginxOnly(system: System): Account {
  return { uid: 0, gid: readAccounts(system).users.get(NGINX_USER)?.gid ?? 0 };
}

/** The folder of a slot's log: the logger's alone. */
export function makeLogFolder(system: System, site: SiteLayout, slot: Slot): void {
  if (site.owner === null) {
    system.makeFolder(site.slotLog(slot));
    return;
  }
  const logger = readAccounts(system).users.get(LOG_USER);
  if (logger !== undefined) makeOwned(system, site.slotLog(slot), logger, 0o700);
}

/** A folder that the site's own commands may write to. */
export function makeLentFolder(system: System, site: SiteLayout, path: string): void {
  const account = readAccount(system, site);
  if (account === null) system.makeFolder(path);
  else makeOwned(system, path, account, 0o700);
}

/** Lends a tree of ours to the site's user. From the bottom up: what we still work on is still ours. */
export function lendTree(system: System, site: SiteLayout, path: string): void {
  const account = readAccount(system, site);
  if (account === null) return;
  const lend = (folder: string): void => {
    for (const entry of system.listEntries(folder)) {
      if (entry.isDirectory()) lend(`${folder}/${entry.name}`);
      else system.setOwner(`${folder}/${entry.name}`, account.uid, account.gid);
    }
    system.setOwner(folder, account.uid, account.gid);
  };
  lend(path);
}

/**
 * Takes a tree back. From the top down: a folder is ours, and closed, before we look into it, so that nothing in it can be
 * exchanged for a link under our hands.
 * @param from who has had it; default: the site's user
 * @throws KraftwerkError `artifact.hostile` for what is not the user's own
 */
export function takeTree(system: System, site: SiteLayout, path: string, from?: Account): void {
  const account = readAccount(system, site);
  if (account === null) return;
  const lent = from ?? account;
  const take = (folder: string): void => {
    system.setOwner(folder, 0, account.gid);
    system.setMode(folder, SET_GROUP | 0o750);
    for (const entry of system.listEntries(folder)) {
      const inner = `${folder}/${entry.name}`;
      const stat = system.stat(inner);
      if (stat === null || stat.uid === 0) continue;
      if (stat.uid !== lent.uid) throw foreign(inner.slice(path.length + 1));
      if (stat.isDirectory()) take(inner);
      else if (stat.isFile()) {
        system.setOwner(inner, 0, account.gid);
        system.setMode(inner, stat.mode & 0o100 ? 0o750 : 0o640);
      } else if (stat.isSymbolicLink()) system.setOwner(inner, 0, account.gid);
      // A socket or a fifo: whoever reads it waits for ever.
      else system.remove(inner);
    }
  };
  take(path);
}

/** Lets the compiler of byte code write to a `__pycache__` of a tree. */
export function lendCache(system: System, site: SiteLayout, folder: string): void {
  if (site.owner === null) system.setMode(folder, 0o755);
  else {
    const compiler = readAccounts(system).users.get(COMPILE_USER);
    // The site may use what is there already.
    makeOwned(system, folder, { uid: compiler?.uid ?? 0, gid: readAccount(system, site)?.gid ?? 0 }, 0o750);
  }
}

export function takeCache(system: System, site: SiteLayout, folder: string): void {
  if (site.owner !== null) takeTree(system, site, folder, readAccounts(system).users.get(COMPILE_USER));
  system.setMode(folder, site.owner === null ? 0o555 : 0o550);
}

function foreign(path: string): KraftwerkError {
  return new KraftwerkError('artifact.hostile', `${path}: belongs to another user`, {
    reason: 'the built tree is refused',
  });
}

/**
 * Nothing is added to a release any more; and what a build has linked must not lead out of it: nginx serves parts of it.
 * On a system node the site's user may read all of it, and nginx what it serves.
 */
export function sealTree(system: System, site: SiteLayout, tree: string, served: readonly TreePath[]): void {
  const root = system.realPath(tree) ?? tree;
  const rootless = site.owner === null;
  const seal = (folder: string): void => {
    for (const entry of system.listEntries(`${root}${folder}`)) {
      const path = `${folder}/${entry.name}`;
      if (entry.isSymbolicLink() && path !== '/venv')
        assertInside(system, root, path.slice(1), system.readLink(`${root}${path}`) ?? '');
      if (!entry.isDirectory()) continue;
      if (!rootless && system.stat(`${root}${path}`)?.uid !== 0) takeCache(system, site, `${root}${path}`);
      seal(path);
      system.setMode(`${root}${path}`, rootless ? 0o555 : 0o550);
    }
  };
  seal('');
  if (rootless) return;
  system.setMode(root, 0o751);
  for (const folder of served) openToNginx(system, root, folder);
}

/** Lets nginx, which alone is `others` behind the site's gate, read a folder of a tree, and what its links lead to. */
function openToNginx(system: System, root: string, served: TreePath): void {
  const queue = [`${root}/${served}`];
  const done = new Set<string>();
  const add = (path: string, bits: number): void => {
    const mode = (system.stat(path)?.mode ?? 0) & 0o7777;
    if ((mode & bits) !== bits) system.setMode(path, mode | bits);
  };
  const open = (path: string): void => {
    if (done.has(path)) return;
    done.add(path);
    const stat = system.stat(path);
    if (stat?.isSymbolicLink()) queue.push(path);
    else if (stat?.isFile()) add(path, 0o004);
    else if (stat?.isDirectory()) {
      add(path, 0o005);
      for (const name of system.list(path)) open(`${path}/${name}`);
    }
  };
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    // Where the name leads: it may go through links. All of them lead inside: `sealTree` has looked.
    const real = system.realPath(next);
    if (real === null || (real !== root && !real.startsWith(`${root}/`))) continue;
    for (let at = root, rest = real.slice(root.length + 1); rest !== ''; ) {
      const [name = '', ...others] = rest.split('/');
      rest = others.join('/');
      at = `${at}/${name}`;
      if (rest !== '') add(at, 0o001);
    }
    open(real);
  }
}
