// YAML as we read it: places, source texts, and what YAML allows and we do not.
import { expect, test } from 'vitest';
import { decodeYaml, parseYaml, YamlError } from '../../receiver/yaml-source.ts';

const options = { file: 'kraftwerk.yaml', code: 'manifest.invalid' };

const errorsOf = (text: string): string[] => errorsOfRun(() => parseYaml(text, options));

function errorsOfRun(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof YamlError) return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

test('values, and the places of keys and values', () => {
  const source = parseYaml('a: 1\nb:\n  - x\n  - {c: "y"}\n', options);
  expect(source.value).toEqual({ a: 1, b: ['x', { c: 'y' }] });
  expect(source.keyPlace(['b', 1, 'c'])).toEqual({ line: 4, column: 6 });
  expect(source.valuePlace(['b', 1, 'c'])).toEqual({ line: 4, column: 9 });
  expect(source.keyPlace(['b', 1, 'missing'])).toEqual({ line: 4, column: 5 });
  expect([source.has(['b', 1]), source.has(['b', 2])]).toEqual([true, false]);
});

test('scalars are taken as they are written where the caller says so', () => {
  const text = 'environ: {a: 3.10, b: 010, c: yes, d: , e: "x y", f: ~, g: 0x1F}\nn: 010\nm: 3.10\n';
  expect(parseYaml(text, { ...options, isText: (path) => path[0] === 'environ' && path.length === 2 }).value).toEqual({
    environ: { a: '3.10', b: '010', c: 'yes', d: '', e: 'x y', f: '~', g: '0x1F' },
    n: 10,
    m: 3.1,
  });
});

test.each([
  ['an empty file', '', {}],
  ['comments alone', '# nothing\n', {}],
  ['a byte order mark', '\uFEFFa: 1\n', { a: 1 }],
  ['CRLF', 'a: 1\r\nb: 2\r\n', { a: 1, b: 2 }],
  ['a document start', '---\na: 1\n', { a: 1 }],
  ['a block of text', 'a: |\n  x\n  y\n', { a: 'x\ny\n' }],
])('%s is fine', (_, text, value) => {
  expect(parseYaml(text, options).value).toEqual(value);
});

test.each([
  ['a list', '- a\n', ['kraftwerk.yaml:1:1 expected keys and values ("key: value"), got a list']],
  ['text', 'hello\n', ['kraftwerk.yaml:1:1 expected keys and values ("key: value"), got "hello"']],
  ['a duplicate key', 'a: 1\nb: 2\na: 3\n', ['kraftwerk.yaml:3:1 key "a" is given twice, first in line 1']],
  [
    'anchors, aliases and tags',
    'a: &x 1\nb: *x\nc: !foo 1\n',
    [
      'kraftwerk.yaml:1:4 anchors ("&name") are not allowed',
      'kraftwerk.yaml:2:4 aliases ("*name") are not allowed: write the value out',
      'kraftwerk.yaml:3:4 tags ("!name") are not allowed',
    ],
  ],
  ['a merge key', '<<: {a: 1}\n', ['kraftwerk.yaml:1:1 "<<" is not allowed as a key']],
  ['__proto__', 'environ:\n  __proto__: x\n', ['kraftwerk.yaml:2:3 "__proto__" is not allowed as a key']],
  ['a list as a key', '[a]: 1\n', ['kraftwerk.yaml:1:1 a key must be plain text']],
  ['two documents', 'a: 1\n---\nb: 2\n', ['kraftwerk.yaml:3:1 only one YAML document is allowed']],
  ['bad indentation', 'a: b: c\n', ['kraftwerk.yaml:1:5 not YAML: bad indentation of a mapping entry']],
  ['a tab', 'a:\n\t- b\n', ['kraftwerk.yaml:2:1 not YAML: tab characters must not be used in indentation']],
  ['too much', `a: ${'x'.repeat(65_536)}`, ['kraftwerk.yaml:1:1 at most 65536 bytes are allowed, got 65539']],
  [
    'too deep',
    `a: ${'['.repeat(50)}${']'.repeat(50)}`,
    ['kraftwerk.yaml:1:23 not YAML: nesting exceeded maxDepth (20)'],
  ],
])('%s is refused', (_, text, errors) => {
  expect(errorsOf(text)).toEqual(errors);
});

test('bytes that are not UTF-8 have their place, whatever stands before them', () => {
  const decode = (content: Buffer, size = content.length) => errorsOfRun(() => decodeYaml(content, size, options));
  const latin1 = (text: string) => Buffer.from(text, 'latin1');
  expect(decode(Buffer.from('# größe \uFFFD €\r\na: "é"\n'))).toEqual([]);
  expect(decode(latin1('a: 1\n# gr\xf6\xdfe\n'))).toEqual(['kraftwerk.yaml:2:5 expected UTF-8, got the byte 0xf6']);
  expect(decode(Buffer.concat([Buffer.from('€: "é'), latin1('\xe9"\n')]))).toEqual([
    'kraftwerk.yaml:1:6 expected UTF-8, got the byte 0xe9',
  ]);
  expect(decode(latin1('\xff\xfea\0'))).toEqual(['kraftwerk.yaml:1:1 expected UTF-8, got the byte 0xff']);
  expect(decode(Buffer.alloc(0), 30_000_000)).toEqual([
    'kraftwerk.yaml:1:1 at most 65536 bytes are allowed, got 30000000',
  ]);
});

test('one error carries all problems, in their order', () => {
  const error = new YamlError('config.invalid', 'f.yaml', [
    { line: 2, column: 1, message: 'second' },
    { line: 1, column: 5, message: 'first' },
    { line: 2, column: 1, message: 'second' },
  ]);
  expect({ ...error, message: error.message }).toMatchObject({
    code: 'config.invalid',
    message: 'f.yaml:1:5 first',
    lines: ['f.yaml:2:1 second'],
    exit: 'config',
    reason: 'f.yaml has 2 errors',
  });
});
