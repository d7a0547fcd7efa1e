// `build` and `release` of kraftwerk.yaml, and the push options that change what a push does.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';

let receiver: TestReceiver;
const pushers: Pusher[] = [];
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(async () => {
  for (const pusher of pushers) pusher.cleanUp();
  await receiver.cleanUp();
});

const YAML = 'wsgi: app\nsrc: .\nworkers: 1\n';
function pusher(project: string): Pusher {
  const made = createPusher(receiver, project);
  made.write({ 'kraftwerk.yaml': YAML });
  pushers.push(made);
  return made;
}
const steps = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => /^-----> ([A-Z]\w+) /.exec(line)?.[1] ?? []);

describe('build', () => {
  it('runs in the new tree, its output is in the transcript, and the site has what it made', async () => {
    const alice = pusher('built');
    const { lines } = await alice.deploy({
      'kraftwerk.yaml': `${YAML}build: echo making; echo "made by $KRAFTWERK_RELEASE" > static/made.txt\nenviron: {SECRET: hidden}\n`,
    });
    expect(steps(lines)).toEqual(['Config', 'Packages', 'Build', 'Start', 'Health', 'Switch']);
    expect(lines).toContain('       making');
    expect((await get(receiver, 'built-stage.localhost', '/static/made.txt')).body).toBe('made by v1\n');
  });

  it('gets no variables of the site', async () => {
    const alice = pusher('unknowing');
    const { lines } = await alice.deploy({
      'kraftwerk.yaml': `${YAML}build: echo "[$SECRET]"\nenviron: {SECRET: hidden}\n`,
    });
    expect(lines).toContain('       []');
  });

  it('that fails stops the deploy', async () => {
    const alice = pusher('unbuilt');
    await alice.deploy();
    alice.commit({ 'kraftwerk.yaml': `${YAML}build: echo half way; exit 7\n`, 'version.txt': 'two' });
    const { code, lines, rejected } = await alice.push();
    expect({ code, rejected }).toEqual({ code: 1, rejected: 'build command failed; v1 still live' });
    expect(lines).toContain('       half way');
    expect(lines.find((line) => line.startsWith('error:'))).toBe(
      'error: build command "echo half way; exit 7" ended with exit code 7',
    );
    expect((await get(receiver, 'unbuilt-stage.localhost')).body).toBe('one');
    expect(agreement(receiver, 'unbuilt/stage').release).toBe(1);
    alice.git(['revert', '--no-edit', 'HEAD']);
    await alice.deploy({ 'version.txt': 'three' });
    expect((await get(receiver, 'unbuilt-stage.localhost')).body).toBe('three');
  });
});

describe('release', () => {
  it('runs once before the switch, with the site’s variables, in its virtualenv', async () => {
    const alice = pusher('released');
    const ran = join(receiver.node, 'web', 'released-stage', 'ran');
    const { lines } = await alice.deploy({
      'kraftwerk.yaml': `${YAML}release: echo "$SECRET" | tee -a "$SITE_ROOT/ran"; python -c "import sys; print(sys.prefix)"\nenviron: {SECRET: known}\n`,
    });
    expect(steps(lines)).toEqual(['Config', 'Packages', 'Release', 'Start', 'Health', 'Switch']);
    expect(readFileSync(ran, 'utf8')).toBe('known\n');
    expect(lines.join('').replaceAll(' ', '')).toContain('releases/v1/venv');
    await alice.deploy({ 'version.txt': 'two' });
    expect(readFileSync(ran, 'utf8')).toBe('known\nknown\n');
  });

  it('that fails stops the deploy; -o skip-release goes without it', async () => {
    const alice = pusher('unreleased');
    await alice.deploy();
    alice.commit({ 'kraftwerk.yaml': `${YAML}release: echo no such table; exit 3\n`, 'version.txt': 'two' });
    const { code, lines, rejected } = await alice.push();
    expect({ code, rejected }).toEqual({ code: 1, rejected: 'release command failed; v1 still live' });
    expect(lines).toEqual([
      ...lines.slice(0, 3),
      '       no such table',
      'error: release command "echo no such table; exit 3" ended with exit code',
      '       3',
      'hint: its output is above; -o skip-release deploys without it',
      ...lines.slice(7),
    ]);
    expect((await get(receiver, 'unreleased-stage.localhost')).body).toBe('one');
    expect(agreement(receiver, 'unreleased/stage').release).toBe(1);
    const skipped = await alice.push('stage', 'master', { options: ['skip-release'] });
    expect(skipped.code).toBe(0);
    expect(steps(skipped.lines)).not.toContain('Release');
    expect((await get(receiver, 'unreleased-stage.localhost')).body).toBe('two');
    expect(agreement(receiver, 'unreleased/stage').release).toBe(3);
  });
});

