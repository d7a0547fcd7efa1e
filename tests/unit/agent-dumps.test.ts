// The agent's dumps, as far as they are pure: names that are no text, lines of the list, manifests, headers and sums of archives.
import { describe, expect, it } from 'vitest';
import { readLines } from '../../node-agent/dump-list.ts';
import { parseManifest } from '../../node-agent/dump-manifest.ts';
import { type DumpPath, fromPaper, parseDumpPath, showPath, toPaper } from '../../node-agent/dump-names.ts';
import { describeSizes, formatAmount } from '../../node-agent/dump-store.ts';
import { fromHeader, sumsLine, toHeader } from '../../node-agent/dump-tar.ts';

const bytes = (...values: number[]): string => Buffer.from(values).toString('latin1');
const utf8 = (text: string): string => Buffer.from(text).toString('latin1');
const SUM = 'a'.repeat(64);

describe('a name', () => {
  it.each([
    ['plain', 'plain'],
    [utf8('größe'), 'größe'],
    [bytes(0x62, 0xfc), { base64: 'Yvw=' }],
  ])('%j is written as %j, and read again', (name, paper) => {
    expect(toPaper(name)).toEqual(paper);
    expect(fromPaper(JSON.parse(JSON.stringify(paper)))).toBe(name);
  });
  it.each(['/a', 'a//b', 'a/..', '../a', './a', '', 'a/', 'a\0', `a${'/a'.repeat(128)}`, 'x'.repeat(256)])(
    '%j is refused',
    (name) => {
      expect(() => parseDumpPath(name, 'list')).toThrow(/^list: "/);
    },
  );
  it.each([`files/${bytes(0xff)}`, 'files/a\nb', 'files/...', `a${'/a'.repeat(127)}`])('%j is taken', (name) => {
    expect(parseDumpPath(name, 'list')).toBe(name);
  });
  it('is shown without what a terminal would obey', () => {
    expect(showPath('files/\x1b[2J')).toBe('files/\\u001b[2J');
  });
});

describe('lines', () => {
  const read = async (...pieces: string[]): Promise<string[]> => {
    const found: string[] = [];
    const source = (async function* () {
      for (const piece of pieces) yield Buffer.from(piece);
    })();
    for await (const line of readLines(source)) found.push(line.toString());
    return found;
  };
  it('are read however they are cut', async () => {
    expect(await read('one\ntw', 'o\n', '\nfo', 'ur', '\n')).toEqual(['one', 'two', '', 'four']);
  });
  it('that have no end, or none in sight, are refused', async () => {
    await expect(read('one\ntwo')).rejects.toThrow('list.ndjson: ends within a line');
    await expect(read('x'.repeat(70_000))).rejects.toThrow('list.ndjson: a line of more than 65536 bytes');
  });
});

describe('a manifest', () => {
  const good = {
    version: 1,
    name: '2026-11-25T10:00:00',
    target: 'blog/live',
    reason: 'asked',
    release: 3,
    before: null,
    endedAt: '2026-11-25T10:00:01.000Z',
    services: [{ name: 'files', files: 2, bytes: 3 }],
    bytes: 3,
    list: { sha256: SUM, entries: 4 },
  };
  it('is read', () => {
    expect(parseManifest(JSON.stringify(good), 'manifest.json')).toEqual(good);
  });
  it.each([
    ['{', 'dump.damaged', 'manifest.json: not the manifest of a dump: no JSON'],
    ['null', 'dump.damaged', 'manifest.json: expected an object, got null'],
    [
      JSON.stringify({ ...good, version: 2, more: 1 }),
      'dump.version',
      'manifest.json: the dump is of version 2, this kraftwerk reads version 1',
    ],
    [
      JSON.stringify({ ...good, services: [{ name: '../x', files: 0, bytes: 0 }] }),
      'dump.damaged',
      'manifest.json.services[0].name: expected a lower-case letter, then at most 27 of a-z 0-9 _ -, got "../x"',
    ],
    [
      JSON.stringify({ ...good, list: { sha256: 'x', entries: 1 } }),
      'dump.damaged',
      'manifest.json.list.sha256: expected a sha256 in hexadecimal, got "x"',
    ],
  ])('%s: %s', (text, code, message) => {
    expect(() => parseManifest(text, 'manifest.json')).toThrow(expect.objectContaining({ code, message }));
  });
});

describe('an archive', () => {
  const path = (text: string): DumpPath => parseDumpPath(text, 'test');
  it.each([
    { kind: 'file', path: path('files/a'), mode: 0o640, mtime: 5000, size: 7, sha256: null },
    { kind: 'file', path: path(`files/${bytes(0xfc)}`), mode: 0o600, mtime: 0, size: 0, sha256: null },
    { kind: 'folder', path: path(`files/${utf8('ö')}`), mode: 0o700, mtime: 9000 },
    { kind: 'link', path: path('files/tree/l'), mode: 0o777, mtime: 0, to: '../a' },
    { kind: 'link', path: path('files/tree/l'), mode: 0o777, mtime: 0, to: bytes(0xfc) },
  ] as const)('has a header for %j', (entry) => {
    const header = toHeader(entry, entry.kind === 'file' ? entry.size : 0);
    expect(fromHeader(header as Parameters<typeof fromHeader>[0])).toEqual(entry);
  });
  it.each([
    ['files/a', `${SUM}  files/a\n`],
    ['files/a\nb', `\\${SUM}  files/a\\nb\n`],
    ['files/a\\b', `\\${SUM}  files/a\\\\b\n`],
    [utf8('files/ö'), `${SUM}  files/ö\n`],
  ])('has a sum for %j as sha256sum writes it', (name, line) => {
    expect(sumsLine(name, SUM).toString()).toBe(line);
  });
});

it('amounts are told in steps of a thousand', () => {
  expect([0, 999, 1234, 99_950, 123_456_789, 3.1e9, 5e15].map(formatAmount)).toEqual([
    '0 B',
    '999 B',
    '1.2 kB',
    '100.0 kB',
    '123 MB',
    '3.1 GB',
    '5000 TB',
  ]);
  expect(
    describeSizes([
      { name: 'postgres', files: 1, bytes: 12_300_000 },
      { name: 'files', files: 1204, bytes: 3.1e9 },
    ]),
  ).toBe('postgres 12.3 MB, files 1,204 files 3.1 GB');
});
