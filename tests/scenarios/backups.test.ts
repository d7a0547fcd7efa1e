// Backups by themselves: a receiver whose schedule is every minute dumps, proves, copies to a real store that speaks S3, keeps
// as many as it was told to, and says what failed. Nightly: the clock is the real one, and has minutes.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitFor } from '../actors/processes.ts';
import { createPusher, type Pusher } from '../actors/pusher.ts';
import { startReceiver, type TestReceiver } from '../actors/receiver.ts';
import { type S3Server, startS3Server, WRITER } from '../actors/s3-server.ts';
import { DATA_YAML, type SiteData, siteData } from '../actors/site-data.ts';

const TWO_MINUTES_MS = 130_000;

let store: S3Server;
let receiver: TestReceiver;
let alice: Pusher;
let live: SiteData;

interface Dump {
  name: string;
  parts: { reason: string; provenAt: string | null; services: { name: string }[] }[];
}

beforeAll(async () => {
  store = await startS3Server({ bucketPage: 3 });
  const admin = new S3Client({
    endpoint: store.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: WRITER.accessKeyId, secretAccessKey: WRITER.secretAccessKey },
  });
  await admin.send(new CreateBucketCommand({ Bucket: 'dumps' }));
  admin.destroy();
  const backups = `{schedule: "* * * * *", drill: "* * * * *", keep: 2, copy: {bucket: dumps, endpoint: "${store.endpoint}", region: us-east-1}}`;
  receiver = await startReceiver({
    environments: `
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
  live: {nodes: [try], domain: "{project}.localhost", backups: ${backups}}
`,
    env: { AWS_ACCESS_KEY_ID: WRITER.accessKeyId, AWS_SECRET_ACCESS_KEY: WRITER.secretAccessKey },
  });
  alice = createPusher(receiver, 'blog');
  await alice.deploy({ 'kraftwerk.yaml': DATA_YAML }, 'live');
  live = siteData(join(receiver.node, 'web/blog'));
  live.upload('photo.jpg', 'a photo');
  live.note('first');
});
afterAll(async () => {
  alice?.cleanUp();
  await receiver?.cleanUp();
  await store?.stop();
});

async function good(...words: string[]): Promise<string> {
  const { code, stderr, stdout } = await receiver.ssh(...words);
  expect({ words, code, stderr: code === 0 ? '' : stderr }).toEqual({ words, code: 0, stderr: '' });
  return stdout;
}

const dumps = async (): Promise<Dump[]> => JSON.parse(await good('dumps', 'blog/live', '--json')) as Dump[];
const scheduled = (all: Dump[]): Dump[] => all.filter(({ parts }) => parts[0]?.reason === 'scheduled');
const copies = async (): Promise<string[]> =>
  (JSON.parse(await good('dumps', 'blog/live', '--copies', '--json')) as { name: string }[]).map(({ name }) => name);

describe('by schedule', { timeout: 4 * TWO_MINUTES_MS }, () => {
  let digest: string;
  let name: string;

  it('a dump is made, proven by a load beside the live data, and copied', async () => {
    digest = live.digest();
    const proven = await waitFor(
      'a dump that is proven',
      async () => scheduled(await dumps()).find(({ parts }) => parts[0]?.provenAt !== null),
      TWO_MINUTES_MS,
    );
    name = proven.name;
    expect(proven.parts[0]?.services.map((service) => service.name)).toEqual(['files', 'sqlite']);
    expect(await good('dumps', 'blog/live')).toMatch(
      new RegExp(`^${name} .* scheduled +20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\dZ$`, 'm'),
    );
    await waitFor('its copy', async () => (await copies()).includes(name), TWO_MINUTES_MS);
    // Neither has touched what is live.
    expect(live.digest()).toBe(digest);
    expect(live.leftovers()).toEqual([]);
  });

  it('a copy comes back where the node has the dump no more', async () => {
    rmSync(join(live.site, 'dump', name), { recursive: true, force: true });
    live.note('later');
    live.upload('photo.jpg', 'another');
    expect((await receiver.ssh('load', 'blog/live', name)).code).toBe(4);
    await waitFor('nobody to be at work', async () => {
      const { code, stderr } = await receiver.ssh('load', 'blog/live', name, '--copy');
      // The next backup may have the target.
      if (code !== 5) expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
      return code === 0;
    });
    expect(live.digest()).toBe(digest);
  });

  it('as many are kept as was said, here and there', async () => {
    const kept = await waitFor(
      'newer ones',
      async () => {
        const names = scheduled(await dumps()).map((dump) => dump.name);
        return names.length === 2 && names.every((one) => one > name) && names;
      },
      2 * TWO_MINUTES_MS,
    );
    await waitFor(
      'the same in the store',
      async () => {
        const there = await copies();
        return there.length === 2 && !there.includes(name) && there.every((one) => one >= (kept[1] ?? ''));
      },
      TWO_MINUTES_MS,
    );
  });

  it('what failed is said, and the dump is made all the same', async () => {
    await store.stop();
    await waitFor(
      'the warning',
      async () => /^warning: the last backup .* failed: /m.test((await receiver.ssh('dumps', 'blog/live')).stderr),
      TWO_MINUTES_MS,
    );
    const before = (await dumps())[0]?.name ?? '';
    await waitFor('the next one', async () => ((await dumps())[0]?.name ?? '') > before, TWO_MINUTES_MS);
  });
});
