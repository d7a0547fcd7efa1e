// Backups of an environment in the admin's configuration: keys, defaults, and the credentials of the copy. Pure.
import { z } from 'zod';
import { KraftwerkError, PROJECT_PATTERN, type ServiceName } from '../node-agent/protocol.ts';
import { findCronProblem } from './backups/cron.ts';
import type { Config } from './config.ts';
import type { AwsCredentials } from './providers/sigv4.ts';
import type { Path } from './yaml-source.ts';

/** A bucket of an S3-compatible store, and the folder in it. */
export interface CopyConfig {
  bucket: string;
  /** In front of every key, without slashes at its ends; empty: none. */
  prefix: string;
  /** Null: AWS itself. */
  endpoint: string | null;
  region: string;
  /** `HOST/BUCKET/KEY` instead of `BUCKET.HOST/KEY`. */
  pathStyle: boolean;
}

export interface BackupsConfig {
  /** A cron expression, in the time zone of the receiver's machine. */
  schedule: string;
  /** How many scheduled dumps each project keeps. */
  keep: number;
  /** Null: all that have data. */
  services: readonly ServiceName[] | null;
  /** When the newest dump is restored on trial, as `schedule`; null: never. */
  drill: string | null;
  copy: CopyConfig | null;
}

const DEFAULT_KEEP = 14;
const MAX_KEEP = 1000;
const DEFAULT_DRILL = '0 5 * * 0';
const DEFAULT_REGION = 'us-east-1';

function cron(expected: string, words: readonly string[] = []) {
  return z.string({ error: `expected ${expected}` }).superRefine((value, context) => {
    const problem = words.includes(value) ? null : findCronProblem(value);
    if (problem !== null) context.addIssue({ code: 'custom', message: `expected ${expected}: ${problem}` });
  });
}

function matching(pattern: RegExp, expected: string) {
  const error = `expected ${expected}`;
  return z.string({ error }).regex(pattern, { error });
}

const copySchema = z.strictObject(
  {
    bucket: matching(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'the name of a bucket (3 to 63 of a-z 0-9 - and dots)'),
    prefix: matching(
      /^(?!\/)(?!.*\/\/)(?!(?:.*\/)?\.\.?(?:\/|$))[A-Za-z0-9!_.*'()/-]{1,200}$/,
      'a folder in the bucket, as "kraftwerk/live"',
    ).optional(),
    endpoint: z
      .string({ error: 'expected the address of a store, as "https://s3.example.com"' })
      .refine(isEndpoint, {
        error: 'expected the address of a store without path and login, as "https://s3.example.com"',
      })
      .optional(),
    region: matching(/^[A-Za-z0-9-]{1,50}$/, 'the name of a region, as eu-central-1').optional(),
    path_style: z.boolean({ error: 'expected true or false' }).optional(),
  },
  {
    error: (issue) =>
      issue.code === 'invalid_type' ? 'expected {bucket: NAME, endpoint: URL, region: NAME}' : undefined,
  },
);

export const backupsSchema = z.strictObject(
  {
    schedule: cron('minute, hour, day, month and weekday as cron has them, as "17 3 * * *"'),
    keep: z
      .int({ error: 'expected how many dumps to keep' })
      .min(1, { error: 'expected at least 1 dump to keep' })
      .max(MAX_KEEP, { error: `expected at most ${MAX_KEEP} dumps to keep` })
      .optional(),
    services: z
      .array(matching(PROJECT_PATTERN, 'the name of a service'), { error: 'expected a list of services' })
      .min(1, { error: 'expected a service; without the key it is all of them' })
      .max(100, { error: 'expected at most 100 services' })
      .optional(),
    drill: cron('never, or minute, hour, day, month and weekday as cron has them, as "0 5 * * 0"', [
      'never',
    ]).optional(),
    copy: copySchema.optional(),
  },
  { error: (issue) => (issue.code === 'invalid_type' ? 'expected {schedule: "17 3 * * *", …}' : undefined) },
);

type WrittenBackups = z.output<typeof backupsSchema>;

function isEndpoint(text: string): boolean {
  if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(text)) return false;
  return URL.canParse(text);
}

/** What goes wrong with several keys together. */
export function checkBackups(
  environment: string,
  written: WrittenBackups,
  report: (at: Path, message: string) => void,
) {
  const path = ['environments', environment, 'backups'];
  const at = path.join('.');
  const services = written.services ?? [];
  for (const [index, name] of services.entries()) {
    if (services.indexOf(name) !== index)
      report([...path, 'services', index], `${at}.services: ${name} stands there twice`);
  }
  if (written.copy && written.copy.endpoint === undefined && written.copy.region === undefined)
    report(
      [...path, 'copy'],
      `${at}.copy: region is missing, as eu-central-1; of another store than AWS also its address: endpoint: https://…`,
    );
}

export function readBackups(written: WrittenBackups | undefined): BackupsConfig | null {
  if (written === undefined) return null;
  const { schedule, keep, services, drill, copy } = written;
  return Object.freeze({
    schedule,
    keep: keep ?? DEFAULT_KEEP,
    services: services ? Object.freeze(services as ServiceName[]) : null,
    drill: drill === 'never' ? null : (drill ?? DEFAULT_DRILL),
    copy: copy ? readCopy(copy) : null,
  });
}

function readCopy({ bucket, prefix, endpoint, region, path_style }: z.output<typeof copySchema>): CopyConfig {
  return Object.freeze({
    bucket,
    prefix: (prefix ?? '').replace(/\/$/, ''),
    endpoint: endpoint?.replace(/\/$/, '') ?? null,
    region: region ?? DEFAULT_REGION,
    // Every other store knows path style; few have a name in DNS for each bucket.
    pathStyle: path_style ?? endpoint !== undefined,
  });
}

/**
 * What signs requests to the store: from the environment of the process alone, never from the configuration. Null when no
 * environment has a copy.
 * @throws KraftwerkError `config.credentials`, which names the variables that are missing
 */
export function readCopyCredentials(
  config: Pick<Config, 'file' | 'environments'>,
  env: Readonly<Record<string, string | undefined>>,
): AwsCredentials | null {
  const wanting = [...config.environments.values()].filter(({ backups }) => backups?.copy);
  const first = wanting[0];
  if (first === undefined) return null;
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = env;
  if (id && secret) return { accessKeyId: id, secretAccessKey: secret, sessionToken: token || null };
  const missing = [...(id ? [] : ['AWS_ACCESS_KEY_ID']), ...(secret ? [] : ['AWS_SECRET_ACCESS_KEY'])];
  const are = missing.length === 1 ? 'is' : 'are';
  throw new KraftwerkError(
    'config.credentials',
    `${config.file}: environments.${first.name}.backups.copy: ${missing.join(' and ')} ${are} not in the environment`,
    {
      hint: [
        `set ${missing.join(' and ')} for the receiver (and AWS_SESSION_TOKEN, if the store gave one)`,
        'or take copy: out of the configuration',
      ],
      exit: 'config',
    },
  );
}
