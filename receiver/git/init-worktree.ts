// Makes a new project's folder a git repository whose first branch is one that deploys.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { HARMLESS_GIT } from './harmless-git.ts';

/** @throws KraftwerkError `git.missing`, `git.failed` */
export async function initWorktree(folder: string): Promise<void> {
  try {
    await promisify(execFile)('git', [...HARMLESS_GIT, 'init', '--quiet', '--initial-branch=master', '--', folder], {
      timeout: 20_000,
    });
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new KraftwerkError(
      missing ? 'git.missing' : 'git.failed',
      `init: git ${missing ? 'is not installed' : 'init failed'} in ${folder}`,
      {
        hint: missing ? 'apt-get install git' : `git init ${folder}`,
        cause,
      },
    );
  }
}
