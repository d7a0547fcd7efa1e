// kraftwerk as it is typed in a project, with an ssh that shows what it was given.
// Long because: every command shares the one made-up project, and shows all of its lines.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** As scripts/kraftwerk starts it, without a look whether it is to be built. */
const KRAFTWERK = fileURLToPath(new URL('../../build/receiver.mjs', import.meta.url));
/** Prints its arguments, one in a line, then its input; ends with the code of $CODE; hears TERM. */
const FAKE_SSH = `#!/bin/sh
trap 'echo terminated; exit 7' TERM
printf '%s\\n' "$@"
if [ "$WAIT" = 1 ]; then
  while :; do sleep 0.05; done
fi
cat
echo "ssh says" >&2
exit "\${CODE:-0}"
`;

let folder = '';
let project = '';
let env: Record<string, string> = {};

beforeEach(() => {
  folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'kraftwerk-cli-')));
  project = path.join(folder, 'blog');
  const bin = path.join(folder, 'bin');
  mkdirSync(path.join(project, 'deep', 'down'), { recursive: true });
  mkdirSync(bin);
  writeFileSync(path.join(bin, 'ssh'), FAKE_SSH, { mode: 0o755 });
  writeFileSync(path.join(project, 'kraftwerk.yaml'), '');
  env = {
    PATH: `${bin}:${process.env.PATH ?? ''}`,
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CEILING_DIRECTORIES: folder,
  };
  git('init', '--quiet', '--initial-branch=master');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: project, env, encoding: 'utf8' });
}

interface Typed {
  status: number | null;
  stdout: string;
  stderr: string;
}

