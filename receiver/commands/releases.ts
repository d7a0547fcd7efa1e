/** `releases TARGET`: the kept releases, and the deploys that failed. */
import { openRepository } from '../git/repository.ts';
import type { DeployRecord, ReleaseRecord } from '../journal.ts';
import { printTable } from '../print-table.ts';
import { type Command, type CommandContext, printJson } from './command.ts';
import { formatTime } from './units.ts';

const KEPT_DEPLOYS = 200;

export const releases: Command = {
  name: 'releases',
  aliases: ['releases:list'],
  summary: 'the kept releases and what has failed',
  usage: 'TARGET [--json]',
  examples: ['releases blog/live', 'releases blog/live --json'],
  verb: 'releases',
  target: 'required',
  args: { min: 0, max: 0 },
  options: {},
  async run(context) {
    const { json, receiver, target } = context;
    if (target === null) throw new TypeError('a command with a target has none');
    const rows = listReleases(
      receiver.journal.releases(target),
      receiver.journal.deploys(target, KEPT_DEPLOYS),
      receiver.journal.target(target)?.current ?? null,
    );
    const unnamed = rows.flatMap(({ commit, subject }) => (subject === null ? [commit] : []));
    const subjects = await openRepository(receiver.data, target).subjects(unnamed);
    const all = rows.map((row) => ({ ...row, subject: row.subject ?? subjects.get(row.commit) ?? null }));
    if (json) printJson(context.stdout, all);
    else print(context, all);
    return 0;
  },
};

export interface ReleaseRow {
  release: number;
  /** When it was made, or failed. */
  at: string;
  by: string;
  commit: string;
  subject: string | null;
  result: 'current' | 'ok' | 'failed' | 'deploying';
  error: string | null;
  /** When it was last gone back to. */
  rolledBackAt: string | null;
  durationMs: number | null;
}

/** Newest first. @param deploys newest first. Pure. */
export function listReleases(
  kept: readonly ReleaseRecord[],
  deploys: readonly DeployRecord[],
  current: number | null,
): ReleaseRow[] {
  const made = deploys.filter(({ kind }) => kind === 'push' || kind === 'deploy');
  const unfinished = made.filter(({ phase }) => phase !== 'done');
  const rows = kept
    .filter(({ release }) => !unfinished.some((deploy) => deploy.release === release))
    .map((one): ReleaseRow => {
      const { commit, createdAt, createdBy, durationMs, release, subject } = one;
      const back = deploys.find((deploy) => deploy.release === release && isRollback(deploy));
      const rolledBackAt = back?.endedAt ?? null;
      const result = release === current ? 'current' : 'ok';
      return { release, at: createdAt, by: createdBy, commit, subject, result, error: null, rolledBackAt, durationMs };
    });
  const others = unfinished.map(({ by, commit, endedAt, error, phase, release, startedAt }): ReleaseRow => {
    const result = phase === 'failed' ? 'failed' : 'deploying';
    const durationMs = endedAt === null ? null : Date.parse(endedAt) - Date.parse(startedAt);
    return {
      release,
      at: endedAt ?? startedAt,
      by,
      commit,
      subject: null,
      result,
      error,
      rolledBackAt: null,
      durationMs,
    };
  });
  return [...rows, ...others].sort((a, b) => b.release - a.release);
}

function isRollback({ kind, phase }: DeployRecord): boolean {
  return kind === 'rollback' && phase === 'done';
}

function print({ stderr, stdout }: CommandContext, rows: readonly ReleaseRow[]): void {
  if (rows.length === 0) stderr.write('no releases yet\n');
  const columns = [
    ...['RELEASE', 'DEPLOYED', 'BY', 'COMMIT', 'SUBJECT'].map((title) => ({ title })),
    { title: 'TOOK', align: 'right' } as const,
    { title: 'RESULT' },
  ];
  const cells = rows.map((row) => [
    `v${row.release}`,
    formatTime(row.at),
    row.by,
    row.commit.slice(0, 7),
    shorten(row.subject ?? '-'),
    row.durationMs === null ? '-' : `${(row.durationMs / 1000).toFixed(1)}s`,
    describe(row),
  ]);
  stdout.write(printTable(columns, cells));
}

function describe({ error, result, rolledBackAt }: ReleaseRow): string {
  if (result === 'failed') return `failed: ${error ?? ''}`;
  return rolledBackAt === null ? result : `${result}, rolled back to ${formatTime(rolledBackAt)}`;
}

function shorten(subject: string): string {
  const signs = [...subject];
  return signs.length > 40 ? `${signs.slice(0, 39).join('')}…` : subject;
}
