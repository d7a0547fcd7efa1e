// kraftwerk setup-receiver: makes this machine a receiver and a node, ready to be pushed to.
import { statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { EXIT_CODES, KraftwerkError } from '../../node-agent/protocol.ts';
import { readSurroundings, type Surroundings } from '../config.ts';
import { findDomainProblem } from '../hostname.ts';
import { createReport } from '../setup/report.ts';
import { type SetupReceiverOrder, setupReceiver } from '../setup/setup-receiver.ts';
import { parseOptions, usageError } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  const surroundings = readSurroundings();
  const order = readOrder(argv, surroundings);
  if (process.getuid?.() !== 0) {
    throw new KraftwerkError('setup.root', 'setup-receiver needs root: it installs packages and makes a user', {
      hint: `sudo kraftwerk setup-receiver ${argv.join(' ')}`.trim(),
    });
  }
  const report = createReport({ write: (line) => process.stderr.write(`${line}\n`), now: () => performance.now() });
  const abort = new AbortController();
  const onInterrupt = (): void => abort.abort();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, onInterrupt);
  try {
    const { host, port, fingerprint, environments } = await setupReceiver(order, {
      surroundings,
      signal: abort.signal,
      report,
      nowMs: () => Date.now(),
      address: findAddress(surroundings),
    });
    const at = `kraftwerk@${host}`;
    report.say('Its host key, which ssh shows at the first push:');
    report.say(fingerprint);
    report.say('In a project ("kraftwerk init blog" makes one):');
    const [first = 'stage'] = environments;
    const lines = [
      ...environments.map((name) => `git remote add ${name} ssh://${at}:${port}/blog/${name}`),
      `git push ${first} master`,
      `ssh -p ${port} ${at} help`,
    ];
    process.stdout.write(lines.map((line) => `  ${line}\n`).join(''));
    return EXIT_CODES.ok;
  } finally {
    report.close();
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, onInterrupt);
  }
}

function readOrder(argv: readonly string[], { cwd }: Surroundings): SetupReceiverOrder {
  const { values } = parseOptions('setup-receiver', argv, {
    'admin-key': { type: 'string' },
    domain: { type: 'string' },
    port: { type: 'string' },
    templates: { type: 'string' },
  });
  const domain = values.domain?.toLowerCase() ?? null;
  const problem = domain === null ? null : findDomainProblem(domain.replace('{project}', 'x'));
  if (problem !== null) throw usageError('setup-receiver', `--domain: ${problem}`);
  const port = values.port === undefined ? null : Number(values.port);
  if (port !== null && !(Number.isInteger(port) && port >= 1 && port <= 65_535))
    throw usageError('setup-receiver', `--port: expected a port from 1 to 65535, got ${JSON.stringify(values.port)}`);
  const templates = values.templates === undefined ? undefined : path.resolve(cwd, values.templates);
  if (templates !== undefined && !statSync(templates, { throwIfNoEntry: false })?.isDirectory())
    throw usageError('setup-receiver', `--templates: no folder ${templates}`);
  return { domain, port, adminKey: values['admin-key'] ?? null, templates };
}

/** By which the admin came in, else the first that is not only this machine's. */
function findAddress({ env }: Surroundings): string {
  const reached = env.SSH_CONNECTION?.split(' ')[2];
  if (reached !== undefined && !/^(?:127\.|::1$|fe80)/.test(reached)) return reached;
  const addresses = Object.values(os.networkInterfaces()).flatMap((list) => list ?? []);
  const found = addresses.find(({ internal, family }) => !internal && family === 'IPv4');
  return found?.address ?? os.hostname();
}
