/** Actor: a project of one environment on three rootless nodes, and what every end of every deploy must leave. */
import { join } from 'node:path';
import { expect } from 'vitest';
import { processesIn, waitFor } from './processes.ts';
import { createPusher, type Pusher } from './pusher.ts';
import { startReceiver, type TestReceiver } from './receiver.ts';
import { agreement, get } from './site.ts';

export const NODES = ['try', 'web2', 'web3'] as const;
export const HOST = 'blog.localhost';
export const TARGET = 'blog/live';

export interface SeveralNodes {
  receiver: TestReceiver;
  alice: Pusher;
  /** Read by one node's agents, to make something fail there; `%n`: by the receiver itself. */
  failpoint(node: string): string;
  restart(): Promise<void>;
  /** A text that was never pushed before, and the last one. */
  nextVersion(): string;
  lastVersion(): string;
  /** Ref, journal and every node's `current` agree, and every node answers with the same version. @returns it */
  expectAgreement(allowed: readonly string[]): Promise<string>;
  expectNoOrphans(): Promise<void>;
  cleanUp(): Promise<void>;
}

export async function startSeveralNodes(): Promise<SeveralNodes> {
  let version = 0;
  const receiver = await startReceiver({
    nodes: ['web2', 'web3'],
    config: 'templates: [./templates]',
    folders: ['templates/nodes/web2/project'],
    // Nobody is there.
    otherNodes: `  gone: {host: 127.0.0.1, port: 1, host_key: "SHA256:${'a'.repeat(43)}"}\n`,
    environments: `
  live: {nodes: [try, web2, web3], domain: "{project}.localhost"}
  stage: {nodes: [try, gone], suffix: -stage, domain: "{project}-stage.localhost"}
`,
  });
  const failpoint = (node: string): string => join(receiver.folder, `failpoint.${node}`);
  const restart = (): Promise<void> => receiver.restart({ KRAFTWERK_FAILPOINT: `@${failpoint('%n')}` });
  await restart();
  const alice = createPusher(receiver, 'blog');

  async function expectAgreement(allowed: readonly string[]): Promise<string> {
    const bodies = new Set<string>();
    for (const name of NODES) {
      const at = { ...receiver, ...receiver.nodeAt(name) };
      const { release, commit } = agreement(at, TARGET);
      const { status, body } = await get(at, HOST);
      expect({ name, status }).toEqual({ name, status: 200 });
      expect(alice.git(['show', `${commit}:version.txt`])).toBe(body);
      expect(JSON.parse((await get(at, HOST, '/environ')).body)).toMatchObject({ KRAFTWERK_RELEASE: `v${release}` });
      bodies.add(body);
    }
    const [body = ''] = bodies;
    expect(bodies.size, `one version serves: ${[...bodies].join(', ')}`).toBe(1);
    expect(allowed).toContain(body);
    return body;
  }

  async function expectNoOrphans(): Promise<void> {
    for (const name of NODES) {
      const { node } = receiver.nodeAt(name);
      await waitFor(`old processes of ${name} to end`, () => {
        const web = processesIn(node).filter(({ argv }) => argv.includes('--name') && argv.includes('blog'));
        return receiver.agents().length === 0 && web.length === 3;
      });
    }
  }

  return {
    receiver,
    alice,
    failpoint,
    restart,
    nextVersion: () => `version ${++version}`,
    lastVersion: () => `version ${version}`,
    expectAgreement,
    expectNoOrphans,
    async cleanUp() {
      alice.cleanUp();
      await receiver.cleanUp();
    },
  };
}
