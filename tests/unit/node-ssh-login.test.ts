// agent-login, the one program that a receiver may start on a node: what it understands, installs, refuses.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const TEMPLATE = fileURLToPath(new URL('../../templates/node/agent-login', import.meta.url));
const hasNode = ['/usr/bin/node', '/usr/bin/nodejs', '/usr/local/bin/node'].some((path) => existsSync(path));
if (!hasNode) console.warn('skipped: tests/unit/node-ssh-login.test.ts: no node in /usr/bin or /usr/local/bin');

const AGENT = 'process.stdin.on("end", () => console.log(JSON.stringify(process.env))).resume();\n';
const REFUSED = { status: 2, stdout: '', stderr: 'agent-login: not a command of kraftwerk\n' };

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

describe.skipIf(!hasNode)('agent-login', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kraftwerk-login-'));
  });
  beforeEach(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    for (const name of ['agent-login', 'agent-local']) copyFileSync(TEMPLATE, join(folder, name));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function login(command: string, input = '', env: Record<string, string> = {}) {
    const { status, stdout, stderr } = spawnSync(join(folder, 'agent-login'), [], {
      input,
      encoding: 'utf8',
      env: { PATH: '/nowhere', HOME: '/root', SSH_ORIGINAL_COMMAND: command, ...env },
    });
    return { status, stdout, stderr };
  }

  function install(version: string, agent = AGENT, announced = sha256(agent), bytes = String(agent.length)) {
    return login(`install ${version} ${announced} ${bytes}`, agent);
  }

  const answer = (value: object) => ({ status: 0, stdout: `\n${JSON.stringify(value)}\n`, stderr: '' });
  const files = (): string[] => readdirSync(folder).filter((name) => !name.startsWith('agent-l') && name !== '.lock');

  it('says which agent is here, installs one, and runs it', () => {
    expect(login(`agent ${sha256(AGENT)}`)).toEqual(answer({ event: 'outdated', have: 'none', version: 'none' }));
    expect(install('0.2.0')).toEqual(answer({ event: 'installed' }));
    expect(files()).toEqual(['agent.mjs', 'agent.version']);
    const ran = login(`agent ${sha256(AGENT)}`, '', {
      HTTPS_PROXY: 'http://proxy:3128',
      no_proxy: 'a b',
      LD_PRELOAD: '',
      SECRET: 'x',
      KRAFTWERK_FAILPOINT: '@/tmp/x',
    });
    expect(ran.status).toBe(0);
    const [blank, starting, environment] = ran.stdout.split('\n');
    expect([blank, starting]).toEqual(['', '{"event":"starting"}']);
    expect(JSON.parse(environment ?? '')).toEqual({
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      HOME: '/root',
      HTTPS_PROXY: 'http://proxy:3128',
      no_proxy: 'a b',
      KRAFTWERK_FAILPOINT: '@/tmp/x',
    });
    expect(login(`agent ${'0'.repeat(64)}`)).toEqual(
      answer({ event: 'outdated', have: sha256(AGENT), version: '0.2.0' }),
    );
  });

  it('ends as the agent does', () => {
    for (const [agent, status] of [
      ['process.exit(7);\n', 7],
      ['process.exit(200);\n', 200],
    ] as const) {
      install('0.2.0', agent);
      expect(login(`agent ${sha256(agent)}`).status).toBe(status);
    }
    const killed = 'process.kill(process.pid, "SIGKILL");\n';
    install('0.2.0', killed);
    const { signal } = spawnSync(join(folder, 'agent-login'), [], {
      env: { SSH_ORIGINAL_COMMAND: `agent ${sha256(killed)}` },
    });
    expect(signal).toBe('SIGKILL');
  });

  it.each([
    // installed, on offer, taken
    ['0.9.0', '0.10.0', true],
    ['0.10.0', '0.9.0', false],
    ['0.10.0', '0.10.0', true],
    ['1.0.0', '0.99.99', false],
    ['0.2.0-rc.1', '0.2.0', true],
    ['0.2.0', '0.2.0-rc.1', false],
    ['0.2.0-rc.2', '0.2.0-rc.10', true],
    ['0.2.0-rc.10', '0.2.0-rc.2', false],
    ['none', '0.0.1', true],
    ['$(reboot)', '0.0.1', true],
  ])('has %s, is offered %s', (here, offered, taken) => {
    writeFileSync(join(folder, 'agent.mjs'), 'old');
    writeFileSync(join(folder, 'agent.version'), `${here}\n`);
    expect(install(offered)).toEqual(answer(taken ? { event: 'installed' } : { event: 'refused', version: here }));
    expect(readFileSync(join(folder, 'agent.mjs'), 'utf8')).toBe(taken ? AGENT : 'old');
    expect(readFileSync(join(folder, 'agent.version'), 'utf8')).toBe(`${taken ? offered : here}\n`);
  });

  it('keeps what it has when the new one is cut off or damaged', () => {
    install('0.2.0');
    const damaged = { status: 1, stdout: '', stderr: 'agent-login: what arrived is not what was announced\n' };
    expect(install('0.3.0', 'short', sha256('longer'), '6')).toEqual(damaged);
    expect(install('0.3.0', 'other', sha256('agent'), '5')).toEqual(damaged);
    expect(readFileSync(join(folder, 'agent.mjs'), 'utf8')).toBe(AGENT);
    expect(files()).toEqual(['agent.mjs', 'agent.version']);
    // What follows the announced bytes is not taken.
    expect(install('0.3.0', 'agent and more', sha256('agent'), '5')).toEqual(answer({ event: 'installed' }));
    expect(readFileSync(join(folder, 'agent.mjs'), 'utf8')).toBe('agent');
  });

  const hash = '0'.repeat(64);
  it.each([
    '',
    'agent',
    `agent ${hash} ${hash}`,
    `agent ${hash.slice(1)}`,
    `agent ${'A'.repeat(64)}`,
    'agent $(id)',
    `agent ${hash}; id`,
    `agent ${hash}\nid`,
    'agent *',
    `install 0.2.0 ${hash}`,
    `install ../x ${hash} 5`,
    `install v1 ${hash} 5`,
    `install 0.2.0 ${hash} 0`,
    `install 0.2.0 ${hash} 05`,
    `install 0.2.0 ${hash} 123456789`,
    `install 0.2.0 ${hash} 5 6`,
    'sh -c id',
    '/bin/sh',
    'scp -t /etc/passwd',
  ])('refuses %j', (command) => {
    expect(login(command)).toEqual(REFUSED);
    expect(files()).toEqual([]);
  });

  it('as agent-local takes the command from its input', () => {
    install('0.2.0');
    const local = (input: string) => {
      const { status, stdout, stderr } = spawnSync(join(folder, 'agent-local'), [], {
        input,
        encoding: 'utf8',
        env: { SSH_ORIGINAL_COMMAND: `agent ${'0'.repeat(64)}` },
      });
      return { status, stdout, stderr };
    };
    expect(local(`agent ${sha256(AGENT)}\n`).stdout).toMatch(/^\n\{"event":"starting"\}\n\{"PATH"/);
    expect(local('agent 0\n')).toEqual(REFUSED);
    expect(local('')).toEqual(REFUSED);
    expect(local(`install 0.3.0 ${sha256('x\n')} 2\nx\n`)).toEqual(answer({ event: 'installed' }));
  });
});
