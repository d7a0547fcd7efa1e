/** All that an agent may be asked, by `op`: one line of JSON each, parsed again by the agent. */
import {
  type AbandonRequest,
  type ActivateRequest,
  KraftwerkError,
  type LogsRequest,
  type NodeRequest,
  type Parser,
  PROTOCOL,
  type PrepareRequest,
  type ProcessRequest,
  parseAbandon,
  parseActivate,
  parseLogs,
  parseNodeRequest,
  parsePrepare,
  parseProcess,
  parseReady,
  parseRest,
  parseRetire,
  parseRoute,
  parseStatus,
  type ReadyRequest,
  type RestRequest,
  type RetireRequest,
  type RouteRequest,
  refuse,
  type StatusRequest,
} from './protocol.ts';
import {
  type DestroyRequest,
  type DropDumpsRequest,
  type DumpRequest,
  type DumpsRequest,
  type ExportRequest,
  type HealthRequest,
  type ImportRequest,
  type LinkAcceptRequest,
  type LinkKeyRequest,
  type LinkRequest,
  type LoadRequest,
  type MaintenanceRequest,
  type ProveRequest,
  parseDestroy,
  parseDropDumps,
  parseDump,
  parseDumps,
  parseExport,
  parseHealth,
  parseImport,
  parseLink,
  parseLinkAccept,
  parseLinkKey,
  parseLoad,
  parseMaintenance,
  parseProve,
  parseRun,
  parseSetUp,
  parseVariablesRequest,
  type RunRequest,
  type SetUpRequest,
  type VariablesRequest,
} from './protocol-data.ts';

export type AgentRequest =
  | ReadyRequest
  | RestRequest
  | PrepareRequest
  | ActivateRequest
  | RetireRequest
  | AbandonRequest
  | ProcessRequest
  | StatusRequest
  | LogsRequest
  | RouteRequest
  | NodeRequest
  | DumpRequest
  | DumpsRequest
  | DropDumpsRequest
  | ProveRequest
  | ExportRequest
  | ImportRequest
  | LoadRequest
  | MaintenanceRequest
  | DestroyRequest
  | RunRequest
  | VariablesRequest
  | HealthRequest
  | SetUpRequest
  | LinkKeyRequest
  | LinkAcceptRequest
  | LinkRequest;

const REQUEST_PARSERS: Readonly<Record<AgentRequest['op'], Parser<AgentRequest>>> = {
  ready: parseReady,
  rest: parseRest,
  prepare: parsePrepare,
  activate: parseActivate,
  retire: parseRetire,
  abandon: parseAbandon,
  stop: parseProcess,
  start: parseProcess,
  status: parseStatus,
  logs: parseLogs,
  route: parseRoute,
  hello: parseNodeRequest,
  shutdown: parseNodeRequest,
  dump: parseDump,
  dumps: parseDumps,
  'drop-dumps': parseDropDumps,
  prove: parseProve,
  export: parseExport,
  import: parseImport,
  load: parseLoad,
  maintenance: parseMaintenance,
  destroy: parseDestroy,
  run: parseRun,
  variables: parseVariablesRequest,
  health: parseHealth,
  'set-up': parseSetUp,
  'link-key': parseLinkKey,
  'link-accept': parseLinkAccept,
  link: parseLink,
};

/** @throws KraftwerkError `protocol.invalid`, `protocol.version`, `protocol.operation` */
export function parseRequest(line: string): AgentRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new KraftwerkError('protocol.invalid', 'request: not a line of JSON', { cause });
  }
  const { protocol, ...request } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  if (protocol !== PROTOCOL) {
    throw new KraftwerkError(
      'protocol.version',
      `request: speaks protocol ${String(protocol)}, this agent ${PROTOCOL}`,
      {
        hint: 'bring receiver and node to the same version of kraftwerk',
      },
    );
  }
  const op = request.op as AgentRequest['op'];
  if (typeof op !== 'string' || !Object.hasOwn(REQUEST_PARSERS, op)) refuse('request.op', 'an operation', op);
  return REQUEST_PARSERS[op](request, op);
}

export function encodeRequest(request: AgentRequest): string {
  return `${JSON.stringify({ protocol: PROTOCOL, ...request })}\n`;
}
