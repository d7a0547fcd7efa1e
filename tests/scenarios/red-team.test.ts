// A site on a system node in the hands of an attacker, who plants whatever root might stumble over: in the pushed tree, by its
// build, its packages, its running processes, its data. After each push nothing outside of the site has changed, nothing is
// stuck, and the next push works. In CI in few pushes; nightly each plant in a push of its own.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { PLANTS, type Place, type Plant, scriptOf } from '../actors/plants.ts';
import { hostileArchive, type Pushed, type RedTeam, startRedTeam } from '../actors/red-team.ts';
import { thorough } from '../actors/thorough.ts';

const REFUSED = /^artifact\.(?:hostile|limit)$/;
const isAlone = ({ expect: expected }: Plant): boolean => expected === 'refused' || expected === 'either';
const of = (...places: Place[]): Plant[] => PLANTS.filter(({ where }) => places.includes(where));

interface Push {
  name: string;
  plants: readonly Plant[];
}
/** What is refused hides what stands beside it. */
const ALONE = PLANTS.filter((plant) => isAlone(plant) && (thorough || plant.nightly !== true)).map((plant) => ({
  name: `by its ${plant.where}: ${plant.name}`,
  plants: [plant],
}));
const together = (...places: Place[]): Push => {
  const plants = of(...places).filter((plant) => !isAlone(plant) && plant.nightly !== true);
  return { name: `by its ${places.join(', ')}: ${plants.length} plants that do no harm`, plants };
};
const GROUPS = [together('tree'), together('build', 'site'), together('pip', 'release', 'run')];
/** One after the other, so that what is planted is seen to stay where it is when the next push is good. */
const PUSHES: readonly Push[] = GROUPS.flatMap((group, index) => [
  group,
  ...ALONE.filter((_, other) => other % GROUPS.length === index),
]);
/** Whichever it is that does harm among those that stand together. */
const EACH = PLANTS.filter((plant) => !isAlone(plant) && plant.where !== 'end');

