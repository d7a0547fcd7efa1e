// What a project asks of a service, and what becomes of it: options, placeholders, who gives a variable, scripts.
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type {
  AbsolutePath,
  EnvironmentName,
  InstanceName,
  ProjectName,
  ServiceName,
} from '../../node-agent/protocol.ts';
import { type OptionValue, optionsSchema } from '../../receiver/service-schema.ts';
import {
  completeOptions,
  fillPlaceholders,
  ownersOfVariables,
  parseService,
  readService,
  renderScripts,
  type ServiceOrder,
  serviceValues,
} from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { parseYaml } from '../../receiver/yaml-source.ts';
import { validate } from '../../receiver/yaml-validate.ts';
import { withTemplates } from '../actors/service-folders.ts';

const ALL_TYPES = parseService(
  `description: x
options:
  text: {type: text, description: what is said, pattern: "[a-z/]{0,8}", default: "a"}
  number: {type: number, description: x, min: 2, max: 9, default: 5}
  boolean: {type: boolean, description: x, default: false}
  choice: {type: choice, description: x, choices: [link, copy], default: link}
  list: {type: list, description: x, pattern: "[a-z_]+", default: [a]}
`,
  'spool' as ServiceName,
  's.yaml',
);
const DEFAULTS = { text: 'a', number: 5, boolean: false, choice: 'link', list: ['a'] };

/** As it stands in a kraftwerk.yaml. */
function read(options: string): { value: unknown; errors: string[] } {
  const source = parseYaml(`spool: ${options}\n`, { file: 'k', code: 'x' });
  const { value, problems } = validate(z.strictObject({ spool: optionsSchema(ALL_TYPES) }), source);
  return { value: value?.spool ?? null, errors: problems.map(({ message }) => message.replace(/^spool[.:] ?/, '')) };
}

describe('options in kraftwerk.yaml', () => {
  test.each<[text: string, value: Record<string, OptionValue> | null]>([
    ['', null],
    ['{}', {}],
    ['{text: ""}', { text: '' }],
    ['{number: 2}', { number: 2 }],
    ['{number: 9, boolean: true}', { number: 9, boolean: true }],
    ['{choice: copy}', { choice: 'copy' }],
    ['{list: []}', { list: [] }],
    ['{list: [a, b_c]}', { list: ['a', 'b_c'] }],
    ['{list: a}', { list: ['a'] }],
    ['{list: "a, b  c,"}', { list: ['a', 'b', 'c'] }],
  ])('right: %s', (text, value) => {
    expect(read(text)).toEqual({ value, errors: [] });
  });

  test.each<[text: string, errors: string[]]>([
    ['7', ['expected options, got 7']],
    ['[text]', ['expected options, got a list']],
    ['{txet: a}', ['unknown option "txet", did you mean "text"?']],
    ['{text: 5}', ['text: expected text that fits [a-z/]{0,8}, got 5']],
    ['{text: abcdefghi}', ['text: expected text that fits [a-z/]{0,8}, got "abcdefghi"']],
    [String.raw`{text: "a\n"}`, [String.raw`text: expected text that fits [a-z/]{0,8}, got "a\n"`]],
    ['{number: 1}', ['number: expected a whole number from 2 to 9, got 1']],
    ['{number: 2.5}', ['number: expected a whole number from 2 to 9, got 2.5']],
    ['{number: "3"}', ['number: expected a whole number from 2 to 9, got "3"']],
    ['{boolean: yes}', ['boolean: expected true or false, got "yes"']],
    ['{choice: lnik}', ['choice: unknown choice "lnik", did you mean "link"?']],
    ['{choice: 1}', ['choice: expected link or copy, got 1']],
    ['{list: [a, B]}', ['list[1]: expected text that fits [a-z_]+, got "B"']],
    ['{list: 5}', ['list: expected a list, got 5']],
    ['{list: {a: b}}', ['list: expected a list, got keys and values']],
    [
      '{number: 1, boolean: 1}',
      ['number: expected a whole number from 2 to 9, got 1', 'boolean: expected true or false, got 1'],
    ],
  ])('wrong: %s', (text, errors) => {
    expect(read(text)).toEqual({ value: null, errors });
  });

  test('a text holds no NUL, whatever its pattern', () => {
    const any = parseService(
      'description: x\noptions: {a: {type: text, description: x, pattern: "[^x]*", default: ""}}\n',
      'any' as ServiceName,
      's.yaml',
    );
    expect(completeOptions(any, { a: 'two\nlines' })).toEqual({ a: 'two\nlines' });
    expect(() => completeOptions(any, { a: 'a\0b' })).toThrow(/service any: a: expected text that fits/);
  });

  test('are described for editors', () => {
    expect(optionsSchema(ALL_TYPES).unwrap().shape.text?.description).toBe('what is said');
  });
});

