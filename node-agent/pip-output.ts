/** What pip and uv print, as words for the pusher: what they are doing, and why they have failed. */
import { NO_ROOM, roomHint } from './build-folder.ts';
import type { SiteLayout } from './layout.ts';
import { KraftwerkError } from './protocol.ts';
import { locateInvalid, locateRequirement, type Requirements } from './requirements.ts';
import type { RunResult } from './system.ts';

/** pip's line -> a few words for the pusher, null for what tells nothing. */
export function describePip(line: string): string | null {
  const match =
    /^\s*(Collecting|Downloading|Building wheel for|Installing build dependencies|Getting requirements to build wheel|Running setup\.py install for) ?([^\s(;]*)/.exec(
      line,
    );
  if (match) return `${match[1]?.toLowerCase()} ${match[2] ?? ''}`.trim();
  if (line.startsWith('Installing collected packages')) return 'installing packages';
  return /Retrying \(Retry/.test(line) ? 'waiting for the package index' : null;
}

/** What pip, then uv, say of an index that they cannot reach. */
const UNREACHED = /Retrying \(Retry|Failed to fetch/;
export const IS_REACHABLE = 'is the package index reachable from the node? (pip config list)';

export function installError(requirements: Requirements, result: RunResult, site: SiteLayout): KraftwerkError {
  const tail = result.tail.filter((line) => line.trim() !== '' && !/^\[notice\]/.test(line));
  if (tail.some((line) => NO_ROOM.test(line))) {
    return new KraftwerkError('node.disk-full', 'there was no room for the packages on the node', {
      step: 'Packages',
      lines: tail.slice(-20),
      hint: [roomHint(site.buildFolder), 'make room there, or lower keep_releases, then push again'],
      reason: 'disk full',
    });
  }
  const named =
    tail
      .map(
        (line) =>
          /No matching distribution found for ([^\s(]+)/.exec(line)?.[1] ??
          /Invalid requirement: ['"]?([^'"\s]+)/.exec(line)?.[1] ??
          /Failed to build ['"]?([\w.-]+)/.exec(line)?.[1],
      )
      .find((name) => name !== undefined) ?? null;
  const invalid = tail.map((line) => locateInvalid(requirements, line)).find((place) => place !== null) ?? null;
  const place = invalid ?? (named === null ? null : (locateRequirement(requirements, named) ?? named));
  return new KraftwerkError(
    'packages.install',
    place === null ? `pip failed with exit code ${result.code}` : `${place}: pip could not install it`,
    {
      step: 'Packages',
      lines: tail.slice(-20),
      hint: [
        // pip goes on to the next index, and then says of the package that there is none.
        ...(tail.some((line) => UNREACHED.test(line)) ? [IS_REACHABLE] : []),
        named === null || invalid !== null
          ? "pip's last words are above"
          : "is the name right, and does this version exist for the node's Python?",
      ],
      reason: 'pip failed',
    },
  );
}
