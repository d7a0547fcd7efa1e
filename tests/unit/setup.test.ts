// What a set-up decides: is the server fit, is its key believed, which port, which line.
// Long because: tables.
import { expect, test } from 'vitest';
import { firstKey } from '../../receiver/setup/admin-key.ts';
import { compareVersions } from '../../receiver/setup/compare-versions.ts';
import { parseFacts, type ServerFacts } from '../../receiver/setup/facts.ts';
import { formatNodeLine, insertNodeLine } from '../../receiver/setup/node-line.ts';
import { parsePackages } from '../../receiver/setup/packages.ts';
import { describeServer, findNotes, findProblems, problemsError } from '../../receiver/setup/problems.ts';
import { choosePort } from '../../receiver/setup/receiver-port.ts';
import { createReport } from '../../receiver/setup/report.ts';
import { fingerprintOfLine, judgeHostKey } from '../../receiver/setup/trust.ts';

const BARE = `Welcome to this server!
kraftwerk-probe=1
uid=0
user=root
sudo=yes
kernel=Linux
machine=x86_64
hostname=web1
fqdn=web1.example.com
clock=1700000000
os_id=debian
os_version=12
os_name=Debian GNU/Linux 12 (bookworm)
systemd=yes
apt=/usr/bin/apt-get
cpus=2
memory_kb=4000000
free_kb=17000000
python=
node_path=
node=
node_candidate=18.20.4+dfsg-1~deb12u1
ports=0016 1F90 
port_80_by=
ipv6=yes
firewall=no
missing=nginx runit
agent_sha256=
agent_version=
end=1`.split('\n');

const bare = parseFacts(BARE, 'web1');
const intentions = { version: '0.2.0', receiverKey: 'AAAA', takeOver: false };

function messages(change: Partial<ServerFacts>, wanted: Partial<typeof intentions> = {}): string[] {
  return findProblems({ ...bare, ...change }, { ...intentions, ...wanted }).map(({ message }) => message);
}

test('the facts of a bare server', () => {
  expect(bare).toEqual({
    uid: 0,
    user: 'root',
    sudo: true,
    kernel: 'Linux',
    machine: 'x86_64',
    hostname: 'web1',
    fqdn: 'web1.example.com',
    clockMs: 1_700_000_000_000,
    osId: 'debian',
    osVersion: '12',
    osName: 'Debian GNU/Linux 12 (bookworm)',
    systemd: true,
    apt: true,
    cpus: 2,
    memoryBytes: 4_096_000_000,
    freeBytes: 17_408_000_000,
    python: '',
    node: '',
    nodePath: '',
    nodeCandidate: '18.20.4+dfsg-1~deb12u1',
    ports: [22, 8080],
    port80By: '',
    ipv6: true,
    firewall: false,
    missing: ['nginx', 'runit'],
    agentSha256: '',
    agentVersion: '',
    receivers: [],
  });
  expect(describeServer(bare)).toBe('Debian 12, 2 CPUs, 4.1 GB RAM, 17 GB free');
  expect(findProblems(bare, intentions)).toEqual([]);
});

test.each<[string, Partial<ServerFacts>, string[]]>([
  ['Ubuntu 22.04', { osId: 'ubuntu', osVersion: '22.04', nodeCandidate: '20.1.0-1nodesource1' }, []],
  ['Debian testing', { osVersion: '' }, []],
  ['not root', { uid: 1000, user: 'ada' }, ['ada is not root there']],
  ['Fedora', { osId: 'fedora', osName: 'Fedora Linux 40' }, ['its system is Fedora Linux 40']],
  ['no os-release', { osId: '', osName: '', kernel: 'FreeBSD' }, ['its system is FreeBSD']],
  ['Debian 11', { osVersion: '11', osName: 'Debian 11' }, ['its system is Debian 11, which is too old']],
  ['a container without an init', { systemd: false }, ['it does not run systemd']],
  ['little space', { freeBytes: 180_000_000 }, ['180 MB are free on /, kraftwerk needs 1.5 GB']],
  ['little space, all installed', { freeBytes: 180_000_000, missing: [] }, []],
  ['no space, all installed', { freeBytes: 20_000_000, missing: [] }, ['20 MB are free on /, kraftwerk needs 100 MB']],
  ['an old Python', { python: 'Python 3.8.10' }, ['/usr/bin/python3 is Python 3.8.10, kraftwerk needs 3.9']],
  ['a new Python', { python: 'Python 3.13.0' }, []],
  [
    'an old Node.js',
    { node: 'v12.22.9', nodePath: '/usr/bin/node' },
    ['/usr/bin/node is Node.js v12.22.9, kraftwerk needs 18'],
  ],
  [
    'a distribution with an old Node.js',
    { nodeCandidate: '12.22.9~dfsg-1ubuntu3' },
    ['its distribution has Node.js 12.22.9~dfsg-1ubuntu3, kraftwerk needs 18'],
  ],
  ['Apache', { ports: [80], port80By: 'apache2' }, ['apache2 listens on port 80, which nginx needs']],
  ['somebody', { ports: [80] }, ['another program listens on port 80, which nginx needs']],
  ['nginx itself', { ports: [80], port80By: 'nginx' }, []],
  ['nginx, without ss', { ports: [80], missing: [] }, []],
  [
    'a newer agent',
    { agentVersion: '0.10.0' },
    ['it has the agent of kraftwerk 0.10.0, which is newer than this 0.2.0'],
  ],
  ['an older agent', { agentVersion: '0.1.9' }, []],
  ['its own receiver', { receivers: ['restrict,command="x" ssh-ed25519 AAAA kraftwerk-receiver:a'] }, []],
  [
    'another receiver',
    { receivers: ['restrict,command="x" ssh-ed25519 BBBB kraftwerk-receiver:paas'] },
    ['it is a node of another receiver (paas)'],
  ],
])('a server: %s', (_name, change, expected) => {
  expect(messages(change)).toEqual(expected);
});

