/** Who a command runs as: the site's user with its groups, or another one that the request names, never root. */
import { type Accounts, readAccounts } from './accounts.ts';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError } from './protocol.ts';
import type { System } from './system.ts';

/** In numbers, for setresuid, setresgid, setgroups. */
export interface RunIdentity {
  uid: number;
  gid: number;
  groups: readonly number[];
}

/**
 * Null where everything belongs to the user who runs the agent.
 * @throws KraftwerkError `run.rootless`, `run.root`, `run.user`
 */
export function readRunIdentity(system: System, site: SiteLayout, user: string | null): RunIdentity | null {
  return chooseIdentity(site, user, readAccounts(system));
}

/** Pure. @throws KraftwerkError `run.rootless`, `run.root`, `run.user` */
export function chooseIdentity(site: SiteLayout, user: string | null, { users, groups }: Accounts): RunIdentity | null {
  const { owner } = site;
  if (owner === null) {
    if (user === null) return null;
    throw new KraftwerkError('run.rootless', `-u ${user}: on a rootless node everything is run by one user`, {
      hint: 'leave -u away',
      exit: 'usage',
    });
  }
  const name = user ?? owner.user;
  const found = users.get(name);
  if (found === undefined) {
    throw new KraftwerkError('run.user', `the node has no user ${name}`, {
      hint: user === null ? 'the next deploy makes it' : 'those that it has: getent passwd, on the node',
      exit: 'denied',
    });
  }
  if (found.uid === 0 || found.gid === 0) {
    throw new KraftwerkError('run.root', `-u ${name}: commands of a project are not run by root`, {
      hint: 'what needs root is for the admin: ssh to the node',
      exit: 'denied',
    });
  }
  // Whoever it is has to enter the site's folder, and to read its release.
  const [, ...ofSite] = owner.identity.split(':');
  const own = [...groups].flatMap(([group, { gid, members }]) =>
    members.includes(name) || ofSite.includes(group) ? [gid] : [],
  );
  return { uid: found.uid, gid: found.gid, groups: [...new Set([found.gid, ...own])].filter((gid) => gid !== 0) };
}
