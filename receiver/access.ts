/** Who may do what: (identity, verb, target) -> allow or deny. Pure; what no rule allows is denied. */
import type { EnvironmentName, ProjectName } from '../node-agent/protocol.ts';
import { KraftwerkError, PROJECT_PATTERN } from '../node-agent/protocol.ts';
import type { TargetName } from './exec-line.ts';

export const ROLES = ['admin', 'deploy', 'read'] as const;
export type Role = (typeof ROLES)[number];

// `blog/live`, `blog` (all its environments), `*/stage` (that environment of every project).
export interface TargetPattern {
  project: ProjectName | '*';
  environment: EnvironmentName | '*';
}

/** Who a request comes from: set once its key's signature is verified. */
export interface Identity {
  name: string;
  role: Role;
  targets: readonly TargetPattern[] | 'all';
  /** Of the key: names can meet, when the configuration gets a key of a name that `keys:add` has given. */
  fingerprint?: string;
}

interface VerbRule {
  roles: readonly Role[];
  /** `receiver`: not about a project, so grants for single targets do not matter. */
  scope: 'target' | 'receiver';
}

const EVERYBODY: readonly Role[] = ['admin', 'deploy', 'read'];
const DEPLOYERS: readonly Role[] = ['admin', 'deploy'];
const ADMINS: readonly Role[] = ['admin'];

const RULES = {
  /** help, version, whoami */
  self: { roles: EVERYBODY, scope: 'receiver' },
  /** The list itself; each line of it asks `status`. */
  projects: { roles: EVERYBODY, scope: 'receiver' },
  status: { roles: EVERYBODY, scope: 'target' },
  ps: { roles: EVERYBODY, scope: 'target' },
  logs: { roles: EVERYBODY, scope: 'target' },
  releases: { roles: EVERYBODY, scope: 'target' },
  'git.read': { roles: EVERYBODY, scope: 'target' },
  'git.push': { roles: DEPLOYERS, scope: 'target' },
  'project.create': { roles: DEPLOYERS, scope: 'target' },
  deploy: { roles: DEPLOYERS, scope: 'target' },
  rollback: { roles: DEPLOYERS, scope: 'target' },
  /** restart, stop, start */
  process: { roles: DEPLOYERS, scope: 'target' },
  /** The list of dumps; what is in them is not shown. */
  dumps: { roles: EVERYBODY, scope: 'target' },
  /** dump, also with --download: whoever reads a dump reads all data. */
  dump: { roles: DEPLOYERS, scope: 'target' },
  /** load, and what sync-services loads into. */
  load: { roles: DEPLOYERS, scope: 'target' },
  /** destroy: for the role deploy only what is granted by its name. */
  destroy: { roles: DEPLOYERS, scope: 'target' },
  /** stab: whoever runs a program there reads and changes all that the project can. */
  run: { roles: DEPLOYERS, scope: 'target' },
  /** stab -u, as another user of the node, who may be another project's. */
  'run.user': { roles: ADMINS, scope: 'receiver' },
  /** env: the values are secret. */
  env: { roles: DEPLOYERS, scope: 'target' },
  /** tokens, tokens:add, tokens:remove: one's own */
  tokens: { roles: EVERYBODY, scope: 'receiver' },
  nodes: { roles: DEPLOYERS, scope: 'receiver' },
  /** It names every project, and mends them. */
  doctor: { roles: ADMINS, scope: 'receiver' },
  /** keys, keys:add, keys:remove */
  keys: { roles: ADMINS, scope: 'receiver' },
} as const satisfies Record<string, VerbRule>;

export type Verb = keyof typeof RULES;
export const VERBS = Object.keys(RULES) as Verb[];

/** `unseen`: nothing of it may be shown, not even that it exists. */
export type DenyReason = 'unseen' | 'role' | 'create' | 'unnamed';
export type Decision = { allow: true } | { allow: false; reason: DenyReason };

const deny = (reason: DenyReason): Decision => ({ allow: false, reason });

function covers(pattern: TargetPattern, target: TargetName): boolean {
  const project = pattern.project === '*' || pattern.project === target.project;
  const environment = pattern.environment === '*' || pattern.environment === target.environment;
  return project && environment;
}

