/** A system node: nginx and runit are the machine's own, and the agent only looks whether `setup-node` has been there. */
import { readAccounts } from './accounts.ts';
import type { NodeLayout } from './layout.ts';
import { runsvdirPid } from './processes.ts';
import { KraftwerkError, NGINX_USER, WEB_GROUP } from './protocol.ts';
import type { System } from './system.ts';

/** What the agent starts; all of it is in packages that `setup-node` installs. */
const PROGRAMS = [
  'nginx',
  'runsv',
  'svlogd',
  'chpst',
  'flock',
  'unshare',
  'perl',
  'useradd',
  'groupadd',
  'usermod',
  'python3',
];
const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** @throws KraftwerkError `node.setup` with all that is missing */
export function assertSetUp(system: System, node: NodeLayout): void {
  const problems = findProblems(system, node);
  if (problems.length === 0) return;
  throw new KraftwerkError('node.setup', `the node is not set up: ${problems[0]}`, {
    step: 'Start',
    lines: problems.slice(1),
    hint: 'kraftwerk setup-node HOST mends it',
    reason: 'the node is not set up',
  });
}

export function findProblems(system: System, node: NodeLayout): string[] {
  const { users, groups } = readAccounts(system);
  const web = system.stat(node.web);
  const missing = PROGRAMS.filter((name) => !FOLDERS.some((folder) => system.exists(`${folder}/${name}`)));
  const settings = `${node.nginx}/conf.d/kraftwerk.conf`;
  const problems: [boolean, string][] = [
    [!system.runsAsRoot, 'the agent does not run as root'],
    [missing.length > 0, `missing: ${missing.join(', ')}`],
    [!groups.has(WEB_GROUP), `there is no group ${WEB_GROUP}`],
    [!users.has(NGINX_USER), `there is no user ${NGINX_USER}`],
    [web === null, `there is no folder ${node.web}`],
    [
      web !== null && (!web.isDirectory() || web.uid !== 0 || (web.mode & 0o022) !== 0),
      `${node.web} is not root's alone`,
    ],
    [!system.exists(settings), `there is no ${settings}`],
    [runsvdirPid(system, node) === null, 'runit does not run (systemctl start runit)'],
    [systemNginxPid(system, node) === 0, 'nginx does not run (systemctl start nginx)'],
    // A site could else have a hard link of somebody's file in a tree that is given away.
    [system.readText('/proc/sys/fs/protected_hardlinks')?.trim() === '0', 'sysctl fs.protected_hardlinks is 0'],
  ];
  return problems.filter(([found]) => found).map(([, what]) => what);
}

/** The master of the machine's own nginx; 0 when it does not run. */
export function systemNginxPid(system: System, node: NodeLayout): number {
  const pid = Number(system.readText(`${node.run}/nginx.pid`)?.trim() ?? 0);
  return pid > 1 && system.readText(`/proc/${pid}/comm`) === 'nginx\n' ? pid : 0;
}
