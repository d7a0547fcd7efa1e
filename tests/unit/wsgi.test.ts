// Which application is run: named or found.
import { expect, test } from 'vitest';
import { KraftwerkError, type TreePath } from '../../node-agent/protocol.ts';
import { detectWsgi, findCallable } from '../../receiver/wsgi.ts';

type Files = Record<string, string>;

async function detect(declared: string | null, files: Files, src = 'blog'): Promise<string> {
  const project = { package: 'blog', src: src as TreePath, where: () => 'kraftwerk.yaml:3:1' };
  const tree = { files: new Set(Object.keys(files)), read: async (path: string) => files[path] ?? null };
  try {
    const { module, callable, pythonPath } = await detectWsgi(declared, project, tree);
    return `${module}:${callable} in ${pythonPath}`;
  } catch (error) {
    if (error instanceof KraftwerkError) return [`${error.code} ${error.message}`, ...error.hints].join(' | ');
    throw error;
  }
}

const manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'blog.settings')\n";
const settings = "WSGI_APPLICATION = 'blog.wsgi.application'\n";
const bare = 'application = 1\n';

test.each<[string, Files, string]>([
  [
    "Django's",
    { 'manage.py': manage, 'blog/settings.py': settings, 'blog/wsgi.py': bare },
    'blog.wsgi:application in .',
  ],
  [
    "Django's, in a folder, settings as a package",
    {
      'blog/manage.py': manage,
      'blog/blog/settings/__init__.py': 'from .base import *\n',
      'blog/blog/settings/base.py': settings,
      'blog/blog/wsgi.py': bare,
    },
    'blog.wsgi:application in blog',
  ],
  ['manage.py without settings', { 'manage.py': manage, 'app.py': 'app = 1\n' }, 'app:app in .'],
  ['a single wsgi.py', { 'blog/__init__.py': '', 'blog/wsgi.py': 'app = create_app()\n' }, 'blog.wsgi:app in .'],
  ['a single wsgi.py below src', { 'source/blog/wsgi.py': bare }, 'blog.wsgi:application in source'],
  ["the package's of two", { 'a/wsgi.py': bare, 'blog/wsgi.py': bare }, 'blog.wsgi:application in .'],
  [
    'wsgi.py where folders are ambiguous',
    { 'a/wsgi.py': bare, 'b/wsgi.py': bare, 'wsgi.py': bare },
    'wsgi:application in .',
  ],
  ['not that of the tests', { 'tests/wsgi.py': bare, 'app.py': 'app = 1\n' }, 'app:app in .'],
  ['app.py in the root', { 'app.py': 'from flask import Flask\napp = Flask(__name__)\n' }, 'app:app in .'],
  ['the next one when a file has no callable', { 'wsgi.py': '\n', 'app.py': 'app = 1\n' }, 'app:app in .'],
  ['app.py in a package', { 'blog/__init__.py': '', 'blog/app.py': 'app: Flask = 1\n' }, 'blog.app:app in .'],
  [
    'several',
    { 'a/wsgi.py': bare, 'b/wsgi.py': bare },
    'wsgi.ambiguous wsgi: several found: a/wsgi.py, b/wsgi.py | say which, in kraftwerk.yaml: wsgi: a.wsgi',
  ],
  [
    'a factory',
    { 'app.py': 'def create_app():\n    app = 1\n    return app\n' },
    'wsgi.callable wsgi: app.py: neither "application" nor "app" in it' +
      ' | add a line to kraftwerk.yaml: wsgi: app:create_app()',
  ],
  [
    'nothing',
    { README: '' },
    "wsgi.missing wsgi: none found, looked for Django's WSGI_APPLICATION, */wsgi.py, wsgi.py, app.py in the root and " +
      'SRC/ | add a line to kraftwerk.yaml: wsgi: blog.wsgi:application',
  ],
])('found: %s', async (_, files, expected) => {
  const src = Object.keys(files).some((path) => path.startsWith('source/')) ? 'source' : 'blog';
  expect(await detect(null, files, src)).toBe(expected.replace('SRC/', `${src}/`));
});

test.each<[string, string, Files, string]>([
  ['a module', 'blog.wsgi', { 'blog/wsgi.py': bare }, 'blog.wsgi:application in .'],
  ['a module below src', 'shop.wsgi', { 'blog/shop/wsgi.py': bare }, 'shop.wsgi:application in blog'],
  ['a package', 'blog', { 'blog/__init__.py': 'app = 1\n' }, 'blog:app in .'],
  ['a callable of its own', 'blog:make()', { 'blog/__init__.py': '' }, 'blog:make() in .'],
  ['an installed package', 'vendor.wsgi', { 'blog/wsgi.py': bare }, 'vendor.wsgi:application in .'],
  [
    'a slip',
    'blog.wsig',
    { 'blog/wsgi.py': bare },
    'wsgi.missing kraftwerk.yaml:3:1 wsgi: no module blog.wsig in the project, did you mean "blog.wsgi"?' +
      ' | looked for blog/wsig.py, blog/wsig/__init__.py, blog/blog/wsig.py, blog/blog/wsig/__init__.py',
  ],
  [
    "the project's package, which is not there",
    'blog.wsgi',
    { 'main.py': bare },
    'wsgi.missing kraftwerk.yaml:3:1 wsgi: no module blog.wsgi in the project' +
      ' | looked for blog/wsgi.py, blog/wsgi/__init__.py, blog/blog/wsgi.py, blog/blog/wsgi/__init__.py',
  ],
  [
    'no callable',
    'main',
    { 'main.py': 'server = 1\n' },
    'wsgi.callable kraftwerk.yaml:3:1 wsgi: main.py has neither "application" nor "app"' +
      ' | name the callable: wsgi: main:NAME',
  ],
])('named: %s', async (_, declared, files, expected) => {
  expect(await detect(declared, files)).toBe(expected);
});

test.each<[string, string | null]>([
  ['application = 1', 'application'],
  ['app = application = 1', 'application'],
  ['app = 1\napplication = app', 'application'],
  ['app: Flask = Flask()', 'app'],
  ['def application(environ, start_response):\n    pass', 'application'],
  ['class app:\n    pass', 'app'],
  ['from x import app', 'app'],
  ['from x import (\n    y,\n    app,\n)', 'app'],
  ['from x import server as application', 'application'],
  ['from x import app as server', null],
  ['from x import *', 'application'],
  ['try:\n    from x import app\nexcept ImportError:\n    app = None', 'app'],
  ['def create_app():\n    app = 1\n', null],
  ['if app == 1:\n    pass', null],
  ['"""\napp = 1\n"""', null],
  ['# app = 1', null],
  ['app.run()', null],
  ['', null],
])('the callable of %j is %s', (source, expected) => {
  expect(findCallable(source)).toBe(expected);
});

test('a file made to slow the search down does not', () => {
  const started = performance.now();
  for (const part of [
    '\n',
    'from x import (\n',
    '"""',
    "'''\n",
    'a=',
    ' ',
    'a\n',
    'app ',
    'import app as x,',
    'app =\n',
    'a = b = ',
  ]) {
    findCallable(part.repeat(1_000_000 / part.length));
  }
  expect(performance.now() - started).toBeLessThan(5000);
});
