// Archives of dumps that are cut, damaged, or made to do harm: nothing is kept of any, and it is said what is wrong.
// In CI cut and damaged at a few places; nightly at many.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDumpNode, type DumpNode, treeOf } from '../actors/dump-node.ts';
import { thorough } from '../actors/thorough.ts';

const FIRST = '2026-11-25T10:00:00';
const SECOND = '2026-11-25T11:00:00';

let node: DumpNode;
let archive: Buffer;
beforeAll(async () => {
  node = createDumpNode();
  node.write({ 'uploads/a.txt': 'a', 'uploads/deep/b.bin': Buffer.alloc(3000, 7), 'ledger/book': 'one\n' });
  await node.dump(FIRST);
  archive = await node.export(FIRST);
});
afterAll(() => node.cleanUp());

const kept = (): string[] => (existsSync(node.site('other', 'dump')) ? readdirSync(node.site('other', 'dump')) : []);

test('cut at any byte', async () => {
  const offsets = new Set([0, 513, archive.length - 1024]);
  if (thorough) for (const at of [1, 511, 512, 1024, archive.length - 1, archive.length - 512]) offsets.add(at);
  const step = Math.ceil(archive.length / (thorough ? 25 : 4));
  for (let at = 700; at < archive.length; at += step) offsets.add(at);
  for (const at of offsets)
    for (const end of [true, false]) {
      const cut = node.import(SECOND, { archive: archive.subarray(0, at), end });
      await expect(cut, `${at} ${end}`).rejects.toMatchObject({ code: 'dump.cut', step: 'Copy' });
      expect(kept()).toEqual([]);
    }
}, 300_000);

test('with a byte that is another', async () => {
  const whole = treeOf(node.site('blog', 'dump', FIRST, 'files'));
  let refused = 0;
  const step = Math.ceil(archive.length / (thorough ? 60 : 15));
  for (let at = 3; at < archive.length - 1024; at += step) {
    const wrong = Buffer.from(archive);
    wrong[at] = (wrong[at] ?? 0) ^ 1;
    const said: unknown = await node.import(SECOND, { archive: wrong }).catch((error: unknown) => error);
    if (said instanceof Error) {
      expect(said).toMatchObject({ code: expect.stringMatching(/^dump\.(damaged|hostile|version)$/) });
      expect(kept()).toEqual([]);
      refused++;
    } else {
      // It stood where a tar has nothing.
      expect(treeOf(node.site('other', 'dump', SECOND, 'files'))).toEqual(whole);
      await node.dropOf('other', [SECOND]);
    }
  }
  expect(refused).toBeGreaterThan(thorough ? 10 : 2);
}, 300_000);

interface Made {
  version?: number;
  entries: (Partial<Header> & { name: string; content?: string })[];
  /** What the manifest says there is. */
  bytes?: number;
  sums?: (text: string) => string;
  last?: Partial<Header> & { name: string };
}

