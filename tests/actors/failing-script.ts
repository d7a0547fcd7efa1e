/** Actor: a bash script that is killed, with all that it has started, before one of its commands. */

/** The exit code of what was killed. */
export const KILLED = 137;

/** A script that waits before a command, to be killed there, and first makes a file. */
export function hanging(script: string, command: number, mark: string): string {
  return `failpoint=0
trap '[[ $BASHPID != "$$" ]] || ((++failpoint != ${command})) || { : >${mark}; exec sleep 600; }' DEBUG
set -o functrace
${script}`;
}

/**
 * A script that ends before a command, or else prints how many it was. What it runs must be the leader of its process group.
 *
 * @param command from 1; 0: none. Those of subshells do not count.
 */
export function failing(script: string, command: number): string {
  return `failpoint=0
trap '[[ $BASHPID != "$$" ]] || ((++failpoint != ${command})) || kill -s KILL 0' DEBUG
set -o functrace
${script}
trap - DEBUG
echo "$failpoint"
`;
}

/** Each of 1 to `total`, or so many that are spread over them. */
export function spread(total: number, some = total): number[] {
  const count = Math.min(total, some);
  return Array.from({ length: count }, (_, index) => 1 + Math.floor(((index + 0.5) * total) / count));
}
