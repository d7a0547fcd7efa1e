// Dumps and loads as an agent does them: whatever fails, is cut off or is killed, the live data is what it was.
// Nightly: of 20,000 files, and damaged in more ways.
// Long because: one node, with services of every temper, serves all of it.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AgentEvent } from '../../node-agent/protocol.ts';
import { createDumpNode, type DumpNode, treeOf } from '../actors/dump-node.ts';
import { waitFor } from '../actors/processes.ts';
import { itSome, thorough } from '../actors/thorough.ts';

const FIRST = '2026-11-25T10:00:00';
const SECOND = '2026-11-25T11:00:00';

let node: DumpNode;
beforeEach(() => {
  node = createDumpNode();
  node.write({
    'uploads/a.txt': 'a',
    'uploads/deep/b.bin': Buffer.alloc(700_000, 7),
    'uploads/empty': '',
    'ledger/book': 'one\n',
    'ledger/big': Buffer.alloc(600_000, 3),
  });
  symlinkSync('../a.txt', node.site('blog', 'uploads/deep/link'));
  writeFileSync(
    Buffer.concat([Buffer.from(`${node.site()}/uploads/`), Buffer.from([0x62, 0xfc, 0x0a, 0x5c])]),
    'latin',
  );
  node.write({ 'uploads/größe.txt': 'utf-8' });
});
afterEach(() => node.cleanUp());

