// A system node: a throw-away server with its own systemd, runit and nginx, where the agent works as root and every site has
// a user of its own. What sites cannot do there: system-node-isolation.test.ts
// Nightly: most points at which an agent is killed, the byte code, and a power cut beside the reboot.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InstanceName } from '../../node-agent/protocol.ts';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { waitFor } from '../actors/processes.ts';
import { SET_UP, type SystemNode, shellSite, startSystemNode } from '../actors/system-node.ts';
import { itSome, thorough } from '../actors/thorough.ts';

const SLOW_MS = 300_000;

describe.skipIf(boxesAvailable() !== null)('a system node', () => {
  useBoxes();
  let node: SystemNode;
  beforeAll(async () => {
    node = await startSystemNode('system');
  }, 600_000);
  afterAll(() => node?.cleanUp());

  const serves = async (project: string): Promise<boolean> =>
    (await node.visit(project).catch(() => null))?.status === 200;

  it('is not one before it is set up: says all that is missing, and what to do', async () => {
    await expect(node.hello()).rejects.toMatchObject({
      code: 'node.setup',
      message: 'the node is not set up: there is no group web',
      lines: ['there is no folder /web', 'there is no /etc/nginx/conf.d/kraftwerk.conf'],
      hints: ['kraftwerk setup-node HOST mends it'],
    });
    await node.asRoot(SET_UP);
    expect(await node.hello()).toMatchObject({ httpPort: 80 });
    for (const service of ['nginx', 'runit']) {
      await node.asRoot(`systemctl stop ${service}`);
      const message = `the node is not set up: ${service} does not run (systemctl start ${service})`;
      await expect(node.hello()).rejects.toMatchObject({ message });
      await node.asRoot(`systemctl start ${service}`);
    }
  });

  it('serves sites side by side, their static files and uploads; an unknown host is closed', async () => {
    // Both users are made at once.
    await Promise.all(
      ['alpha', 'beta'].map((project) => node.deploy(project, shellSite({ environ: { SECRET: `${project}'s` } }))),
    );
    for (const project of ['alpha', 'beta']) {
      expect(await node.visit(project)).toEqual({ status: 200, body: 'fine' });
      expect(await node.visit(project, '/static/site.css')).toEqual({ status: 200, body: 'body {}\n' });
      const write = 'mkdir "$UPLOADS_PATH/of" && echo "of $KRAFTWERK_PROJECT" >"$UPLOADS_PATH/of/it.txt"';
      expect(await node.inside(project, write)).toEqual({ code: 0, out: '' });
      expect(await node.visit(project, '/uploads/of/it.txt')).toEqual({ status: 200, body: `of ${project}\n` });
      expect(await node.inside(project, 'echo "$SECRET"; id -un; id -Gn')).toEqual({
        code: 0,
        out: `${project}'s\nweb-${project}\nweb-${project} ngx-${project} web\n`,
      });
    }
    await expect(node.visit('nobody')).rejects.toThrow('socket hang up');
    expect(await node.asRoot("curl -s -H 'Host: alpha.example' 'http://[::1]/'")).toBe('fine');
  });

  it('runs the release command as the site, with its variables', async () => {
    const release = 'echo "$(id -un) $SECRET $(pwd)" && echo it >"$UPLOADS_PATH/released"';
    const deployed = await node.deploy('alpha', shellSite({ environ: { SECRET: 'told' }, release }));
    const line = `web-alpha told /web/alpha/releases/v${deployed.release}`;
    expect(deployed.events).toContainEqual({ event: 'output', step: 'Release', line });
    expect(await node.asRoot('stat -c "%U:%G %a" /web/alpha/uploads/released')).toBe('web-alpha:www-data 640');
  });

  it("installs what is asked for as the site; what is made of it is root's, and the site can use it", async () => {
    const setup = `
import os, pwd, setuptools
with open("WHO", "w") as file:
    few = len([name for name in os.listdir("/proc") if name.isdigit()]) < 20
    print(pwd.getpwuid(os.getuid()).pw_name, os.environ.get("SECRET", "none"), few, file=file)
setuptools.setup(name="inner", version="1.0", py_modules=["inner"], data_files=[("who", ["WHO"])],
                 entry_points={"console_scripts": ["inner = inner:main"]})
`;
    const files = {
      'requirements.txt': './lib\n',
      'lib/setup.py': setup,
      'lib/inner.py': 'def main():\n    print("inner runs")\n',
    };
    await node.deploy('gamma', shellSite({ environ: { SECRET: 'x' } }, files));
    const use = 'cd "$SITE_ROOT/current/venv" && cat who/WHO && bin/inner && rm -r who';
    expect(await node.inside('gamma', use)).toEqual({
      code: 1,
      out: expect.stringMatching(/^bld-gamma none True\ninner runs\nrm: .*Permission denied/) as string,
    });
    expect(await node.asRoot('find /web/gamma/venvs /web/gamma/releases ! -user root')).toBe('');
  });

  it('builds on its disk and not in /tmp, which may be memory; leaves nothing there, and tells of a full one', async () => {
    const installed = (version: string, file: string) => ({
      'requirements.txt': './lib\n',
      'lib/setup.py': `
import setuptools, tempfile
with ${file} as file:
    for _ in range(64):
        file.write(bytes(1 << 16))
setuptools.setup(name="inner", version="${version}", py_modules=["inner"])
`,
      'lib/inner.py': '',
    });
    const temporary = 'tempfile.TemporaryFile(buffering=0)';
    const left = (): Promise<string> => node.asRoot('ls -A /web/brief | grep -Fx .build || true');
    await node.asRoot('mount -t tmpfs -o size=1m,mode=1777 small /tmp');
    try {
      const build = 'head -c 4194304 /dev/zero >"$(mktemp)"';
      await node.deploy('brief', shellSite({ build }, installed('1.0', temporary)));
      expect(await left()).toBe('');
    } finally {
      await node.asRoot('umount /tmp');
    }
    const told = 'a disk of the node is full; temporary files of builds are in /web/brief/.build: df -h /web/brief';
    const full = shellSite({ build: 'cat /etc/hostname >/dev/full' }, installed('1.0', temporary));
    await expect(node.deploy('brief', full)).rejects.toMatchObject({
      code: 'build.failed',
      hints: ["its output is above; it runs in the new tree, without the site's variables", told],
    });
    const fuller = shellSite({}, installed('1.1', 'open("/dev/full", "wb", buffering=0)'));
    await expect(node.deploy('brief', fuller)).rejects.toMatchObject({
      code: 'node.disk-full',
      message: 'there was no room for the packages on the node',
      hints: [told, 'make room there, or lower keep_releases, then push again'],
    });
    expect(await left()).toBe('');
    expect(await node.visit('brief')).toMatchObject({ status: 200 });
  });

  it.runIf(thorough)("has byte code, which is root's, when a deploy is done", async () => {
    const module = `X = """${'x'.repeat(8000)}"""\n`;
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`pkg/m${index}.py`, module]));
    for (const [turn, files] of [many, { ...many, 'pkg/m7.py': 'X = 7\n' }].entries()) {
      const { release } = await node.deploy('alpha', shellSite({}, files));
      const find = `find /web/alpha/releases/v${release}`;
      const found = await node.asRoot(`${find} -name "*.pyc" -user root -group web-alpha -perm 640 | wc -l`);
      expect([turn, Number(found)]).toEqual([turn, 42]);
      expect(await node.asRoot(`${find} ! -user root`)).toBe('');
    }
    const use = 'cd "$SITE_ROOT/current/pkg/__pycache__" && cat m1.*.pyc m7.*.pyc >/dev/null && test ! -w .';
    expect(await node.inside('alpha', use)).toEqual({ code: 0, out: '' });
  });

  it('mends users, groups and folders that somebody has changed', async () => {
    await node.asRoot(`gpasswd -q -d www-data ngx-gamma; gpasswd -q -d web-gamma web
      chmod 777 /web/gamma /web/gamma/.kraftwerk; chown web-gamma /web/gamma`);
    await node.deploy('gamma', shellSite());
    const owners = await node.asRoot('stat -c "%U:%G %a" /web/gamma /web/gamma/.kraftwerk; id -Gn web-gamma');
    expect(owners).toBe('root:ngx-gamma 750\nroot:root 700\nweb-gamma web ngx-gamma');
    expect(await serves('gamma')).toBe(true);
  });

  it('does not give a site to a user of that name who is somebody else', async () => {
    await node.asRoot('useradd --create-home web-delta');
    await expect(node.deploy('delta', shellSite())).rejects.toMatchObject({
      code: 'node.user',
      message: "the user web-delta is not the site's: its home is /home/web-delta, not /web/delta",
    });
    expect(await node.asRoot('ls /web')).not.toContain('delta');
    await node.asRoot('userdel --remove web-delta');
  });

  it("does not overwrite what the admin has in nginx's folder under a project's name", async () => {
    const file = '/etc/nginx/sites-enabled/epsilon';
    await node.asRoot(`echo "server { listen 127.0.0.1:81; return 200 'admin'; }" >${file} && systemctl reload nginx`);
    await expect(node.deploy('epsilon', shellSite())).rejects.toMatchObject({
      code: 'site.taken',
      message: `${file} on the node is not kraftwerk's`,
    });
    expect(await node.asRoot('curl -s 127.0.0.1:81')).toBe('admin');
    await node.asRoot(`rm ${file}`);
    await node.deploy('epsilon', shellSite());
    expect(await serves('epsilon')).toBe(true);
  });

  const KILLED_AT = [
    'account:1',
    'account:2',
    'prepare.unpacked:1',
    'virtualenv.built:1',
    'prepare.packages:1',
    'prepare.publish:1',
    'trial:1',
  ] as const;
  itSome(KILLED_AT, ['account:1', 'trial:1'])('goes on after its agent was killed at %s', async (failpoint) => {
    const project = `k-${failpoint.replace(/[^a-z]/g, '-').slice(0, 20)}${failpoint.at(-1)}`;
    await node.failAt(`prepare:${failpoint}:kill`);
    await expect(node.deploy(project, shellSite({ build: 'sleep 0.1' }))).rejects.toMatchObject({ code: 'node.lost' });
    await node.failAt(null);
    await node.abandon(project);
    expect(await node.asRoot(`ls -A /web/${project}/releases /web/${project}/venvs | grep -v : || true`)).toBe('');
    expect((await node.asRoot(`pgrep -u web-${project} || true`)).trim()).toBe('');
    await node.deploy(project, shellSite());
    expect(await serves(project)).toBe(true);
  });

  it('loses no request when a release follows another', async () => {
    let stop = false;
    const told = new Map<string, number>();
    const visitors = Array.from({ length: 4 }, async () => {
      while (!stop) {
        const one = await node.visit('beta').then(
          ({ status }) => String(status),
          (error: Error) => error.message,
        );
        told.set(one, (told.get(one) ?? 0) + 1);
      }
    });
    const times: number[] = [];
    for (let turn = 0; turn < (thorough ? 3 : 1); turn++)
      times.push(Math.round((await node.deploy('beta', shellSite())).ms));
    stop = true;
    await Promise.all(visitors);
    console.log(`deploys under load: ${times.join(', ')} ms; ${JSON.stringify(Object.fromEntries(told))}`);
    expect([...told.keys()]).toEqual(['200']);
  });

  it('stops and starts a site, and shows its log', async () => {
    const order = { instance: 'gamma' as InstanceName, timeoutMs: 10_000, health: null };
    await node.node.request({ op: 'stop', ...order }, { timeoutMs: 60_000 });
    expect(await node.visit('gamma')).toMatchObject({ status: 503 });
    await node.node.request({ op: 'start', ...order }, { timeoutMs: 60_000 });
    await waitFor('gamma to serve', () => serves('gamma'));
    const lines: string[] = [];
    const logs = {
      op: 'logs',
      instance: order.instance,
      lines: 50,
      follow: false,
      process: null,
      release: null,
    } as const;
    await node.node.request(logs, {
      timeoutMs: 30_000,
      onEvent: (event) => void (event.event === 'log' && lines.push(event.text)),
    });
    expect(lines.join('\n')).toMatch(/==> v2 web starts[\s\S]*==> v2 web ended[\s\S]*==> v2 web starts/);
    expect(await node.status('gamma')).toMatchObject({ current: { release: 2 }, stopped: false });
  });

  it("does not stop the machine's own runit", async () => {
    const shutdown = node.node.request({ op: 'shutdown' }, { timeoutMs: 30_000 });
    await expect(shutdown).rejects.toMatchObject({ code: 'node.system' });
    expect(await serves('alpha')).toBe(true);
  });

  itSome(['a reboot', 'a power cut'], ['a reboot'])(
    'serves again within a minute after %s',
    async (what) => {
      await node.deploy('alpha', shellSite());
      const stop = { op: 'stop', instance: 'gamma' as InstanceName, timeoutMs: 10_000, health: null } as const;
      await node.node.request(stop, { timeoutMs: 60_000 });
      const begin = performance.now();
      if (what === 'a reboot') await node.box.reboot();
      else {
        await node.box.kill();
        await node.box.up();
      }
      const booted = performance.now();
      for (const project of ['alpha', 'beta']) await waitFor(`${project} to serve`, () => serves(project), 60_000);
      const end = performance.now();
      console.log(
        `${what}: sshd after ${Math.round(booted - begin)} ms, both sites after ${Math.round(end - begin)} ms`,
      );
      expect(end - begin).toBeLessThan(60_000);
      // What was stopped stays so.
      expect(await node.visit('gamma')).toMatchObject({ status: 503 });
      expect(await node.visit('beta', '/static/site.css')).toMatchObject({ status: 200 });
      const modes = await node.asRoot(
        'stat -c "%U:%G %a" /run/kraftwerk /run/kraftwerk/beta /run/kraftwerk/beta/[ab].*',
      );
      expect(modes).toBe('root:root 711\nroot:www-data 750\nroot:www-data 750');
      await node.deploy('alpha', shellSite());
      expect(await serves('alpha')).toBe(true);
    },
    SLOW_MS,
  );
});
