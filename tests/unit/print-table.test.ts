import fc from 'fast-check';
import { expect, it } from 'vitest';
import { escapeForTerminal, printPairs, printTable } from '../../receiver/print-table.ts';

it('prints columns two spaces apart, without trailing spaces', () => {
  const columns = [{ title: 'NAME' }, { title: 'N', align: 'right' as const }, { title: 'STATE' }];
  expect(
    printTable(columns, [
      ['blog', '7', 'run'],
      ['shopping', '1234', ''],
    ]),
  ).toBe(['NAME         N  STATE', 'blog         7  run', 'shopping  1234', ''].join('\n'));
});

it('prints nothing for no rows', () => {
  expect(printTable([{ title: 'NAME' }], [])).toBe('');
});

it('prints pairs', () => {
  expect(
    printPairs([
      ['name', 'alice'],
      ['targets', 'all'],
      ['note', ''],
    ]),
  ).toBe('name     alice\ntargets  all\nnote\n');
});

it('keeps a line a line, whatever a cell holds', () => {
  expect(printTable([{ title: 'A' }, { title: 'B' }], [['x\ny', '\x1b[31mred\u202e']])).toBe(
    'A     B\nx\\ny  \\x1b[31mred\\u{202e}\n',
  );
});

it.each([
  ['plain é 漢 👍', 'plain é 漢 👍'],
  ['a\tb\r\n', 'a\\tb\\r\\n'],
  ['\x1b]0;title\x07', '\\x1b]0;title\\x07'],
  ['\u009b2J', '\\x9b2J'],
  ['\u200b\u2028\ufeff', '\\u{200b}\\u{2028}\\u{feff}'],
  ['\ud800', '\\u{d800}'],
])('escapes %j', (text, expected) => {
  expect(escapeForTerminal(text)).toBe(expected);
});

it('leaves no control character', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !/[\p{Cc}\p{Cf}]/u.test(escapeForTerminal(text))));
});