describe('options that are complete', () => {
  test('defaults, and what was given', () => {
    expect(completeOptions(ALL_TYPES, {})).toEqual(DEFAULTS);
    expect(completeOptions(ALL_TYPES, { number: 9, list: ['b'] })).toEqual({ ...DEFAULTS, number: 9, list: ['b'] });
  });

  test('what no longer fits is told, all of it', () => {
    expect(() => completeOptions(ALL_TYPES, { number: 10, choice: 'links', more: true })).toThrow(
      expect.objectContaining({
        code: 'service.option',
        message: 'service spool: number: expected a whole number from 2 to 9',
        lines: [
          'choice: unknown choice "links", did you mean "link"?',
          expect.stringMatching(/^unknown option "more"/),
        ],
      }),
    );
  });
});

const SYSTEM = { profile: { profile: 'system' } as const, instance: 'blog-stage' as InstanceName };
const ORDER: ServiceOrder = {
  ...SYSTEM,
  project: 'blog' as ProjectName,
  environment: 'stage' as EnvironmentName,
  options: {},
};
const ROOTLESS: ServiceOrder = {
  ...ORDER,
  profile: { profile: 'rootless', root: '/home/ada/node' as AbsolutePath, httpPort: 8080 },
};

describe('placeholders', () => {
  const text = '{root}|{site}|{runtime}|{instance}|{project}|{environment}|{user}|{}|{A}';
  test.each<[string, ServiceOrder, string]>([
    ['of a system', ORDER, '|/web/blog-stage|/run/kraftwerk/blog-stage|blog-stage|blog|stage|web-blog-stage|{}|{A}'],
    [
      'of a rootless node',
      ROOTLESS,
      '/home/ada/node|/home/ada/node/web/blog-stage|/home/ada/node/run/kraftwerk/blog-stage|blog-stage|blog|stage||{}|{A}',
    ],
  ])('%s', (_, order, filled) => {
    const values = serviceValues(ALL_TYPES, order);
    expect(fillPlaceholders({ ...ALL_TYPES, variables: { X: text }, health: ['echo', text] }, values)).toEqual({
      variables: { X: filled },
      health: ['echo', filled],
      link: null,
    });
    expect(fillPlaceholders(ALL_TYPES, values)).toEqual({ variables: {}, health: null, link: null });
  });
});

test('what the scripts see', () => {
  expect(serviceValues(ALL_TYPES, { ...ORDER, options: { number: 2 } })).toMatchObject({
    instance: 'blog-stage',
    project: 'blog',
    environment: 'stage',
    root: '',
    site: '/web/blog-stage',
    user: 'web-blog-stage',
    nginxUser: 'www-data',
    options: { ...DEFAULTS, number: 2 },
  });
  expect(serviceValues(ALL_TYPES, ROOTLESS)).toMatchObject({ user: null, owner: null });
});

test('a variable belongs to the service that is named first', () => {
  const builtIn = createTemplates({ configured: [] });
  const owners = (...names: string[]) =>
    Object.fromEntries(ownersOfVariables(names.map((name) => readService(builtIn, name as ServiceName))));
  expect(owners('postgres', 'sqlite')).toEqual({
    DATABASE_URL: 'postgres',
    POSTGRES_USER: 'postgres',
    POSTGRES_DATABASE: 'postgres',
    DATA_PATH: 'sqlite',
    SQLITE_DATABASE: 'sqlite',
  });
  // It gives this one by its scripts.
  expect(owners('mariadb', 'postgres')).toMatchObject({ DATABASE_URL: 'mariadb', POSTGRES_USER: 'postgres' });
  expect(owners('sqlite', 'mariadb')).toMatchObject({ DATABASE_URL: 'sqlite', MARIADB_URL: 'mariadb' });
  expect(owners()).toEqual({});
});

test('a script holds values as words of the shell', () => {
  const files = {
    'services/spool/service.yaml': 'description: x\noptions: {a: {type: text, description: x, default: ""}}\n',
    'services/spool/setup.sh': 'echo <%= it.options.a %> <%= it.user ?? "" %>\n',
    'services/spool/destroy.sh': 'rm <%= it.site %>/spool\n',
  };
  withTemplates(files, (templates) => {
    const spool = readService(templates, 'spool' as ServiceName);
    const values = serviceValues(spool, { ...ORDER, options: { a: `it's $(id)` } });
    expect(renderScripts(templates, spool, values)).toEqual({
      setup: "echo 'it'\\''s $(id)' 'web-blog-stage'\n",
      destroy: "rm '/web/blog-stage'/spool\n",
      dump: null,
      load: null,
    });
  });
});
