/** Actor: a project with databases, as live and stage, on one throw-away server that setup-node has made a node. */
import { appendFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { expect } from 'vitest';
import { fingerprintOfLine } from '../../receiver/setup/trust.ts';
import { type Box, startBox } from './box.ts';
import { createPusher, type Pusher } from './pusher.ts';
import { startReceiver, type TestReceiver } from './receiver.ts';
import { nodeImage, setUpNode } from './several-boxes.ts';
import type { Outcome } from './ssh.ts';

/** Keeps rows in PostgreSQL, counts in Redis, takes uploads. */
const APP = `
import json, os
from urllib.parse import parse_qs

HERE = os.path.dirname(os.path.abspath(__file__))


def rows(text=None):
    import psycopg2
    with psycopg2.connect(os.environ["DATABASE_URL"]) as db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS rows (text text)")
        if text:
            cursor.execute("INSERT INTO rows VALUES (%s)", (text,))
        cursor.execute("SELECT text FROM rows ORDER BY text")
        return [row[0] for row in cursor.fetchall()]


def count(add):
    import redis
    store = redis.Redis.from_url(os.environ["REDIS_URL"])
    return int(store.incr("count") if add else store.get("count") or 0)


def answer(environ):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"], keep_blank_values=True).items()}
    path = environ["PATH_INFO"]
    if path == "/rows":
        return json.dumps(rows(query.get("add")))
    if path == "/count":
        return str(count("add" in query))
    if path == "/environ":
        return json.dumps(dict(os.environ))
    with open(os.path.join(HERE, "version.txt")) as file:
        return file.read().strip()


def application(environ, start_response):
    try:
        status, text = "200 OK", answer(environ)
    except Exception as error:
        status, text = "500 Broken", repr(error)
    start_response(status, [("Content-Type", "text/plain")])
    return [text.encode()]
`;

export const LIVE = 'blog.example';
export const STAGE = 'blog-stage.example';

export interface DataBox {
  receiver: TestReceiver;
  box: Box;
  alice: Pusher;
  /** Another project of the node. */
  project(name: string): Pusher;
  visit(host: string, path?: string): Promise<{ status: number; body: string }>;
  /** Of the site; throws when it does not answer 200. */
  get(host: string, path: string): Promise<string>;
  /** A command that must succeed. @returns its output */
  good(...words: string[]): Promise<Outcome>;
  /** All that a site has: rows, count, names of uploads. */
  data(host: string): Promise<{ rows: string[]; count: number; uploads: string }>;
  cleanUp(): Promise<void>;
}

export function yaml(...services: string[]): string {
  return `wsgi: app:application\nhealthcheck: {path: /, timeout: 20}\nservices: [${services.join(', ')}]\n`;
}

export async function startDataBox({ name, disk = '4G' }: { name: string; disk?: string }): Promise<DataBox> {
  const box = await startBox({ name, from: await nodeImage(), disk });
  const receiver = await startReceiver({
    otherNodes: `  ${name}: {host: ${box.address}, host_key: "${fingerprintOfLine(box.hostKey)}"}\n`,
    environments: `
  live: {nodes: [${name}], domain: "{project}.example"}
  stage: {nodes: [${name}], suffix: -stage, domain: "{project}-stage.example"}
`,
  });
  // The receiver makes the key with which it is let in at its start.
  const set = await setUpNode(receiver, box, name);
  if (set.code !== 0) throw new Error(`setup-node: ${set.stderr}`);
  await receiver.restart({ KRAFTWERK_FAILPOINT: `@${join(receiver.folder, 'failpoint')}` });

  function project(of: string): Pusher {
    const pusher = createPusher(receiver, of, {
      'app.py': APP,
      'version.txt': 'one\n',
      'kraftwerk.yaml': yaml('files'),
    });
    appendFileSync(join(pusher.work, '.gitignore'), '__pycache__/\n');
    return pusher;
  }

  function visit(host: string, path = '/'): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: box.address, path, headers: { Host: host }, agent: false, timeout: 20_000 });
      asked.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      asked.on('error', reject);
      asked.on('timeout', () => asked.destroy(new Error(`no answer of ${host}`)));
      asked.end();
    });
  }

  async function get(host: string, path: string): Promise<string> {
    const { body, status } = await visit(host, path);
    expect({ host, path, status, body: status === 200 ? '' : body }).toEqual({ host, path, status: 200, body: '' });
    return body;
  }

  const alice = project('blog');
  return {
    receiver,
    box,
    alice,
    project,
    visit,
    get,
    async good(...words) {
      const outcome = await receiver.ssh(...words);
      expect({ words, code: outcome.code, stderr: outcome.code === 0 ? '' : outcome.stderr }).toEqual({
        words,
        code: 0,
        stderr: '',
      });
      return outcome;
    },
    async data(host) {
      const instance = host.replace('.example', '');
      const uploads = await box.exec([
        'sh',
        '-c',
        `cd /web/${instance}/uploads && find . -type f -exec sha256sum {} + | sort -k2`,
      ]);
      return {
        rows: JSON.parse(await get(host, '/rows')) as string[],
        count: Number(await get(host, '/count')),
        uploads: uploads.stdout,
      };
    },
    async cleanUp() {
      alice.cleanUp();
      await receiver.cleanUp();
      await box.down();
    },
  };
}