test('another receiver, taken over', () => {
  const receivers = ['restrict,command="x" ssh-ed25519 BBBB kraftwerk-receiver:paas'];
  expect(messages({ receivers }, { takeOver: true })).toEqual([]);
});

test('everything that is in the way is told at once', () => {
  const problems = findProblems({ ...bare, osId: 'fedora', osName: 'Fedora', freeBytes: 1_000_000 }, intentions);
  const error = problemsError('web1', problems);
  expect([error.message, ...error.lines, ...error.hints]).toEqual([
    'web1 cannot become a node, for 2 reasons',
    '  its system is Fedora',
    '  1 MB are free on /, kraftwerk needs 1.5 GB',
    'kraftwerk needs Debian 12, Ubuntu 22.04, or newer',
    'make room: du -xh / | sort -h | tail; apt-get clean; journalctl --vacuum-size=50M',
    'then run this again; so far nothing was changed',
  ]);
});

test('what deserves a word', () => {
  expect(findNotes(bare, bare.clockMs)).toEqual([]);
  expect(findNotes({ ...bare, machine: 'riscv64', memoryBytes: 256_000_000 }, bare.clockMs + 86_400_000 * 2)).toEqual([
    'its clock is 2 days behind',
    'nobody has tried riscv64 yet',
    '256 MB of memory are little: think of swap',
  ]);
});

test.each<[string, string[], string]>([
  [
    'an image of a cloud',
    ['Please login as the user "ubuntu" rather than the user "root".', ''],
    'web1 lets only ubuntu in, and kraftwerk needs root',
  ],
  ['a switch', ['% Unknown command'], 'web1 did not answer as a server with a shell'],
  ['a connection that was cut', BARE.slice(0, 9), 'web1 did not answer as a server with a shell'],
])('no facts: %s', (_name, lines, message) => {
  expect(() => parseFacts(lines, 'web1')).toThrow(message);
});

test.each([
  ['0.2.0', '0.2.0', 0],
  ['0.10.0', '0.9.9', 1],
  ['1.0.0-rc.1', '1.0.0', -1],
  ['1.0.0-rc.10', '1.0.0-rc.9', 1],
  ['1.0', '1.0.0', 0],
])('%s against %s', (a, b, sign) => {
  expect([Math.sign(compareVersions(a, b)), Math.sign(compareVersions(b, a)) || 0]).toEqual([sign, -sign || 0]);
});

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f';
const OTHER = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA';
const PRINT = fingerprintOfLine(KEY);
const evidence = { host: 'web1', shown: KEY, given: null, pinned: null, known: [], yes: false };

test.each([
  ['nothing known', {}, null],
  ['--yes', { yes: true }, 'not compared with anything (--yes)'],
  ['--host-key', { given: PRINT, known: [OTHER] }, 'as --host-key says'],
  ['the configuration', { pinned: PRINT }, 'as the configuration says'],
  ['known_hosts', { known: [OTHER, KEY] }, 'known to your ssh'],
  ['known_hosts with another type', { known: ['ssh-rsa AAAA'] }, null],
])('a host key is believed: %s', (_name, change, because) => {
  expect(judgeHostKey({ ...evidence, ...change })).toEqual({ fingerprint: PRINT, because });
});

test.each([
  ['--host-key', { given: fingerprintOfLine(OTHER), known: [KEY], yes: true }, 'not the one of --host-key'],
  [
    'the configuration',
    { pinned: fingerprintOfLine(OTHER), yes: true },
    `the configuration has ${fingerprintOfLine(OTHER)}`,
  ],
  ['known_hosts', { known: [OTHER], yes: true }, 'your known_hosts has another one'],
])('a host key is not believed: %s', (_name, change, message) => {
  expect(() => judgeHostKey({ ...evidence, ...change })).toThrow(message);
});

const line = { name: 'web1.example.com', host: 'web1.example.com', user: 'root', port: 22, hostKey: PRINT };