describe('a dump', () => {
  test('holds all services, and is loaded back in four steps', async () => {
    const before = node.data();
    const made = await node.dump(FIRST);
    expect(made).toMatchObject({
      name: FIRST,
      target: 'blog/live',
      release: 3,
      provenAt: null,
      services: [
        { name: 'files', files: 6 },
        { name: 'ledger', files: 3 },
      ],
    });
    node.write({ 'uploads/new': 'x', 'ledger/book': 'two\n' });
    const changed = node.data();
    await node.load('check', FIRST);
    await node.load('new', FIRST);
    expect(node.data()).toEqual(changed);
    await node.load('swap', null);
    expect(node.data()).toEqual(before);
    await node.load('back', null);
    expect(node.data()).toEqual(changed);
    await node.load('new', FIRST);
    await node.load('swap', null);
    await node.load('done', null);
    expect(node.data()).toEqual(before);
    expect(node.leftOvers()).toEqual([]);
    await node.prove(FIRST);
    const { dumps } = await node.list();
    expect(dumps).toEqual([{ ...made, provenAt: expect.stringMatching(/^20/) }]);
  });

  test('goes out as a tar that others can read, and comes in again elsewhere', async () => {
    await node.dump(FIRST);
    const archive = await node.export(FIRST);
    const folder = join(node.root, 'out');
    execFileSync('mkdir', [folder]);
    execFileSync('tar', ['-C', folder, '-xf', '-'], { input: archive, stdio: ['pipe', 'pipe', 'ignore'] });
    execFileSync('sha256sum', ['--check', '--strict', '--quiet', 'SHA256SUMS'], { cwd: folder });
    expect(readdirSync(folder).sort()).toEqual(['SHA256SUMS', 'files', 'ledger', 'manifest.json']);
    const taken = await node.import(SECOND, { archive });
    expect(taken).toMatchObject({ name: SECOND, target: 'other/live', reason: 'upload', release: 3 });
    expect(treeOf(node.site('other', 'dump', SECOND, 'files'))).toEqual(
      treeOf(node.site('blog', 'dump', FIRST, 'files')),
    );
    await node.load('check', SECOND, { instance: 'other' });
    await node.load('new', SECOND, { instance: 'other' });
    await node.load('swap', null, { instance: 'other' });
    expect(node.data('other')).toEqual(node.data('blog'));
  });

  test('of another site of the node is copied where all sites are one user', async () => {
    await node.dump(FIRST);
    await node.import(SECOND, { instance: 'blog', name: FIRST });
    expect(treeOf(node.site('other', 'dump', SECOND, 'files'))).toEqual(
      treeOf(node.site('blog', 'dump', FIRST, 'files')),
    );
    const inode = (path: string) => statSync(path).ino;
    for (const file of ['ledger/tree/big', 'files/tree/a.txt'])
      expect(inode(node.site('other', 'dump', SECOND, file))).not.toBe(inode(node.site('blog', 'dump', FIRST, file)));
    await node.load('check', SECOND, { instance: 'other' });
    expect(existsSync(node.site('other', 'dump', SECOND, 'manifest.json'))).toBe(true);
  });

  test('is the only thing that a failing script, a full disk or Ctrl-C takes away', async () => {
    await node.dump(FIRST);
    for (const [order, code, message] of [
      ['fail dump', 'service.failed', 'ledger: ledger: told to fail'],
      ['away begin', 'service.away', 'ledger: the ledger does not answer'],
      [
        'full dump',
        'node.disk-full',
        /^files, ledger: the disk of the node is full: [\d.]+ [kM]?B were written, .* are free$/,
      ],
    ] as const) {
      node.tell(order);
      await expect(node.dump(SECOND)).rejects.toMatchObject({
        code,
        message: typeof message === 'string' ? message : expect.stringMatching(message),
      });
      expect(node.leftOvers()).toEqual([]);
    }
    node.tell('wait begin');
    const gone = new AbortController();
    const dumping = node.dump(SECOND, { signal: gone.signal });
    const aborted = expect(dumping).rejects.toMatchObject({ code: 'dump.aborted' });
    await waitFor('the script', () => existsSync(node.site('blog', 'waiting')));
    gone.abort();
    await aborted;
    expect(node.leftOvers()).toEqual([]);
    node.tell(null);
    await expect(node.dump(FIRST)).rejects.toMatchObject({ code: 'dump.exists' });
    await node.dump(SECOND);
    expect((await node.list()).dumps.map(({ name }) => name)).toEqual([SECOND, FIRST]);
  });

  test('makes room for newer ones of its kind, and for those alone', async () => {
    await node.dump('2026-11-25T01:00:00', { reason: 'load' });
    for (const hour of [2, 3, 4, 5]) await node.dump(`2026-11-25T0${hour}:00:00`, { keep: 2 });
    const names = async () => (await node.list()).dumps.map(({ name }) => name.slice(11, 13));
    expect(await names()).toEqual(['05', '04', '01']);
    await node.drop(['2026-11-25T04:00:00', '2026-11-25T09:00:00']);
    expect(await names()).toEqual(['05', '01']);
    // A copy that comes back under its old name, or a clock that was set back: what was just made stays.
    await node.dump('2026-11-25T00:00:00', { keep: 1 });
    expect(await names()).toEqual(['01', '00']);
    // Whoever goes back to the oldest of them keeps it, however often.
    for (const hour of [6, 7, 8]) {
      await node.dump(`2026-11-25T0${hour}:00:00`, { keep: 3, reason: 'load', spare: '2026-11-25T01:00:00' });
      expect(await names()).toContain('01');
    }
    expect(await names()).toEqual(['08', '07', '01', '00']);
  });

  test('of a destroyed site can be listed, loaded and dropped', async () => {
    const before = node.data();
    await node.dump(FIRST);
    mkdirSync(join(node.root, 'web/.destroyed/blog'), { recursive: true });
    renameSync(node.site('blog', 'dump', FIRST), join(node.root, 'web/.destroyed/blog', FIRST));
    rmSync(node.site(), { recursive: true });
    const left = [expect.objectContaining({ name: FIRST, target: 'blog/live' })];
    expect(await node.list()).toEqual({ dumps: [], destroyed: left });
    expect(await node.list(null)).toEqual({ dumps: [], destroyed: left });
    await node.load('check', FIRST);
    await node.load('new', FIRST);
    await node.load('swap', null);
    await node.load('done', null);
    expect(node.data()).toEqual(before);
    rmSync(node.site(), { recursive: true });
    await node.drop([FIRST], true);
    expect(readdirSync(join(node.root, 'web/.destroyed'))).toEqual([]);
    expect(existsSync(node.site())).toBe(false);
  });
});

