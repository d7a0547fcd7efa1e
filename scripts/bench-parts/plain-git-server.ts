/** The lower limit of a push: git over our own SSH server and settings, into a bare repository, without hook and deploy. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gitEnvironment, startGit } from '../../receiver/git/run-git.ts';
import { buildKeyring } from '../../receiver/keys.ts';
import { loadHostKey } from '../../receiver/ssh/host-key.ts';
import { type ExecSession, startSshServer } from '../../receiver/ssh-server.ts';
import { memoryKeyStore, type TestKey } from '../../tests/actors/ssh.ts';

/**
 * @param folder that is there and ours; everything goes below it
 * @param sshConfig of the clients: gets a further host
 */
export async function startPlainGitServer(folder: string, key: TestKey, sshConfig: string) {
  const repository = join(folder, 'plain.git');
  mkdirSync(repository);
  const env = withoutHook(gitEnvironment({ repository }));
  execFileSync('git', ['init', '--quiet', '--bare', '--initial-branch=master', '--template=', repository], { env });
  const hostKey = loadHostKey(join(folder, 'plain_host_key'));
  const server = await startSshServer({
    host: '127.0.0.1',
    port: 0,
    hostKey: hostKey.privateKey,
    authenticate: buildKeyring([key.line], memoryKeyStore()).identify,
    handle: (session) => receivePack(session, repository, env),
    onEvent: () => undefined,
  });
  const knownHosts = join(folder, 'plain_known_hosts');
  writeFileSync(knownHosts, `plain ${hostKey.publicKey}\n`);
  appendFileSync(
    sshConfig,
    `Host plain
  HostName 127.0.0.1
  Port ${server.port}
  User kraftwerk
  HostKeyAlias plain
  UserKnownHostsFile ${knownHosts}
  StrictHostKeyChecking yes
  BatchMode yes
  IdentitiesOnly yes
  IdentityAgent none
  LogLevel ERROR
`,
  );
  return { url: 'kraftwerk@plain:plain', close: server.close };
}

/** The same settings but the one that asks for the hook. */
function withoutHook(env: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => [
      name,
      value === 'receive.procReceiveRefs' ? 'kraftwerk.unused' : value,
    ]),
  );
}

function receivePack(session: ExecSession, repository: string, env: Record<string, string>): Promise<number> {
  const child = startGit(['receive-pack', '.'], { repository, env });
  if (child.stdin !== null) session.stdin.pipe(child.stdin);
  child.stdin?.on('error', () => undefined);
  child.stdout?.pipe(session.stdout, { end: false });
  child.stderr?.pipe(session.stderr, { end: false });
  return new Promise((resolve) => child.on('close', (code) => resolve(code ?? 1)));
}