test.each([
  [{}, `web1.example.com: {user: root, port: 22, host_key: "${PRINT}"}`],
  [
    { name: 'web1', host: '2001:db8::1', port: 2200 },
    `web1: {host: "2001:db8::1", user: root, port: 2200, host_key: "${PRINT}"}`,
  ],
  [{ name: '10.0.0.5', host: '10.0.0.5' }, `"10.0.0.5": {user: root, port: 22, host_key: "${PRINT}"}`],
  [{ name: 'on', host: 'on' }, `"on": {user: root, port: 22, host_key: "${PRINT}"}`],
])('the line of a node: %j', (change, expected) => {
  expect(formatNodeLine({ ...line, ...change })).toBe(expected);
});

test.each([
  [
    'after the last',
    'nodes:\n  a: {local: true}\n\n# next\nenvironments:\n',
    'nodes:\n  a: {local: true}\n  NEW\n\n# next\nenvironments:\n',
  ],
  [
    'as they are indented',
    'nodes: # these\n\n    # one\n    a: 1\n    # two\n    b:\n      c: 2\n',
    'nodes: # these\n\n    # one\n    a: 1\n    # two\n    b:\n      c: 2\n    NEW\n',
  ],
  ['at the end, without a line break', 'nodes:\n  a: 1', 'nodes:\n  a: 1\n  NEW'],
  ['with the line breaks that are there', 'nodes:\r\n  a: 1\r\nb: 2\r\n', 'nodes:\r\n  a: 1\r\n  NEW\r\nb: 2\r\n'],
  ['not into a flow mapping', 'nodes: {a: 1}\n', null],
  ['not where there are none', 'other:\n  nodes:\n    a: 1\n', null],
])('a line is put in: %s', (_name, text, expected) => {
  expect(insertNodeLine(text, 'NEW')).toBe(expected);
});

test('the list of packages', () => {
  expect(parsePackages('# what\nnginx\n\nlibstdc++6 # why\npython3-pil?\n')).toEqual({
    required: ['nginx', 'libstdc++6'],
    optional: ['python3-pil'],
  });
  expect(() => parsePackages('nginx; reboot')).toThrow('node/packages: "nginx; reboot" is no package');
});

const free = { wanted: null, configured: null, ports: [] as number[], receiverPort: null };
test.each([
  ['nothing listens', {}, 22, []],
  ['sshd is on 22', { ports: [22] }, 2222, []],
  [
    '22 is wanted, and sshd has it',
    { wanted: 22, ports: [22] },
    22,
    ['sshd listens on port 22, where the receiver was to be'],
  ],
  ['22 and 2222 are taken', { ports: [22, 2222] }, 2222, ['another program listens on port 2222']],
  ['one is wanted', { wanted: 2200, ports: [22] }, 2200, []],
  ['the receiver itself listens', { configured: 2222, ports: [22, 2222], receiverPort: 2222 }, 2222, []],
  ['another has its port', { configured: 2222, ports: [22, 2222] }, 2222, ['another program listens on port 2222']],
  [
    'another one is wanted now',
    { configured: 2222, wanted: 2200 },
    2222,
    ['/etc/kraftwerk.yaml says port 2222, --port says 2200'],
  ],
])("the receiver's port: %s", (_name, change, port, problems) => {
  const chosen = choosePort({ ...free, ...change });
  expect([chosen.port, chosen.problems.map(({ message }) => message)]).toEqual([port, problems]);
});

test('the first admin is the first plain key', () => {
  const text = `# keys\ncommand="echo no" ${OTHER} cloud\nrestrict ${OTHER} x\nnonsense\n${KEY} ada@laptop\n`;
  expect(firstKey(text)?.line).toBe(`${KEY} ada@laptop`);
  expect(firstKey('')).toBe(null);
});

test('a report tells steps, changes and failures, and leaves out what apt says thrice', () => {
  const lines: string[] = [];
  let now = 0;
  const report = createReport({ write: (text) => lines.push(text), now: () => now });
  for (const said of [
    '@step Packages',
    'Unpacking nginx ...',
    'Setting up nginx (1.22) ...',
    '@changed installed nginx',
  ])
    report.onScriptLine(said);
  now = 1234;
  for (const said of ['@step System', '@note waiting', 'E: broken', '@error it is broken', '@hint mend it'])
    report.onScriptLine(said);
  report.close();
  expect(lines).toEqual([
    '       Setting up nginx (1.22) ...',
    '       changed: installed nginx',
    '-----> Packages    1 change                                  1.2s',
    '       waiting',
    '       E: broken',
  ]);
  expect([report.changes(), report.stepName(), report.failure(), report.tail()]).toEqual([
    1,
    'System',
    { message: 'it is broken', hints: ['mend it'] },
    ['Unpacking nginx ...', 'Setting up nginx (1.22) ...', 'E: broken'],
  ]);
});
