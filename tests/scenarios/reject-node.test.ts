// A node that cannot do what it is asked for.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { createVictim, type Victim } from '../actors/refusal.ts';
import { get } from '../actors/site.ts';

const BUILT_IN = fileURLToPath(new URL('../../templates/project/nginx.conf', import.meta.url));

describe('a template of the admin that nginx refuses', () => {
  let receiver: TestReceiver;
  let alice: Victim;
  beforeAll(async () => {
    receiver = await startReceiver({ config: 'templates: [./templates]', folders: ['templates'] });
    alice = await createVictim(receiver, 'blog');
  });
  afterAll(async () => {
    alice?.cleanUp();
    await receiver?.cleanUp();
  });

  it('stops the deploy before anything is switched; other sites stay as they are', async () => {
    const bystander = await createVictim(receiver, 'bystander');
    const folder = join(receiver.folder, 'templates', 'project');
    const override = (text: string): void => {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'nginx.conf'), text);
    };
    const good = readFileSync(BUILT_IN, 'utf8');
    override(good.replace('client_max_body_size 100m;', 'client_max_body_size many;'));
    await receiver.restart();
    alice.commit({ 'version.txt': 'two' });
    await alice.refuses(() => alice.push(), {
      rejected: 'nginx refused its configuration',
      error: "nginx refuses the site's configuration",
      says: [/invalid value/, /^hint: if the project's own nginx template was changed, mend it/],
    });
    expect((await get(receiver, bystander.host)).body).toBe('one');

    override(good.replace('client_max_body_size 100m;', 'client_max_body_size 200m;'));
    await receiver.restart();
    await alice.recovers();
    const site = readFileSync(join(receiver.node, 'etc/nginx/sites-enabled/blog-stage'), 'utf8');
    expect(site).toContain('client_max_body_size 200m;');
    bystander.cleanUp();
  });
});

describe('a port that another program has', () => {
  it('is named in the receiver’s log and to the pusher; when it is free the same push goes', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const address = squatter.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    const receiver = await startReceiver({ nodePort: port });
    const alice = createPusher(receiver, 'blog');
    try {
      expect(await receiver.logged('node.failed')).toMatchObject({
        message: `port ${port}, the node's http_port, is taken by another program`,
      });
      alice.commit();
      const refused = await alice.push();
      expect({ code: refused.code, rejected: refused.rejected }).toEqual({
        code: 1,
        rejected: `port ${port} is taken`,
      });
      expect(refused.lines).toContain(`error: port ${port}, the node's http_port, is taken by another program`);
      await new Promise((resolve) => squatter.close(resolve));
      expect(await alice.push()).toMatchObject({ code: 0 });
      await receiver.restart();
      expect((await get(receiver, 'blog-stage.localhost')).body).toBe('one');
    } finally {
      squatter.close();
      alice.cleanUp();
      await receiver.cleanUp();
    }
  });
});
