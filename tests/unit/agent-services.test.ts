// What the agent makes of services: which variables a site gets, and how a script's answer becomes an error.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import type { AbsolutePath, InstanceName, ServiceName } from '../../node-agent/protocol.ts';
import { WRITTEN_VARIABLES } from '../../node-agent/protocol.ts';
import { runServiceScript, stateFolder } from '../../node-agent/service-script.ts';
import { readWritten, rewriteRun, writeRun } from '../../node-agent/service-variables.ts';
import { createSystem, processStart } from '../../node-agent/system.ts';
import { waitFor } from '../actors/processes.ts';

const root = mkdtempSync(join(tmpdir(), 'kraftwerk-services-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const system = createSystem({});
const node = nodeLayout({ profile: 'rootless', root: root as AbsolutePath, httpPort: 0 });
const site = siteLayout(node, 'blog' as InstanceName);
const service = 'mariadb' as ServiceName;
mkdirSync(stateFolder(site, service), { recursive: true });
mkdirSync(site.runtime, { recursive: true });
mkdirSync(site.releaseNotes(1), { recursive: true });
mkdirSync(`${site.release(1)}/.run`, { recursive: true });

describe('written variables', () => {
  it('are those that were asked for, to the end of each line', () => {
    writeFileSync(`${stateFolder(site, service)}/variables`, "DATABASE_URL=mysql://a=b?c='d'\nSECRET=no\nEMPTY=\n");
    expect(readWritten(system, site, [{ name: service, written: ['DATABASE_URL', 'EMPTY', 'ABSENT'] }])).toEqual({
      DATABASE_URL: "mysql://a=b?c='d'",
      EMPTY: '',
    });
    expect(readWritten(system, site, [{ name: 'redis' as ServiceName, written: ['REDIS_URL'] }])).toEqual({});
  });

  it('stand in the start script, quoted, and are exchanged there after a load', () => {
    const text = `#!/bin/sh\nexport A='1'\n${WRITTEN_VARIABLES}\nexec true\n`;
    const wanted = [{ name: service, written: ['DATABASE_URL'] }];
    writeRun(system, site, 1, text, readWritten(system, site, wanted));
    const run = (): string => readFileSync(`${site.releaseNotes(1)}/run`, 'utf8');
    expect(run()).toBe(`#!/bin/sh\nexport A='1'\nexport DATABASE_URL='mysql://a=b?c='\\''d'\\'''\nexec true\n`);
    system.createLink(site.current, 'releases/v1');
    rmSync(site.runLink(1), { recursive: true });
    system.createLink(site.runLink(1), '../../../../run/kraftwerk/blog/a.1');
    writeFileSync(`${stateFolder(site, service)}/variables`, 'DATABASE_URL=new $1 $& value\n');
    rewriteRun(system, site, wanted);
    expect(run()).toContain("export DATABASE_URL='new $1 $& value'\n");
    writeRun(system, site, 1, text, {});
    expect(run()).toBe("#!/bin/sh\nexport A='1'\n\nexec true\n");
  });
});

describe('a script', () => {
  const lines: string[] = [];
  const run = (text: string, limitMs = 20_000): Promise<void> =>
    runServiceScript(system, site, {
      service,
      script: 'load',
      args: ['new'],
      text,
      environment: { DUMP_SOURCE: '/dump' },
      step: 'Load',
      limitMs,
      onOutput: (line) => lines.push(line),
    });

  it('gets its step, its variables and a folder of its own, and nothing else', async () => {
    await run(
      'echo "$1 $DUMP_SOURCE"; [ -d "$STATE_DIR" ]; env | cut -d= -f1 | sort | tr "\\n" " "; pwd; read -r x || echo "no input"',
    );
    expect(lines.splice(0)).toEqual([
      'new /dump',
      expect.stringMatching(/^DUMP_SOURCE LANG PATH PWD SHLVL STATE_DIR _ \/$/),
      'no input',
    ]);
  });

  it.each([
    [
      'echo "error: the disk is full" >&2; echo "hint: make room" >&2; echo more >&2; exit 1',
      'service.failed',
      'mariadb: the disk is full',
      ['make room'],
      ['more'],
    ],
    ['echo "error: cut" >&2; exit 65', 'service.dump', 'mariadb: cut', [expect.stringContaining('load.sh')], []],
    [
      'echo "error: no answer" >&2; exit 69',
      'service.away',
      'mariadb: no answer',
      [expect.stringContaining('load.sh')],
      [],
    ],
    [
      'echo oops >&2; exit 3',
      'service.failed',
      'mariadb: load.sh new ended with exit code 3',
      [expect.stringContaining('load.sh')],
      ['oops'],
    ],
    [
      'kill -9 $$',
      'service.failed',
      'mariadb: load.sh new ended with a signal',
      [expect.stringContaining('load.sh')],
      [],
    ],
  ])('that ends badly: %s', async (text, code, message, hints, said) => {
    const error = await run(text).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, message, hints, lines: said, step: 'Load' });
  });

  it('that does not end is ended, with what it has started', async () => {
    const error = await run('sleep 300 & echo $!; wait', 1000).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ message: 'mariadb: load.sh new took longer than 1 s' });
    const pid = Number(lines.splice(0)[0]);
    await waitFor('it to end', () => processStart(pid) === null);
  });
});
