// Backups in the admin's configuration: defaults, every mistake with its place, and where credentials come from.
import { expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { parseConfig } from '../../receiver/config.ts';
import { readCopyCredentials } from '../../receiver/config-backups.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example';
const context = { file: '/etc/kw.yaml', home: '/home/ada', readFile: () => KEY, isDirectory: () => true };

/** The environment's keys are the fourth line. */
function configure(environment: string) {
  const text = `admins: [x.pub]\nnodes: {here: {local: true}}\nenvironments:\n  live: {nodes: [here], ${environment}}\n`;
  return parseConfig(text, context);
}

function refusalOf(action: () => unknown): KraftwerkError {
  try {
    action();
  } catch (error) {
    if (error instanceof KraftwerkError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const DEFAULTS = { schedule: '17 3 * * *', keep: 14, services: null, drill: '0 5 * * 0', copy: null };
const COPY = { bucket: 'dumps', prefix: '', endpoint: null, region: 'eu-central-1', pathStyle: false };

test.each<[string, string, object]>([
  ['nothing', 'protected: false', { protected: false, backups: null }],
  ['a protected environment', 'protected: true', { protected: true, backups: null }],
  ['a schedule alone', 'backups: {schedule: "17 3 * * *"}', { protected: false, backups: DEFAULTS }],
  [
    'every key',
    'backups: {schedule: "@daily", keep: 3, services: [postgres, files], drill: "0 6 1 * *", copy: {bucket: dumps, ' +
      'prefix: a/b/, endpoint: "https://s3.example.com:9000/", region: x, path_style: false}}',
    {
      protected: false,
      backups: {
        schedule: '@daily',
        keep: 3,
        services: ['postgres', 'files'],
        drill: '0 6 1 * *',
        copy: {
          bucket: 'dumps',
          prefix: 'a/b',
          endpoint: 'https://s3.example.com:9000',
          region: 'x',
          pathStyle: false,
        },
      },
    },
  ],
  [
    'a copy at AWS, and no drill',
    'backups: {schedule: "17 3 * * *", drill: never, copy: {bucket: dumps, region: eu-central-1}}',
    { protected: false, backups: { ...DEFAULTS, drill: null, copy: COPY } },
  ],
  [
    'a copy elsewhere',
    'backups: {schedule: "17 3 * * *", copy: {bucket: dumps, endpoint: "http://127.0.0.1:9000"}}',
    {
      protected: false,
      backups: {
        ...DEFAULTS,
        copy: { ...COPY, endpoint: 'http://127.0.0.1:9000', region: 'us-east-1', pathStyle: true },
      },
    },
  ],
])('%s', (_, environment, expected) => {
  const live = [...configure(environment).environments.values()][0];
  expect({ protected: live?.protected, backups: live?.backups }).toEqual(expected);
});

const CRON = 'expected minute, hour, day, month and weekday as cron has them, as "17 3 * * *"';
const DRILL = 'expected never, or minute, hour, day, month and weekday as cron has them, as "0 5 * * 0"';

test.each<[string, string, string[]]>([
  ['protected that is no word of YAML', 'protected: yes!', ['36 protected: expected true or false, got "yes!"']],
  ['nothing in it', 'backups: {}', [`25 backups.schedule: missing, ${CRON}`]],
  ['a schedule alone', 'backups: daily', ['34 backups: expected {schedule: "17 3 * * *", …}, got "daily"']],
  [
    'misspelt keys',
    'protect: true, backups: {schedule: "1 1 * * *", keeps: 1, copy: {buckt: x}}',
    [
      '25 unknown key "protect" in environments.live, did you mean "protected"?',
      '73 unknown key "keeps" in environments.live.backups, did you mean "keep"?',
      '83 backups.copy.bucket: missing, expected the name of a bucket (3 to 63 of a-z 0-9 - and dots)',
      '90 unknown key "buckt" in environments.live.backups.copy, did you mean "bucket"?',
    ],
  ],
  [
    'an hour that is none',
    'backups: {schedule: "0 25 * * *"}',
    [`45 backups.schedule: ${CRON}: invalid value for hour: 25, got "0 25 * * *"`],
  ],
  [
    'four fields',
    'backups: {schedule: "0 3 * *"}',
    [`45 backups.schedule: ${CRON}: it has 4 of five fields, got "0 3 * *"`],
  ],
  [
    'seconds',
    'backups: {schedule: "0 0 3 * * *"}',
    [`45 backups.schedule: ${CRON}: it has 6 of five fields, got "0 0 3 * * *"`],
  ],
  [
    'a day that never comes',
    'backups: {schedule: "0 0 30 2 *"}',
    [`45 backups.schedule: ${CRON}: that day never comes, got "0 0 30 2 *"`],
  ],
  [
    'a drill that is none, and numbers',
    'backups: {schedule: "1 1 * * *", keep: 0, drill: often}',
    [
      '64 backups.keep: expected at least 1 dump to keep, got 0',
      `74 backups.drill: ${DRILL}: it has 1 of five fields, got "often"`,
    ],
  ],
  [
    'a service twice, and AWS without a region',
    'backups: {schedule: "1 1 * * *", services: [files, files], copy: {bucket: dumps}}',
    [
      '76 backups.services: files stands there twice',
      '90 backups.copy: region is missing, as eu-central-1; of another store than AWS also its address: endpoint: https://…',
    ],
  ],
  [
    'a copy that can be nowhere',
    'backups: {schedule: "1 1 * * *", copy: {bucket: A_B, prefix: ../x, endpoint: "https://u:p@h/x", region: "a b"}}',
    [
      '73 backups.copy.bucket: expected the name of a bucket (3 to 63 of a-z 0-9 - and dots), got "A_B"',
      '86 backups.copy.prefix: expected a folder in the bucket, as "kraftwerk/live", got "../x"',
      '102 backups.copy.endpoint: expected the address of a store without path and login, as "https://s3.example.com", got "https://u:p@h/x"',
      '129 backups.copy.region: expected the name of a region, as eu-central-1, got "a b"',
    ],
  ],
])('%s is refused', (_, environment, errors) => {
  const error = refusalOf(() => configure(environment));
  expect([error.message, ...error.lines]).toEqual(
    errors.map((line) => {
      const [column, ...words] = line.split(' ');
      const text = words.join(' ');
      return `/etc/kw.yaml:4:${column} ${/^(?:backups|protected)\b/.test(text) ? `environments.live.${text}` : text}`;
    }),
  );
});

const COPIED = configure('backups: {schedule: "1 1 * * *", copy: {bucket: dumps, region: eu-central-1}}');

test('credentials of a copy come from the environment', () => {
  const keys = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' };
  expect(readCopyCredentials(COPIED, keys)).toEqual({
    accessKeyId: 'id',
    secretAccessKey: 'secret',
    sessionToken: null,
  });
  expect(readCopyCredentials(COPIED, { ...keys, AWS_SESSION_TOKEN: 'token' })?.sessionToken).toBe('token');
  expect(readCopyCredentials(configure('backups: {schedule: "1 1 * * *"}'), {})).toBeNull();
});

test.each<[Record<string, string>, string, string]>([
  [{}, 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY', 'are'],
  [{ AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: '' }, 'AWS_SECRET_ACCESS_KEY', 'is'],
  [{ AWS_SECRET_ACCESS_KEY: 'hidden' }, 'AWS_ACCESS_KEY_ID', 'is'],
])('missing credentials are named, and their values are not: %j', (env, names, are) => {
  const error = refusalOf(() => readCopyCredentials(COPIED, env));
  expect([error.code, error.exit, error.message]).toEqual([
    'config.credentials',
    'config',
    `/etc/kw.yaml: environments.live.backups.copy: ${names} ${are} not in the environment`,
  ]);
  expect([error.message, ...error.hints].join('\n')).not.toContain('hidden');
});
