import { describe, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Identity, Role, Verb } from '../../receiver/access.ts';
import {
  decide,
  formatPattern,
  parseTargetPattern,
  ROLES,
  refusal,
  requireAccess,
  targetNotFound,
  VERBS,
} from '../../receiver/access.ts';
import { parseTargetName } from '../../receiver/exec-line.ts';

function who(role: Role, targets: readonly string[] | 'all'): Identity {
  return { name: 'alice', role, targets: targets === 'all' ? 'all' : targets.map(parseTargetPattern) };
}

function answer(identity: Identity, verb: Verb, target: string | null): string {
  const decision = decide(identity, verb, target === null ? null : parseTargetName(target));
  return decision.allow ? 'yes' : decision.reason;
}

describe('the matrix of roles and verbs', () => {
  // For a key that may see the target.
  const MATRIX: Record<Verb, Record<Role, string>> = {
    self: { admin: 'yes', deploy: 'yes', read: 'yes' },
    projects: { admin: 'yes', deploy: 'yes', read: 'yes' },
    status: { admin: 'yes', deploy: 'yes', read: 'yes' },
    ps: { admin: 'yes', deploy: 'yes', read: 'yes' },
    logs: { admin: 'yes', deploy: 'yes', read: 'yes' },
    releases: { admin: 'yes', deploy: 'yes', read: 'yes' },
    'git.read': { admin: 'yes', deploy: 'yes', read: 'yes' },
    'git.push': { admin: 'yes', deploy: 'yes', read: 'role' },
    'project.create': { admin: 'yes', deploy: 'yes', read: 'role' },
    deploy: { admin: 'yes', deploy: 'yes', read: 'role' },
    rollback: { admin: 'yes', deploy: 'yes', read: 'role' },
    process: { admin: 'yes', deploy: 'yes', read: 'role' },
    dumps: { admin: 'yes', deploy: 'yes', read: 'yes' },
    dump: { admin: 'yes', deploy: 'yes', read: 'role' },
    load: { admin: 'yes', deploy: 'yes', read: 'role' },
    destroy: { admin: 'yes', deploy: 'yes', read: 'role' },
    run: { admin: 'yes', deploy: 'yes', read: 'role' },
    'run.user': { admin: 'yes', deploy: 'role', read: 'role' },
    env: { admin: 'yes', deploy: 'yes', read: 'role' },
    tokens: { admin: 'yes', deploy: 'yes', read: 'yes' },
    nodes: { admin: 'yes', deploy: 'yes', read: 'role' },
    doctor: { admin: 'yes', deploy: 'role', read: 'role' },
    keys: { admin: 'yes', deploy: 'role', read: 'role' },
  };
  const receiverWide: Verb[] = ['self', 'projects', 'run.user', 'tokens', 'nodes', 'doctor', 'keys'];

  it('names every verb', () => {
    expect(Object.keys(MATRIX).sort()).toEqual([...VERBS].sort());
  });

  const cells = VERBS.flatMap((verb) => ROLES.map((role) => [verb, role, MATRIX[verb][role]] as const));
  it.each(cells)('%s by %s: %s', (verb, role, expected) => {
    const about = receiverWide.includes(verb) ? null : 'blog/live';
    const unnamed = verb === 'destroy' && role === 'deploy';
    expect(answer(who(role, 'all'), verb, about)).toBe(unnamed ? 'unnamed' : expected);
    if (about === null) return;
    expect(answer(who(role, ['blog']), verb, about)).toBe(expected);
    expect(answer(who(role, ['shop', 'blog/live']), verb, about)).toBe(expected);
    expect(answer(who(role, ['shop', 'blog/stage', '*/stage']), verb, about)).toBe('unseen');
    expect(answer(who(role, []), verb, about)).toBe('unseen');
    expect(answer(who(role, 'all'), verb, null)).toBe('unseen');
  });

  it('has no verb that it does not know', () => {
    for (const verb of ['demolish', 'constructor', '__proto__', '']) {
      expect(decide(who('admin', 'all'), verb as Verb, null)).toEqual({ allow: false, reason: 'role' });
    }
  });

  it('knows no admin of keys whose own key is restricted', () => {
    expect(answer(who('admin', ['blog']), 'keys', null)).toBe('role');
    expect(answer(who('admin', ['blog']), 'doctor', null)).toBe('role');
  });
});

