// Two sites of two projects on one system node; one of them is in the hands of an attacker, who runs there whatever he likes.
// docs/isolation.md says what must hold: he reaches neither the other site, nor root, nor changes his own release.
// Nightly: a machine that cannot hide processes, scopes of systemd's, and all ends of the race for a tree that is taken back.
// Long because: one attacker, and every way that he may try.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InstanceName } from '../../node-agent/protocol.ts';
import { boxesAvailable, useBoxes } from '../actors/box.ts';
import { waitFor } from '../actors/processes.ts';
import { SET_UP, type SystemNode, shellSite, startSystemNode } from '../actors/system-node.ts';
import { thorough } from '../actors/thorough.ts';

const DENIED = /denied|not permitted|cannot/i;

describe.skipIf(boxesAvailable() !== null)('sites of a system node', () => {
  useBoxes();
  let node: SystemNode;
  beforeAll(async () => {
    node = await startSystemNode('isolated');
    await node.asRoot(SET_UP);
    for (const project of ['alpha', 'beta']) {
      await node.deploy(project, shellSite({ environ: { SECRET: `${project}'s` } }));
      await node.inside(project, 'mkdir "$UPLOADS_PATH/of" && echo "of $KRAFTWERK_PROJECT" >"$UPLOADS_PATH/of/it.txt"');
    }
  }, 600_000);
  afterAll(() => node?.cleanUp());

  const python = (code: string): string => `/usr/bin/python3 -c '${code}'`;

  it('are run by users of their own, nothing of them by root, nor their loggers', async () => {
    const processes = (await node.asRoot('ps -eo user:20,args --no-headers')).split('\n');
    const usersOf = (what: string): string[] =>
      [...new Set(processes.filter((line) => line.includes(what)).map((line) => line.split(' ')[0] ?? ''))].sort();
    expect(usersOf('gunicorn')).toEqual(['web-alpha', 'web-beta']);
    expect(usersOf('svlogd')).toEqual(['kraftwerk-log']);
    // No setuid, nothing that a group or everybody may write; setgid where it hands on the group.
    const modes = '-perm /020 -o -perm /002 -o -perm /4000 -o -type f -perm /2000';
    expect(await node.asRoot(`find /web ! -type l \\( ${modes} \\)`)).toBe('');
  });

  it('do not reach each other', async () => {
    const master = await node.asRoot("pgrep -o -u web-beta -f 'python -m gunicor[n]'");
    const socket = await node.asRoot('ls -d /run/kraftwerk/beta/*/web.sock');
    const trace = `import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(0 if libc.ptrace(0x4206, ${master}, 0, 0) == 0 else os.strerror(ctypes.get_errno()))`;
    const attacks: Readonly<Record<string, string>> = {
      'its tree': 'cat /web/beta/releases/v1/settings.py',
      'its folder': 'ls /web/beta',
      'its static files': 'cat /web/beta/current/static/site.css',
      'its virtualenvs': 'ls /web/beta/venvs',
      'its uploads': 'cat /web/beta/uploads/of/it.txt',
      'its cache': 'ls /web/beta/.cache',
      'its environment': `grep -c SECRET /proc/${master}/environ`,
      'its working folder': `ls /proc/${master}/cwd/`,
      'its open files': `ls /proc/${master}/fd/`,
      'its memory': python(`open("/proc/${master}/mem", "rb")`),
      'its log': 'cat /web/beta/log/web.a/current',
      'its run script': 'cat /web/beta/.kraftwerk/v1/run',
      'its runtime folder': 'ls /run/kraftwerk/beta',
      'its socket': python(`import socket; socket.socket(socket.AF_UNIX).connect("${socket}")`),
      'a signal to it': `kill -0 ${master}`,
      'tracing it': python(trace),
    };
    for (const [what, command] of Object.entries(attacks)) {
      const tried = await node.inside('alpha', command);
      expect(tried.code, `${what}: ${tried.out}`).not.toBe(0);
      expect(tried.out, what).toMatch(DENIED);
      // It works for whoever may: what alpha is told is not that there is nothing.
      expect(await node.box.ssh(['sh', '-c', command]), `${what}, by root`).toMatchObject({ code: 0 });
    }
  });

  it('do not reach root, and do not change what they were deployed as', async () => {
    const attacks: Readonly<Record<string, string>> = {
      'writing its release': 'echo x >>"$SITE_ROOT/current/app.py"',
      'adding to its release': 'echo x >"$SITE_ROOT/current/more.py"',
      'adding byte code': 'cd "$SITE_ROOT/current/__pycache__" && echo x >x.pyc',
      'replacing a folder': 'mv "$SITE_ROOT/current/static" "$SITE_ROOT/current/other"',
      'changing what serves': 'ln -sfn releases/v9 "$SITE_ROOT/current"',
      'moving its socket': 'ln -sfn /tmp "$SITE_ROOT/current/.run"',
      'its virtualenv': 'echo x >"$SITE_ROOT/current/venv/lib/x.pth"',
      'the mode of its folder': 'chmod 777 "$SITE_ROOT"',
      'its own run script': 'cat "$SITE_ROOT/.kraftwerk/v1/run"',
      'its own log': 'cat "$SITE_ROOT/log/web.a/current"',
      'the process group that is killed after it': 'echo "1 x" >/run/kraftwerk/alpha/group.a',
      'its own socket': 'ls /run/kraftwerk/alpha',
      'a trial': 'echo "v1 b.9" >/run/kraftwerk/alpha/trial.b',
      'the lock of its deploys': 'flock -n /run/kraftwerk/alpha.lock true',
      'the lock of the node': 'flock -n /run/kraftwerk/.node.lock true',
      'what runit runs': 'echo x >/etc/sv/alpha.web.a/run',
      'what runit does': 'echo d >/etc/sv/alpha.web.a/supervise/control',
      "nginx's file": 'echo x >/etc/nginx/sites-enabled/alpha',
      passwords: 'cat /etc/shadow',
      "root's home": 'ls /root',
      "root's group": 'chgrp root "$UPLOADS_PATH"',
    };
    for (const [what, command] of Object.entries(attacks)) {
      const tried = await node.inside('alpha', command);
      expect(tried.code, `${what}: ${tried.out}`).not.toBe(0);
      expect(tried.out, what).toMatch(DENIED);
    }
  });

  it('show nginx what it serves and nothing else', async () => {
    const byNginx = (command: string) =>
      node.box.ssh(['chpst', '-u', 'www-data:www-data:ngx-alpha:ngx-beta', 'sh', '-c', command]);
    for (const path of ['current/app.py', 'current/settings.py', 'current/venv/pyvenv.cfg', '.kraftwerk/v1/run'])
      expect((await byNginx(`cat /web/alpha/${path}`)).stderr, path).toMatch(DENIED);
    for (const path of ['releases', 'releases/v1', 'venvs', '.kraftwerk', 'log', '.cache'])
      expect((await byNginx(`ls /web/alpha/${path}`)).stderr, path).toMatch(/denied|No such file/);
    expect(await byNginx('cat /web/alpha/current/static/site.css /web/alpha/uploads/of/it.txt')).toMatchObject({
      code: 0,
      stdout: 'body {}\nof alpha\n',
    });
    expect((await byNginx('touch /web/alpha/uploads/x')).stderr).toMatch(DENIED);
  });

  it('do not lead their visitors by links to what is not theirs', async () => {
    const links: Readonly<Record<string, string>> = {
      beta: '/web/beta/uploads/of/it.txt',
      passwd: '/etc/passwd',
      source: '/web/alpha/current/app.py',
      log: '/var/log/dpkg.log',
      folder: '/web/beta/uploads',
    };
    for (const [name, target] of Object.entries(links)) {
      await node.inside('alpha', `ln -s ${target} "$UPLOADS_PATH/${name}"`);
      expect(await node.visit('alpha', `/uploads/${name}`), name).toMatchObject({ status: 403 });
      expect((await node.visit('alpha', `/uploads/${name}/of/it.txt`)).status, name).not.toBe(200);
    }
    await node.inside('alpha', 'ln -s it.txt "$UPLOADS_PATH/of/own"');
    expect(await node.visit('alpha', '/uploads/of/own')).toEqual({ status: 200, body: 'of alpha\n' });
  });

  it('are no other by a command that is run in them', async () => {
    const run = async (script: string) => {
      const said = { out: '', err: '' };
      const argv = ['sh', '-c', script];
      const none = { release: null, environment: {}, written: [], limits: null, user: null, terminal: null };
      const result = await node.node.request(
        { op: 'run', instance: 'alpha' as InstanceName, argv, ...none, timeoutMs: 60_000 },
        {
          timeoutMs: 60_000,
          onEvent(event) {
            if (event.event === 'data') said[event.stream] += Buffer.from(event.data, 'base64').toString();
          },
        },
      );
      return { ...(result as { code: number }), ...said };
    };
    expect(await run('id -un; grep NoNewPrivs /proc/self/status; cat settings.py')).toEqual({
      code: 0,
      out: 'web-alpha\nNoNewPrivs:\t1\nSECRET = "in the tree"\n',
      err: '',
    });
    for (const attack of ['cat /web/beta/releases/v1/settings.py', 'echo x >>app.py', 'cat /etc/shadow']) {
      const tried = await run(attack);
      expect(tried.code, attack).not.toBe(0);
      expect(tried.err, attack).toMatch(DENIED);
    }
  });

  it('are built without their secrets, out of sight of their processes, and nothing of it stays', async () => {
    const build = `set -eu
      id -un >built.txt; umask >>built.txt; echo "\${SECRET-none}" >>built.txt
      { grep -l 'gunicor[n]' /proc/[0-9]*/cmdline || true; } 2>/dev/null | wc -l >>built.txt
      mkdir -p static/made; echo made >static/made/x.txt; ln -s made/x.txt static/link.txt
      chmod 6777 static/made; echo '#!/bin/sh' >tool; chmod 4755 tool; mkfifo pipe
      ln -sfn /tmp venv
      ls "$SITE_ROOT/uploads" 2>&1 | grep -c denied >>built.txt || true
      echo home >"$HOME/x"
      setsid sleep 987 >/dev/null 2>&1 &`;
    const { release } = await node.deploy('alpha', shellSite({ environ: { SECRET: "alpha's" }, build }));
    const tree = `/web/alpha/releases/v${release}`;
    expect(await node.asRoot(`cat ${tree}/built.txt`)).toBe('bld-alpha\n0027\nnone\n0\n1');
    expect(await node.visit('alpha', '/static/link.txt')).toEqual({ status: 200, body: 'made\n' });
    const wrong = `find ${tree} ! -user root -o -type p -o -perm /6000 -o ! -type l -perm /022`;
    expect(await node.asRoot(wrong)).toBe('');
    expect(await node.asRoot(`readlink ${tree}/venv`)).toMatch(/^\.\.\/\.\.\/venvs\/[0-9a-f]+$/);
    expect(await node.box.ssh(['pgrep', '-f', '[s]leep 987'])).toMatchObject({ code: 1 });
    expect(await node.inside('alpha', 'head -n 1 "$SITE_ROOT/current/built.txt"')).toEqual({
      code: 0,
      out: 'bld-alpha\n',
    });
  });

  it('leave nothing running behind their release, whatever a process does to hide', async () => {
    // A daemon's way, without a variable; then also out of the cgroup, as on a machine that has none.
    const daemon = `/usr/bin/python3 -c '
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/usr/bin/env", ["env", "-i", "sleep", "7654"])
    os._exit(0)' >/dev/null 2>&1 </dev/null`;
    const found = (): Promise<string> => node.asRoot('pgrep -c -u web-alpha -f "[s]leep 7654" || true');
    const leave = 'echo $(pgrep -f "[s]leep 7654") >/sys/fs/cgroup/system.slice/runit.service/cgroup.procs';
    for (const hide of ['true', leave]) {
      await node.inside('alpha', daemon);
      await node.asRoot(hide);
      expect(await found()).toBe('1');
      await node.deploy('alpha', shellSite({ environ: { SECRET: "alpha's" } }));
      expect(await found()).toBe('0');
    }
    // One of the release that serves goes on.
    await node.inside('alpha', daemon);
    await node.deploy('beta', shellSite({ environ: { SECRET: "beta's" } }));
    expect(await found()).toBe('1');
    const order = { instance: 'alpha' as InstanceName, timeoutMs: 30_000, health: null };
    await node.node.request({ op: 'stop', ...order }, { timeoutMs: 60_000 });
    expect(await node.asRoot('pgrep -c -u web-alpha . || true')).toBe('0');
    await node.node.request({ op: 'start', ...order }, { timeoutMs: 60_000 });
    // Nobody has asked it yet: `health` is null.
    await waitFor('alpha to serve', async () => (await node.visit('alpha')).status === 200);
  });

  it('leave no process either that lists of processes do not show: neither their builds, nor when they are destroyed', async () => {
    // One whose first thread has ended, and one that is another process at every look.
    const hidden = `/usr/bin/python3 -c '
import ctypes, os, threading, time
def write():
    while True:
        open("/tmp/hidden-" + str(os.getuid()), "w").close()
        time.sleep(0.02)
if os.fork() == 0:
    os.setsid()
    threading.Thread(target=write).start()
    ctypes.CDLL(None).syscall(60, 0)
' >/dev/null 2>&1 </dev/null; (setsid /usr/bin/perl -e "while (1) { exit if fork }" >/dev/null 2>&1 </dev/null &)`;
    const uids = await node.asRoot('id -u web-gone 2>/dev/null; id -u bld-gone 2>/dev/null; true');
    expect(uids).toBe('');
    // Without a PID namespace, whose end would end them.
    await node.asRoot("printf '#!/bin/sh\\nexit 1\\n' >/usr/local/sbin/unshare && chmod +x /usr/local/sbin/unshare");
    await node.deploy('gone', shellSite({ build: hidden }));
    await node.asRoot('rm /usr/local/sbin/unshare');
    const alive = (user: string): Promise<string> =>
      node.asRoot(
        `for turn in 1 2 3 4 5; do find /proc -maxdepth 3 -path '/proc/*/task/*' -user ${user} 2>/dev/null; done | head -n 1`,
      );
    expect(await alive('bld-gone')).toBe('');
    await node.inside('gone', hidden);
    const [site, builder] = (await node.asRoot('id -u web-gone; id -u bld-gone')).split('\n');
    await node.node.request(
      { op: 'destroy', part: 'site', services: [], instance: 'gone' as InstanceName },
      { timeoutMs: 60_000 },
    );
    for (const uid of [site ?? '', builder ?? '']) {
      expect(await alive(uid)).toBe('');
      await node.asRoot(`rm -f /tmp/hidden-${uid}; sleep 0.2; test ! -e /tmp/hidden-${uid}`);
    }
  });

  it('have no jobs that come back, and what they start within limits ends, too', async () => {
    const crontab = 'echo "* * * * * touch /tmp/again" | crontab -';
    await node.asRoot(
      'test -x /usr/bin/crontab || { apt-get -q update && apt-get install -qy --no-install-recommends cron; } >/dev/null',
    );
    const limits = { memoryBytes: 256 << 20, processes: 60 };
    await node.deploy('alpha', { ...shellSite({ build: `${crontab} >cron.txt 2>&1 || true` }), limits });
    expect((await node.inside('alpha', 'cat "$SITE_ROOT/current/cron.txt"')).out).toMatch(/not allowed|denied|cannot/i);
    expect(await node.inside('alpha', `${crontab} 2>&1`)).toMatchObject({
      out: expect.stringMatching(/not allowed/) as string,
    });
    await node.inside('alpha', '(setsid sleep 4329 >/dev/null 2>&1 </dev/null &)');
    await node.deploy('alpha', shellSite());
    expect(await node.asRoot('pgrep -f "[s]leep 4329" || ls /var/spool/cron/crontabs')).toBe('');
  });

  it('have no variables that the programs of root would heed', async () => {
    // As LD_PRELOAD would be, whose library root would run: whoever is told of it leaves a file of his own.
    const environ = {
      LD_DEBUG: 'files',
      LD_DEBUG_OUTPUT: '/web/alpha/uploads/told',
      WORDS: "it's\n  two lines ",
      SECRET: "alpha's",
    };
    const release =
      'printf %s "$WORDS" >"$UPLOADS_PATH/words"; id -un >>"$UPLOADS_PATH/words"; cat >>"$UPLOADS_PATH/words"';
    await node.deploy('alpha', shellSite({ environ, release }));
    expect(await node.asRoot('cat /web/alpha/uploads/words')).toBe("it's\n  two lines web-alpha");
    expect(await node.asRoot("find /web/alpha/uploads -name 'told.*' -printf '%u\\n' | sort -u")).toBe('web-alpha');
    await node.asRoot('rm /web/alpha/uploads/told.*');
    await node.deploy('alpha', shellSite({ environ: { SECRET: "alpha's" } }));
  });

  it.runIf(thorough).each([
    ['cannot hide processes', 'exit 1'],
    // As AppArmor's unshare-userns-restrict does it on Ubuntu 25.04 and newer: root's children, too, are without capabilities.
    [
      'hides processes, and lets nobody become another user there',
      'shift 4; exec /usr/bin/unshare --pid --fork --kill-child --mount-proc setpriv --bounding-set=-all --inh-caps=-all "$@"',
    ],
  ])('are built all the same on a machine that %s', async (_, unshare) => {
    await node.asRoot(
      `printf '#!/bin/sh\n%s\n' '${unshare}' >/usr/local/sbin/unshare && chmod +x /usr/local/sbin/unshare`,
    );
    const build = 'id -un >built.txt; ls -d /proc/[0-9]* | wc -l >>built.txt; (setsid sleep 765 >/dev/null 2>&1 &)';
    const { release } = await node.deploy('alpha', shellSite({ build }));
    await node.asRoot('rm /usr/local/sbin/unshare');
    const [user, processes] = (await node.asRoot(`cat /web/alpha/releases/v${release}/built.txt`)).split('\n');
    expect([user, Number(processes) > 10]).toEqual(['bld-alpha', true]);
    expect(await node.asRoot('pgrep -f "[s]leep 765" || echo none')).toBe('none');
  });

  it('may not build links that lead out of their tree; nothing behind them is touched', async () => {
    const owners = (): Promise<string> => node.asRoot('stat -c "%U:%G %a" /etc/shadow /etc /web/beta/uploads');
    const before = await owners();
    const build =
      'rm -r static && ln -s /etc static && mkdir d && ln -s /web/beta/uploads d/x && ln -s /etc/shadow d/y';
    await expect(node.deploy('alpha', shellSite({ build }))).rejects.toMatchObject({ code: 'artifact.hostile' });
    expect(await owners()).toBe(before);
    expect(await node.visit('alpha')).toMatchObject({ status: 200 });
    expect(await node.asRoot('ls -A /web/alpha/releases | grep -c "^[.]" || true')).toBe('0');
  });

  it('do not lead root astray while it takes a built tree back, or removes one', async () => {
    const prey = 'find /root/prey -printf "%p %u:%g %m\\n" | sort';
    await node.asRoot('mkdir /root/prey && cd /root/prey && for i in $(seq 300); do mkdir $i; echo x >$i/file; done');
    const before = await node.asRoot(prey);
    // The site, which is of the same user as its build, exchanges a folder of it and a link, as fast as it can.
    const swap = `
import ctypes, os, time
exchange = ctypes.CDLL(None).renameat2
end = time.time() + 10
releases = b"/web/alpha/releases/"
while time.time() < end:
    for tree in os.listdir(releases):
        many, link = releases + tree + b"/many", releases + tree + b"/link"
        if not tree.startswith(b".") or not os.path.isdir(many): continue
        try:
            os.symlink("/root/prey", link)
            while exchange(-100, many, -100, link, 2) == 0: pass
        except OSError: pass
`;
    await node.inside('alpha', `printf %s '${swap}' >/tmp/swap.py`);
    await node.inside('alpha', 'setsid /usr/bin/python3 /tmp/swap.py >/tmp/swap.log 2>&1 & sleep 0.2');
    const build = 'mkdir new && for i in $(seq 300); do mkdir new/$i; echo x >new/$i/file; done; mv new many';
    for (const end of ['', ...(thorough ? [' && false', ' && ln -s /etc out'] : [])])
      await node.deploy('alpha', shellSite({ build: build + end })).catch((error: { code?: string }) => {
        expect(['artifact.hostile', 'build.failed']).toContain(error.code);
      });
    expect(await node.asRoot(prey)).toBe(before);
    await node.asRoot("pkill -f '[/]tmp/swap.py' || true");
    await node.deploy('alpha', shellSite());
    expect(await node.visit('alpha')).toMatchObject({ status: 200 });
  });

  it('are held to their limits', async () => {
    const eat = '/usr/bin/python3 -c "x = bytearray(200 << 20)"';
    // The kernel counts a user's processes over all boxes of this machine: there may be others of the same number.
    const fork = 'for i in $(seq 80); do sleep 1 & done; wait';
    expect(await node.inside('alpha', `${eat} && ${fork}`)).toEqual({ code: 0, out: '' });
    const limits = { memoryBytes: 128 << 20, processes: 60 };
    await node.deploy('alpha', { ...shellSite(), limits });
    expect((await node.inside('alpha', eat)).out).toContain('MemoryError');
    expect((await node.inside('alpha', fork)).out).toContain('Cannot fork');
    expect(await node.inside('beta', `${eat} && ${fork}`)).toEqual({ code: 0, out: '' });
    await expect(node.deploy('alpha', { ...shellSite({ build: eat }), limits })).rejects.toMatchObject({
      code: 'build.failed',
    });
    await node.deploy('alpha', shellSite());
    expect(await node.inside('alpha', eat)).toEqual({ code: 0, out: '' });
  });

  it.runIf(thorough)("are held by scopes of systemd's where the kernel's controllers are to be had", async () => {
    // Those of a box are its host's: so it is only seen that each command is in a scope, and runs as it should.
    const controllers = '/sys/fs/cgroup/cgroup.controllers';
    await node.asRoot(`echo 'memory pids' >/tmp/controllers && mount --bind /tmp/controllers ${controllers}`);
    const limits = { memoryBytes: 512 << 20, processes: 100 };
    const build = 'cat /proc/self/cgroup >cgroup.txt; id -un >>cgroup.txt';
    const { release } = await node.deploy('alpha', { ...shellSite({ build }), limits });
    await node.asRoot(`umount ${controllers}`);
    const scope = /0::\/kraftwerk\.slice\/kraftwerk-alpha-[ab]\.[0-9]+\.scope\n/;
    expect((await node.inside('alpha', 'cat /proc/self/cgroup')).out).toMatch(scope);
    expect(await node.asRoot(`cat /web/alpha/releases/v${release}/cgroup.txt`)).toMatch(
      /0::\/kraftwerk\.slice\/run-[\w-]+\.scope\n/,
    );
    // What has left its parents there ends with the site's process, too.
    await node.inside('alpha', '(setsid sleep 4330 >/dev/null 2>&1 </dev/null &)');
    expect(await node.asRoot('cat /proc/$(pgrep -f "[s]leep 4330")/cgroup')).toMatch(
      /kraftwerk-alpha-[ab]\.[0-9]+\.scope$/,
    );
    const before = await node.status('alpha');
    await node.deploy('alpha', shellSite());
    expect((await node.inside('alpha', 'cat /proc/self/cgroup')).out).not.toMatch(scope);
    expect(before?.processes.find(({ serves }) => serves)).toMatchObject({ state: 'run', workers: 1 });
    expect(await node.asRoot('pgrep -f "[s]leep 4330" || true')).toBe('');
    expect(await node.asRoot('systemctl list-units --no-legend --type scope "run-*" "kraftwerk-*"')).toBe('');
  });
});