function kraftwerk(
  argv: readonly string[],
  more: { cwd?: string; input?: string; env?: Record<string, string> } = {},
): Typed {
  const { status, stdout, stderr } = spawnSync(process.execPath, [KRAFTWERK, ...argv], {
    cwd: more.cwd ?? project,
    env: { ...env, ...more.env },
    input: more.input ?? '',
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

/** What ssh was given. */
function words(argv: readonly string[], more?: Parameters<typeof kraftwerk>[1]): string[] {
  const { stdout, stderr } = kraftwerk(argv, more);
  expect(stderr).toBe('ssh says\n');
  return stdout.trimEnd().split('\n');
}

function addRemotes(): void {
  git('remote', 'add', 'stage', 'ssh://kraftwerk@paas:2200/blog/stage');
  git('remote', 'add', 'live', 'ssh://kraftwerk@paas:2200/blog/live.git');
}

describe('a command of the receiver', () => {
  test('goes over ssh to the receiver that the only remote names, with its target', () => {
    git('remote', 'add', 'live', 'kraftwerk@paas:blog/live');
    expect(words(['logs', '-n', '5'])).toEqual(['-T', '--', 'kraftwerk@paas', 'logs blog/live -n 5']);
    expect(words(['rollback', 'v41'], { cwd: path.join(project, 'deep', 'down') }).at(-1)).toBe(
      'rollback blog/live v41',
    );
  });

  test('goes to the remote that --remote names, in front of the command or behind it', () => {
    addRemotes();
    const expected = ['-T', '-p', '2200', '--', 'kraftwerk@paas', 'status blog/live --json'];
    expect(words(['status', '--json', '-r', 'live'])).toEqual(expected);
    expect(words(['--remote=live', 'status', '--json'])).toEqual(expected);
    expect(words(['-r', 'live', 'apps']).at(-1)).toBe('projects');
    expect(words(['version', '-r', 'live']).at(-1)).toBe('version');
  });

  test('passes input, output, what is quoted, and the exit code', () => {
    addRemotes();
    const added = kraftwerk(['keys:add', 'ci', "*/it's a stage"], { input: 'ssh-ed25519 AAAA\n', env: { CODE: '5' } });
    expect(added).toEqual({
      status: 5,
      stdout: "-T\n-p\n2200\n--\nkraftwerk@paas\nkeys:add ci '*/it'\\''s a stage'\nssh-ed25519 AAAA\n",
      stderr: 'ssh says\n',
    });
  });

  test('takes files of this machine where the receiver has stdin and stdout', () => {
    addRemotes();
    const file = path.join(project, 'blog.tar');
    const download = ['dump', '-r', 'live', '--download', file];
    expect(kraftwerk(['dump', 'live', '--download', file])).toMatchObject({
      status: 2,
      stderr: `error: dump: live is a git remote here; its target is blog/live\nhint: kraftwerk dump blog/live --download ${file}\n`,
    });
    expect(kraftwerk(download, { env: { CODE: '1' } })).toMatchObject({ status: 1, stdout: '' });
    expect(existsSync(file)).toBe(false);
    expect(kraftwerk(download)).toMatchObject({ status: 0, stdout: '' });
    const written = readFileSync(file, 'utf8');
    expect(written).toBe('-T\n-p\n2200\n--\nkraftwerk@paas\ndump blog/live --download\n');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    // It is never overwritten, and nothing is left beside it.
    expect(kraftwerk(download)).toMatchObject({
      status: 2,
      stderr: `error: there is ${file} already, and it stays as it is\nhint: another name, or remove it first\n`,
    });
    expect(readdirSync(project).filter((name) => name.startsWith('blog.tar'))).toEqual(['blog.tar']);
    const uploaded = kraftwerk(['load', '-r', 'live', `--upload=${file}`, '--no-backup']);
    expect(uploaded.stdout).toBe(`-T\n-p\n2200\n--\nkraftwerk@paas\nload blog/live --upload --no-backup\n${written}`);
    expect(kraftwerk(['dump', '-r', 'live', '--download', '-']).stdout).toMatch(/dump blog\/live --download\n$/);
    expect(kraftwerk(['load', '-r', 'live', '--upload', 'none.tar'])).toMatchObject({
      status: 2,
      stderr:
        'error: --upload: cannot read none.tar: there is no such file\nhint: --upload FILE; a target is named before it\n',
    });
  });

  test('passes signals, and waits for what ssh makes of them', async () => {
    addRemotes();
    const child: ChildProcess = spawn(process.execPath, [KRAFTWERK, 'logs', '-f', '-r', 'live'], {
      cwd: project,
      env: { ...env, WAIT: '1' },
    });
    let said = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('logs blog/live -f\n') && !said.includes('terminated')) child.kill('SIGTERM');
    });
    expect(await once(child, 'close')).toEqual([7, null]);
    expect(said).toContain('terminated\n');
  });

  test('asks ssh for a terminal nowhere but in one', () => {
    addRemotes();
    expect(words(['keys:remove', 'ci'])[0]).toBe('-T');
    const typed = spawnSync('script', ['-qec', `"${process.execPath}" "${KRAFTWERK}" keys:remove ci`, '/dev/null'], {
      cwd: project,
      env,
      encoding: 'utf8',
      input: '\u0004',
    });
    expect(typed.stdout.replaceAll('\r', '')).toContain('-t\n-p\n2200\n');
  });

  test('says more when ssh itself has failed', () => {
    addRemotes();
    expect(kraftwerk(['whoami'], { env: { CODE: '255' } })).toMatchObject({
      status: 255,
      stderr:
        'ssh says\n' +
        'error: ssh gave up: kraftwerk@paas was not reached, shows another host key, or does not know yours\n' +
        'hint: what ssh tries: ssh -v -p 2200 kraftwerk@paas whoami\n' +
        'hint: an admin lets a key in: kraftwerk keys:add NAME < KEY.pub\n' +
        'hint: where the remotes lead: kraftwerk remote\n',
    });
  });

  test('uses the ssh that git would use', () => {
    addRemotes();
    writeFileSync(path.join(folder, 'other ssh'), '#!/bin/sh\necho other "$1"\n', { mode: 0o755 });
    const command = `'${folder}/other ssh' -v`;
    const own = { env: { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'core.sshCommand', GIT_CONFIG_VALUE_0: command } };
    expect(kraftwerk(['whoami'], own).stdout).toBe('other -v\n');
    expect(kraftwerk(['whoami'], { env: { GIT_SSH_COMMAND: 'ssh -i $(touch x)' } })).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/^error: \$GIT_SSH_COMMAND: only a shell could run "ssh -i \$\(touch x\)"\nhint: /),
    });
    expect(kraftwerk(['whoami'], { env: { GIT_SSH_COMMAND: 'no-such-ssh' } })).toMatchObject({
      status: 1,
      stderr: 'error: cannot start no-such-ssh: it is not installed\nhint: apt-get install openssh-client\n',
    });
  });

  test('runs nothing that a repository names: its own core.sshCommand is told, and not used', () => {
    addRemotes();
    const proof = path.join(folder, 'proof');
    const hostile = `touch ${proof}`;
    for (const [key, value] of [
      ...[
        ['core.sshCommand', hostile],
        ['core.fsmonitor', hostile],
        ['core.pager', hostile],
        ['pager.config', hostile],
      ],
      ...[
        ['alias.remote', `!${hostile}`],
        ['alias.config', `!${hostile}`],
        ['core.hooksPath', folder],
        ['core.editor', hostile],
      ],
    ])
      git('config', key as string, value as string);
    for (const words of [['whoami'], ['logs', '-r', 'live'], ['remote'], ['remote', 'add', 'new', 'paas'], ['check']])
      expect([words, kraftwerk(words).stderr.includes('own core.sshCommand is not used')]).toEqual([
        words,
        !['remote', 'check'].includes(words[0] ?? ''),
      ]);
    expect(kraftwerk(['whoami', '-r', 'live']).stderr).toBe(
      "warning: this repository's own core.sshCommand is not used: it may have come with the repository\n" +
        `hint: if it is yours: export GIT_SSH_COMMAND='${hostile}'\nssh says\n`,
    );
    expect(existsSync(proof)).toBe(false);
  });

  test('check reads plain files alone: no link leads it out of the project, no pipe holds it up', () => {
    writeFileSync(path.join(folder, 'secret.py'), 'application = 1\n');
    writeFileSync(path.join(project, 'kraftwerk.yaml'), 'wsgi: app\nsrc: .\n');
    for (const target of [path.join(folder, 'secret.py'), '/dev/zero']) {
      symlinkSync(target, path.join(project, 'app.py'));
      const said = kraftwerk(['check']);
      expect([target, said.status]).toEqual([target, 3]);
      expect(said.stderr).not.toContain('secret');
      rmSync(path.join(project, 'app.py'));
    }
    rmSync(path.join(project, 'kraftwerk.yaml'));
    spawnSync('mkfifo', [path.join(project, 'kraftwerk.yaml')]);
    expect(kraftwerk(['check']).stderr).toMatch(/^error: kraftwerk\.yaml: expected a file, got /);
  });

  test('a bare repository among the files of a project is none', () => {
    const bare = path.join(project, 'innocent');
    spawnSync('git', ['init', '--quiet', '--bare', bare]);
    spawnSync('git', ['-C', bare, 'remote', 'add', 'live', 'kraftwerk@evil:blog/live']);
    expect(kraftwerk(['whoami'], { cwd: bare })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error: whoami: git: /),
    });
  });

  test('mistakes are answered here', () => {
    addRemotes();
    expect(kraftwerk(['logs', '-f'])).toEqual({
      status: 2,
      stdout: '',
      stderr:
        'error: logs: which target? There are 2 git remotes\n' +
        '  live: blog/live on paas:2200\n  stage: blog/stage on paas:2200\n' +
        'hint: kraftwerk logs -r live -f\nhint: kraftwerk logs -r stage -f\n',
    });
    expect(kraftwerk(['-r', 'live', 'whoami', '-r', 'stage'])).toEqual({
      status: 2,
      stdout: '',
      stderr: 'error: whoami: --remote is given twice\nhint: kraftwerk whoami [--json] [-r REMOTE]\n',
    });
    expect(kraftwerk(['-r', 'live', 'schema'])).toEqual({
      status: 2,
      stdout: '',
      stderr: 'error: schema: runs on this machine and takes no --remote\nhint: kraftwerk schema\n',
    });
    expect(kraftwerk(['statsu']).stderr).toBe(
      'error: unknown command "statsu", did you mean "status"?\nhint: kraftwerk help\n',
    );
  });

  test('outside a project there is nothing to go by', () => {
    expect(kraftwerk(['status'], { cwd: folder })).toEqual({
      status: 4,
      stdout: '',
      stderr:
        `error: status: ${folder} is in no git repository, so in no project\nhint: cd to the project\n` +
        'hint: a new one: kraftwerk init NAME\nhint: from anywhere: ssh kraftwerk@HOST help\n',
    });
    expect(kraftwerk(['status'])).toMatchObject({
      status: 4,
      stderr:
        'error: status: no git remote of this project leads to a receiver over SSH\nhint: kraftwerk remote add stage HOST\n',
    });
  });
});

