// Our lines of /etc/hosts: set, replaced, removed, and every other byte left as it is.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findForeignLine, formatHostsLine, replaceHostsLine, writeHostsLine } from '../../receiver/hosts-file.ts';

const WEB1 = '203.0.113.5 web1 # kraftwerk: web1';
const WEB2 = '203.0.113.6 web2 # kraftwerk: web2';

test.each<[string, string, string | null, string]>([
  ['an empty file', '', '203.0.113.5', `${WEB1}\n`],
  ['behind the others', '127.0.0.1 localhost\n', '203.0.113.5', `127.0.0.1 localhost\n${WEB1}\n`],
  ['no line end at the end', '127.0.0.1 localhost', '203.0.113.5', `127.0.0.1 localhost\n${WEB1}\n`],
  ['replaced in its place', `a\n203.0.113.9 web1 # kraftwerk: web1\n${WEB2}\n`, '203.0.113.5', `a\n${WEB1}\n${WEB2}\n`],
  ['there already', `a\n${WEB1}\n`, '203.0.113.5', `a\n${WEB1}\n`],
  ['twice', `${WEB1}\nb\n203.0.113.9 web1 # kraftwerk: web1\n`, '203.0.113.5', `${WEB1}\nb\n`],
  ['removed', `a\n${WEB1}\n${WEB2}\nb`, null, `a\n${WEB2}\nb`],
  [
    'nothing to remove',
    `a\n${WEB2}\n10.0.0.1 web1\n# kraftwerk: web10\n`,
    null,
    `a\n${WEB2}\n10.0.0.1 web1\n# kraftwerk: web10\n`,
  ],
  ['line ends of another system', `a\r\n${WEB1}\r\nb\r\n`, null, 'a\r\nb\r\n'],
])('%s', (_, before, address, after) => {
  expect(replaceHostsLine(before, 'web1', address)).toBe(after);
});

test('whatever stands in the file: other lines stay, setting twice is setting once, removing takes it back', () => {
  const line = fc.oneof(
    fc.constantFrom(
      '',
      '# x',
      '127.0.0.1 localhost',
      WEB2,
      '10.0.0.1 web1',
      '# kraftwerk: web1x',
      '\t',
      'web1 #kraftwerk:web1y',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(line.filter((text) => !/kraftwerk:\s*web1\s*$/.test(text))), (lines) => {
      const text = `${lines.join('\n')}\n`;
      const set = replaceHostsLine(text, 'web1', '203.0.113.5');
      expect(set).toBe(`${text}${WEB1}\n`);
      expect(replaceHostsLine(set, 'web1', '203.0.113.5')).toBe(set);
      expect(replaceHostsLine(set, 'web1', null)).toBe(text);
    }),
  );
});

test.each([
  ['10.0.0.1 web1\n', { line: 1, address: '10.0.0.1' }],
  ['a\n10.0.0.1\tother  WEB1 # mine\n', { line: 2, address: '10.0.0.1' }],
  [`${WEB1}\n10.0.0.1 web1.example.com web10\n# 10.0.0.1 web1\n`, null],
])('a line of somebody else in %j', (text, found) => {
  expect(findForeignLine(text, 'web1')).toEqual(found);
});

let folder = '';
let file = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kraftwerk-hosts-'));
  file = join(folder, 'hosts');
  writeFileSync(file, '127.0.0.1 localhost\n');
});
afterEach(() => {
  chmodSync(folder, 0o755);
  rmSync(folder, { recursive: true });
});

const access = () => ({ file, isTerminal: false, env: {} });

test('written beside and renamed: mode and owner stay, nothing is left behind', async () => {
  chmodSync(file, 0o640);
  const before = statSync(file);
  expect(await writeHostsLine('web1', '203.0.113.5', access())).toBe(true);
  expect(readFileSync(file, 'utf8')).toBe(`127.0.0.1 localhost\n${WEB1}\n`);
  const after = statSync(file);
  expect([after.mode, after.uid, after.gid]).toEqual([before.mode, before.uid, before.gid]);
  expect(after.ino).not.toBe(before.ino);
  expect(readdirSync(folder)).toEqual(['hosts']);
  expect(await writeHostsLine('web1', '203.0.113.5', access())).toBe(false);
  expect(statSync(file).ino).toBe(after.ino);
  expect(await writeHostsLine('web1', null, access())).toBe(true);
  expect(readFileSync(file, 'utf8')).toBe('127.0.0.1 localhost\n');
});

test('through a symlink, which stays one', async () => {
  const link = join(folder, 'link');
  symlinkSync('hosts', link);
  await writeHostsLine('web1', '203.0.113.5', { ...access(), file: link });
  expect(readFileSync(file, 'utf8')).toContain(formatHostsLine('web1', '203.0.113.5'));
  expect(readdirSync(folder).sort()).toEqual(['hosts', 'link']);
});

/** As somebody who may not write beside the file; the sudo of this test is a script that says what it was asked to do. */
function asSomebody(sudo: string | null): { status: number | null; output: string; asked: string } {
  const bin = join(folder, 'bin');
  const log = join(folder, 'asked');
  mkdirSync(bin);
  writeFileSync(log, '');
  if (sudo !== null) {
    writeFileSync(join(bin, 'sudo'), `#!/bin/sh\necho "$*" >>'${log}'\n${sudo}\n`);
    chmodSync(join(bin, 'sudo'), 0o755);
  }
  const script = fileURLToPath(new URL('../../receiver/hosts-file.ts', import.meta.url));
  const isRoot = process.getuid?.() === 0;
  const somebody = isRoot ? { uid: 65_534, gid: 65_534 } : {};
  if (isRoot) for (const one of [file, log]) chownSync(one, 65_534, 65_534);
  // So that the script can do what sudo would.
  chmodSync(file, 0o644);
  chmodSync(folder, 0o555);
  const code = `const { writeHostsLine } = await import(process.argv[1]);
    const access = { file: process.argv[2], isTerminal: false, env: { PATH: process.argv[3] } };
    console.log(await writeHostsLine('web1', '203.0.113.5', access).catch((error) => error.message));`;
  const path = sudo === null ? bin : `${bin}:/usr/bin:/bin`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', code, script, file, path],
    {
      ...somebody,
      encoding: 'utf8',
      env: { PATH: path, TMPDIR: '/tmp' },
    },
  );
  return { status, output: (stdout + stderr).trim(), asked: readFileSync(log, 'utf8').trim() };
}

test('by sudo where only root may write: one argv, never a shell', () => {
  const { output, asked } = asSomebody('shift 2; exec "$@"');
  expect([output, readFileSync(file, 'utf8')]).toEqual(['true', `127.0.0.1 localhost\n${WEB1}\n`]);
  const copied = /^-n -- cp -- (\/tmp\/kraftwerk-hosts-\w+)\/hosts \S+\/hosts$/.exec(asked)?.[1];
  expect([copied, existsSync(copied ?? '')]).toEqual([expect.any(String), false]);
});

test.each([
  ['sudo refuses', 'exit 1', 'was not changed (sudo ended with 1)'],
  ['sudo says it did, and did not', 'exit 0', 'was not changed (not written)'],
  ['there is no sudo', null, 'cannot start sudo: it is not installed'],
])('%s', (_, sudo, message) => {
  expect(asSomebody(sudo).output).toContain(message);
  expect(readFileSync(file, 'utf8')).toBe('127.0.0.1 localhost\n');
});
