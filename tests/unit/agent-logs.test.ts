import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import { followLogs, lastWords, readLogs } from '../../node-agent/logs.ts';
import { parseAbsolutePath, parseInstanceName } from '../../node-agent/protocol.ts';
import { createSystem } from '../../node-agent/system.ts';

const system = createSystem({});
let root: string;
let site: ReturnType<typeof siteLayout>;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kraftwerk-logs-'));
  const profile = { profile: 'rootless', root: parseAbsolutePath(root, 'root'), httpPort: 0 } as const;
  site = siteLayout(nodeLayout(profile), parseInstanceName('blog', 'instance'));
  for (const slot of ['a', 'b'] as const) mkdirSync(site.slotLog(slot), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const QUERY = { lines: 100, process: null, release: null };
let second = 0;
const line = (text: string): string => `2026-11-22T10:00:${String(++second % 60).padStart(2, '0')}.00000 ${text}\n`;
const file = (slot: 'a' | 'b', name = 'current'): string => join(site.slotLog(slot), name);
beforeEach(() => {
  second = 0;
});

it('both slots in the order of time, each line with its release', () => {
  writeFileSync(file('a'), line('==> v1 web starts') + line('one'));
  writeFileSync(file('b'), line('==> v2 web starts'));
  appendFileSync(file('a'), line('==> v1 web ended with exit code 0'));
  writeFileSync(file('b'), line('two'), { flag: 'a' });
  expect(readLogs(system, site, QUERY).lines.map(({ release, text }) => `${release} ${text}`)).toEqual([
    '1 ==> v1 web starts',
    '1 one',
    '2 ==> v2 web starts',
    '1 ==> v1 web ended with exit code 0',
    '2 two',
  ]);
  expect(readLogs(system, site, { ...QUERY, release: 2, lines: 1 }).lines.map(({ text }) => text)).toEqual(['two']);
  expect(readLogs(system, site, { ...QUERY, lines: 0 }).lines).toEqual([]);
});

it('lines before the first mark belong to the release that it ends; without any mark, to the one that runs', () => {
  writeFileSync(file('a'), line('late') + line('==> v7 web ended with exit code 0'));
  writeFileSync(file('b'), line('talkative'));
  mkdirSync(site.runtime, { recursive: true });
  writeFileSync(site.running('b'), 'v8\n');
  expect(readLogs(system, site, QUERY).lines.map(({ release }) => release)).toEqual([7, 7, 8]);
});

it('files that svlogd has put aside come first', () => {
  writeFileSync(file('a', '@400000006b033f42.s'), line('==> v1 web starts'));
  writeFileSync(file('a'), line('one'));
  expect(readLogs(system, site, QUERY).lines.map(({ text }) => text)).toEqual(['==> v1 web starts', 'one']);
});

it('following misses nothing across rotations, and waits for a slow reader', async () => {
  writeFileSync(file('a'), line('==> v1 web starts'));
  const { cursors } = readLogs(system, site, QUERY);
  const gone = new AbortController();
  const seen: string[] = [];
  const [first, half] = [line('first'), line('half')];
  appendFileSync(file('a'), first + half.slice(0, -3));
  const expected = ['first', 'half', 'second', 'third', 'fourth'];
  await followLogs(
    system,
    site,
    cursors,
    QUERY,
    async ({ text }) => {
      seen.push(text);
      if (text === 'first') {
        // Rotated twice while the reader was at its first line.
        appendFileSync(file('a'), half.slice(-3) + line('second'));
        renameSync(file('a'), file('a', '@400000006b033f42.s'));
        writeFileSync(file('a'), line('third'));
        renameSync(file('a'), file('a', '@400000006b033f43.s'));
        writeFileSync(file('a'), line('fourth'));
      }
      if (seen.length === expected.length) gone.abort();
    },
    gone.signal,
  );
  expect(seen).toEqual(expected);
});

it('the cause stays in sight under what gunicorn says of its own end', () => {
  const worker = [
    '[ERROR] Exception in worker process',
    'Traceback (most recent call last):',
    '  File "app.py", line 1',
    "ModuleNotFoundError: No module named 'flsk'",
  ];
  const arbiter = [
    'Traceback (most recent call last):',
    '  File "arbiter.py", line 209, in run',
    "gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>",
  ];
  const again = 'During handling of the above exception, another exception occurred:';
  expect(lastWords([...worker, '[INFO] Shutting down: Master', ...arbiter, again, ...arbiter], 6)).toEqual([
    ...worker,
    '[INFO] Shutting down: Master',
  ]);
  expect(lastWords(worker, 2)).toEqual(worker.slice(-2));
});
