// Services on a rootless node: a folder below another, and the caller's own rights. Here each step of a load is cut off
// before one command after the other, which takes longer where servers are part of it; in CI before the last ones of files.
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type {
  AbsolutePath,
  EnvironmentName,
  InstanceName,
  ProjectName,
  ServiceName,
} from '../../node-agent/protocol.ts';
import {
  fillPlaceholders,
  readService,
  renderScripts,
  type ScriptName,
  serviceValues,
} from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { failing, KILLED, spread } from '../actors/failing-script.ts';
import { writeFolder } from '../actors/service-folders.ts';
import { thorough } from '../actors/thorough.ts';

/** Before which a step is cut off: all take minutes; the last are those that do something. */
const commandsOf = (total: number): number[] =>
  thorough ? spread(total) : spread(total).filter((command) => command > total - 3);
/** Root would be allowed too much. */
const NOBODY = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
const templates = createTemplates({ configured: [] });

function createRootlessSite(service: string) {
  // With a blank, as a user's folders have them.
  const base = writeFolder({});
  const root = join(base, 'a node');
  const site = join(root, 'web/blog');
  const state = join(site, '.kraftwerk/services', service);
  mkdirSync(state, { recursive: true, mode: 0o755 });
  mkdirSync(join(root, 'run/kraftwerk'), { recursive: true });
  mkdirSync(join(site, 'dump'));
  if (NOBODY.uid !== undefined)
    for (const path of [
      base,
      root,
      join(root, 'web'),
      site,
      join(site, '.kraftwerk'),
      join(site, '.kraftwerk/services'),
      state,
      join(root, 'run'),
      join(root, 'run/kraftwerk'),
      join(site, 'dump'),
    ])
      chownSync(path, NOBODY.uid, NOBODY.gid);
  onTestFinished(() => rmSync(base, { recursive: true }));
  const definition = readService(templates, service as ServiceName);
  const values = serviceValues(definition, {
    profile: { profile: 'rootless', root: root as AbsolutePath, httpPort: 8080 },
    instance: 'blog' as InstanceName,
    project: 'blog' as ProjectName,
    environment: 'live' as EnvironmentName,
    options: {},
  });
  const scripts = renderScripts(templates, definition, values);
  const { variables, health } = fillPlaceholders(definition, values);

  const bash = (script: string, environment: Record<string, string>, args: readonly string[]) => {
    const file = join(base, 'script');
    writeFileSync(file, script);
    const { status, signal, stdout, stderr } = spawnSync('setsid', ['-w', 'bash', file, ...args], {
      ...NOBODY,
      cwd: '/',
      encoding: 'utf8',
      env: { PATH: process.env.PATH, LANG: 'C.UTF-8', SITE_ROOT: site, STATE_DIR: state, ...environment },
    });
    return { code: signal === 'SIGKILL' ? KILLED : status, said: `${stdout}${stderr}` };
  };
  const good = ({ code, said }: { code: number | null; said: string }): string => {
    expect([code, said]).toEqual([0, said]);
    return said.trim();
  };
  const dump = (which: string): string => join(site, 'dump', which);
  return {
    site,
    variables,
    run: (script: ScriptName, environment: Record<string, string> = {}, args: readonly string[] = []) =>
      bash(scripts[script] ?? '', environment, args),
    good,
    /** A shell script as a process of the site. */
    use: (script: string): string => good(bash(`set -eu\n${script}`, variables, [])),
    isWell: (): boolean => health !== null && spawnSync(health[0] ?? '', health.slice(1), NOBODY).status === 0,
    setUp: (): string => good(bash(scripts.setup ?? '', {}, [])),
    dump: (which: string): string => good(bash(scripts.dump ?? '', { DUMP_TARGET: dump(which) }, [])),
    load: (steps: readonly string[], which = 'none'): void => {
      for (const step of steps) good(bash(scripts.load ?? '', { DUMP_SOURCE: dump(which) }, [step]));
    },
    tryLoad: (step: string, which = 'none') => bash(scripts.load ?? '', { DUMP_SOURCE: dump(which) }, [step]),
    /** @returns how many commands, or null where it was cut off */
    cutLoad: (step: string, command: number, which = 'none'): number | null => {
      const ended = bash(failing(scripts.load ?? '', command), { DUMP_SOURCE: dump(which) }, [step]);
      return ended.code === KILLED ? null : Number(good(ended).split('\n').at(-1));
    },
  };
}
type RootlessSite = ReturnType<typeof createRootlessSite>;

const KITS: Readonly<Record<string, { fill: string; change: string; digest: string }>> = {
  files: {
    fill: 'cd "$UPLOADS_PATH"; mkdir -p "a b/c"; echo 1 >"a b/c/ü"; echo 2 >two; ln -s two link',
    change: 'cd "$UPLOADS_PATH"; rm -r "a b"; echo 3 >three',
    digest:
      'cd "$UPLOADS_PATH"; find . -printf "%P %y %m %s %l\\n" | LC_ALL=C sort; find . -type f -exec sha256sum {} + | sort',
  },
  sqlite: {
    fill: `cd "$DATA_PATH"; echo 1 >one; python3 -c 'import sqlite3; db = sqlite3.connect("db.sqlite3"); db.execute("CREATE TABLE a (n)"); db.execute("INSERT INTO a VALUES (1)"); db.commit()'`,
    change: `cd "$DATA_PATH"; rm one; python3 -c 'import sqlite3; db = sqlite3.connect("db.sqlite3"); db.execute("INSERT INTO a VALUES (2)"); db.commit()'`,
    digest: `cd "$DATA_PATH"; find . -printf "%P %y %m\\n" | LC_ALL=C sort; python3 -c 'import sqlite3; print(*sqlite3.connect("db.sqlite3").iterdump())'`,
  },
};