/** May this identity do `verb`, to `target`? Null: the verb is about the receiver, not about one project. */
export function decide(identity: Identity, verb: Verb, target: TargetName | null): Decision {
  const rule: VerbRule | undefined = Object.hasOwn(RULES, verb) ? RULES[verb] : undefined;
  if (rule === undefined) return deny('role');
  if (rule.scope === 'receiver') {
    if (!rule.roles.includes(identity.role)) return deny('role');
    // A restricted admin key, should one ever be stored, must not be able to widen itself.
    return rule.roles === ADMINS && identity.targets !== 'all' ? deny('role') : { allow: true };
  }
  if (target === null) return deny('unseen');
  const matching = identity.targets === 'all' ? null : identity.targets.filter((pattern) => covers(pattern, target));
  if (matching?.length === 0) return deny('unseen');
  if (!rule.roles.includes(identity.role)) return deny('role');
  if (verb === 'project.create' && matching?.every(({ project }) => project === '*')) return deny('create');
  if (verb === 'destroy' && identity.role !== 'admin' && !matching?.some(({ project }) => project !== '*'))
    return deny('unnamed');
  return { allow: true };
}

/** What this identity may know of: an owner's name is told to nobody else. */
export function seesTarget(identity: Identity): (target: TargetName) => boolean {
  return (target) => decide(identity, 'status', target).allow;
}

/** May a role ever do `verb`? For lists of commands; `decide` has the last word. */
export function roleMay(role: Role, verb: Verb): boolean {
  return (RULES[verb].roles as readonly Role[]).includes(role);
}

export function formatTarget({ project, environment }: TargetName): string {
  return environment === undefined ? project : `${project}/${environment}`;
}

/** The one answer for what does not exist and for what may not be seen: nobody can tell one from the other. */
export function targetNotFound(target: TargetName): KraftwerkError {
  return new KraftwerkError('target.unknown', `${formatTarget(target)}: no such project, or not for your key`, {
    hint: ['ssh kraftwerk@HOST projects', 'ssh kraftwerk@HOST whoami'],
    reason: 'no such project, or not for your key',
    exit: 'denied',
  });
}

/** A denial in words, for the person who asked. `action`: what was asked for, `git push`, `restart`. */
export function refusal(
  reason: DenyReason,
  identity: Identity,
  action: string,
  target: TargetName | null,
): KraftwerkError {
  if (reason === 'unseen' && target !== null) return targetNotFound(target);
  const where = target === null ? action : `${action} ${formatTarget(target)}`;
  if (reason === 'create') {
    return new KraftwerkError('access.create', `${where}: your key ${identity.name} may not create projects`, {
      hint: `an admin can grant the project: keys:add NAME ${target?.project ?? 'PROJECT'}`,
      reason: 'your key may not create projects',
      exit: 'denied',
    });
  }
  if (reason === 'unnamed') {
    return new KraftwerkError(
      'access.unnamed',
      `${where}: your key ${identity.name} is not granted the project by name`,
      {
        hint: `an admin can do it, or grant it: keys:add NAME ${target?.project ?? 'PROJECT'}`,
        reason: 'your key may not destroy it',
        exit: 'denied',
      },
    );
  }
  return new KraftwerkError(
    'access.denied',
    `${where}: your key ${identity.name} has role ${identity.role}, which may not`,
    {
      hint: 'ssh kraftwerk@HOST whoami',
      reason: `role ${identity.role} may not`,
      exit: 'denied',
    },
  );
}

/** @throws KraftwerkError `target.unknown`, `access.denied`, `access.create` */
export function requireAccess(identity: Identity, verb: Verb, action: string, target: TargetName | null): void {
  const decision = decide(identity, verb, target);
  if (!decision.allow) throw refusal(decision.reason, identity, action, target);
}

export function formatPattern({ project, environment }: TargetPattern): string {
  return environment === '*' ? project : `${project}/${environment}`;
}

/**
 * A grant as it is typed, see `TargetPattern`.
 * @throws KraftwerkError `access.pattern`
 */
export function parseTargetPattern(text: string): TargetPattern {
  const [project = '', environment, ...rest] = text.split('/');
  const good =
    rest.length === 0 &&
    (project === '*' ? environment !== undefined : PROJECT_PATTERN.test(project)) &&
    (environment === undefined || (environment === '*' && project !== '*') || PROJECT_PATTERN.test(environment));
  if (!good) {
    throw new KraftwerkError(
      'access.pattern',
      `bad target ${JSON.stringify(text.slice(0, 60))}: not PROJECT, PROJECT/ENVIRONMENT or */ENVIRONMENT`,
      {
        hint: text === '*' || text === '*/*' ? 'leave the targets away to grant all' : 'for example blog/live',
        exit: 'usage',
      },
    );
  }
  return { project: project as ProjectName | '*', environment: (environment ?? '*') as EnvironmentName | '*' };
}
