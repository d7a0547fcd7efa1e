// What the pusher sees: widths, folding, labels.
import { describe, expect, it } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { COLUMNS, formatError, formatEvent, headline, labelled, stepLine } from '../../receiver/transcript.ts';

describe('a step', () => {
  it.each([
    [['Config', 'kraftwerk.yaml ok', 12], ['-----> Config      kraftwerk.yaml ok                         0.0s']],
    [['Health', 'GET / 200 in 12 ms', 100], ['-----> Health      GET / 200 in 12 ms                        0.1s']],
    [
      ['Packages', 'flask 3.1.3, werkzeug 3.1.9 and 5 more installed', 71_234],
      ['-----> Packages    flask 3.1.3, werkzeug 3.1.9 and 5 more   71.2s', '                   installed'],
    ],
  ] as const)('%j', ([name, detail, ms], lines) => {
    expect(stepLine(name, detail, ms)).toEqual(lines);
  });
});

it('begins with the target, the commit and its subject, cut to one line', () => {
  expect(headline('blog/live', '3f2c1ab9999', 'Add checkout')).toEqual(['-----> blog/live   3f2c1ab "Add checkout"']);
  const [line = ''] = headline('blog/live', '3f2c1ab9999', 'x'.repeat(200));
  expect(line).toHaveLength(COLUMNS);
});

it('folds a message behind its label, which stands once', () => {
  expect(labelled('error', `${'word '.repeat(20).trim()}`)).toEqual([
    'error: word word word word word word word word word word word word word',
    '       word word word word word word word',
  ]);
});

it('shows what a program prints harmlessly', () => {
  expect(formatEvent({ event: 'output', step: 'Build', line: 'a\x1b[31mred\rb\tc' })).toEqual([
    '       a\\x1b[31mred\\rb    c',
  ]);
});

it('says that a step goes on, as a line of its own', () => {
  expect(formatEvent({ event: 'progress', step: 'Packages', what: 'downloading django', ms: 30_123 })).toEqual([
    '       still downloading django … 30s',
  ]);
});

describe('an error', () => {
  it('of a program: its words first, then the error, then what to do', () => {
    const error = new KraftwerkError('x', 'it failed', { lines: ['Traceback', '  File "a.py"'], hint: 'mend it' });
    expect(formatError(error)).toEqual([
      '       Traceback',
      '         File "a.py"',
      'error: it failed',
      'hint: mend it',
    ]);
  });
  it('of a file: each problem is an error', () => {
    const error = new KraftwerkError('x', 'kraftwerk.yaml:1:1 one', {
      lines: ['kraftwerk.yaml:2:1 two'],
      exit: 'config',
    });
    expect(formatError(error)).toEqual(['error: kraftwerk.yaml:1:1 one', 'error: kraftwerk.yaml:2:1 two']);
  });
});

it('never prints a line that is too long', () => {
  const texts = ['a'.repeat(500), 'a b '.repeat(200), `${'a'.repeat(71)} b`, ''];
  for (const text of texts) {
    const lines = [
      ...labelled('warning', text),
      ...stepLine('Release', text, 1),
      ...formatEvent({ event: 'output', step: 'Build', line: text }),
    ];
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(COLUMNS);
  }
});
