// kraftwerk.yaml: what each environment gets, and every mistake with its place.
// Long because: one table of mistakes, one line each.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type EnvironmentName, KraftwerkError, type ProjectName, type ServiceName } from '../../node-agent/protocol.ts';
import { type Manifest, type ManifestContext, parseManifest } from '../../receiver/manifest.ts';
import { readManifestText } from '../../receiver/manifest-file.ts';
import { anyOptions } from '../../receiver/manifest-schema.ts';
import { renderSkeleton } from '../../receiver/skeleton.ts';
import { YamlError } from '../../receiver/yaml-source.ts';

const context: ManifestContext = {
  project: 'my-blog' as ProjectName,
  environment: 'live' as EnvironmentName,
  environments: ['live', 'stage'] as EnvironmentName[],
  domainPattern: '{project}.site.example',
  services: { names: ['files', 'postgres'] as ServiceName[], optionsOf: () => anyOptions },
};

function parse(text: string, changes: Partial<ManifestContext> = {}): Omit<Manifest, 'where'> {
  const { where, ...manifest } = parseManifest(text, { ...context, ...changes });
  expect(where).toBeTypeOf('function');
  return manifest;
}

function errorsOf(text: string, changes: Partial<ManifestContext> = {}): string[] {
  try {
    parseManifest(text, { ...context, ...changes });
  } catch (error) {
    if (error instanceof YamlError) return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

const defaults = {
  domains: ['my-blog.site.example'],
  aliases: [],
  wsgi: null,
  workers: null,
  threads: 1,
  workerClass: 'sync',
  environ: {},
  package: 'my_blog',
  packageNamed: false,
  src: 'my_blog',
  srcNamed: false,
  requirements: 'requirements.txt',
  requirementsNamed: false,
  python: '/usr/bin/python3',
  static: [{ prefix: '/static', folder: 'my_blog/static', named: false }],
  healthcheck: {
    path: '/',
    statusMin: 200,
    statusMax: 399,
    timeoutMs: 5000,
    intervalMs: 1000,
    retries: 10,
    settleMs: 0,
  },
  timeoutMs: 30_000,
  keepReleases: 5,
  build: null,
  release: null,
  scrub: null,
  services: [],
};

test('an empty file gets every default', () => {
  expect(parse('')).toEqual(defaults);
});

const full = `
domain: [WWW.Blog.example, blog.example]
aliases: old.example
wsgi: blog.wsgi:create_app()
workers: 3
threads: 4
environ: {VERSION: 3.10, CODE: 010, ON: yes, EMPTY: , TEXT: "a b"}
package: blog
src: ./source/
requirements: deploy/requirements.txt
python: 3.10
static: {/static: public, /media/: source/media}
healthcheck: {path: /health?x=1, status: 204, timeout: 2.5, interval: 0.2, retries: 3, settle: 1.5}
timeout: 60
keep_releases: 0
scrub: python scrub.py
build: python manage.py collectstatic --noinput
release: |
  python manage.py migrate
services: {files: , postgres: {version: 15, extensions: hstore}}
environments:
  stage:
    domain: stage.blog.example
    aliases: []
    threads: 1
    environ: {ON: no, DEBUG: 1}
    static: {/media: other}
    healthcheck: /ping
    python: "3"
    services: [files]
`;

const fullLive = {
  domains: ['www.blog.example', 'blog.example'],
  aliases: ['old.example'],
  wsgi: 'blog.wsgi:create_app()',
  workers: 3,
  threads: 4,
  workerClass: 'gthread',
  environ: { VERSION: '3.10', CODE: '010', ON: 'yes', EMPTY: '', TEXT: 'a b' },
  package: 'blog',
  packageNamed: true,
  src: 'source',
  srcNamed: true,
  requirements: 'deploy/requirements.txt',
  requirementsNamed: true,
  python: '/usr/bin/python3.10',
  static: [
    { prefix: '/static', folder: 'public', named: true },
    { prefix: '/media', folder: 'source/media', named: true },
  ],
  healthcheck: {
    path: '/health?x=1',
    statusMin: 204,
    statusMax: 204,
    timeoutMs: 2500,
    intervalMs: 200,
    retries: 3,
    settleMs: 1500,
  },
  timeoutMs: 60_000,
  keepReleases: 0,
  build: 'python manage.py collectstatic --noinput',
  release: 'python manage.py migrate',
  scrub: 'python scrub.py',
  services: [
    { name: 'files', options: {} },
    { name: 'postgres', options: { version: 15, extensions: 'hstore' } },
  ],
};

test('every key', () => {
  expect(parse(full)).toEqual(fullLive);
});

test('an environment replaces values and merges mappings', () => {
  expect(parse(full, { environment: 'stage' as EnvironmentName })).toEqual({
    ...fullLive,
    domains: ['stage.blog.example'],
    aliases: [],
    threads: 1,
    workerClass: 'sync',
    environ: { ...fullLive.environ, ON: 'no', DEBUG: '1' },
    static: [
      { prefix: '/static', folder: 'public', named: true },
      { prefix: '/media', folder: 'other', named: true },
    ],
    healthcheck: { ...fullLive.healthcheck, path: '/ping' },
    python: '/usr/bin/python3',
    services: [{ name: 'files', options: {} }],
  });
});

test('where says the line and column of the key that counts', () => {
  const text = 'wsgi: a\nworkers: 2\nstatic: {/a.b: c}\nenvironments:\n  live:\n    wsgi: b\n';
  const { where } = parseManifest(text, context);
  expect(['wsgi', 'workers', 'static./a.b', 'threads'].map(where)).toEqual([
    'kraftwerk.yaml:6:5',
    'kraftwerk.yaml:2:1',
    'kraftwerk.yaml:3:10',
    'kraftwerk.yaml',
  ]);
});

test.each<[string, string[]]>([
  ['domain: a.b\n\nenviroment:\n  x: 1\n', ['3:1 unknown key "enviroment", did you mean "environments"?']],
  ['processes: {}\n', ['1:1 unknown key "processes"']],
  ['workers: two\n', ['1:10 workers: expected a whole number from 1 to 64, got "two"']],
  ['workers: 1.5\n', ['1:10 workers: expected a whole number from 1 to 64, got 1.5']],
  ['workers:\n', ['1:1 workers: expected a whole number from 1 to 64, got nothing']],
  ['threads: 65\n', ['1:10 threads: expected a whole number from 1 to 64, got 65']],
  ['timeout: 0\n', ['1:10 timeout: expected seconds, a number from 1 to 3600, got 0']],
  [
    'worker_class: gevnt\n',
    ['1:15 worker_class: expected a worker class of gunicorn, got "gevnt", did you mean "gevent"?'],
  ],
  ['domain: []\n', ['1:9 domain: expected at least one domain name, got a list']],
  ['domain: "*.a.b"\n', ['1:9 domain: expected a domain name without a wildcard, got "*.a.b"']],
  ['domain: a.b:80\n', ['1:9 domain: expected a domain name without a port, got "a.b:80"']],
  ['domain: http://a.b\n', ['1:9 domain: expected a domain name without "http://", got "http://a.b"']],
  ['domain: bücher.example\n', ['1:9 domain: expected a domain name in its ASCII form (xn--…), got "bücher.example"']],
  ['domain: a_b.example\n', ['1:9 domain: expected a domain name (a-z 0-9 - and dots; no _), got "a_b.example"']],
  [
    'domain: "a; location /etc/ {alias /etc/;} #"\n',
    ['1:9 domain: expected a domain name without a path, got "a; location /etc/ {alias /etc/;} #"'],
  ],
  ['domain: "a;b"\n', ['1:9 domain: expected a domain name (a-z 0-9 - and dots), got "a;b"']],
  ['domain: "a.b\\n"\n', ['1:9 domain: expected a domain name (a-z 0-9 - and dots), got "a.b\\n"']],
  ['domain: [a.b, A.B]\n', ['1:15 domain[1]: a.b is already in domain[0]']],
  ['domain: a.b\naliases: [c.d, 3]\n', ['2:16 aliases[1]: expected a domain name, got 3']],
  ['domain: a.b\naliases: [A.b]\n', ['2:11 aliases[0]: a.b is already in domain']],
  ['aliases: my-blog.site.example\n', ["1:1 aliases: my-blog.site.example is already the environment's domain"]],
  [
    'domain: a.b\nenvironments:\n  stage:\n    aliases: a.b\n',
    ['4:14 environments.stage.aliases: a.b is already in domain'],
  ],
  [
    'wsgi: blog/wsgi.py\n',
    ['1:7 wsgi: expected module:callable, as "blog.wsgi:application", got "blog/wsgi.py", did you mean "blog.wsgi"?'],
  ],
  ['environ: [A=1]\n', ['1:10 environ: expected variables ("NAME: value"), got a list']],
  ['environ: {1A: x}\n', ['1:11 environ: expected the name of a variable (A-Z a-z 0-9 _), got "1A"']],
  ['environ: {SITE_ROOT: x}\n', ['1:11 environ: SITE_ROOT is set by kraftwerk, choose another name']],
  ['environ: {A: [x]}\n', ['1:14 environ.A: expected text, got a list']],
  ['package: my-blog\n', ['1:10 package: expected the name of a Python package, got "my-blog"']],
  ['src: ../x\n', ['1:6 src: expected a folder, a path inside the project, got "../x"']],
  ['requirements: /etc/passwd\n', ['1:15 requirements: expected a file, a path inside the project, got "/etc/passwd"']],
  ['python: 2.7\n', ['1:9 python: expected a version of Python, as "3.11", got "2.7"']],
  ['static: {/x/..: a}\n', ['1:10 static: expected a URL prefix, as "/static", got "/x/.."']],
  ['static: {/: a}\n', ['1:10 static: expected a URL prefix, as "/static", got "/"']],
  ['static: {"/a b": a}\n', ['1:10 static: expected a URL prefix, as "/static", got "/a b"']],
  ['static: {/uploads/: a}\n', ["1:10 static: /uploads is served from the project's uploads, choose another prefix"]],
  ['static: {/a: ../b}\n', ['1:14 static./a: expected a folder, a path inside the project, got "../b"']],
  ['healthcheck: health\n', ['1:14 healthcheck: expected a path that begins with "/", got "health"']],
  ['healthcheck: [1]\n', ['1:14 healthcheck: expected a path, or keys and values, got a list']],
  [
    'healthcheck: {pth: /, retries: x}\n',
    [
      '1:15 unknown key "pth" in healthcheck, did you mean "path"?',
      '1:32 healthcheck.retries: expected a whole number from 1 to 100, got "x"',
    ],
  ],
  [
    'healthcheck: {status: 399-200}\n',
    ['1:23 healthcheck.status: expected a status, as 200 or "200-399", got "399-200"'],
  ],
  ['release: [a]\n', ['1:10 release: expected a command, got a list']],
  ['services: {postgress: {}}\n', ['1:12 unknown service "postgress", did you mean "postgres"?']],
  [
    'services: [files, files, redis]\n',
    ['1:19 services[1]: files is named twice', '1:26 services[2]: unknown service "redis", expected files or postgres'],
  ],
  ['services: files\n', ['1:11 services: expected a list of services, or "name: {options}", got "files"']],
  ['environments: []\n', ['1:15 environments: expected environments ("stage: {…}"), got a list']],
  ['environments: {lve: {}}\n', ['1:16 unknown environment "lve", did you mean "live"?']],
  [
    'environments: {stage: {wrkers: 1, threads: x}}\n',
    [
      '1:24 unknown key "wrkers" in environments.stage, did you mean "workers"?',
      '1:44 environments.stage.threads: expected a whole number from 1 to 64, got "x"',
    ],
  ],
  ['environments: {stage: {environments: {}}}\n', ['1:24 unknown key "environments" in environments.stage']],
])('%j is refused', (text, errors) => {
  expect(errorsOf(text)).toEqual(errors.map((line) => `kraftwerk.yaml:${line}`));
});

test('a domain that is a machine itself, wherever it stands', () => {
  const address = 'expected a domain name and not what browsers take for an address, got';
  const itself = 'expected a domain name and not what every machine calls itself, got';
  const text =
    'domain: [good.example, 127.0.0.1]\naliases: [0x7f.1, Localhost]\nenvironments:\n  stage: {domain: "2130706433"}\n';
  expect(errorsOf(text)).toEqual([
    `kraftwerk.yaml:1:24 domain[1]: ${address} "127.0.0.1"`,
    `kraftwerk.yaml:2:11 aliases[0]: ${address} "0x7f.1"`,
    `kraftwerk.yaml:2:19 aliases[1]: ${itself} "localhost"`,
    `kraftwerk.yaml:4:19 environments.stage.domain: ${address} "2130706433"`,
  ]);
  for (const [domainPattern, project] of [
    ['{project}', 'localhost'],
    ['0{project}', 'x7f'],
    ['127.0.0.0{project}', 'x1'],
  ] as const)
    expect(errorsOf('workers: 1\n', { domainPattern, project: project as ProjectName })[0]).toMatch(
      /^kraftwerk\.yaml:1:1 domain: missing, and the pattern's is no domain name: expected a domain name and not what /,
    );
});

test('no domain and no pattern', () => {
  expect(errorsOf('workers: 1\n', { domainPattern: null })).toEqual([
    'kraftwerk.yaml:1:1 domain: missing, and the environment live has no pattern for it',
  ]);
});

test('a missing file is answered with a minimal one, or with its other name', () => {
  const missing = (paths: string[]): KraftwerkError => {
    try {
      throw new Error(readManifestText({ kind: 'none' }, paths));
    } catch (error) {
      if (error instanceof KraftwerkError) return error;
      throw error;
    }
  };
  const bare = missing(['app.py']);
  expect([bare.code, bare.message, bare.exit, ...bare.hints]).toEqual([
    'manifest.missing',
    'kraftwerk.yaml: missing in the root of the project',
    'config',
    'a minimal one, in the root of the project:',
    '  domain: www.example.com',
    '  wsgi: app:app',
  ]);
  const near = missing(['sub/kraftwerk.yaml', 'kraftwerk.yml']);
  expect([near.message, ...near.hints]).toEqual([
    'kraftwerk.yaml: missing in the root of the project, found kraftwerk.yml',
    'it has to stand in the root under this name: git mv kraftwerk.yml kraftwerk.yaml',
  ]);
});

const KEYS = [
  ...['aliases', 'build', 'domain', 'environ', 'environments', 'healthcheck', 'keep_releases', 'package', 'python'],
  ...['release', 'requirements', 'scrub', 'services', 'src', 'static', 'threads', 'timeout', 'worker_class', 'workers'],
  'wsgi',
];

test("the skeleton's kraftwerk.yaml shows every key, and each one works when it is uncommented", () => {
  const file = fileURLToPath(new URL('../../templates/skeleton/kraftwerk.yaml.eta', import.meta.url));
  const template = { path: 'kraftwerk.yaml.eta', content: readFileSync(file) };
  const [rendered] = renderSkeleton([template], { name: 'my-blog', package: 'my_blog' });
  const text = rendered?.content.toString() ?? '';
  expect(parse(text)).toEqual({ ...defaults, wsgi: 'my_blog.wsgi:application' });

  // Prose has one blank behind the #, keys have none, what is below them has two.
  const shown = text.replace(/^#(?! \S)(?=.)/gm, '');
  const keys = [...shown.matchAll(/^([a-z_]+):/gm)].map(([, key]) => key).sort();
  expect(keys).toEqual(KEYS);
  expect(parse(shown)).toEqual({
    ...defaults,
    domains: ['www.my-blog.example'],
    aliases: ['my-blog.example'],
    wsgi: 'my_blog.wsgi:application',
    workers: 2,
    environ: { GREETING: 'Hello' },
    packageNamed: true,
    srcNamed: true,
    requirementsNamed: true,
    python: '/usr/bin/python3.11',
    static: [{ prefix: '/static', folder: 'my_blog/static', named: true }],
    build: 'python -m compileall -q my_blog',
    release: 'python -m unittest discover -s tests',
    scrub: 'python scrub.py',
    services: [{ name: 'files', options: {} }],
  });
  for (const key of KEYS) {
    const block = new RegExp(`^#?${key}:.*\\n(?:#  .*\\n)*`, 'm').exec(text)?.[0] ?? '';
    expect([key, errorsOf(block.replace(/^#/gm, ''))]).toEqual([key, []]);
  }
});
