/** Actor: a project of one environment on three throw-away servers, each a system node behind its own sshd. */
import { appendFileSync, chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { fingerprintOfLine } from '../../receiver/setup/trust.ts';
import { type Box, makeImage, startBox } from './box.ts';
import { waitFor } from './processes.ts';
import { createPusher, type Pusher } from './pusher.ts';
import { startReceiver, type TestReceiver } from './receiver.ts';
import { readJournal, readRef, repositoryOf } from './site.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const NAMES = ['web1', 'web2', 'web3'] as const;
export type NodeName = (typeof NAMES)[number];
export const HOST = 'blog.example';
export const TARGET = 'blog/live';
const AGENT = '/usr/local/lib/kraftwerk/agent.mjs';
/** Where the agents of a box look what is to fail. */
const FAILPOINT = '/run/kraftwerk-failpoint';
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f nobody@example';

/** A server that `setup-node` has been at, for a receiver that is nobody's. */
export function nodeImage(): Promise<string> {
  const inputs = ['templates/node', 'receiver/setup', 'scripts/box'].map((path) => join(ROOT, path));
  return makeImage('several', inputs, async (box) => {
    const receiver = await startReceiver();
    try {
      const { code, stderr } = await setUpNode(receiver, box, 'web', ['--receiver-key', KEY]);
      if (code !== 0) throw new Error(`setup-node: ${stderr}`);
      await box.run(['sed', '-i', '/agent-login/d', '/root/.ssh/authorized_keys']);
      await box.run(['sh', '-c', `echo KRAFTWERK_FAILPOINT=@${FAILPOINT} >>/etc/environment`]);
      await box.run(['apt-get', 'install', '-qy', '--no-install-recommends', 'faketime']);
    } finally {
      await receiver.cleanUp();
    }
  });
}

export function setUpNode(receiver: TestReceiver, box: Box, name: string, more: readonly string[] = []) {
  const bin = join(receiver.folder, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'ssh'), `#!/bin/sh\nexec /usr/bin/ssh -F '${box.sshConfig}' "$@"\n`);
  chmodSync(join(bin, 'ssh'), 0o755);
  const pin = fingerprintOfLine(box.hostKey);
  const args = ['setup-node', box.address, '--as', name, '--identity', box.keyFile, '--host-key', pin, ...more];
  return receiver.kraftwerkWith({ PATH: `${bin}:${process.env.PATH}` }, ...args, '--take-over');
}

export interface SeveralBoxes {
  receiver: TestReceiver;
  alice: Pusher;
  boxes: Record<NodeName, Box>;
  visit(name: NodeName, path?: string, headers?: Record<string, string>): Promise<{ status: number; body: string }>;
  /** Makes something fail or halt in the agents of a box; null: no more. */
  failAt(name: NodeName, failpoint: string | null): Promise<void>;
  /** Resolves when an agent there has halted at its failpoint. */
  halted(name: NodeName): Promise<void>;
  /** Kills the agents that wait there for the next request, and whatever else runs of them. */
  endAgents(name: NodeName): Promise<void>;
  /** Ref, journal, every node's `current` and what it answers agree. @returns the version that serves */
  expectAgreement(allowed: readonly string[], names?: readonly NodeName[]): Promise<string>;
  restart(): Promise<void>;
  /** setup-node once more, where nothing is to be changed. */
  setUpAgain(name: NodeName): Promise<void>;
  nextVersion(): string;
  lastVersion(): string;
  cleanUp(): Promise<void>;
}

