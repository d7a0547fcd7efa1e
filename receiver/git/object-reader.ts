/** One `git cat-file --batch` that answers question after question: started early, it costs nobody a process. */
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { startGit } from './run-git.ts';

export interface GitObject {
  id: string;
  type: 'commit' | 'tree' | 'blob' | 'tag';
  /** Bytes. */
  size: number;
  /** Null: larger than was asked for. */
  content: Buffer | null;
}

export type ObjectReader = ReturnType<typeof openObjects>;

/** What is kept of an object at most, bytes. */
const TEXT_BYTES = 1024 * 1024;

interface Question {
  resolve(object: GitObject | null): void;
  reject(error: Error): void;
}

/** @see git's Documentation/git-cat-file, "BATCH OUTPUT" */
export function openObjects(repository: string) {
  const child = startGit(['cat-file', '--batch'], { repository });
  const questions: Question[] = [];
  let chunks: Buffer[] = [];
  let held = 0;
  /** The answer that is being read: its header, and how many bytes follow, with the line break. */
  let answer: { object: GitObject; missing: number; keep: boolean } | null = null;
  let ended: Error | null = null;

  const end = (error: Error): void => {
    ended ??= error;
    for (const question of questions.splice(0)) question.reject(ended);
  };
  const take = (bytes: number): Buffer => {
    const all = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
    chunks = bytes < all.length ? [all.subarray(bytes)] : [];
    held = all.length - bytes;
    return all.subarray(0, bytes);
  };
  const readHeader = (): boolean => {
    const at = chunks.at(-1)?.includes(10) ? Buffer.concat(chunks).indexOf(10) : -1;
    if (at === -1) return false;
    const [id = '', type = '', size] = take(at + 1)
      .toString('utf8')
      .trimEnd()
      .split(' ');
    if (size === undefined || !/^[0-9]+$/.test(size)) questions.shift()?.resolve(null);
    else {
      const keep = Number(size) <= TEXT_BYTES;
      const object = { id, type: type as GitObject['type'], size: Number(size), content: null };
      answer = { object, missing: object.size + 1, keep };
    }
    return true;
  };
  const readContent = (): boolean => {
    if (answer === null) return false;
    if (answer.keep && held < answer.missing) return false;
    const piece = take(Math.min(held, answer.missing));
    answer.missing -= piece.length;
    if (answer.keep) answer.object.content = piece.subarray(0, -1);
    if (answer.missing > 0) return false;
    questions.shift()?.resolve(answer.object);
    answer = null;
    return true;
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    held += chunk.length;
    while (held > 0 && (answer === null ? readHeader() : readContent()));
  });
  child.stdin?.on('error', () => undefined);
  child.on('error', (cause) => end(new KraftwerkError('git.missing', `cannot start git: ${cause.message}`, { cause })));
  child.on('close', () => end(new KraftwerkError('git.failed', `git cat-file ended in ${repository}`)));

  return {
    /**
     * The object that `name` names: an id, `COMMIT:PATH`, `refs/heads/x^{commit}`; null where there is none.
     * @throws KraftwerkError `git.missing`, `git.failed`
     */
    read(name: string): Promise<GitObject | null> {
      return new Promise((resolve, reject) => {
        if (ended !== null) return reject(ended);
        // A line break would be two questions; nothing that exists has one in its name.
        if (/[\n\0]/.test(name)) return resolve(null);
        questions.push({ resolve, reject });
        child.stdin?.write(`${name}\n`);
      });
    },
    close(): void {
      child.stdin?.end();
    },
  };
}
