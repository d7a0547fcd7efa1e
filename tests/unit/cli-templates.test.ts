// The cascade of templates: its folders, for a node, too, and a skeleton that is put together from it.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { renderSkeleton, type SkeletonFile } from '../../receiver/skeleton.ts';
import { type Cascade, createTemplates, templateFolders } from '../../receiver/templates.ts';

let folder = '';
beforeEach(() => {
  folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'kraftwerk-cascade-')));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, text = name): void {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), text);
}

describe('the cascade', () => {
  test.each<[Cascade, string[]]>([
    [{ configured: [], builtIn: '/b' }, ['/b']],
    [{ configured: ['/x', '/y'], builtIn: '/b' }, ['/x', '/y', '/b']],
    [{ explicit: '/e', configured: ['/x'], builtIn: '/b' }, ['/e', '/x', '/b']],
    [
      { explicit: '/e', configured: ['/x', '/y'], hostname: 'web1.example.com', builtIn: '/b' },
      ['/e', '/x/nodes/web1.example.com', '/x', '/y/nodes/web1.example.com', '/y', '/b'],
    ],
  ])('%j', (cascade, folders) => {
    expect(templateFolders(cascade)).toEqual(folders);
  });

  test.each(['..', '.', '', 'a/b', '../x', '-'])('%j is no node’s name', (hostname) => {
    expect(() => templateFolders({ configured: [], hostname })).toThrow('is no node');
  });

  test('a node’s own folder comes before the configured one, also when it is made later', () => {
    for (const name of ['built-in/project/run', 'built-in/project/log', 'admin/project/run']) write(name);
    const cascade = { configured: [path.join(folder, 'admin')], builtIn: path.join(folder, 'built-in') };
    const web1 = createTemplates({ ...cascade, hostname: 'web1' });
    expect([web1.read('project/run'), web1.read('project/log')]).toEqual(['admin/project/run', 'built-in/project/log']);
    write('admin/nodes/web1/project/run');
    expect(web1.read('project/run')).toBe('admin/nodes/web1/project/run');
    expect(createTemplates({ ...cascade, hostname: 'web2' }).read('project/run')).toBe('admin/project/run');
    expect(createTemplates(cascade).read('project/run')).toBe('admin/project/run');
  });

  test('the built-in templates need not be named', () => {
    expect(createTemplates({ configured: [] }).services()).toContain('files');
  });

  test('lists what all folders have, the most specific first; nothing from outside', () => {
    for (const name of ['admin/skeleton/b', 'built-in/skeleton/a', 'built-in/skeleton/b', 'built-in/other/c'])
      write(name);
    symlinkSync('b', path.join(folder, 'admin/skeleton/link'));
    const templates = createTemplates([path.join(folder, 'admin'), path.join(folder, 'built-in')]);
    expect(templates.list('skeleton')).toEqual([
      { path: 'b', file: `${folder}/admin/skeleton/b` },
      { path: 'link', file: `${folder}/admin/skeleton/b` },
      { path: 'a', file: `${folder}/built-in/skeleton/a` },
      { path: 'b', file: `${folder}/built-in/skeleton/b` },
    ]);
    symlinkSync('/etc/hostname', path.join(folder, 'admin/skeleton/outside'));
    expect(() => templates.list('skeleton')).toThrow('leads outside');
  });
});

describe('a skeleton', () => {
  const values = { name: 'my-blog', package: 'my_blog' };
  const files = (...pairs: [path: string, text: string][]): SkeletonFile[] =>
    pairs.map(([name, text]) => ({ path: name, content: Buffer.from(text) }));
  const render = (...pairs: [string, string][]): Record<string, string> =>
    Object.fromEntries(
      renderSkeleton(files(...pairs), values).map(({ path: name, content }) => [name, String(content)]),
    );

  test('takes the first of those that make the same file', () => {
    expect(render(['a.eta', '<%= it.name %>'], ['dot-x', '1'], ['a', 'later'], ['.x', 'later'], ['b', '2'])).toEqual({
      a: 'my-blog',
      '.x': '1',
      b: '2',
    });
  });

  test('has no file where another needs a folder', () => {
    expect(render(['docs', 'a file'], ['docs/x', 'later'])).toEqual({ docs: 'a file' });
    expect(render(['docs/x', 'a file'], ['docs', 'later'])).toEqual({ 'docs/x': 'a file' });
  });

  test.each(['dot-.', 'a/dot-./b', 'dot-git/config'])('%s is no file of a project', (name) => {
    expect(() => render([name, ''])).toThrow(`${name}: no file of a project can be called`);
  });
});
