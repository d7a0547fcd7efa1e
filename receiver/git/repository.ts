/** Bare repositories, one per target: made on the first push, their refs moved by the receiver alone. */
import { access, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommitId } from '../../node-agent/protocol.ts';
import type { Target } from '../target.ts';
import { openRefTransaction, type RefMove, type RefTransaction } from './ref-transaction.ts';
import { type GitOptions, git, tryGit } from './run-git.ts';

export type Repository = ReturnType<typeof openRepository>;

export const ZERO_ID = '0'.repeat(40) as CommitId;

export function repositoryPath(data: string, target: Target): string {
  return join(data, 'repositories', target.project, `${target.environment}.git`);
}

export async function repositoryExists(data: string, target: Target): Promise<boolean> {
  return access(join(repositoryPath(data, target), 'HEAD')).then(
    () => true,
    () => false,
  );
}

/** Makes the repository beside its place and renames it there, so that a half made one is never found. */
export async function createRepository(data: string, target: Target): Promise<void> {
  const path = repositoryPath(data, target);
  const temporary = `${path}.${process.pid}.new`;
  await mkdir(join(data, 'repositories', target.project), { recursive: true, mode: 0o700 });
  await rm(temporary, { recursive: true, force: true });
  await git(['init', '--quiet', '--bare', '--initial-branch=master', '--template=', temporary], { repository: data });
  await rename(temporary, path);
}

/** A repository without anything, for telling a client what a first push will find. @returns its path */
export async function prepareEmptyRepository(data: string): Promise<string> {
  const path = join(data, 'empty.git');
  await git(['init', '--quiet', '--bare', '--initial-branch=master', '--template=', path], { repository: data });
  return path;
}

export async function removeRepository(data: string, target: Target): Promise<void> {
  const path = repositoryPath(data, target);
  await rm(`${path}.removed`, { recursive: true, force: true });
  await rename(path, `${path}.removed`);
  await rm(`${path}.removed`, { recursive: true, force: true });
}

/** `refs/heads/master` and the like of one repository. */
export function openRepository(data: string, target: Target) {
  const path = repositoryPath(data, target);
  const options: GitOptions = { repository: path };

  return {
    path,
    target,
    /** The commit that a ref names, null where there is none. */
    async readRef(ref: string): Promise<CommitId | null> {
      const result = await tryGit(['rev-parse', '--verify', '--quiet', `${ref}^{commit}`], options);
      return result.code === 0 ? (result.stdout.toString().trim() as CommitId) : null;
    },
    async resolve(name: string): Promise<CommitId | null> {
      if (!/^[0-9a-f]{4,64}$/.test(name)) return null;
      return this.readRef(name);
    },
    /** Compare and swap. `to` null deletes; `from` null: must not exist. @throws KraftwerkError `git.failed` when it has moved */
    async moveRef(ref: string, from: string | null, to: string | null): Promise<void> {
      const args = to === null ? ['update-ref', '-d', ref, from ?? ''] : ['update-ref', ref, to, from ?? ZERO_ID];
      await git(args, options);
    },
    /** All or none. `from` undefined: whatever it was; null: must not exist. @throws KraftwerkError `git.failed` */
    async moveRefs(moves: readonly RefMove[]): Promise<void> {
      const transaction = openRefTransaction(path);
      await transaction.prepare(moves);
      await transaction.commit();
    },
    /** The same in two steps, the process started now. */
    openTransaction: (): RefTransaction => openRefTransaction(path),
    async deleteRefs(refs: readonly string[]): Promise<void> {
      if (refs.length > 0)
        await git(['update-ref', '--stdin'], { ...options, input: refs.map((ref) => `delete ${ref}\n`).join('') });
    },
    async setHead(branch: string): Promise<void> {
      await git(['symbolic-ref', 'HEAD', branch], options);
    },
    async isAncestor(old: string, next: string): Promise<boolean> {
      return (await tryGit(['merge-base', '--is-ancestor', old, next], options)).code === 0;
    },
    async hasRefs(): Promise<boolean> {
      return (await git(['for-each-ref', '--count=1'], options)).length > 0;
    },
    /** First lines of commits; what is not there, or no more, is left out. */
    async subjects(commits: readonly string[]): Promise<ReadonlyMap<string, string>> {
      if (commits.length === 0) return new Map();
      const text = await git(
        ['log', '--no-walk=unsorted', '--ignore-missing', '--no-show-signature', '--format=%H%x00%s', ...commits, '--'],
        options,
      );
      const pairs = text
        .toString('utf8')
        .split('\n')
        .map((line) => line.split('\0'));
      return new Map(pairs.map(([commit = '', subject = '']) => [commit, subject]));
    },
    /** Packs what has grown loose; git decides whether it is worth it. */
    async tidy(): Promise<void> {
      await tryGit(['-c', 'gc.auto=2000', '-c', 'gc.autoDetach=false', 'gc', '--auto', '--quiet'], {
        ...options,
        timeoutMs: 600_000,
      });
    },
  };
}

/** Removes what a killed git has left: lock files of refs, quarantined objects. Only while no git runs there. */
export async function removeStaleLocks(data: string): Promise<number> {
  let removed = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (entry.name.startsWith('tmp_objdir-') || /\.git\.(?:removed|\d+\.new)$/.test(entry.name)) {
          await rm(path, { recursive: true, force: true });
          removed++;
        } else if (depth < 8 && !/^[0-9a-f]{2}$|^pack$/.test(entry.name)) await visit(path, depth + 1);
      } else if (entry.name.endsWith('.lock')) {
        await rm(path, { force: true });
        removed++;
      }
    }
  };
  await visit(join(data, 'repositories'), 0);
  return removed;
}
