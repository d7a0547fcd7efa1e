// The scripts of setup-node and setup-receiver, rendered: shellcheck has nothing to say, and values stay values.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createTemplates, quoteForShell } from '../../receiver/templates.ts';
import { parseYaml } from '../../receiver/yaml-source.ts';

const templates = createTemplates({ configured: [] });
const hasShellcheck = spawnSync('shellcheck', ['--version']).status === 0;
if (!hasShellcheck) console.warn('skipped: shellcheck is not installed, the templates were not checked with it');

const HOSTILE = `it's "$(touch /tmp/kraftwerk-was-here)" \`id\``;
const file = { path: '/etc/a file', mode: '0644', base64: 'YQ==' };
const nodeData = {
  host: 'web1',
  packages: { required: ['nginx', 'runit'], optional: ['python3-pil'] },
  pythonNeeded: '3.9',
  nodeNeeded: 18,
  files: [file],
  nginxConf: 'YQ==',
  receiverKey: { line: HOSTILE, key: 'ssh-ed25519 AAAA', replace: true },
};
const receiverData = {
  data: HOSTILE,
  node: HOSTILE,
  program: HOSTILE,
  config: HOSTILE,
  build: '0.1.0 abc',
  privileged: true,
  files: [file],
  sudoers: 'YQ==',
};

const cases: [name: string, shell: 'sh' | 'bash', data: object][] = [
  ['node/probe.sh', 'sh', { required: ['nginx', 'runit'] }],
  ['node/prove.sh', 'sh', { sha256: 'abc' }],
  ['node/agent-login', 'sh', {}],
  ['node/run.sh', 'bash', { bytes: 10, name: HOSTILE, waitSeconds: 1 }],
  ['node/pre_setup.sh', 'bash', nodeData],
  ['node/setup.sh', 'bash', nodeData],
  ['node/setup.sh', 'bash', { ...nodeData, receiverKey: null }],
  ['node/post_setup.sh', 'bash', nodeData],
  ['receiver/user.sh', 'bash', receiverData],
  ['receiver/service.sh', 'bash', receiverData],
  ['receiver/service.sh', 'bash', { ...receiverData, sudoers: null }],
  ['receiver/run', 'sh', receiverData],
  ['receiver/run', 'sh', { ...receiverData, privileged: false }],
  ['receiver/finish', 'sh', {}],
  ['receiver/log', 'sh', {}],
];

function render(name: string, shell: string, data: object): string {
  const text = templates.render('shell', name, data);
  const isScript = shell === 'bash' && name !== 'node/run.sh';
  return isScript ? [templates.render('shell', 'node/functions.sh', data), text].join('\n') : text;
}

test.skipIf(!hasShellcheck).each(['sh', 'bash'])('shellcheck has nothing to say to %s', (wanted) => {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-shellcheck-'));
  try {
    for (const [index, [name, shell, data]] of cases.entries()) {
      // It warns of what is quoted on purpose.
      const text = render(name, shell, data).replaceAll(quoteForShell(HOSTILE), "'/some/where'");
      if (shell === wanted) writeFileSync(join(folder, `${index}-${name.replace('/', '-')}`), text);
    }
    // Not every script uses every function.
    const args = ['--shell', wanted, '--exclude', 'SC2317,SC2329', '--format', 'gcc', ...readdirSync(folder)];
    const { stdout, stderr } = spawnSync('shellcheck', args, { cwd: folder, encoding: 'utf8' });
    expect(`${stdout}${stderr}`).toBe('');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.each(cases)('a shell can read it: %s', (name, shell, data) => {
  const { status, stderr } = spawnSync(shell, ['-n'], { input: render(name, shell, data), encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
});

test('the runner runs nothing when the script was cut off on its way', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-run-'));
  const mark = join(folder, 'mark');
  const script = `touch ${mark}\n# the end`;
  // As root it would use the folders of a server.
  const runner = templates
    .render('shell', 'node/run.sh', { bytes: script.length, name: 'x', waitSeconds: 1 })
    .replaceAll('/run/kraftwerk-setup', join(folder, 'run'))
    .replaceAll('/var/log/kraftwerk-setup.log', join(folder, 'log'));
  const run = (input: string) => spawnSync('bash', ['-s'], { input, encoding: 'utf8' });
  try {
    expect(run((runner + script).slice(0, -4))).toMatchObject({
      status: 1,
      stdout: '@error the script did not arrive whole\n',
    });
    // Cut within the runner itself: a syntax error, and nothing else.
    expect(run(runner.slice(0, -40)).status).not.toBe(0);
    expect(() => readFileSync(mark)).toThrow('ENOENT');
    expect(run(runner + script).status).toBe(0);
    expect(readFileSync(mark, 'utf8')).toBe('');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the runner gives the exit code, and what was printed, also to a log', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-run-'));
  const script = 'echo one\necho two >&2\nread -r x || echo no input\nexit 7\n';
  const runner = templates
    .render('shell', 'node/run.sh', { bytes: script.length, name: 'x', waitSeconds: 1 })
    .replaceAll('/run/kraftwerk-setup', join(folder, 'run'))
    .replaceAll('/var/log/kraftwerk-setup.log', join(folder, 'log'));
  try {
    writeFileSync(join(folder, 'log'), 'from before\n');
    const result = spawnSync('bash', ['-s'], { input: runner + script, encoding: 'utf8' });
    expect(result).toMatchObject({ status: 7, stdout: 'one\ntwo\nno input\n', stderr: '' });
    expect(readFileSync(join(folder, 'log'), 'utf8')).toMatch(/^from before\n\n==> \S+ x\none\ntwo\nno input\n$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the configuration of a new receiver', () => {
  const text = templates.render('text', 'receiver/kraftwerk.yaml', {
    data: '/var/lib/kraftwerk',
    port: 2222,
    adminKey: 'ssh-ed25519 AAAA ada: "#1" # {x}',
    stageDomain: '{project}-stage.example.com',
    liveDomain: '{project}.example.com',
  });
  expect(parseYaml(text, { file: 'x', code: 'x' }).value).toEqual({
    data: '/var/lib/kraftwerk',
    ssh: { host: '0.0.0.0', port: 2222 },
    admins: ['ssh-ed25519 AAAA ada: "#1" # {x}'],
    default_environment: 'stage',
    nodes: { here: { local: true } },
    environments: {
      stage: { nodes: ['here'], suffix: '-stage', domain: '{project}-stage.example.com' },
      live: { nodes: ['here'], domain: '{project}.example.com' },
    },
  });
});
