// Requirements files, as far as the virtualenv's key and good errors need them.
import { describe, expect, it } from 'vitest';
import { locateInvalid, locateRequirement, readRequirements } from '../../node-agent/requirements.ts';

const read = (files: Record<string, string>) => readRequirements('requirements.txt', (path) => files[path] ?? null);
const paths = (files: Record<string, string>) => read(files).texts.map(({ path }) => path);

describe('the files that take part', () => {
  it.each([
    [{ 'requirements.txt': 'flask' }, ['requirements.txt']],
    [{ 'requirements.txt': '-r base.txt\nflask', 'base.txt': 'x' }, ['requirements.txt', 'base.txt']],
    [{ 'requirements.txt': '-rbase.txt', 'base.txt': 'x' }, ['requirements.txt', 'base.txt']],
    [
      { 'requirements.txt': '--requirement=req/a.txt', 'req/a.txt': '-c b.txt', 'req/b.txt': '' },
      ['requirements.txt', 'req/a.txt', 'req/b.txt'],
    ],
    [{ 'requirements.txt': '-r requirements.txt' }, ['requirements.txt']],
    [{ 'requirements.txt': '-r \\\n  base.txt', 'base.txt': '' }, ['requirements.txt', 'base.txt']],
    [{ 'requirements.txt': '# -r none.txt\n-r https://example.com/x.txt' }, ['requirements.txt']],
  ])('%j', (files, expected) => {
    expect(paths(files as Record<string, string>)).toEqual(expected);
  });
  it.each([
    ['-r gone.txt', 'requirements.txt:1: there is no file gone.txt'],
    ['\n-r ../other.txt', 'requirements.txt:2: ../other.txt lies outside the project'],
    ['-c /etc/passwd', 'requirements.txt:1: there is no file etc/passwd'],
  ])('%j is refused', (text, message) => {
    expect(() => read({ 'requirements.txt': text })).toThrow(message);
  });
});

describe('what points into the tree', () => {
  it.each([
    ['-e .', true],
    ['./lib', true],
    ['.', true],
    ['blog @ file:lib', true],
    ['lib/blog-1.0-py3-none-any.whl', true],
    ['--find-links wheels', true],
    ['--find-links https://example.com', false],
    ['-e git+https://example.com/x#egg=x', false],
    ['flask==3.0', false],
    ['--index-url https://example.com', false],
  ])('%j: %j', (line, expected) => {
    expect(read({ 'requirements.txt': line }).usesTree).toBe(expected);
  });
});

it.each([
  ['gunicorn==20', true],
  ['Gunicorn[gevent]', true],
  ['gunicorn-extras', false],
])('%j names gunicorn: %j', (line, expected) => {
  expect(read({ 'requirements.txt': line }).namesGunicorn).toBe(expected);
});

it('finds the line that pip complains about', () => {
  const requirements = read({
    'requirements.txt': 'flask\n-r base.txt\n',
    'base.txt': '\n# x\nNo_Such.Thing >= 2 # why\n',
  });
  expect(locateRequirement(requirements, 'no-such-thing>=2')).toBe('base.txt:3 No_Such.Thing >= 2');
  expect(locateRequirement(requirements, 'other')).toBeNull();
  const words = "ERROR: Invalid requirement: 'No_Such.Thing >= 2' (from line 3 of /web/blog/releases/.v2.77/base.txt)";
  expect(locateInvalid(requirements, words)).toBe('base.txt:3 No_Such.Thing >= 2 # why');
  expect(locateInvalid(requirements, words.replace('base', 'other'))).toBeNull();
  expect(locateInvalid(requirements, 'ERROR: No matching distribution found for x')).toBeNull();
});
