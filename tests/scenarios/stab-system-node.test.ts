// Commands in a project's environment on a system node: who they are, and what they cannot do.
// Nightly; in CI the main of it is in system-node-isolation.test.ts.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InstanceName, Limits } from '../../node-agent/protocol.ts';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { SET_UP, type SystemNode, shellSite, startSystemNode } from '../actors/system-node.ts';

const LIMIT_MS = 60_000;

describe.skipIf(boxesAvailable() !== null)('commands on a system node', () => {
  useBoxes();
  let node: SystemNode;
  beforeAll(async () => {
    node = await startSystemNode('commands');
    await node.asRoot(SET_UP);
    for (const project of ['alpha', 'beta']) await node.deploy(project, shellSite());
  }, 600_000);
  afterAll(() => node?.cleanUp());

  interface More {
    user?: string;
    limits?: Limits;
    terminal?: boolean;
    environment?: Record<string, string>;
    signal?: AbortSignal;
  }

  async function run(argv: readonly string[], { user, limits, terminal = false, environment = {}, signal }: More = {}) {
    const said = { out: '', err: '' };
    const result = await node.node.request(
      {
        op: 'run',
        instance: 'alpha' as InstanceName,
        release: null,
        argv,
        environment,
        written: [],
        limits: limits ?? null,
        user: user ?? null,
        terminal: terminal ? { name: 'xterm', columns: 80, rows: 24 } : null,
        timeoutMs: LIMIT_MS,
      },
      {
        timeoutMs: LIMIT_MS,
        ...(signal !== undefined && { signal }),
        onEvent(event) {
          if (event.event === 'data') said[event.stream] += Buffer.from(event.data, 'base64').toString();
        },
      },
    );
    return { ...(result as { code: number }), ...said };
  }
  const sh = (script: string, more?: More) => run(['sh', '-c', script], more);

  it("are run by the site's user, with its groups and no others", async () => {
    for (const terminal of [false, true]) {
      const { code, out } = await sh('id -un; id -Gn; pwd; grep NoNewPrivs /proc/self/status; umask', { terminal });
      expect(code).toBe(0);
      const [user, groups, folder, privileges, mask] = out.replaceAll('\r', '').split('\n');
      expect({ user, groups: groups?.split(' ').sort(), folder, privileges, mask }).toEqual({
        user: 'web-alpha',
        groups: ['ngx-alpha', 'web', 'web-alpha'],
        folder: '/web/alpha/releases/v1',
        privileges: 'NoNewPrivs:\t1',
        mask: '0027',
      });
    }
  });

  it('do not become root, reach another site, or change their release', async () => {
    await node.asRoot('cp /usr/bin/id /usr/local/bin/setuid-id && chmod 4755 /usr/local/bin/setuid-id');
    const attacks: Readonly<Record<string, string>> = {
      'a setuid program': 'test "$(setuid-id -u)" = 0',
      'the numbers': `/usr/bin/python3 -c 'import os; os.setuid(0)'`,
      "another site's tree": 'cat /web/beta/releases/v1/settings.py',
      'its release': 'echo x >>app.py',
      "root's files": 'cat /etc/shadow',
      'its own run script': 'cat /web/alpha/.kraftwerk/v1/run',
      'the helper': 'cat /run/kraftwerk/.run-in-site.py',
      "the agent's environment": 'cat /proc/$PPID/environ',
      'the helper by signal': 'kill -9 $PPID',
      'another descriptor': 'test "$(ls /proc/self/fd | wc -l)" -gt 4',
    };
    for (const [what, command] of Object.entries(attacks)) {
      const tried = await sh(command);
      expect(tried.code, `${what}: ${tried.out}${tried.err}`).not.toBe(0);
    }
    expect(await sh('cat settings.py')).toMatchObject({ code: 0, out: expect.stringContaining('in the tree') });
  });

  it("load nothing as root that the site's variables name", async () => {
    await node.asRoot('rm -f /tmp/loaded; install -d -m 0777 /tmp/lib');
    const environment = { LD_PRELOAD: '/tmp/lib/none.so', PYTHONPATH: '/tmp/lib', BASH_ENV: '/tmp/lib/x' };
    const { code, err } = await sh('true', { environment, limits: { memoryBytes: 200 * 1024 * 1024, processes: 50 } });
    expect(code).toBe(0);
    // Of the program itself, and of nothing that came before it.
    expect(err.match(/none\.so/g) ?? []).toHaveLength(1);
  });

  it("as another user have that user's rights beside the site's folder, never root's", async () => {
    const { out } = await sh('id -un; id -Gn; cat settings.py; touch /var/mail/x 2>&1', { user: 'www-data' });
    expect(out).toMatch(/^www-data\n.*web-alpha.*\nSECRET/);
    for (const user of ['root', 'toor']) {
      if (user === 'toor') await node.asRoot('useradd --non-unique --uid 0 --no-create-home toor');
      await expect(sh('id', { user })).rejects.toMatchObject({ code: 'run.root' });
    }
    await node.asRoot('sed -i /^toor:/d /etc/passwd /etc/shadow');
    await expect(sh('id', { user: 'nobody-there' })).rejects.toMatchObject({ code: 'run.user' });
  });

  it('are held to their limits, and their helper tells of it', async () => {
    const limits = { memoryBytes: 64 * 1024 * 1024, processes: 30 };
    const eaten = await run(['/usr/bin/python3', '-c', 'x = bytearray(200 << 20); print(len(x))'], { limits });
    expect(eaten.code).not.toBe(0);
    expect(eaten.out).toBe('');
    const forks = 'i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); done; echo all';
    const forked = await sh(forks, { limits });
    expect(forked.err).toMatch(/fork|resource/i);
    expect(await node.asRoot('pgrep -u web-alpha -x sleep | wc -l')).toBe('0');
  });

  it('leave nothing when the receiver is gone, and run beside a deploy', async () => {
    const script = 'setsid sleep 777 & trap "" HUP; echo ready; cat version.txt; sleep 778';
    const client = new AbortController();
    const running = sh(script, { signal: client.signal }).catch((error: unknown) => error);
    await expect.poll(() => node.asRoot('pgrep -u web-alpha -x sleep | wc -l'), { timeout: 20_000 }).toBe('2');
    expect((await node.deploy('alpha', shellSite())).release).toBe(2);
    expect((await sh('echo $PPID; pwd')).out).toContain('/web/alpha/releases/v2');
    client.abort();
    await running;
    await expect.poll(() => node.asRoot('pgrep -u web-alpha -x sleep | wc -l'), { timeout: 20_000 }).toBe('0');
  });
});