/** @param disks of single boxes, as `600M` */
export async function startSeveralBoxes(disks: Partial<Record<NodeName, string>> = {}): Promise<SeveralBoxes> {
  let version = 0;
  const from = await nodeImage();
  const [web1, web2, web3] = await Promise.all(
    NAMES.map((name) => startBox({ name, from, ...(disks[name] !== undefined && { disk: disks[name] }) })),
  );
  if (web1 === undefined || web2 === undefined || web3 === undefined) throw new TypeError('a box is missing');
  const boxes = { web1, web2, web3 };
  const lines = NAMES.map(
    (name) => `  ${name}: {host: ${boxes[name].address}, host_key: "${fingerprintOfLine(boxes[name].hostKey)}"}\n`,
  );
  const receiver = await startReceiver({
    otherNodes: lines.join(''),
    environments: `
  live: {nodes: [web1, web2, web3], domain: "{project}.example"}
  one: {nodes: [web1], suffix: -one, domain: "{project}-one.example"}
  routed: {nodes: [web1, web2, web3], router: web3, suffix: -routed, domain: "{project}-routed.example"}
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
`,
  });
  const failpoint = join(receiver.folder, 'failpoint');
  const restart = (): Promise<void> => receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint}` });
  // It makes the receiver's key.
  await restart();
  for (const name of NAMES) {
    const { code, stderr } = await setUpNode(receiver, boxes[name], name);
    if (code !== 0) throw new Error(`setup-node: ${stderr}`);
  }
  await restart();
  const alice = createPusher(receiver, 'blog');
  // Debian's python3 in the box is not this machine's.
  appendFileSync(join(alice.work, 'kraftwerk.yaml'), 'healthcheck: {path: /, timeout: 20}\n');

  function visit(
    name: NodeName,
    path = '/',
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const host = boxes[name].address;
      const asked = request({ host, path, headers: { Host: HOST, ...headers }, agent: false, timeout: 20_000 });
      asked.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      asked.on('error', reject);
      asked.on('timeout', () => asked.destroy(new Error(`no answer of ${name}`)));
      asked.end();
    });
  }

  async function expectAgreement(allowed: readonly string[], names: readonly NodeName[] = NAMES): Promise<string> {
    const row = readJournal(receiver, (db) =>
      db
        .prepare(
          "SELECT t.current, r.commit_id FROM targets t JOIN releases r ON r.project = t.project AND r.environment = t.environment AND r.release = t.current WHERE t.project = 'blog'",
        )
        .get(),
    );
    expect(readRef(repositoryOf(receiver, TARGET), 'refs/heads/master')).toBe(row?.commit_id);
    const wanted = alice.git(['show', `${row?.commit_id}:version.txt`]);
    for (const name of names) {
      const link = (await boxes[name].run(['readlink', '/web/blog/current'])).trim();
      expect({ name, link }).toEqual({ name, link: `releases/v${row?.current}` });
      expect({ name, ...(await visit(name)) }).toEqual({ name, status: 200, body: wanted });
    }
    expect(allowed).toContain(wanted);
    return wanted;
  }

  return {
    receiver,
    alice,
    boxes,
    visit,
    async failAt(name, setting) {
      await boxes[name].exec(['sh', '-c', `cat >${FAILPOINT}`], setting ?? '');
    },
    async halted(name) {
      const look = 'for p in $(pgrep -f agent.mjs); do grep -q "^State:.T" /proc/$p/status && exit 0; done; exit 1';
      await waitFor(`an agent on ${name} to halt`, async () => (await boxes[name].exec(['sh', '-c', look])).code === 0);
    },
    async endAgents(name) {
      await boxes[name].exec(['pkill', '-KILL', '-f', AGENT]);
      const look = async (): Promise<boolean> => (await boxes[name].exec(['pgrep', '-f', AGENT])).code === 1;
      await waitFor(`the agents on ${name} to end`, look);
    },
    expectAgreement,
    restart,
    async setUpAgain(name) {
      const { code, stderr } = await setUpNode(receiver, boxes[name], name);
      if (code !== 0) throw new Error(`setup-node: ${stderr}`);
    },
    nextVersion: () => `version ${++version}`,
    lastVersion: () => `version ${version}`,
    async cleanUp() {
      alice.cleanUp();
      await receiver.cleanUp();
      await Promise.all(NAMES.map((name) => boxes[name].down()));
    },
  };
}