describe('help', () => {
  test('tells of the commands here and there', () => {
    const { stdout } = kraftwerk(['help']);
    expect(stdout).toMatch(/^ {2}init +make a WSGI project, ready to push$/m);
    expect(stdout).toMatch(/^ {2}rollback \[TARGET\] \[vN\] +serve an earlier release again$/m);
    expect(stdout.match(/^ {2}(?:version|help)\b/gm)).toEqual(['  version', '  help']);
  });

  test('describes a command of the receiver without asking it', () => {
    const help = kraftwerk(['help', 'rollback']);
    expect(help).toEqual({
      status: 0,
      stderr: '',
      stdout: `kraftwerk rollback: serve an earlier release again

usage: kraftwerk rollback [TARGET] [vN] [--with-data] [--confirm TARGET] [--json] [-r REMOTE]

TARGET: PROJECT/ENVIRONMENT; default: what the only git remote names.
-r, --remote REMOTE: the git remote that names receiver and target.
Also called: releases:rollback.

examples:
  kraftwerk rollback blog/live
  kraftwerk rollback blog/live v41
  kraftwerk rollback blog/live --with-data
  kraftwerk rollback -r live

Without a project: ssh kraftwerk@HOST rollback blog/live
`,
    });
    expect(kraftwerk(['rollback', '--help'], { cwd: folder })).toEqual(help);
  });
});

