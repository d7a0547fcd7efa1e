/** The users and groups of a system node: read from /etc/passwd and /etc/group, made where they are missing. */
import type { SiteLayout } from './layout.ts';
import { COMPILE_USER, KraftwerkError, type Limits, LOG_USER, NGINX_USER, WEB_GROUP } from './protocol.ts';
import { DEFAULT_PATH, type System } from './system.ts';

/** The numbers of a site's user and of the group of the same name. */
export interface Account {
  uid: number;
  gid: number;
}

interface User extends Account {
  home: string;
}

export interface Accounts {
  users: ReadonlyMap<string, User>;
  groups: ReadonlyMap<string, { gid: number; members: readonly string[] }>;
}

/** @see passwd(5), group(5) */
export function parseAccounts(passwd: string, group: string): Accounts {
  const rows = (text: string): string[][] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(':'));
  return {
    users: new Map(
      rows(passwd).map(([name = '', , uid, gid, , home = '']) => [name, { uid: Number(uid), gid: Number(gid), home }]),
    ),
    groups: new Map(
      rows(group).map(([name = '', , gid, members = '']) => [
        name,
        { gid: Number(gid), members: members.split(',').filter((member) => member !== '') },
      ]),
    ),
  };
}

export function readAccounts(system: System): Accounts {
  return parseAccounts(system.readText('/etc/passwd') ?? '', system.readText('/etc/group') ?? '');
}

/** The user that a site's processes run as; null where that is the agent's own. @throws KraftwerkError `node.user` */
export function readAccount(system: System, site: SiteLayout): Account | null {
  return site.owner === null ? null : readUser(system, site.owner.user, site.site);
}

/** The user of the site's builds; null where that is the agent's own. @throws KraftwerkError `node.user` */
export function readBuilder(system: System, site: SiteLayout): Account | null {
  return site.owner === null ? null : readUser(system, site.owner.builder, site.cache);
}

function readUser(system: System, user: string, home: string): Account {
  const accounts = readAccounts(system);
  const found = accounts.users.get(user);
  if (found === undefined) throw userError(`the node has no user ${user}`);
  checkUser(user, home, accounts);
  return { uid: found.uid, gid: found.gid };
}

/**
 * A user of that name that was made for something else must not come to own a site.
 * @throws KraftwerkError `node.user`
 */
function checkUser(user: string, home: string, { users, groups }: Accounts): void {
  const found = users.get(user);
  if (found === undefined) return;
  if (found.home !== home)
    throw userError(`the user ${user} is not the site's: its home is ${found.home}, not ${home}`);
  const others = [...users].filter(([name, { uid }]) => name !== user && uid === found.uid).map(([name]) => name);
  if (found.uid === 0 || others.length > 0)
    throw userError(`the user ${user} has the number ${found.uid}, as ${others.join(', ') || 'root'} has`);
  if (groups.get(user)?.gid !== found.gid) throw userError(`the user ${user} is not in a group of its own, ${user}`);
}

function userError(message: string): KraftwerkError {
  return new KraftwerkError('node.user', message, {
    hint: 'look at /etc/passwd on the node; rename or remove a user that is not a site, then push again',
    reason: 'a user on the node is in the way',
  });
}

/** What is missing of a site's user and groups, as programs to be run in order. Pure. */
export function planAccounts(site: SiteLayout, accounts: Accounts): string[][] {
  if (site.owner === null) return [];
  const { user, gate, builder } = site.owner;
  const { users, groups } = accounts;
  const system = ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin'];
  const memberOf = (name: string): string[] =>
    [...groups].filter(([, { members }]) => members.includes(name)).map(([group]) => group);
  const plan = [WEB_GROUP, gate].filter((group) => !groups.has(group)).map((group) => ['groupadd', '--system', group]);
  const ownGroup = (name: string): string[] => (groups.has(name) ? ['--gid', name] : ['--user-group']);
  if (!users.has(user)) {
    const own = ownGroup(user);
    plan.push(['useradd', ...system, '--home-dir', site.site, ...own, '--groups', `${WEB_GROUP},${gate}`, user]);
  } else {
    const missing = [WEB_GROUP, gate].filter((group) => !memberOf(user).includes(group));
    if (missing.length > 0) plan.push(['usermod', '--append', '--groups', missing.join(','), user]);
  }
  if (!users.has(builder)) plan.push(['useradd', ...system, '--home-dir', site.cache, ...ownGroup(builder), builder]);
  for (const name of [LOG_USER, COMPILE_USER])
    if (!users.has(name)) plan.push(['useradd', ...system, '--home-dir', '/nonexistent', '--user-group', name]);
  if (!memberOf(NGINX_USER).includes(gate)) plan.push(['usermod', '--append', '--groups', gate, NGINX_USER]);
  return plan;
}

