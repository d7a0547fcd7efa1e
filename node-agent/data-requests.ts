/** Requests about services and their data, and commands in a site's environment: each goes to the file that does it. */
import { destroyPart } from './destroy.ts';
import { exportDump, importDump } from './dump-archive.ts';
import { dropDumps, makeDump, proveDump } from './dumps.ts';
import { acceptLinks, makeLinkKey, makeLinks } from './links.ts';
import { loadStep } from './load.ts';
import { setMaintenance } from './maintenance.ts';
import type {
  DestroyRequest,
  DropDumpsRequest,
  DumpRequest,
  ExportRequest,
  HealthRequest,
  ImportRequest,
  LinkAcceptRequest,
  LinkKeyRequest,
  LinkRequest,
  LoadRequest,
  MaintenanceRequest,
  ProveRequest,
  RunRequest,
  SetUpRequest,
  VariablesRequest,
} from './protocol-data.ts';
import { runInSite } from './run-in-site.ts';
import { askHealth } from './service-health.ts';
import { readWritten } from './service-variables.ts';
import { setUpServices } from './services.ts';
import type { Work } from './work.ts';

/** They change nothing of what a deploy changes, and wait for none. */
export type ReadingRequest = ExportRequest | RunRequest | VariablesRequest | HealthRequest;
/** They hold the site's lock. */
export type DataRequest =
  | DumpRequest
  | DropDumpsRequest
  | ProveRequest
  | ImportRequest
  | LoadRequest
  | MaintenanceRequest
  | DestroyRequest
  | SetUpRequest
  | LinkKeyRequest
  | LinkAcceptRequest
  | LinkRequest;

export function isReading(request: { op: string }): request is ReadingRequest {
  return ['export', 'run', 'variables', 'health'].includes(request.op);
}

export function handleReading(request: ReadingRequest, work: Work): Promise<unknown> {
  switch (request.op) {
    case 'export':
      return exportDump(request, work);
    case 'run':
      return runInSite(request, work);
    case 'health':
      return askHealth(request, work);
    case 'variables':
      return Promise.resolve(readWritten(work.system, work.site, request.written));
  }
}

export function handleData(request: DataRequest, work: Work): Promise<unknown> {
  switch (request.op) {
    case 'dump':
      return makeDump(request, work);
    case 'drop-dumps':
      return dropDumps(request, work);
    case 'prove':
      return proveDump(request, work);
    case 'import':
      return importDump(request, work);
    case 'load':
      return loadStep(request, work);
    case 'maintenance':
      return setMaintenance(request, work);
    case 'destroy':
      return destroyPart(request, work);
    case 'set-up':
      return setUpServices({ ...request, setUpServices: true, override: false }, work).then(() => null);
    case 'link-key':
      return makeLinkKey(request, work);
    case 'link-accept':
      return acceptLinks(request, work);
    case 'link':
      return makeLinks(request, work);
  }
}
