/** Actor: a throw-away server as a system node, and its visitors. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceName, TreePath } from '../../node-agent/protocol.ts';
import type { ReleaseSpec } from '../../receiver/deploy/plan.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { makeImage, startBox } from './box.ts';
import { AGENT_ON_NODE, createDeployer, FAILPOINT, type TreeOptions } from './deployer.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const AGENT = join(ROOT, 'build/agent.mjs');
const PACKAGES = ['runit', 'runit-run', 'nginx', 'gunicorn', 'python3-venv', 'nodejs', 'procps', 'curl'];
const templates = createTemplates({ configured: [] });

/** What `setup-node` installs, as far as these tests need it; pip as the wheel that Debian's python3-venv brings. */
const withPackages = (): Promise<string> =>
  makeImage('system-node', [PACKAGES.join()], async (box) => {
    await box.run(['apt-get', '-q', 'update']);
    await box.run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', ...PACKAGES]);
    for (const name of ['pip', 'setuptools']) {
      const unpack = `python3 -m zipfile -e /usr/share/python-wheels/${name}-*.whl /usr/lib/python3/dist-packages`;
      await box.run(['sh', '-c', unpack]);
    }
    // From 13 on pip builds apart, with a setuptools from the index. These wheels are all that there is of one here.
    await box.run(['tee', '/etc/pip.conf'], '[install]\nno-index = true\nfind-links = /usr/share/python-wheels\n');
  });

/** What `setup-node` does to a server that has all packages. */
export const SET_UP = `
  groupadd --system web && mkdir /web && rm /etc/nginx/sites-enabled/default || exit 1
  cat >/etc/nginx/conf.d/kraftwerk.conf <<"END"
${templates.render('nginx', 'node/nginx-conf.d.conf', {})}
END
  systemctl reload nginx`;

/** A site that runs whatever it is asked to: what an attacker who is in has. */
const SHELL_SITE = `
import json, subprocess
from urllib.parse import parse_qs

def application(environ, start_response):
    command = parse_qs(environ["QUERY_STRING"]).get("sh", [None])[0]
    text = "fine"
    if command is not None:
        ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=20)
        text = json.dumps({"code": ran.returncode, "out": ran.stdout + ran.stderr})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [text.encode()]
`;
const STATIC = [{ prefix: '/static', folder: 'static' as TreePath, named: true }];

/** That site, with static files and uploads. */
export function shellSite(spec: Partial<ReleaseSpec> = {}, files: Readonly<Record<string, string>> = {}): TreeOptions {
  return {
    files: {
      'app.py': SHELL_SITE,
      'settings.py': 'SECRET = "in the tree"\n',
      'static/site.css': 'body {}\n',
      ...files,
    },
    spec: { static: STATIC, services: [{ name: 'files' as ServiceName, options: {} }], ...spec },
  };
}

/** What a command said, and its exit code. */
export interface Ran {
  code: number;
  out: string;
}

export type SystemNode = Awaited<ReturnType<typeof startSystemNode>>;

/** A box with the packages and the agent of a node; not set up. `useBoxes` ends it, `cleanUp` the rest. */
export async function startSystemNode(name: string) {
  const box = await startBox({ name, from: await withPackages() });
  await box.run(['sh', '-c', `mkdir -p "$(dirname ${AGENT_ON_NODE})" && cat >${AGENT_ON_NODE}`], readFileSync(AGENT));
  const receiver = createDeployer(['ssh', '-F', box.sshConfig, box.name]);

  /** What a visitor of a project gets. @throws where nginx closes without an answer */
  function visit(project: string, path = '/'): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const headers = { Host: `${project}.example` };
      const asked = request({ host: box.address, path, headers, agent: false, timeout: 30_000 });
      asked.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      asked.on('error', reject);
      asked.on('timeout', () => asked.destroy(new Error('no answer')));
      asked.end();
    });
  }

  return {
    ...receiver,
    box,
    visit,
    /** What the process of a shell site can do. */
    async inside(project: string, command: string): Promise<Ran> {
      const { status, body } = await visit(project, `/?sh=${encodeURIComponent(command)}`);
      if (status !== 200) throw new Error(`${project}: ${status} ${body}`);
      return JSON.parse(body) as Ran;
    },
    /** @throws when it exits with anything but 0 */
    asRoot: async (command: string): Promise<string> => (await box.run(['sh', '-c', command])).trim(),
    /** Makes an operation of the agent fail, as KRAFTWERK_FAILPOINT does; null: no more. */
    failAt: async (failpoint: string | null): Promise<void> => {
      await box.run(['sh', '-c', `cat >${FAILPOINT}`], failpoint ?? '');
    },
  };
}
