// What completion in a shell takes over from a repository's git remotes. Pure.
import { HARMLESS_GIT } from '../git/harmless-git.ts';

/**
 * As people call remotes. Any other name is not offered: .git/config may have come in an archive, and a word that completion puts into
 * a command line is run with it.
 */
export const PLAIN_NAME = '^[A-Za-z0-9][A-Za-z0-9._/-]*$';

/** A script of sed: a line of `git remote --verbose` -> the target that it leads to, where it has the form of one. */
export const TARGET_OF_REMOTE =
  's#.*kraftwerk@.*[:/]\\([a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*\\)\\(\\.git\\)\\{0,1\\} (push).*#\\1#p';

/** git as it may be run wherever somebody presses the tab key; one line for any of the shells. */
export function completionGit(words: string): string {
  return `command git ${HARMLESS_GIT.join(' ')} ${words} 2>/dev/null`;
}
