/** The end of a rootless node's runsvdir, and of everything that it and the sites have started. */
import { type NodeLayout, siteLayout } from './layout.ts';
import { control, readService, runsvdirPid, waitUntil } from './processes.ts';
import { type InstanceName, KraftwerkError, PROJECT_PATTERN } from './protocol.ts';
import { endStrays } from './site-processes.ts';
import type { System } from './system.ts';

/** @throws KraftwerkError `node.system`, `site.processes` */
export async function stopNode(system: System, node: NodeLayout, graceMs: number): Promise<void> {
  if (node.profile.profile === 'system')
    throw new KraftwerkError('node.system', "runit and nginx of this node are the machine's own and are not stopped", {
      exit: 'usage',
      hint: 'on the node: systemctl stop runit nginx',
    });
  const folders = system.list(node.services).map((name) => `${node.services}/${name}`);
  const supervisors = folders.flatMap((folder) => [`${folder}/supervise/ok`, `${folder}/log/supervise/ok`]);
  const pid = runsvdirPid(system, node);
  if (pid !== null) system.signal(pid, 'SIGHUP');
  await waitUntil(system, () => folders.every((folder) => readService(system, folder).pid === 0), graceMs);
  // A process that has left its parent holds the pipe to the log, whose supervisor waits for its end.
  for (const name of system.list(node.web))
    if (PROJECT_PATTERN.test(name)) await endStrays(system, siteLayout(node, name as InstanceName), 'Stop');
  const gone = (): boolean => supervisors.every((fifo) => !system.writeFifo(fifo, ''));
  if (!(await waitUntil(system, gone, graceMs))) {
    for (const folder of folders) control(system, folder, 'k');
    for (const folder of folders) control(system, folder, 'x');
    await waitUntil(system, gone, 5_000);
  }
  system.remove(node.runsvdirPid);
}
