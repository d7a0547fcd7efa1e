// What keeps a server from becoming a node, all at once, and what deserves a word. Pure.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { compareVersions } from './compare-versions.ts';
import type { ServerFacts } from './facts.ts';

export const NEEDS = {
  debian: 12,
  ubuntu: 22.04,
  python: [3, 9],
  node: 18,
  /** To install everything. */
  installBytes: 1_500_000_000,
  /** When all is there. */
  workBytes: 100_000_000,
  clockSkewMs: 60_000,
} as const;

export interface Problem {
  message: string;
  hints: readonly string[];
}

export interface Intentions {
  /** This kraftwerk's. */
  version: string;
  /** The base64 of the receiver's key; null: no receiver is to be let in. */
  receiverKey: string | null;
  /** Another receiver's node may be taken over. */
  takeOver: boolean;
}

/** Everything that has to be put right first, all at once. */
export function findProblems(facts: ServerFacts, intentions: Intentions): Problem[] {
  return [
    ...rootProblems(facts),
    ...systemProblems(facts),
    ...spaceProblems(facts),
    ...versionProblems(facts),
    ...portProblems(facts),
    ...ownerProblems(facts, intentions),
  ];
}

function rootProblems({ uid, user, sudo }: ServerFacts): Problem[] {
  if (uid === 0) return [];
  const become = sudo ? 'sudo' : 'as root:';
  return [
    {
      message: `${user === '' ? 'who logs in' : user} is not root there`,
      hints: [
        `let root in with your key; on the server: ${become} cp ~${user}/.ssh/authorized_keys /root/.ssh/authorized_keys`,
        'then run this again with --user root',
      ],
    },
  ];
}

function systemProblems({ osId, osVersion, osName, kernel, systemd, apt }: ServerFacts): Problem[] {
  const problems: Problem[] = [];
  const name = osName || osId || kernel || 'unknown';
  const hints = ['kraftwerk needs Debian 12, Ubuntu 22.04, or newer'];
  const version = Number.parseFloat(osVersion);
  if (osId !== 'debian' && osId !== 'ubuntu') problems.push({ message: `its system is ${name}`, hints });
  // Debian's testing and unstable have no number.
  else if (version < NEEDS[osId]) problems.push({ message: `its system is ${name}, which is too old`, hints });
  else {
    if (!apt) problems.push({ message: 'it has no apt-get', hints });
    if (!systemd)
      problems.push({ message: 'it does not run systemd', hints: ['a container needs one that boots an init'] });
  }
  return problems;
}

function spaceProblems({ freeBytes, missing }: ServerFacts): Problem[] {
  const needed = missing.length > 0 ? NEEDS.installBytes : NEEDS.workBytes;
  if (freeBytes === null || freeBytes >= needed) return [];
  return [
    {
      message: `${formatBytes(freeBytes)} are free on /, kraftwerk needs ${formatBytes(needed)}`,
      hints: ['make room: du -xh / | sort -h | tail; apt-get clean; journalctl --vacuum-size=50M'],
    },
  ];
}

function versionProblems({ python, node, nodePath, nodeCandidate }: ServerFacts): Problem[] {
  const problems: Problem[] = [];
  const [major = 0, minor = 0] = numbersOf(python);
  const [neededMajor, neededMinor] = NEEDS.python;
  if (python !== '' && (major < neededMajor || (major === neededMajor && minor < neededMinor))) {
    problems.push({
      message: `/usr/bin/python3 is ${python}, kraftwerk needs ${NEEDS.python.join('.')}`,
      hints: ["the system's own: apt-get install --reinstall python3-minimal"],
    });
  }
  const found = node === '' ? nodeCandidate : node;
  const [nodeMajor = NEEDS.node] = numbersOf(found);
  if (nodeMajor < NEEDS.node) {
    problems.push({
      message:
        node === ''
          ? `its distribution has Node.js ${nodeCandidate}, kraftwerk needs ${NEEDS.node}`
          : `${nodePath} is Node.js ${node}, kraftwerk needs ${NEEDS.node}`,
      hints: [
        `a newer system (Debian 12, Ubuntu 24.04), or Node.js ${NEEDS.node} or newer from https://deb.nodesource.com, or as /usr/local/bin/node`,
      ],
    });
  }
  return problems;
}

