// The cascade, and quoting by target.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTemplates, quoteForNginx, quoteForShell } from '../../receiver/templates.ts';

let root: string;
let admin: string;
let builtIn: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'kraftwerk-templates-'));
  admin = join(root, 'admin');
  builtIn = join(root, 'built-in');
  for (const folder of [join(admin, 'project'), join(builtIn, 'project'), join(builtIn, 'services', 'files')])
    mkdirSync(folder, { recursive: true });
  writeFileSync(join(builtIn, 'project', 'run'), 'A=<%= it.a %>\nB=1\n');
  writeFileSync(join(builtIn, 'project', 'base'), 'base <%= it.a %>');
  writeFileSync(join(admin, 'project', 'base'), 'admin <%= it.a %>');
  writeFileSync(join(builtIn, 'project', 'includes'), '<%~ include("project/base", it) %>!');
  writeFileSync(join(builtIn, 'project', 'broken'), '<% if ( %>');
  symlinkSync('/etc/passwd', join(admin, 'project', 'escape'));
});
afterAll(() => rmSync(root, { recursive: true }));

describe('rendering', () => {
  it('quotes for the shell and keeps line breaks', () => {
    expect(createTemplates([builtIn]).render('shell', 'project/run', { a: "it's" })).toBe(`A='it'\\''s'\nB=1\n`);
  });
  it('takes the most specific file, for includes too', () => {
    const templates = createTemplates([admin, builtIn]);
    expect(templates.render('nginx', 'project/base', { a: 'x' })).toBe('admin x');
    expect(templates.render('nginx', 'project/includes', { a: 'x' })).toBe('admin x!');
  });
  it.each([
    ['project/none', 'there is no template project/none'],
    ['project/broken', 'project/broken'],
    ['project/escape', 'leads outside'],
  ])('%s is an error', (name, message) => {
    expect(() => createTemplates([admin, builtIn]).render('shell', name, {})).toThrow(message);
  });
  it('refuses a value that is not there', () => {
    expect(() => createTemplates([builtIn]).render('shell', 'project/run', {})).toThrow(
      'a template was given undefined: no text',
    );
  });
});

describe('quoting', () => {
  it('gives the shell exactly the text', () => {
    fc.assert(
      fc.property(
        fc.string().filter((text) => !text.includes('\0')),
        (text) => {
          const { stdout } = spawnSync('/bin/sh', ['-s'], {
            encoding: 'utf8',
            input: `printf %s ${quoteForShell(text)}`,
          });
          expect(stdout).toBe(text);
        },
      ),
      { numRuns: 50 },
    );
  });
  it.each(['a; location /etc/ {alias /etc/;} #', 'a b', 'a\n', '$host', '"', ''])('refuses %j for nginx', (text) => {
    expect(() => quoteForNginx(text)).toThrow('a character with a meaning in nginx');
  });
  it.each([null, undefined, {}, Number.NaN])('refuses %j', (value) => {
    expect(() => quoteForShell(value)).toThrow('no text');
  });
});