describe('a dump that is not what it was', () => {
  const tree = (...path: string[]): string => node.site('blog', 'dump', FIRST, ...path);
  const cases: [string, () => void, string, string][] = [
    [
      'a byte',
      () => writeFileSync(tree('ledger/tree/book'), 'onE\n'),
      'dump.damaged',
      'ledger/tree/book: its checksum is wrong',
    ],
    [
      'a length',
      () => writeFileSync(tree('ledger/tree/book'), 'on'),
      'dump.damaged',
      'ledger/tree/book: has 2 bytes, not 4',
    ],
    ['a file', () => rmSync(tree('files/tree/a.txt')), 'dump.damaged', 'files/tree/a.txt: is missing'],
    [
      'one too many',
      () => writeFileSync(tree('ledger/more'), ''),
      'dump.damaged',
      'ledger: 6 files and folders are there, 5 in the list',
    ],
    [
      'its list',
      () => appendFileSync(tree('list.ndjson'), '{}\n'),
      'dump.damaged',
      'list.ndjson: its checksum is wrong',
    ],
    ['no list', () => rmSync(tree('list.ndjson')), 'dump.damaged', 'list.ndjson: is missing'],
    [
      'its manifest',
      () => writeFileSync(tree('manifest.json'), '{'),
      'dump.damaged',
      'manifest.json: not the manifest of a dump: no JSON',
    ],
    ['no manifest', () => rmSync(tree('manifest.json')), 'dump.damaged', `${FIRST}: its manifest.json is missing`],
    [
      'a version',
      () => newer(),
      'dump.version',
      'manifest.json: the dump is of version 2, this kraftwerk reads version 1',
    ],
  ];
  const newer = (): void =>
    writeFileSync(
      tree('manifest.json'),
      readFileSync(tree('manifest.json'), 'utf8').replace('"version": 1', '"version": 2'),
    );

  const CHOSEN = ['a byte', 'one too many', 'no list', 'its manifest', 'a version'] as const;
  itSome(
    cases.map(([what]) => what),
    CHOSEN,
  )('in %s is refused', async (one) => {
    const [, spoil, code, message] = cases.find(([what]) => what === one) ?? [];
    await node.dump(FIRST);
    spoil?.();
    await expect(node.load('check', FIRST)).rejects.toMatchObject({ code, message });
    expect(node.leftOvers()).toEqual([]);
  });

  test('because a live file was written to is told, and can be loaded', async () => {
    await node.dump(FIRST);
    appendFileSync(node.site('blog', 'uploads/a.txt'), 'more');
    const events: AgentEvent[] = [];
    await node.load('check', FIRST, { events });
    expect(events).toContainEqual({
      event: 'warning',
      message: 'files/tree/a.txt: written to since the dump, which is linked to them, and so has their new content',
    });
    const archive = await node.export(FIRST);
    await node.import(SECOND, { archive });
    await node.load('check', SECOND, { instance: 'other' });
  });

  test('or does not hold what is asked for', async () => {
    await node.dump(FIRST, { services: ['files'] });
    await expect(node.load('check', FIRST)).rejects.toMatchObject({
      code: 'dump.services',
      message: `${FIRST} holds files, and not ledger`,
    });
    await expect(node.load('check', SECOND)).rejects.toMatchObject({ code: 'dump.missing', exit: 'denied' });
    await expect(node.export(SECOND)).rejects.toMatchObject({ code: 'dump.missing' });
  });
});

const THOUSANDS = thorough ? 20 : 2;
test(`${THOUSANDS},000 files take as long as cp -al, and no memory`, async () => {
  for (let folder = 0; folder < THOUSANDS; folder++)
    node.write(
      Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`uploads/${folder}/${at}`, `${folder} ${at}`])),
    );
  const seconds = async (what: string, body: () => unknown): Promise<number> => {
    const begin = performance.now();
    await body();
    const took = (performance.now() - begin) / 1000;
    console.log(`${what}: ${took.toFixed(2)} s`);
    return took;
  };
  // Both find the inodes in memory.
  execFileSync('cp', ['-al', node.site('blog', 'uploads'), join(node.root, 'warm')]);
  const link = await seconds('cp -al', () =>
    execFileSync('cp', ['-al', node.site('blog', 'uploads'), join(node.root, 'copy')]),
  );
  const dump = await seconds('dump', () => node.dump(FIRST, { services: ['files'] }));
  console.log(`dump / cp -al: ${(dump / link).toFixed(1)}`);
  await seconds('check', () => node.load('check', FIRST, { services: ['files'] }));
  await seconds('linked', () => node.import(SECOND, { instance: 'blog', name: FIRST }));
  let archive: Uint8Array = Buffer.alloc(0);
  await seconds('export', async () => {
    archive = await node.export(FIRST);
  });
  await seconds('import', () => node.import('2026-11-25T12:00:00', { archive }));
  await seconds('check of copies', () =>
    node.load('check', '2026-11-25T12:00:00', { instance: 'other', services: ['files'] }),
  );
  console.log(`peak of memory: ${Math.round(node.peakBytes() / 1e6)} MB`);
  expect(node.peakBytes()).toBeLessThan(200e6);
}, 300_000);

test('a large file goes out to a slow reader and comes in again, and takes no memory', async () => {
  node.write({ 'ledger/large': '' });
  truncateSync(node.site('blog', 'ledger/large'), 200e6);
  await node.dump(FIRST, { services: ['ledger'] });
  const archive = await node.export(FIRST, async (pieces) => {
    if (pieces % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  });
  expect(archive.length).toBeGreaterThan(200e6);
  await node.import(SECOND, { archive });
  await node.load('check', SECOND, { instance: 'other', services: ['ledger'] });
  console.log(`peak of memory: ${Math.round(node.peakBytes() / 1e6)} MB`);
  expect(node.peakBytes()).toBeLessThan(200e6);
}, 120_000);