describe('push options', () => {
  it('-o plan says what would change and changes nothing', async () => {
    const alice = pusher('planned');
    alice.commit();
    const first = await alice.push('stage', 'master', { options: ['plan'] });
    expect(first).toMatchObject({ code: 1, rejected: 'plan only' });
    expect(first.lines).toContain('       planned/stage would be created as v1');
    expect(existsSync(join(receiver.data, 'repositories', 'planned', 'stage.git'))).toBe(false);

    await alice.deploy();
    alice.commit({
      'version.txt': 'two',
      'kraftwerk.yaml': `${YAML}aliases: [other.localhost]\nenviron: {TOKEN: s3cret}\n`,
    });
    const second = await alice.push('stage', 'master', { options: ['plan'] });
    expect(second).toMatchObject({ code: 1, rejected: 'plan only' });
    expect(second.lines.slice(2)).toEqual([
      '       v1 -> v2',
      expect.stringMatching(/^ {7}code: [0-9a-f]{7} -> [0-9a-f]{7}$/),
      '       aliases: none -> other.localhost',
      '       environ: none -> TOKEN',
      'hint: nothing was changed; deploy it: git push stage master',
    ]);
    expect(second.output).not.toContain('s3cret');
    expect((await get(receiver, 'planned-stage.localhost')).body).toBe('one');
    expect(agreement(receiver, 'planned/stage').release).toBe(1);
    await alice.deploy();
    expect((await get(receiver, 'planned-stage.localhost')).body).toBe('two');
  });

  it('-o override sets the services up again, -o no-service-setup does not', async () => {
    const alice = pusher('serviced');
    const withFiles = { 'kraftwerk.yaml': `${YAML}services: [files]\n` };
    const first = await alice.deploy(withFiles);
    expect(steps(first.lines)).toContain('Services');
    const uploads = join(receiver.node, 'web', 'serviced-stage', 'uploads');
    expect(existsSync(uploads)).toBe(true);
    for (const [option, code] of [
      ['override', 0],
      ['no-service-setup', 0],
    ] as const) {
      alice.commit({ 'version.txt': option });
      const result = await alice.push('stage', 'master', { options: [option] });
      expect({ option, code: result.code }).toEqual({ option, code });
      const said = result.lines.find((line) => line.startsWith('-----> Services')) ?? '';
      expect(said).toContain(option === 'override' ? 'files ready' : 'files: not set up, as asked');
      expect((await get(receiver, 'serviced-stage.localhost')).body).toBe(option);
    }
  });

  it('that are not known are refused before anything is done', async () => {
    const alice = pusher('optional');
    await alice.deploy();
    alice.commit({ 'version.txt': 'two' });
    const { code, lines, rejected } = await alice.push('stage', 'master', { options: ['pland', 'zzz'] });
    expect({ code, lines, rejected }).toEqual({
      code: 1,
      rejected: 'unknown push option',
      lines: [
        'error: unknown push option "pland", did you mean "plan"?',
        'error: unknown push option "zzz"; known: plan, upgrade-packages,',
        '       no-service-setup, override, skip-release, no-dump',
      ],
    });
    expect(agreement(receiver, 'optional/stage').release).toBe(1);
  });
});