describe('remote', () => {
  test('add makes the git remote, says so when it is there, and refuses another', () => {
    expect(kraftwerk(['remote', 'add', 'stage', 'paas:2200'], { cwd: path.join(project, 'deep') })).toEqual({
      status: 0,
      stdout: '  git push stage master\n',
      stderr: 'stage is ssh://kraftwerk@paas:2200/blog/stage. To deploy to it:\n\n',
    });
    expect(git('remote', 'get-url', 'stage')).toBe('ssh://kraftwerk@paas:2200/blog/stage\n');
    expect(kraftwerk(['remote', 'add', 'stage', 'kraftwerk@paas:2200'])).toEqual({
      status: 0,
      stdout: '  git push stage master\n',
      stderr: 'stage is ssh://kraftwerk@paas:2200/blog/stage already. To deploy to it:\n\n',
    });
    expect(kraftwerk(['remote', 'add', 'stage', 'elsewhere'])).toEqual({
      status: 1,
      stdout: '',
      stderr:
        'error: remote: the git remote stage is there already: ssh://kraftwerk@paas:2200/blog/stage\n' +
        'hint: git remote set-url stage kraftwerk@elsewhere:blog/stage\n',
    });
    expect(git('remote', 'get-url', 'stage')).toBe('ssh://kraftwerk@paas:2200/blog/stage\n');
  });

  test('add takes the name of the project from --project, else from the other remotes, else from the folder', () => {
    git('checkout', '--quiet', '-b', 'main');
    expect(kraftwerk(['remote', 'add', 'stage', 'paas', '--project', 'shop']).stdout).toBe('  git push stage main\n');
    const { stdout } = kraftwerk(['remote', 'add', 'live', '[::1]', '--json']);
    expect(JSON.parse(stdout)).toEqual({
      remote: 'live',
      target: 'shop/live',
      project: 'shop',
      environment: 'live',
      host: '::1',
      port: null,
      url: 'ssh://kraftwerk@[::1]/shop/live',
      added: true,
    });
  });

  test('add says what to do about a folder that is no project’s name', () => {
    const odd = path.join(folder, 'My Blog');
    mkdirSync(odd);
    execFileSync('git', ['init', '--quiet'], { cwd: odd, env });
    expect(kraftwerk(['remote', 'add', 'live', 'paas'], { cwd: odd })).toEqual({
      status: 2,
      stdout: '',
      stderr:
        'error: remote: the folder "My Blog" is no project\'s name: expected a lower-case letter, then at most 27 of a-z 0-9 _ -\n' +
        'hint: kraftwerk remote add live paas --project my-blog\n',
    });
  });

  test('lists the remotes that lead to a receiver', () => {
    addRemotes();
    git('remote', 'add', 'origin', 'git@github.com:alice/blog.git');
    git('remote', 'add', 'broken', 'kraftwerk@paas:Blog/live');
    git('config', 'url.kraftwerk@short:.insteadOf', 'kw:');
    git('remote', 'add', 'test', 'kw:blog/test');
    const listed = {
      status: 0,
      stdout:
        'REMOTE  TARGET      RECEIVER\nlive    blog/live   paas:2200\nstage   blog/stage  paas:2200\ntest    blog/test   short\n',
      stderr:
        'warning: the git remote broken is kraftwerk@paas:Blog/live: bad project name "Blog": a lower-case letter, then at most 27 of a-z 0-9 _ -\n',
    };
    expect(kraftwerk(['remote'])).toEqual(listed);
    expect(kraftwerk(['remote', 'list'])).toEqual(listed);
    expect(JSON.parse(kraftwerk(['remote', '--json']).stdout)[0]).toEqual({
      remote: 'live',
      target: 'blog/live',
      project: 'blog',
      environment: 'live',
      host: 'paas',
      port: 2200,
      url: 'ssh://kraftwerk@paas:2200/blog/live.git',
    });
  });
});
