// What a pusher reads of a deploy, and what is kept of it: an owner's name is in the first alone, and there only if they may see it.
import { expect, it } from 'vitest';
import type { Identity } from '../../receiver/access.ts';
import type { DeployOrder } from '../../receiver/deploy/deploy.ts';
import { tellDeploy } from '../../receiver/deploy/tell.ts';
import { TakenError } from '../../receiver/taken.ts';
import type { Target } from '../../receiver/target.ts';

const TARGET = { project: 'blog', environment: 'live' } as Target;
const OWNER = { project: 'secret', environment: 'live' } as Target;

async function tell(identity: Identity, when: 'prepare' | 'run') {
  const said: string[] = [];
  const kept: string[] = [];
  const logged: unknown[] = [];
  const error = new TakenError({
    code: 'domain.taken',
    what: 'the domain www.example.com belongs to',
    owner: OWNER,
    reason: 'www.example.com belongs to',
    hint: 'choose another',
  });
  const services = {
    journal: { target: () => null, saveTranscript: (_: number, text: string) => kept.push(text) },
    deployer: {
      run: (_: unknown, __: unknown, ___: unknown, begun: (id: number) => void) => {
        begun(7);
        return Promise.reject(error);
      },
    },
    log: (...words: unknown[]) => logged.push(words),
  } as unknown as Parameters<typeof tellDeploy>[1];
  const audience = {
    target: TARGET,
    identity,
    signal: new AbortController().signal,
    say: (line: string) => said.push(line),
  };
  const { rejected } = await tellDeploy(audience, services, () =>
    when === 'prepare' ? Promise.reject(error) : Promise.resolve({ release: 3 } as DeployOrder),
  );
  return { said: said.join(' '), kept: kept.join(' '), rejected, logged };
}

it.each(['prepare', 'run'] as const)('an owner is told to who may see it, and is not kept: in %s', async (when) => {
  const all: Identity = { name: 'alice', role: 'admin', targets: 'all' };
  const own: Identity = { name: 'bob', role: 'deploy', targets: [TARGET] };
  const admin = await tell(all, when);
  const bob = await tell(own, when);
  expect(admin.said).toContain('error: the domain www.example.com belongs to secret/live hint: choose another');
  expect(admin.rejected).toBe('www.example.com belongs to secret/live');
  expect(bob.said).toContain('error: the domain www.example.com belongs to another project');
  expect(bob.rejected).toBe('www.example.com belongs to another project');
  expect(JSON.stringify(bob)).not.toContain('secret');
  expect([admin.kept, JSON.stringify(admin.logged)].join(' ')).not.toContain('secret');
  expect(admin.kept === '').toBe(when === 'prepare');
  if (when === 'run') expect(admin.kept).toContain('belongs to another project');
});