/**
 * Makes a site's user and groups, those that are missing. Their numbers may have been another's: that one was destroyed, and
 * `end-account.ts` has seen to it that it has no process and nothing outside of root's own folders any more.
 * @returns whether anything was missing
 * @throws KraftwerkError `node.user`
 */
export async function ensureAccounts(system: System, site: SiteLayout): Promise<boolean> {
  if (site.owner === null) return false;
  let failed = null as { words: string; problem: string } | null;
  for (let turn = 0; ; turn++) {
    const accounts = readAccounts(system);
    checkUser(site.owner.user, site.site, accounts);
    checkUser(site.owner.builder, site.cache, accounts);
    const [argv] = planAccounts(site, accounts);
    if (argv === undefined) return turn > 0;
    const words = argv.join(' ');
    // Another site's deploy may have been quicker: then it is there, and not to be made any more.
    if (failed?.words === words) throw userError(failed.problem);
    const env = { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' };
    const result = await system.run(argv, { cwd: '/', env, timeoutMs: 60_000 });
    failed = { words, problem: `${words} ended with exit code ${result.code}: ${result.tail.join(' ')}` };
    system.failpoint('account');
  }
}

/** `argv`, run as the site's user with its groups and no others. */
export function asSite(site: SiteLayout, argv: readonly string[]): string[] {
  return site.owner === null ? [...argv] : ['chpst', '-u', site.owner.identity, ...argv];
}

/** `argv`, run as the user of the site's builds, which may read what the site may read of its code, and none of its data. */
export function asBuilder(site: SiteLayout, argv: readonly string[]): string[] {
  return site.owner === null ? [...argv] : ['chpst', '-u', site.owner.builderIdentity, ...argv];
}

/** `argv`, run as a user who reaches no site: sources come to the compiler on its input, and byte code on its output. */
export function asCompiler(site: SiteLayout, argv: readonly string[]): string[] {
  return site.owner === null ? [...argv] : ['chpst', '-u', `${COMPILE_USER}:${COMPILE_USER}`, ...argv];
}

/**
 * What goes before a command to hold it to its limits: a scope of systemd's where the kernel's memory and pids controllers
 * are to be had, else what setrlimit knows, which counts memory for each process by itself.
 * @param unit what the scope is called; where the words go to a shell, it may put a variable in
 */
export function limitWords(system: System, limits: Limits | null, unit: string | null = null): string[] {
  const { memoryBytes, processes } = limits ?? { memoryBytes: null, processes: null };
  if (memoryBytes === null && processes === null) return [];
  const controllers = (system.readText('/sys/fs/cgroup/cgroup.controllers') ?? '').trim().split(' ');
  if (controllers.includes('memory') && controllers.includes('pids') && system.exists('/usr/bin/systemd-run')) {
    return [
      ...['systemd-run', '--scope', '--quiet', '--collect', '--slice=kraftwerk.slice'],
      ...(unit === null ? [] : [`--unit=${unit}`]),
      ...(memoryBytes === null ? [] : ['-p', `MemoryMax=${memoryBytes}`, '-p', 'MemorySwapMax=0']),
      ...(processes === null ? [] : ['-p', `TasksMax=${processes}`]),
      '--',
    ];
  }
  return [
    'chpst',
    ...(memoryBytes === null ? [] : ['-d', String(memoryBytes)]),
    ...(processes === null ? [] : ['-p', String(processes)]),
  ];
}
