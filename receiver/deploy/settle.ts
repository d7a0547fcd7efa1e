/** Brings a deploy that was cut off to its end: finished where nodes have been switched, else taken back. */
import type { InstanceStatus, StatusResult } from '../../node-agent/protocol.ts';
import { openRepository } from '../git/repository.ts';
import type { DeployRecord, Journal } from '../journal.ts';
import type { Node } from '../nodes/node.ts';
import { abandonAll, activate, type Site } from './fan-out.ts';
import { releaseRef } from './release-ref.ts';

export type Settled = 'finished' | 'taken back';

/** @throws KraftwerkError what a node says that cannot be asked: then the deploy stays open */
export async function settleDeploy(
  { data, journal }: { data: string; journal: Journal },
  deploy: DeployRecord,
  site: Site,
): Promise<Settled> {
  const switched = deploy.phase === 'preparing' ? [] : await nodesThatServe(site, deploy);
  if (switched.length === 0) {
    await abandonAll(site, deploy.switches, keptReleases(journal, deploy));
    journal.failDeploy(deploy, 'interrupted before it served');
    return 'taken back';
  }
  // Every node was ready when the first was switched: forward is the shorter way, and the same from any point.
  for (const node of site.nodes) {
    const serve = deploy.switches?.[node.name]?.next;
    if (serve === undefined) continue;
    const request = activate(node, site.instance, serve);
    // Where it serves already, a process that is just being started again is no reason to stop.
    await (switched.includes(node) ? request.catch(() => undefined) : request);
  }
  journal.setPhase(deploy.id, 'activated');
  const repository = openRepository(data, deploy.target);
  if (deploy.ref !== null && (await repository.readRef(deploy.ref)) !== deploy.commit) {
    await repository.moveRef(deploy.ref, deploy.refFrom, deploy.commit);
  }
  if (makesRelease(deploy)) await repository.moveRefs([{ ref: releaseRef(deploy.release), to: deploy.commit }]);
  if (deploy.ref !== null) await repository.setHead(deploy.ref);
  journal.finishDeploy(deploy);
  return 'finished';
}

/** A rollback or restart goes to a release that is there already. */
export function makesRelease({ kind }: Pick<DeployRecord, 'kind'>): boolean {
  return kind === 'push' || kind === 'deploy';
}

/** The releases whose trees stay when a deploy is taken back. */
export function keptReleases(journal: Journal, deploy: Pick<DeployRecord, 'target' | 'release' | 'kind'>): number[] {
  const all = journal.releases(deploy.target).map(({ release }) => release);
  return makesRelease(deploy) ? all.filter((release) => release !== deploy.release) : all;
}

async function nodesThatServe(site: Site, deploy: DeployRecord): Promise<Node[]> {
  const found: Node[] = [];
  for (const node of site.nodes) {
    const order = { op: 'status', instances: [site.instance], memory: false } as const;
    const { instances } = (await node.request(order, { timeoutMs: 60_000 })) as StatusResult;
    const current = (instances[0] as InstanceStatus | undefined)?.current;
    const wanted = deploy.switches?.[node.name]?.next;
    if (wanted !== undefined && current?.release === wanted.release && current.boot === wanted.boot) found.push(node);
  }
  return found;
}