describe.skipIf(boxesAvailable() !== null)('a site in the hands of a red team', () => {
  useBoxes();
  let team: RedTeam;
  beforeAll(async () => {
    team = await startRedTeam('red');
  }, 600_000);
  afterAll(() => team?.cleanUp());

  function expectOutcome(plants: readonly Plant[], pushed: Pushed): void {
    const wanted = plants.map(({ expect: expected }) => expected);
    const isRefused = REFUSED.test(pushed.outcome);
    if (wanted.includes('refused')) expect.soft(pushed.outcome, pushed.said).toMatch(REFUSED);
    else if (!wanted.includes('either') || !isRefused) expect.soft(pushed.outcome, pushed.said).toBe('live');
  }

  it('has at least sixty plants', () => {
    expect(PLANTS.length).toBeGreaterThanOrEqual(60);
    expect(new Set(PLANTS.map(({ where, name }) => `${where}: ${name}`)).size).toBe(PLANTS.length);
  });

  it('is looked after by an audit that sees what it is to see', async () => {
    expect(await team.problems([], { outcome: 'live', said: '' })).toEqual([]);
    const wrong: Readonly<Record<string, [make: string, undo: string, seen: RegExp]>> = {
      'a changed file': [
        'echo more >>/root/prey/in/file',
        'echo calm >/root/prey/in/file',
        /^\/root\/prey\/in\/file: was/,
      ],
      'another owner': ['chown web-alpha /root/prey', 'chown root /root/prey', /^\/root\/prey: was/],
      'a new file': ['echo x >/etc/cron.d/red', 'rm /etc/cron.d/red', /^\/etc\/cron\.d\/red: was None/],
      "another site's file": [
        'chmod 644 /web/beta/releases/v1/app.py',
        'chmod 640 /web/beta/releases/v1/app.py',
        /^\/web\/beta/,
      ],
      'a tree that is left': ['mkdir /web/alpha/releases/.v9.1', 'rmdir /web/alpha/releases/.v9.1', /is left$/],
      'a held lock': [
        'flock -n /run/kraftwerk/alpha.lock sleep 61.5 </dev/null >/dev/null 2>&1 & sleep 0.1',
        "pkill -f '[s]leep 61.5'",
        /lock is held/,
      ],
      'what the site may write': [
        'chmod 777 /web/alpha/current/static',
        'chmod 555 /web/alpha/current/static',
        /web-alpha may write/,
      ],
      'a link that leads out': ['ln -s /etc /web/alpha/current/x', 'rm /web/alpha/current/x', /leads to \/etc$/],
    };
    for (const [what, [make, undo, seen]] of Object.entries(wrong)) {
      await team.asRoot(make);
      const found = await team.audit('problems', 'alpha');
      await team.asRoot(undo);
      expect(
        found.some((problem) => seen.test(problem)),
        `${what}: ${found.join('\n')}`,
      ).toBe(true);
    }
    // What a build hands over can be written to, byte code of another source is what Python takes, and processes do stay.
    const canary = `set -e\n${scriptOf([])}
      mkdir /tmp/canary; cd /tmp/canary; plant hold pass held; echo "VALUE = 1" >m.py; plant byte-code m.py
      /usr/bin/python3 -c 'import m; print(m.VALUE)'; plant prove . 2>/dev/null || echo seen
      plant daemon fork red-canary; pgrep -c -f '^red-canar[y]'; pkill -f '^red-canar[y]'; cd /; rm -r /tmp/canary`;
    expect(await team.asSite(canary)).toEqual({
      code: 0,
      out: expect.stringMatching(/^planted\n.*pass: written\nseen\n1\n/) as string,
    });
    expect(await team.problems([], { outcome: 'live', said: '' })).toEqual([]);
  });

  it.each(PUSHES)('$name', async ({ plants }) => {
    const pushed = await team.push(plants);
    expectOutcome(plants, pushed);
    expect.soft(await team.problems(plants, pushed)).toEqual([]);
    if (!thorough) return;
    const good = await team.good();
    expect(good).toMatchObject({ outcome: 'live' });
    expect(await team.problems([], good)).toEqual([]);
  });

  it.runIf(thorough).each(EACH)('by its $where, alone: $name', async (plant) => {
    if (plant.where === 'site')
      await team.asSite('rm -rf /tmp/red-[!t]* /dev/shm/red-* /var/tmp/red-* "$UPLOADS_PATH"/* "$DATA_PATH"/*');
    const pushed = await team.push([plant]);
    expectOutcome([plant], pushed);
    expect.soft(await team.problems([plant], pushed)).toEqual([]);
    const good = await team.good();
    expect(good).toMatchObject({ outcome: 'live' });
    expect(await team.problems([], good)).toEqual([]);
  });

  it.runIf(thorough)(
    'cannot be its own builder, by a program that a build has left, while root takes a tree',
    async () => {
      const plant = (where: Place, script: string): Plant => ({ name: script, where, plant: script, expect: 'either' });
      const many = plant('build', 'mkdir many; for i in $(seq 300); do mkdir many/$i; echo x >many/$i/file; done');
      const leave =
        'mkdir -p /var/tmp/red-names; chmod 777 /var/tmp/red-names; plant setuid-shell /var/tmp/red-names/builder';
      expect(await team.push([many, plant('build', leave)])).toMatchObject({ outcome: 'live' });
      const loop =
        '(for i in $(seq 60); do /var/tmp/red-names/builder -I /opt/red-team-plant.py race /root/prey; done) </dev/null >/dev/null 2>&1 &';
      for (let turn = 0; turn < 3; turn++) {
        const pushed = await team.push([plant('site', loop), many]);
        expect
          .soft(pushed.outcome, pushed.said)
          .toMatch(/^(?:live|artifact\.(?:hostile|limit)|build\.(?:processes|failed))$/);
        await team.asRoot("pkill -KILL -f '[s]eq 60'; pkill -KILL -f '[r]ace /root/prey'; true");
        await team.asRoot("pkill -KILL -u web-alpha -f '^sh /run/red-team.sh'; true");
        expect.soft((await team.problems([], pushed)).filter((problem) => !/planted/.test(problem))).toEqual([]);
      }
      const good = await team.good();
      expect(good).toMatchObject({ outcome: 'live' });
      expect(await team.problems([], good)).toEqual([]);
    },
  );

  it('has its data dumped and loaded, whatever stands in it', async () => {
    await team.dump('2026-11-25T10:00:00');
    await team.load('2026-11-25T10:00:00');
    expect(await team.problems([], { outcome: 'live', said: '' })).toEqual([]);
  });

  it('brings an archive of a dump that leads elsewhere', async () => {
    const folders = ['files', 'files/tree', 'sqlite', 'sqlite/tree'].map((name) => ({
      name,
      type: 'directory' as const,
    }));
    const link = (name: string, linkname: string) => ({ name, type: 'symlink' as const, linkname });
    const archives = [
      ['dump.hostile', [folders.slice(0, 1), link('files/tree', '/root/prey'), folders.slice(2)].flat()],
      ['dump.hostile', [...folders.slice(0, 2), link('files/copied', '/etc/shadow'), ...folders.slice(2)]],
      [
        'loaded',
        [
          ...folders.slice(0, 2),
          link('files/tree/out', '/root/prey'),
          { name: 'files/tree/shell', type: 'file', content: '#!/bin/sh\n' },
          ...folders.slice(2),
          link('sqlite/tree/db.sqlite3', '/etc/shadow'),
        ],
      ],
    ] as const;
    for (const [index, [wanted, entries]] of archives.entries()) {
      const name = `2026-11-25T11:00:0${index}`;
      const outcome = await team
        .importArchive(name, await hostileArchive(entries))
        .then(() => team.load(name))
        .then(
          () => 'loaded',
          (error: { code?: string }) => error.code,
        );
      expect.soft([index, outcome]).toEqual([index, wanted]);
      expect(await team.problems([], { outcome: 'live', said: '' })).toEqual([]);
    }
    expect(await team.asRoot('find /web/alpha/uploads /web/alpha/data -perm /6000 -type f')).toBe('');
  });

  it('is destroyed, with all that is in it, and nothing of it is left', async () => {
    expect(await team.good()).toMatchObject({ outcome: 'live' });
    const uids = await team.asRoot("getent passwd | sed -n 's/^[a-z]*-alpha:x:\\([0-9]*\\):.*/\\1/p' | paste -sd,");
    const gids = await team.asRoot("getent group | sed -n 's/^[a-z]*-alpha:x:\\([0-9]*\\):.*/\\1/p' | paste -sd,");
    await team.asRoot('install -d -o web-alpha -g web-alpha -m 0700 /run/kraftwerk-link/alpha/postgres');
    await team.asRoot('chmod 755 /run/kraftwerk-link /run/kraftwerk-link/alpha');
    const planted = await team.asSite(scriptOf(of('end')));
    expect(planted.code, planted.out).toBe(0);
    await team.destroy();
    expect(await team.audit('destroyed', uids, gids)).toEqual([]);
    expect(await team.asRoot('getent passwd; getent group; ls /web')).not.toMatch(/alpha/);
    expect(await team.visit('beta')).toMatchObject({ status: 200 });
    await expect(team.visit('alpha')).rejects.toThrow();
  });
});
