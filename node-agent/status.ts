/** What a node and its sites are doing now. */
import { cpus, freemem, hostname, loadavg, networkInterfaces, totalmem } from 'node:os';
import { type NodeLayout, type SiteLayout, SLOTS, siteLayout, slotOf } from './layout.ts';
import { slotRelease } from './logs.ts';
import { childrenOf, readService } from './processes.ts';
import type { HelloResult, InstanceName, InstanceStatus, ProcessStatus } from './protocol.ts';
import { listReleases, readCurrent } from './releases.ts';
import { listRoutes } from './route.ts';
import type { System } from './system.ts';

export function readInstances(
  system: System,
  node: NodeLayout,
  instances: readonly InstanceName[],
  memory: boolean,
): InstanceStatus[] {
  return instances.map((instance) => readInstance(system, siteLayout(node, instance), memory));
}

function readInstance(system: System, site: SiteLayout, memory: boolean): InstanceStatus {
  const current = readCurrent(system, site);
  const processes = SLOTS.map((slot): ProcessStatus => {
    const service = readService(system, site.slot(slot));
    const workers = service.pid === 0 ? [] : childrenOf(system, service.pid);
    return {
      name: 'web',
      slot,
      state: service.state,
      serves: current !== null && slotOf(current.boot) === slot,
      release: service.pid === 0 ? null : slotRelease(system, site, slot),
      pid: service.pid || null,
      uptimeS: service.state === 'run' ? service.uptimeS : null,
      memoryBytes:
        service.pid === 0 || !memory
          ? null
          : [service.pid, ...workers].reduce((sum, pid) => sum + memoryOf(system, pid), 0),
      workers: workers.length,
    };
  });
  return {
    instance: site.instance,
    current,
    stopped: system.exists(site.stopped),
    maintenance: system.exists(site.maintenance),
    releases: listReleases(system, site),
    processes,
  };
}

export function describeNode(system: System, node: NodeLayout, agentVersion: string, httpPort: number): HelloResult {
  const available = /^MemAvailable:\s+([0-9]+) kB/m.exec(system.readText('/proc/meminfo') ?? '')?.[1];
  const disk = system.diskSpace(node.web);
  return {
    agentVersion,
    httpPort,
    cores: cpus().length,
    memoryBytes: totalmem(),
    memoryFreeBytes: available === undefined ? freemem() : Number(available) * 1024,
    diskBytes: disk.bytes,
    diskFreeBytes: disk.freeBytes,
    load1: loadavg()[0] ?? 0,
    clock: system.wallClock().toISOString(),
    hostname: hostname(),
    addresses: Object.values(networkInterfaces()).flatMap((all) =>
      (all ?? []).flatMap(({ address, internal }) => (internal || address.startsWith('fe80:') ? [] : [address])),
    ),
    routes: listRoutes(system, node),
  };
}

/** Proportional set size: shared pages count once over all that share them, so that sums are true. */
function memoryOf(system: System, pid: number): number {
  try {
    const kilobytes = /^Pss:\s+([0-9]+) kB/m.exec(system.readText(`/proc/${pid}/smaps_rollup`) ?? '')?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}
