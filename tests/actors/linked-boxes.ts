/** Actor: a project with databases on two throw-away servers: the data is on one of them, and both use it. */
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

export type LinkedName = 'web1' | 'web2';
export const LINKED: readonly LinkedName[] = ['web1', 'web2'];

/** Keeps rows in PostgreSQL or MariaDB, counts in Redis. */
const APP = `
import json, os
from urllib.parse import parse_qs


def postgres():
    import psycopg2
    return psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)


def mariadb():
    import MySQLdb
    env = os.environ
    return MySQLdb.connect(
        user=env["MARIADB_USER"],
        db=env["MARIADB_DATABASE"],
        unix_socket=env["MARIADB_URL"].split("unix_socket=")[1],
        connect_timeout=5,
    )


def rows(database, text=None):
    db = database()
    cursor = db.cursor()
    if text:
        cursor.execute("CREATE TABLE IF NOT EXISTS note (text varchar(100))")
        cursor.execute("INSERT INTO note VALUES (%s)", (text,))
    cursor.execute("SELECT text FROM note ORDER BY text")
    found = [row[0] for row in cursor.fetchall()]
    db.commit()
    return found


def count(add):
    import redis
    store = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)
    return int(store.incr("count") if add else store.get("count") or 0)


def answer(environ):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    path = environ["PATH_INFO"]
    if path == "/rows":
        return json.dumps(rows(postgres, query.get("add")))
    if path == "/maria":
        return json.dumps(rows(mariadb, query.get("add")))
    if path == "/count":
        return str(count("add" in query))
    if path == "/environ":
        return json.dumps(dict(os.environ))
    return "here"


def application(environ, start_response):
    try:
        status, text = "200 OK", answer(environ)
    except Exception as error:
        status, text = "500 Broken", repr(error)
    start_response(status, [("Content-Type", "text/plain")])
    return [text.encode()]
`;

export interface LinkedBoxes {
  receiver: TestReceiver;
  boxes: Record<LinkedName, Box>;
  alice: Pusher;
  project(name: string): Pusher;
  visit(name: LinkedName, path: string, host?: string): Promise<{ status: number; body: string }>;
  /** What a node's site answers, which must be well. */
  get(name: LinkedName, path: string, host?: string): Promise<string>;
  /** The same as its answer as JSON. */
  rows(name: LinkedName, more?: string): Promise<string[]>;
  /** A command that must succeed. */
  good(...words: string[]): Promise<Outcome>;
  cleanUp(): Promise<void>;
}

export function yaml(services: string): string {
  return `wsgi: app:application\nhealthcheck: {path: /, timeout: 20}\nservices: ${services}\n`;
}

export async function startLinkedBoxes(): Promise<LinkedBoxes> {
  const from = await nodeImage();
  const [web1, web2] = await Promise.all(LINKED.map((name) => startBox({ name, from })));
  if (web1 === undefined || web2 === undefined) throw new TypeError('a box is missing');
  const boxes = { web1, web2 };
  const receiver = await startReceiver({
    otherNodes: LINKED.map(
      (name) => `  ${name}: {host: ${boxes[name].address}, host_key: "${fingerprintOfLine(boxes[name].hostKey)}"}\n`,
    ).join(''),
    environments: `
  live: {nodes: [web1, web2], domain: "{project}.example"}
  stage: {nodes: [try], suffix: -stage, domain: "{project}-stage.localhost"}
`,
  });
  for (const name of LINKED) {
    const set = await setUpNode(receiver, boxes[name], name);
    if (set.code !== 0) throw new Error(`setup-node: ${set.stderr}`);
  }
  await receiver.restart({ KRAFTWERK_FAILPOINT: `@${join(receiver.folder, 'failpoint')}` });

  function project(name: string): Pusher {
    const pusher = createPusher(receiver, name, { 'app.py': APP, 'kraftwerk.yaml': yaml('[]') });
    appendFileSync(join(pusher.work, '.gitignore'), '__pycache__/\n');
    return pusher;
  }

  function visit(name: LinkedName, path: string, host = 'blog.example'): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const { address } = boxes[name];
      const asked = request({ host: address, path, headers: { Host: host }, agent: false, timeout: 20_000 });
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

  async function get(name: LinkedName, path: string, host?: string): Promise<string> {
    const { body, status } = await visit(name, path, host);
    expect({ name, path, status, body: status === 200 ? '' : body }).toEqual({ name, path, status: 200, body: '' });
    return body;
  }

  return {
    receiver,
    boxes,
    alice: project('blog'),
    project,
    visit,
    get,
    rows: async (name, more = '') => JSON.parse(await get(name, `/rows${more}`)) as string[],
    async good(...words) {
      const outcome = await receiver.ssh(...words);
      const wrong = outcome.code === 0 ? '' : outcome.stderr;
      expect({ words, code: outcome.code, wrong }).toEqual({ words, code: 0, wrong: '' });
      return outcome;
    },
    async cleanUp() {
      await receiver.cleanUp();
      await Promise.all(LINKED.map((name) => boxes[name].down()));
    },
  };
}