/** An archive that is right but for what it holds. */
async function make({ version = 1, entries, bytes = 1000, sums = (text) => text, last }: Made): Promise<Buffer> {
  const tar = pack();
  const manifest = JSON.stringify({
    version,
    name: FIRST,
    target: 'blog/live',
    reason: 'asked',
    release: null,
    before: null,
    endedAt: '2026-11-25T10:00:00Z',
    services: [{ name: 'ledger', files: 1, bytes }],
    bytes,
    list: { sha256: '0'.repeat(64), entries: entries.length },
  });
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const mtime = new Date(0);
  tar.entry({ name: 'manifest.json', mtime }, manifest);
  let text = `${sha256(manifest)}  manifest.json\n`;
  for (const { content, ...header } of entries) {
    if (content === undefined) tar.entry({ mtime, ...header });
    else tar.entry({ mtime, ...header }, content);
    if (content !== undefined) text += `${sha256(content)}  ${header.name}\n`;
  }
  tar.entry({ name: 'SHA256SUMS', mtime }, sums(text));
  if (last !== undefined) tar.entry({ mtime, ...last }, 'more');
  tar.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

const LEDGER = { name: 'ledger', type: 'directory' } as const;
const long = `ledger/${'x'.repeat(256)}`;
const deep = Array.from({ length: 129 }, (_, at) => ({
  name: `ledger${'/d'.repeat(at)}`,
  type: 'directory' as const,
}));

describe('that', () => {
  const cases: [string, Made, string, string | RegExp][] = [
    [
      'is absolute',
      { entries: [LEDGER, { name: '/ledger/x', content: '' }] },
      'dump.hostile',
      'the archive: "/ledger/x" is absolute',
    ],
    [
      'climbs',
      { entries: [LEDGER, { name: 'ledger/../x', content: '' }] },
      'dump.hostile',
      'the archive: "ledger/../x" leads elsewhere',
    ],
    [
      'stands beside',
      { entries: [{ name: 'proven.json', content: '' }] },
      'dump.hostile',
      'the archive: proven.json belongs to none of the services of the manifest',
    ],
    [
      'brings a service',
      { entries: [{ name: 'postgres', content: '' }] },
      'dump.hostile',
      'the archive: postgres belongs to none of the services of the manifest',
    ],
    [
      'goes through a link',
      {
        entries: [
          LEDGER,
          { name: 'ledger/tree', type: 'directory' },
          { name: 'ledger/tree/l', type: 'symlink', linkname: '/etc' },
          { name: 'ledger/tree/l/x', content: '' },
        ],
      },
      'dump.hostile',
      'the archive: ledger/tree/l/x does not stand in its folder',
    ],
    ...['ledger', 'ledger/tree', 'ledger/book', 'ledger/other/l'].map((name): [string, Made, string, string] => [
      `has a link at ${name}, where load.sh would follow it`,
      {
        entries: [
          ...(name === 'ledger' ? [] : [LEDGER]),
          ...(name === 'ledger/other/l' ? [{ name: 'ledger/other', type: 'directory' as const }] : []),
          { name, type: 'symlink', linkname: '/web/victim/dump/2026-11-25T10:00:00/files' },
        ],
      },
      'dump.hostile',
      `the archive: "${name}" is a link, which may only stand below SERVICE/tree`,
    ]),
    [
      'links hard',
      { entries: [LEDGER, { name: 'ledger/l', type: 'link', linkname: '/etc/passwd' }] },
      'dump.hostile',
      'the archive: ledger/l is a link, not a file, folder or symlink',
    ],
    [
      'is a device',
      { entries: [LEDGER, { name: 'ledger/d', type: 'character-device' }] },
      'dump.hostile',
      'the archive: ledger/d is a character-device, not a file, folder or symlink',
    ],
    [
      'is a pipe',
      { entries: [LEDGER, { name: 'ledger/p', type: 'fifo' }] },
      'dump.hostile',
      'the archive: ledger/p is a fifo, not a file, folder or symlink',
    ],
    [
      'stands twice',
      { entries: [LEDGER, { name: 'ledger/x', content: '1' }, { name: 'ledger/x', content: '2' }] },
      'dump.hostile',
      'the archive: ledger/x stands twice in it',
    ],
    ['is too deep', { entries: deep }, 'dump.hostile', /lies deeper than 128 folders$/],
    ['is too long', { entries: [LEDGER, { name: long, content: '' }] }, 'dump.hostile', /is too long a name$/],
    [
      'is more than it says',
      { entries: [LEDGER, { name: 'ledger/x', content: 'x'.repeat(1001) }] },
      'dump.hostile',
      'the archive: ledger/x is more than the manifest says there is',
    ],
    [
      'is too much',
      { entries: [], bytes: 2 ** 52 },
      'node.disk-full',
      /^the dump is 4504 TB, and .* are free on the disk of the node$/,
    ],
    [
      'is newer',
      { version: 2, entries: [] },
      'dump.version',
      'manifest.json: the dump is of version 2, this kraftwerk reads version 1',
    ],
    [
      'has wrong sums',
      { entries: [LEDGER, { name: 'ledger/x', content: '1' }] },
      'dump.damaged',
      'the archive: names, modes and times: the checksum is wrong',
    ],
    [
      'has no sums',
      { entries: [], sums: () => '' },
      'dump.damaged',
      'the archive: SHA256SUMS ends before manifest.json',
    ],
  ];
  test.each(cases)('%s', async (_, made, code, message) => {
    const said = node.import(SECOND, { archive: await make(made) });
    await expect(said).rejects.toMatchObject({
      code,
      message: typeof message === 'string' ? message : expect.stringMatching(message),
    });
    expect(kept()).toEqual([]);
  });

  test.each([
    ['is no tar', Buffer.alloc(4096, 'garbage '), 'dump.damaged', /^the archive: no tar, or one that is damaged: /],
    ['is packed', gzipSync(Buffer.alloc(10)), 'dump.damaged', /^the archive: is packed by gzip$/],
    ['is another tar', 'other', 'dump.damaged', /not an archive of a dump: it begins with x, not with manifest.json$/],
  ] as const)('%s', async (_, bytes, code, message) => {
    const said = node.import(SECOND, { archive: bytes === 'other' ? await other() : bytes });
    await expect(said).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(kept()).toEqual([]);
  });
});

async function other(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'x' }, 'y');
  tar.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