describe('target patterns', () => {
  it.each([
    [['blog'], 'blog/live', 'yes'],
    [['blog'], 'blog', 'yes'],
    [['blog'], 'blogs/live', 'unseen'],
    [['blog/live'], 'blog/live', 'yes'],
    [['blog/live'], 'blog', 'unseen'],
    [['blog/live'], 'blog/stage', 'unseen'],
    [['*/stage'], 'shop/stage', 'yes'],
    [['*/stage'], 'shop/live', 'unseen'],
    [['*/stage'], 'shop', 'unseen'],
  ])('%j sees %s: %s', (patterns, target, expected) => {
    expect(answer(who('read', patterns), 'status', target)).toBe(expected);
  });

  it.each([
    [['blog'], 'yes'],
    [['blog/stage'], 'yes'],
    [['*/stage'], 'create'],
    [['*/stage', 'blog'], 'yes'],
    [['*/stage', 'shop'], 'create'],
  ])('%j creates blog/stage: %s', (patterns, expected) => {
    expect(answer(who('deploy', patterns), 'project.create', 'blog/stage')).toBe(expected);
  });

  it.each([
    ['deploy', ['blog'], 'yes'],
    ['deploy', ['blog/stage'], 'yes'],
    ['deploy', ['*/stage'], 'unnamed'],
    ['deploy', ['*/stage', 'blog'], 'yes'],
    ['deploy', ['*/stage', 'shop'], 'unnamed'],
    ['admin', ['*/stage'], 'yes'],
    ['read', ['blog'], 'role'],
  ] as const)('%s with %j destroys blog/stage: %s', (role, patterns, expected) => {
    expect(answer(who(role, patterns), 'destroy', 'blog/stage')).toBe(expected);
  });

  it.each(['blog', 'blog/live', '*/stage'])('%s is written as it was read', (text) => {
    expect(formatPattern(parseTargetPattern(text))).toBe(text);
  });

  it.each(['', '*', '*/*', '/live', 'blog/', 'Blog', 'blog/live/x', 'b*/live', '../x', 'blog/-'])(
    '%j is refused',
    (text) => {
      expect(() => parseTargetPattern(text)).toThrow(KraftwerkError);
    },
  );
});

describe('refusals', () => {
  const blog = parseTargetName('blog/live');
  const words = (error: KraftwerkError): object => ({
    message: error.message,
    hints: error.hints,
    code: error.code,
    exit: error.exit,
  });

  it('answer for what may not be seen as for what does not exist', () => {
    expect(words(refusal('unseen', who('read', ['shop']), 'status', blog))).toEqual(words(targetNotFound(blog)));
    expect(words(targetNotFound(blog))).toEqual({
      code: 'target.unknown',
      message: 'blog/live: no such project, or not for your key',
      hints: ['ssh kraftwerk@HOST projects', 'ssh kraftwerk@HOST whoami'],
      exit: 'denied',
    });
  });

  it('say what the key lacks', () => {
    expect(() => requireAccess(who('read', 'all'), 'git.push', 'git push', blog)).toThrow(
      'git push blog/live: your key alice has role read, which may not',
    );
    expect(() => requireAccess(who('deploy', ['*/live']), 'project.create', 'git push', blog)).toThrow(
      'git push blog/live: your key alice may not create projects',
    );
    expect(() => requireAccess(who('deploy', 'all'), 'destroy', 'destroy', blog)).toThrow(
      'destroy blog/live: your key alice is not granted the project by name',
    );
    expect(() => requireAccess(who('admin', 'all'), 'git.push', 'git push', blog)).not.toThrow();
  });
});
