import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KraftwerkError, LIMITS } from '../../node-agent/protocol.ts';
import { createSystem } from '../../node-agent/system.ts';
import { unpack } from '../../node-agent/unpack.ts';

let folder: string;
let target: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-unpack-'));
  target = join(folder, 'site', 'tree');
  mkdirSync(join(folder, 'site'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Entry = Partial<Header> & { name: string; content?: string | Buffer };
const file = (name: string, content = 'x', more: Partial<Header> = {}): Entry => ({ name, content, ...more });
const link = (name: string, linkname: string): Entry => ({ name, type: 'symlink', linkname });

function tar(entries: readonly Entry[]): Promise<Buffer> {
  const packed = pack();
  for (const { content, ...header } of entries) packed.entry(header as Header, content ?? '');
  packed.finalize();
  return buffer(packed);
}

const system = createSystem({});
async function unpackBytes(bytes: Buffer, frame: { sha256?: string; bytes?: number } = {}) {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  // In small pieces, as it comes over a wire.
  const pieces = Array.from({ length: Math.ceil(bytes.length / 700) }, (_, at) =>
    bytes.subarray(at * 700, at * 700 + 700),
  );
  return unpack(
    system,
    Readable.from(pieces, { objectMode: false }),
    { sha256, bytes: bytes.length, ...frame },
    target,
    () => undefined,
  );
}
const unpackEntries = async (entries: readonly Entry[]) => unpackBytes(await tar(entries));

async function refusal(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await work.then(
    () => new Error('it was taken'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof KraftwerkError)) throw error;
  return { code: error.code, message: error.message };
}

describe('a plain tree', () => {
  it('is unpacked with files, folders and links', async () => {
    const result = await unpackEntries([
      file('app.py', 'print(1)\n'),
      { name: 'empty/', type: 'directory' },
      file('deep/er/file', 'deep'),
      link('deep/link', 'er/file'),
      link('early', 'deep/link'),
      link('dangling', 'made/later'),
    ]);
    expect(result).toMatchObject({ files: 6, bytes: 13, tree: { path: target } });
    expect(readdirSync(target).sort()).toEqual(['app.py', 'dangling', 'deep', 'early', 'empty']);
    expect(readFileSync(join(target, 'early'), 'utf8')).toBe('deep');
    expect(readlinkSync(join(target, 'dangling'))).toBe('made/later');
  });

  it('keeps of the modes only whether a file can be executed', async () => {
    await unpackEntries([
      file('setuid', 'x', { mode: 0o4755 }),
      file('setgid', 'x', { mode: 0o2777 }),
      file('sticky', 'x', { mode: 0o1644 }),
      file('secret', 'x', { mode: 0o600 }),
      file('open', 'x', { mode: 0o666 }),
    ]);
    const modes = Object.fromEntries(
      readdirSync(target).map((name) => [name, (lstatSync(join(target, name)).mode & 0o7777).toString(8)]),
    );
    expect(modes).toEqual({ setuid: '755', setgid: '755', sticky: '644', secret: '644', open: '644' });
  });

  it('belongs to who unpacks it, whatever the archive says', async () => {
    await unpackEntries([file('owned', 'x', { uid: 4242, gid: 4242, uname: 'mallory' })]);
    expect(lstatSync(join(target, 'owned')).uid).toBe(process.getuid?.());
  });

  it('leaves what follows it in the stream', async () => {
    const bytes = await tar([file('a')]);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const source = Readable.from([Buffer.concat([bytes, Buffer.from('next request')])], { objectMode: false });
    await unpack(system, source, { sha256, bytes: bytes.length }, target, () => undefined);
    expect(String(source.read())).toBe('next request');
  });
});

describe('refused is', () => {
  const hostile: [what: string, entries: Entry[], message: string][] = [
    ['..', [file('../evil')], '../evil: is not a path inside the project'],
    ['.. in the middle', [file('a/../../evil')], 'a/../../evil: is not a path inside the project'],
    ['an absolute path', [file('/tmp/evil')], '/tmp/evil: is not a path inside the project'],
    ['.git', [file('.git/hooks/pre-push')], '.git/hooks/pre-push: is not a path inside the project'],
    ['.GIT', [file('sub/.GIT/config')], 'sub/.GIT/config: is not a path inside the project'],
    ['a control character', [file('a\u0007b')], 'a\\u0007b: is not a path inside the project'],
    ['a backslash', [file('a\\b')], 'a\\\\b: is not a path inside the project'],
    [
      'a character device',
      [{ name: 'null', type: 'character-device', devmajor: 1, devminor: 3 }],
      'null: is a character-device, not a file, folder or symlink',
    ],
    [
      'a block device',
      [{ name: 'sda', type: 'block-device', devmajor: 8 }],
      'sda: is a block-device, not a file, folder or symlink',
    ],
    ['a fifo', [{ name: 'pipe', type: 'fifo' }], 'pipe: is a fifo, not a file, folder or symlink'],
    [
      'a hard link',
      [file('a'), { name: 'b', type: 'link', linkname: 'a' }],
      'b: is a link, not a file, folder or symlink',
    ],
    [
      'a hard link out',
      [{ name: 'b', type: 'link', linkname: '/etc/passwd' }],
      'b: is a link, not a file, folder or symlink',
    ],
    [
      'a name twice',
      [file('a', '1'), file('a', '2')],
      'a: stands twice in the tree, or differs from another name only by case',
    ],
    [
      'a name in two cases',
      [file('a'), file('A')],
      'A: stands twice in the tree, or differs from another name only by case',
    ],
    [
      'a name in two forms',
      [file('\u00e9'), file('e\u0301')],
      'e\u0301: stands twice in the tree, or differs from another name only by case',
    ],
    ['a folder in place of a file', [file('a'), file('a/b')], 'a/b: lies below something that is not a folder'],
    [
      'a file in place of a folder',
      [file('a/b'), file('a')],
      'a: stands twice in the tree, or differs from another name only by case',
    ],
    [
      'a write through a link',
      [link('d', '/tmp'), file('d/evil')],
      'd/evil: lies below something that is not a folder',
    ],
    [
      'a write through a link, links last',
      [file('d/evil'), link('d', '/tmp')],
      'd: stands twice in the tree, or differs from another name only by case',
    ],
    [
      'a write through a link in another case',
      [link('d', '/tmp'), file('D/evil')],
      'D/evil: lies below something that is not a folder',
    ],
    ['an absolute link', [link('l', '/etc/passwd')], 'l: is a symlink to /etc/passwd, outside the project'],
    ['an empty link', [link('l', '')], 'l: is a symlink to , outside the project'],
    ['a link out', [link('l', '../x')], 'l: is a symlink to ../x, which leads outside the project'],
    [
      'a link out and back in',
      [link('l', '../tree/../../x')],
      'l: is a symlink to ../tree/../../x, which leads outside the project',
    ],
    ['a chain out', [link('a', '.'), link('b', 'a/..')], 'b: is a symlink to a/.., which leads outside the project'],
    [
      'a chain out to nothing',
      [file('d/f'), link('a', 'd'), link('b', 'a/../../nothing/here')],
      'b: is a symlink to a/../../nothing/here, which leads outside the project',
    ],
    [
      'a chain out, backwards',
      [link('b', 'a/..'), link('a', '.')],
      'b: is a symlink to a/.., which leads outside the project',
    ],
    ['a circle', [link('a', 'b'), link('b', 'a')], 'a: is a symlink to b, which leads in circles'],
    [
      'a name that every deploy makes',
      [file('.run/web.sock')],
      '.run: the name is the one of a link that every deploy makes',
    ],
    [
      'the name of the virtualenv, as a link',
      [link('venv', 'x'), file('x/a')],
      'venv: the name is the one of a link that every deploy makes',
    ],
    [
      'a link through what a deploy makes later',
      [link('l', '.run/..')],
      'l: is a symlink to .run/.., which leads through .run, which every deploy makes anew',
    ],
    [
      'a chain through what a deploy makes later',
      [link('a', 'd/..'), link('b', 'a/venv/../..'), file('d/x')],
      'b: is a symlink to a/venv/../.., which leads through venv, which every deploy makes anew',
    ],
    ['a link to itself', [link('a', 'a')], 'a: is a symlink to a, which leads in circles'],
  ];
  it.each(hostile)('%s', async (_, entries, message) => {
    expect(await refusal(unpackEntries(entries))).toEqual({ code: 'artifact.hostile', message });
    expect(existsSync(join(folder, 'evil')) || existsSync('/tmp/evil')).toBe(false);
    expect(readdirSync(join(folder, 'site'))).toEqual(['tree']);
  });

  it('a link that only leads out once a folder is there', async () => {
    const entries = [link('x', 'y/../..'), { name: 'y', type: 'symlink', linkname: 'z/z' } as Entry, file('z/z/f')];
    // y is z/z: y/../.. is the tree itself, where its letters alone lead out of it.
    await unpackEntries(entries);
    expect(readdirSync(join(target, 'x')).sort()).toEqual(['x', 'y', 'z']);
  });

  it.each([
    ['folders that are nested too deep', [file(`${'d/'.repeat(LIMITS.depth)}f`)], /folders are nested deeper than 64/],
    [
      'more files than the limit',
      Array.from({ length: LIMITS.files + 1 }, (_, at) => link(`l${at}`, 'x')),
      /more than 50000 files/,
    ],
    ['a file over the limit', [file('big', '\0'.repeat(LIMITS.fileBytes + 1))], /^big: is larger than 100 MiB/],
  ] as [string, Entry[], RegExp][])(
    '%s',
    async (_, entries, message) => {
      const { code, message: said } = await refusal(unpackEntries(entries));
      expect(code).toBe('artifact.limit');
      expect(said).toMatch(message);
    },
    60_000,
  );
});

describe('a damaged artifact', () => {
  const DAMAGED = { code: 'artifact.damaged' };

  it('that is cut at an entry’s end is not taken for whole', async () => {
    const whole = await tar([file('a', 'first'), file('b', 'second')]);
    const sha256 = createHash('sha256').update(whole).digest('hex');
    const cut = whole.subarray(0, 1024);
    expect(await refusal(unpackBytes(cut, { sha256, bytes: whole.length }))).toMatchObject(DAMAGED);
    // Framed as if it were whole: only the hash tells.
    rmSync(target, { recursive: true });
    expect(await refusal(unpackBytes(cut, { sha256 }))).toMatchObject(DAMAGED);
  });

  it('that is cut inside a file, or empty', async () => {
    const whole = await tar([file('a', 'x'.repeat(5000))]);
    for (const length of [2000, 512, 1, 0]) {
      expect(await refusal(unpackBytes(whole.subarray(0, length), { bytes: whole.length }))).toMatchObject(DAMAGED);
      rmSync(target, { recursive: true });
    }
  });

  it('with another hash', async () => {
    const bytes = await tar([file('a')]);
    expect(await refusal(unpackBytes(bytes, { sha256: '0'.repeat(64) }))).toMatchObject(DAMAGED);
  });

  it('that is no tar', async () => {
    expect(await refusal(unpackBytes(Buffer.alloc(4096, 'junk')))).toMatchObject(DAMAGED);
  });
});