function numbersOf(version: string): number[] {
  return [...version.replace(/^[0-9]+:/, '').matchAll(/[0-9]+/g)].map(([digits]) => Number(digits));
}

function portProblems({ ports, port80By, missing }: ServerFacts): Problem[] {
  if (!ports.includes(80) || port80By === 'nginx' || (port80By === '' && !missing.includes('nginx'))) return [];
  const program = port80By === '' ? 'another program' : port80By;
  return [
    {
      message: `${program} listens on port 80, which nginx needs`,
      hints: ['stop it, as: systemctl disable --now apache2'],
    },
  ];
}

function ownerProblems({ receivers, agentVersion }: ServerFacts, { version, ...wanted }: Intentions): Problem[] {
  const problems: Problem[] = [];
  if (agentVersion !== '' && compareVersions(agentVersion, version) > 0) {
    problems.push({
      message: `it has the agent of kraftwerk ${agentVersion}, which is newer than this ${version}`,
      hints: [`update kraftwerk here to ${agentVersion} or newer`],
    });
  }
  const { receiverKey, takeOver } = wanted;
  const others = receivers.filter((line) => receiverKey !== null && !line.split(/\s+/).includes(receiverKey));
  if (others.length > 0 && !takeOver) {
    const names = others.map((line) => /kraftwerk-receiver:(\S+)/.exec(line)?.[1] ?? 'unknown');
    problems.push({
      message: `it is a node of another receiver (${names.join(', ')})`,
      hints: ['a node belongs to one receiver; to take it from the other: --take-over'],
    });
  }
  return problems;
}

/** What deserves a word and hinders nothing. */
export function findNotes(facts: ServerFacts, nowMs: number): string[] {
  const notes: string[] = [];
  const skewMs = facts.clockMs - nowMs;
  if (Math.abs(skewMs) > NEEDS.clockSkewMs)
    notes.push(`its clock is ${formatDuration(Math.abs(skewMs))} ${skewMs > 0 ? 'ahead' : 'behind'}`);
  if (!['x86_64', 'aarch64'].includes(facts.machine)) notes.push(`nobody has tried ${facts.machine} yet`);
  if (facts.memoryBytes > 0 && facts.memoryBytes < 400_000_000)
    notes.push(`${formatBytes(facts.memoryBytes)} of memory are little: think of swap`);
  return notes;
}

/** `Debian 12, 2 cores, 3.9 GB RAM, 17 GB free` */
export function describeServer({ osName, cpus, memoryBytes, freeBytes }: ServerFacts): string {
  const parts = [
    osName.replace(/ \(.*\)$/, '').replace(' GNU/Linux', ''),
    cpus === 1 ? '1 CPU' : `${cpus} CPUs`,
    `${formatBytes(memoryBytes)} RAM`,
    ...(freeBytes === null ? [] : [`${formatBytes(freeBytes)} free`]),
  ];
  return parts.join(', ');
}

/** One error of everything that is in the way. */
export function problemsError(host: string, problems: readonly Problem[]): KraftwerkError {
  const [first] = problems;
  const hint = [...new Set(problems.flatMap(({ hints }) => hints))];
  const message =
    problems.length === 1 && first !== undefined
      ? `${host} cannot become a node: ${first.message}`
      : `${host} cannot become a node, for ${problems.length} reasons`;
  return new KraftwerkError('setup.server', message, {
    lines: problems.length === 1 ? [] : problems.map((problem) => `  ${problem.message}`),
    hint: [...hint, 'then run this again; so far nothing was changed'],
  });
}

function formatBytes(bytes: number): string {
  const gigabytes = bytes / 1e9;
  if (gigabytes >= 9.95) return `${Math.round(gigabytes)} GB`;
  return gigabytes >= 0.995 ? `${gigabytes.toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}

function formatDuration(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}