test('all services that say so are tried', () => {
  const rootless = templates.services().filter((name) => readService(templates, name).rootless);
  expect(rootless).toEqual(Object.keys(KITS));
});

describe.each(Object.entries(KITS))('%s', (service, kit) => {
  const seen = (site: RootlessSite): string => `${site.use(kit.digest)}\n${site.use(`ls -A "${site.site}"`)}`;

  test('is set up, dumped, loaded and destroyed', () => {
    const site = createRootlessSite(service);
    const folder = Object.values(site.variables)[0] ?? '';
    expect(site.isWell()).toBe(false);
    expect(site.setUp()).toBe('');
    expect(site.isWell()).toBe(true);
    const state = (): string => site.use(`stat -c '%a %U %Z' "${folder}"`);
    const before = state();
    expect(before).toMatch(service === 'files' ? /^750 / : /^700 /);
    site.setUp();
    expect(state()).toBe(before);

    site.use(kit.fill);
    const first = seen(site);
    expect(site.dump('first')).toBe('');
    site.use(kit.change);
    const second = seen(site);
    expect(second).not.toBe(first);
    site.load(['new', 'swap', 'back'], 'first');
    expect(seen(site)).toBe(second);
    site.load(['new', 'swap', 'done'], 'first');
    expect(seen(site)).toBe(first);

    site.good(site.run('destroy'));
    site.good(site.run('destroy'));
    expect(site.use(`ls -A "${site.site}"`)).toBe('.kraftwerk\ndump');
  });

  test('is not set up anew where a load has put its folder aside', () => {
    const site = createRootlessSite(service);
    const folder = Object.values(site.variables)[0] ?? '';
    site.setUp();
    site.use(kit.fill);
    const before = seen(site);
    site.dump('first');
    site.load(['new'], 'first');
    site.use(`mv "${folder}" "${folder}.old"`);
    expect(site.run('setup')).toEqual({
      code: 1,
      said: `error: ${folder} is put aside: a load was cut off in its swap\nhint: load.sh back, or load.sh swap\n`,
    });
    site.load(['back']);
    expect(seen(site)).toBe(before);
  });

  test.runIf(service === 'files' || thorough)(
    'is whole before whichever command a step is cut off',
    () => {
      const site = createRootlessSite(service);
      site.setUp();
      site.use(kit.fill);
      site.dump('first');
      const first = seen(site);
      site.use(kit.change);
      site.dump('second');
      const second = seen(site);
      site.load(['new', 'swap', 'done'], 'first');
      const [news, swaps, backs] = ['new', 'swap', 'back'].map((step) =>
        commandsOf(site.cutLoad(step, 0, 'second') ?? 0),
      ) as [number[], number[], number[]];
      expect(seen(site)).toBe(first);

      for (const command of news) {
        expect(site.cutLoad('new', command, 'second')).toBeNull();
        site.load(['back']);
        expect(seen(site), `new, before ${command}`).toBe(first);
      }
      for (const command of swaps) {
        site.load(['new'], 'second');
        expect(site.cutLoad('swap', command)).toBeNull();
        site.load(['swap', 'back', 'new'], 'second');
        expect(site.cutLoad('swap', command)).toBeNull();
        site.load(['back']);
        expect(seen(site), `swap, before ${command}`).toBe(first);
      }
      for (const command of backs) {
        site.load(['new', 'swap'], 'second');
        expect(site.cutLoad('back', command)).toBeNull();
        site.load(['back']);
        expect(seen(site), `back, before ${command}`).toBe(first);
      }
      site.load(['new', 'swap'], 'second');
      for (const command of commandsOf(site.cutLoad('done', 0) ?? 0)) {
        site.load(['new', 'swap'], 'second');
        expect(site.cutLoad('done', command)).toBeNull();
        site.load(['done']);
        expect(seen(site), `done, before ${command}`).toBe(second);
      }
    },
    600_000,
  );
});

test('a dump that another target has made is copied, not linked', () => {
  const site = createRootlessSite('files');
  site.setUp();
  site.use(KITS.files?.fill ?? '');
  site.dump('first');
  expect(readFileSync(join(site.site, 'dump/first/copied'), 'utf8')).toBe('');
  site.load(['new'], 'first');
  expect(site.use(`stat -c %h "${site.site}/uploads.new/two"`)).toBe('3');
  site.load(['back']);
  site.use(`printf 'two\\0' >"${site.site}/dump/first/copied"`);
  site.load(['new'], 'first');
  expect(site.use(`stat -c %h "${site.site}/uploads.new/two"`)).toBe('1');
  site.load(['back']);
});
