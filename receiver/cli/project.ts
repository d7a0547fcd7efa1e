// The project that a command is typed in: its folder and its git remotes.
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import type { Surroundings } from '../config.ts';
import { runUserGit } from '../git/user-programs.ts';
import { MANIFEST_FILE } from '../manifest.ts';
import { parseRemoteUrl, type RemoteUrl } from './remote-url.ts';

export interface GitRemote {
  name: string;
  /** Where git pushes to. */
  url: string;
  /** Whether it fetches from elsewhere. */
  pushUrl: boolean;
  parsed: RemoteUrl;
}

/** The nearest folder with a kraftwerk.yaml, from `cwd` up to the repository's top; null: there is none. */
export function findManifestFolder(cwd: string): string | null {
  const { found, top } = climb(cwd);
  // Outside a repository nothing says where a project ends.
  return top === null && found !== realpathSync(cwd) ? null : found;
}

/** The folder that is the project, by kraftwerk.yaml, else by the repository. */
export function findProjectFolder(cwd: string): string {
  return findManifestFolder(cwd) ?? climb(cwd).top ?? realpathSync(cwd);
}

function climb(cwd: string): { found: string | null; top: string | null } {
  let found: string | null = null;
  for (let folder = realpathSync(cwd); ; folder = path.dirname(folder)) {
    if (found === null && existsSync(path.join(folder, MANIFEST_FILE))) found = folder;
    if (existsSync(path.join(folder, '.git'))) return { found, top: folder };
    if (folder === path.dirname(folder)) return { found, top: null };
  }
}

/** @throws KraftwerkError `project.none`, `git.missing`, `git.failed` */
export async function readRemotes(command: string, { cwd, env }: Surroundings): Promise<GitRemote[]> {
  const { code, stdout, stderr } = await runUserGit(['remote', '--verbose'], { cwd, env });
  if (code !== 0) throw noRepository(command, cwd, stderr);
  const all = stdout
    .split('\n')
    .map((line) => /^(?<name>[^\t]+)\t(?<url>.*) \((?<what>fetch|push)\)/.exec(line)?.groups)
    .filter((groups) => groups !== undefined);
  const names = [...new Set(all.map(({ name = '' }) => name))];
  return names.flatMap((name): GitRemote[] => {
    const urls = all.filter((one) => one.name === name);
    // With several, the first is the one that is pushed to first.
    const url = urls.find(({ what }) => what === 'push')?.url;
    const fetched = urls.find(({ what }) => what === 'fetch')?.url;
    return url === undefined ? [] : [{ name, url, pushUrl: fetched !== url, parsed: parseRemoteUrl(url) }];
  });
}

function noRepository(command: string, cwd: string, stderr: string): KraftwerkError {
  const said = stderr.trim().split('\n');
  if (!stderr.includes('not a git repository')) {
    const [first = '', ...lines] = said;
    return new KraftwerkError('git.failed', `${command}: git: ${first.replace(/^fatal: /, '')}`, { lines });
  }
  return new KraftwerkError('project.none', `${command}: ${cwd} is in no git repository, so in no project`, {
    hint: ['cd to the project', 'a new one: kraftwerk init NAME', 'from anywhere: ssh kraftwerk@HOST help'],
    exit: 'denied',
  });
}
