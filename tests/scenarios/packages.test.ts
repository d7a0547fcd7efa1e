// requirements.txt: installed once, shared by releases, renewed when asked to.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { agreement, get } from '../actors/site.ts';
import { makeWheel, needWheel } from '../actors/wheels.ts';

let receiver: TestReceiver;
const pushers: Pusher[] = [];
beforeAll(async () => {
  receiver = await startReceiver();
});
afterAll(async () => {
  for (const pusher of pushers) pusher.cleanUp();
  await receiver.cleanUp();
});

function pusher(project: string, site: Parameters<typeof createPusher>[2]): Pusher {
  const made = createPusher(receiver, project, site);
  pushers.push(made);
  return made;
}

/** A site that says which version of the package `toy` it has. */
const TOY = {
  'kraftwerk.yaml': 'wsgi: app\nsrc: .\nworkers: 1\n',
  'requirements.txt': 'toy\n',
  'app.py': `import toy
def application(environ, start):
    start("200 OK", [])
    return [toy.VERSION.encode()]
`,
};
const step = (lines: readonly string[], name: string): string =>
  (lines.find((line) => line.startsWith(`-----> ${name} `)) ?? '').slice(19).replace(/ +[0-9.]+s$/, '');

describe('requirements', () => {
  it('are installed by the first push, reused by the next, and renewed with -o upgrade-packages', async () => {
    makeWheel(receiver.wheels, 'toy', '1.0');
    const alice = pusher('toy', TOY);
    const host = 'toy-stage.localhost';
    expect(step((await alice.deploy()).lines, 'Packages')).toBe('toy 1.0 installed');
    expect((await get(receiver, host)).body).toBe('1.0');

    makeWheel(receiver.wheels, 'toy', '2.0');
    expect(step((await alice.deploy()).lines, 'Packages')).toBe('unchanged since v1, reused');
    expect((await get(receiver, host)).body).toBe('1.0');

    alice.commit();
    const upgraded = await alice.push('stage', 'master', { options: ['upgrade-packages'] });
    expect(step(upgraded.lines, 'Packages')).toBe('toy 2.0 installed');
    expect((await get(receiver, host)).body).toBe('2.0');
    expect(step((await alice.deploy()).lines, 'Packages')).toBe('unchanged since v3, reused');
    expect((await get(receiver, host)).body).toBe('2.0');
    expect(
      readdirSync(join(receiver.node, 'web', 'toy-stage', 'venvs')).filter((name) => !name.startsWith('.')),
    ).toHaveLength(2);
  });

  it('and builds have their temporary files below the site, while they run', async () => {
    const alice = pusher('brief', {
      ...TOY,
      'kraftwerk.yaml': `${TOY['kraftwerk.yaml']}build: 'echo "$TMPDIR" >where.txt; touch "$TMPDIR/x"'\n`,
      'requirements.txt': '',
      'app.py': TOY['app.py'].replace('import toy', 'class toy: VERSION = "none"'),
    });
    await alice.deploy();
    const site = join(receiver.node, 'web', 'brief-stage');
    const folder = join(site, '.kraftwerk', 'build');
    expect(readFileSync(join(site, 'current', 'where.txt'), 'utf8')).toBe(`${folder}\n`);
    expect(existsSync(folder)).toBe(false);
  });

  it('that change make a new virtualenv; going back finds the old one', async () => {
    makeWheel(receiver.wheels, 'thing', '1.0');
    makeWheel(receiver.wheels, 'thing', '2.0');
    const alice = pusher('thing', {
      ...TOY,
      'requirements.txt': '-r base.txt\n',
      'base.txt': 'thing==1.0\n',
      'app.py': TOY['app.py'].replaceAll('toy', 'thing'),
    });
    expect(step((await alice.deploy()).lines, 'Packages')).toBe('thing 1.0 installed');
    expect(step((await alice.deploy({ 'base.txt': 'thing==2.0\n' })).lines, 'Packages')).toBe('thing 2.0 installed');
    expect((await get(receiver, 'thing-stage.localhost')).body).toBe('2.0');
    expect(step((await alice.deploy({ 'base.txt': 'thing==1.0\n' })).lines, 'Packages')).toMatch(/reused$/);
    expect((await get(receiver, 'thing-stage.localhost')).body).toBe('1.0');
  });

  it('that point into the tree belong to their release', async () => {
    const files = (version: string) => ({
      ...TOY,
      'requirements.txt': './local\n',
      'local/setup.py': `from setuptools import setup\nsetup(name="local-toy", version="${version}", py_modules=["toy"])\n`,
      'local/toy.py': `VERSION = "${version}"\n`,
    });
    const alice = pusher('local', files('1.0'));
    await alice.deploy();
    expect((await get(receiver, 'local-stage.localhost')).body).toBe('1.0');
    await alice.deploy(files('2.0'));
    expect((await get(receiver, 'local-stage.localhost')).body).toBe('2.0');
  });
});

describe('a site of', () => {
  it('Flask comes up with its templates and static files', async () => {
    needWheel('flask');
    const alice = pusher('hello', 'flask');
    const { lines } = await alice.deploy();
    // The node may have Flask as a system package.
    expect(step(lines, 'Packages')).toMatch(/^flask [\d.]+ and \d+ more installed$|^the node's own satisfy all$/);

    expect((await get(receiver, 'hello-stage.localhost')).body).toBe('<p>Flask says one</p>');
    expect((await get(receiver, 'hello-stage.localhost', '/static/style.css')).body).toBe('p { color: green }\n');
  });

  it('Django is found by its settings; build collects its static files, release migrates', async () => {
    needWheel('django');
    const alice = pusher('shop', 'django');
    const { lines } = await alice.deploy();
    expect(step(lines, 'Build')).toBe('python manage.py collectstatic --noinput');
    expect(step(lines, 'Release')).toBe('python manage.py migrate --noinput');
    expect(lines).toContain('         Applying shop.0001_initial... OK');
    expect((await get(receiver, 'shop-stage.localhost', '/orders?add=tea')).body).toBe('tea');
    expect((await get(receiver, 'shop-stage.localhost', '/static/shop.css')).body).toBe('h1 { color: blue }\n');

    await alice.deploy({ 'README.md': 'The next release has the same data.\n' });
    expect((await get(receiver, 'shop-stage.localhost', '/orders')).body).toBe('tea');
    expect(agreement(receiver, 'shop/stage').release).toBe(2);
  });
});
