// Git remotes' URLs <-> the receiver and target that they name. Pure. What reaches ssh's command line is checked here.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { parseTargetPath, type TargetName } from '../exec-line.ts';

export const RECEIVER_USER = 'kraftwerk';

/** Where ssh goes. */
export interface Address {
  /** Null: ssh's own configuration says. */
  user: string | null;
  /** IPv6 without brackets. */
  host: string;
  /** Null: ssh's own configuration says. */
  port: number | null;
}

export type RemoteUrl =
  | { kind: 'ssh'; address: Address; target: TargetName }
  | { kind: 'http'; host: string; target: TargetName }
  /** Nothing of ours: another program's server, a folder. */
  | { kind: 'foreign' }
  /** Meant for a receiver, or for ssh, and cannot be used. */
  | { kind: 'refused'; problem: string };

// Neither can begin with "-": ssh would take it for an option.
const USER = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?$/;
const IPV6 = /^(?=(?:[^:]*:){2})[0-9A-Fa-f:.]{2,45}$/;
const PORT = /^[1-9][0-9]{0,4}$/;

/** @see https://git-scm.com/docs/git-clone#_git_urls */
export function parseRemoteUrl(url: string): RemoteUrl {
  if (url.startsWith('-')) return { kind: 'refused', problem: 'begins with "-"' };
  const web = /^https?:\/\/(?:[^@/]*@)?(?<host>[^/]+)(?<path>\/.*)$/i.exec(url)?.groups;
  if (web !== undefined) {
    const target = readTarget(web.path ?? '');
    return typeof target === 'string' ? { kind: 'foreign' } : { kind: 'http', host: web.host ?? '', target };
  }
  const scheme =
    /^(?:ssh|git\+ssh|ssh\+git):\/\/(?:(?<user>[^@/]*)@)?(?<host>\[[^\]/]*\]|[^/:]*)(?::(?<port>[^/]*))?(?<path>\/.*)?$/i;
  const scp = /^(?:(?<user>[^@/:]*)@)?(?<host>\[[^\]/]*\]|[^/:@[]+):(?!\/\/)(?!:)(?<path>.*)$/;
  const parts = (url.includes('://') ? scheme : scp).exec(url)?.groups;
  if (parts === undefined) return { kind: 'foreign' };
  const { user, host = '', port = '', path = '' } = parts;
  const address = readAddress(user ?? null, host, port);
  const target = readTarget(path);
  if (typeof address !== 'string' && typeof target !== 'string') return { kind: 'ssh', address, target };
  if (user?.replace(/:.*$/, '') !== RECEIVER_USER && !user?.startsWith('-') && !host.startsWith('-'))
    return { kind: 'foreign' };
  return { kind: 'refused', problem: typeof address === 'string' ? address : String(target) };
}

/**
 * HOST as people type it: `paas`, `paas:2200`, `kraftwerk@paas`, `[::1]:2200`, `ssh://kraftwerk@paas:2200`.
 * @returns the address, or what is wrong with it
 */
export function parseHost(text: string): Address | string {
  const bare = text.replace(/^ssh:\/\//, '').replace(/\/$/, '');
  const parts = /^(?:(?<user>[^@]*)@)?(?<host>\[[^\]]*\]|[^:]*)(?::(?<port>.*))?$/.exec(bare)?.groups;
  const expected = `expected a host's name, perhaps with :PORT, got ${show(text)}`;
  if (parts === undefined) return expected;
  const { user = RECEIVER_USER, host = '', port = '' } = parts;
  if (user !== RECEIVER_USER) return `the user is always ${RECEIVER_USER}, got ${show(user)}`;
  const address = readAddress(user, host, port);
  return typeof address === 'string' || (parts.port === '' && bare.endsWith(':')) ? expected : address;
}

function readAddress(user: string | null, written: string, port: string): Address | string {
  const host = written.replace(/^\[(.*)\]$/, '$1');
  const bracketed = host !== written;
  if (user?.includes(':')) return 'a password has no place in it: ssh does not take it';
  if (user !== null && !USER.test(user)) return `not a user's name: ${show(user)}`;
  if (bracketed ? !IPV6.test(host) : !HOST.test(host)) return `not a host's name: ${show(written)}`;
  if (port !== '' && (!PORT.test(port) || Number(port) > 65_535)) return `not a port: ${show(port)}`;
  return { user, host, port: port === '' ? null : Number(port) };
}

function readTarget(path: string): TargetName | string {
  try {
    return parseTargetPath(path);
  } catch (error) {
    if (error instanceof KraftwerkError) return error.message;
    throw error;
  }
}

/** `kraftwerk@HOST:blog/live`; with a port, or for IPv6, `ssh://kraftwerk@HOST:PORT/blog/live`. */
export function formatRemoteUrl({ user, host, port }: Address, target: TargetName): string {
  const who = user === null ? '' : `${user}@`;
  if (port === null && !host.includes(':')) return `${who}${host}:${formatTarget(target)}`;
  return `ssh://${who}${bracket(host)}${port === null ? '' : `:${port}`}/${formatTarget(target)}`;
}

/** `blog/live`; `blog` where no environment is named. */
export function formatTarget({ project, environment }: TargetName): string {
  return environment === undefined ? project : `${project}/${environment}`;
}

/** `paas:2200`, for people. */
export function formatHost({ host, port }: Address): string {
  return port === null ? host : `${bracket(host)}:${port}`;
}

/** What ssh is given; `--` ends its options. */
export function sshDestination({ user, host, port }: Address): string[] {
  return [...(port === null ? [] : ['-p', String(port)]), '--', user === null ? host : `${user}@${host}`];
}

/** The same for two addresses when ssh would go to the same place. */
export function addressKey({ user, host, port }: Address): string {
  return `${user ?? ''}@${host.toLowerCase()}:${port ?? ''}`;
}

/** Without a password, which a URL may hold. */
export function showUrl(url: string): string {
  const shown = url.replace(/^([a-z+]+:\/\/[^:@/]*):[^@/]*@/i, '$1:…@');
  return shown.length > 200 ? `${shown.slice(0, 200)}…` : shown;
}

function bracket(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
