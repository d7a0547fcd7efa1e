// A service.yaml: what it becomes, and every mistake with its place, all at once.
import { describe, expect, test } from 'vitest';
import { KraftwerkError, type ServiceName } from '../../node-agent/protocol.ts';
import { parseService, readService } from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { withTemplates } from '../actors/service-folders.ts';

const parse = (text: string) => parseService(text, 'spool' as ServiceName, 's.yaml');

function errorsOf(text: string): string[] {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof KraftwerkError && error.code === 'service.invalid') return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

test('a line is enough', () => {
  expect(parse('description: a folder\n')).toEqual({
    name: 'spool',
    description: 'a folder',
    install: { packages: [], disable: [] },
    rootless: false,
    uploads: false,
    data: false,
    variables: {},
    written: [],
    options: {},
    health: null,
    link: null,
  });
});

test('all that may be said', () => {
  const text = `
description: a folder
install: {packages: [cron, libstdc++6], disable: [a-b@c.service, x.timer]}
rootless: true
uploads: true
data: true
variables: {A: "{root}{site}{runtime}{instance}{project}{environment}{user}", B: 010, C: yes, D: "{}{A} {1}"}
written: [E]
options:
  text: {type: text, description: t, default: ""}
  number: {type: number, description: n, default: -0}
  boolean: {type: boolean, description: b, default: false}
  choice: {type: choice, description: c, choices: [x, y], default: y}
  list: {type: list, description: l, pattern: "[a-z]", default: [a, b]}
health: [test, 010, "{site}"]
`;
  expect(parse(text)).toEqual({
    name: 'spool',
    description: 'a folder',
    install: { packages: ['cron', 'libstdc++6'], disable: ['a-b@c.service', 'x.timer'] },
    rootless: true,
    uploads: true,
    data: true,
    variables: {
      A: '{root}{site}{runtime}{instance}{project}{environment}{user}',
      B: '010',
      C: 'yes',
      D: '{}{A} {1}',
    },
    written: ['E'],
    options: {
      text: { type: 'text', description: 't', pattern: '.{0,1000}', default: '' },
      number: { type: 'number', description: 'n', min: 0, max: Number.MAX_SAFE_INTEGER, default: -0 },
      boolean: { type: 'boolean', description: 'b', default: false },
      choice: { type: 'choice', description: 'c', choices: ['x', 'y'], default: 'y' },
      list: { type: 'list', description: 'l', pattern: '[a-z]', default: ['a', 'b'] },
    },
    health: ['test', '010', '{site}'],
    link: null,
  });
});

test.each<[what: string, text: string, errors: string[]]>([
  ['nothing', '', ['s.yaml:1:1 description: missing, expected what it is, in a line of at most 200 characters']],
  ['a list', '- a\n', ['s.yaml:1:1 expected keys and values ("key: value"), got a list']],
  ['no YAML', 'description: x\n  foo: [\n', ['s.yaml:2:6 not YAML: bad indentation of a mapping entry']],
  ['a key twice', 'description: x\ndescription: y\n', ['s.yaml:2:1 key "description" is given twice, first in line 1']],
  [
    'another type everywhere',
    'description: 5\ninstall: cron\nrootless: 1\nuploads: "no"\ndata: 3\nvariables: [A]\nwritten: A\noptions: 7\nhealth: test -w x\n',
    [
      's.yaml:1:14 description: expected what it is, in a line of at most 200 characters, got 5',
      's.yaml:2:10 install: expected "packages" and "disable", got "cron"',
      's.yaml:3:11 rootless: expected true or false, got 1',
      's.yaml:4:10 uploads: expected true or false, got "no"',
      's.yaml:5:7 data: expected true or false, got 3',
      's.yaml:6:12 variables: expected variables ("NAME: value"), got a list',
      's.yaml:7:10 written: expected a list of variables, got "A"',
      's.yaml:8:10 options: expected options, got 7',
      's.yaml:9:9 health: expected a command, as a list of words, got "test -w x"',
    ],
  ],
  [
    'keys that there are not',
    'descripton: x\ninstall: {package: [cron]}\nscripts: 1\n',
    [
      's.yaml:1:1 unknown key "descripton", did you mean "description"?',
      's.yaml:1:1 description: missing, expected what it is, in a line of at most 200 characters',
      's.yaml:2:11 unknown key "package" in install, did you mean "packages"?',
      's.yaml:3:1 unknown key "scripts", expected description, install, rootless, uploads, data, variables, written, options, health or link',
    ],
  ],
  [
    'a key of another type of option',
    'description: x\noptions:\n  size: {type: text, description: t, min: 3, default: ""}\n',
    ['s.yaml:3:38 "min" in options.size does not go with the other keys there'],
  ],
  [
    'packages and units',
    'description: x\ninstall: {packages: [cron, "a b", -y, 5], disable: [redis, redis.service, "../x.service"]}\n',
    [
      's.yaml:2:28 install.packages[1]: expected the name of a Debian package, got "a b"',
      's.yaml:2:35 install.packages[2]: expected the name of a Debian package, got "-y"',
      's.yaml:2:39 install.packages[3]: expected the name of a Debian package, got 5',
      's.yaml:2:53 install.disable[0]: expected a unit, as "name.service", got "redis"',
      's.yaml:2:75 install.disable[2]: expected a unit, as "name.service", got "../x.service"',
    ],
  ],
  [
    'variables',
    'description: x\nvariables:\n  1A: x\n  KRAFTWERK_X: x\n  SITE_ROOT: x\n  GOOD: "{sit}/x"\n  OTHER: "{nowhere}"\n  NUL: "a\\0"\n',
    [
      's.yaml:3:3 variables: expected the name of a variable (A-Z a-z 0-9 _), got "1A"',
      's.yaml:4:3 variables: KRAFTWERK_X is set by kraftwerk, choose another name',
      's.yaml:5:3 variables: SITE_ROOT is set by kraftwerk, choose another name',
      's.yaml:6:9 variables.GOOD: unknown placeholder {sit}, did you mean "{site}"?',
      's.yaml:7:10 variables.OTHER: unknown placeholder {nowhere}, expected {root}, {site}, {runtime}, {instance}, {project}, {environment}, {user} or {sockets}',
      's.yaml:8:8 variables.NUL: a NUL byte is not allowed',
    ],
  ],
  [
    'variables that scripts write',
    'description: x\nwritten: [A, 5, SITE_ROOT, "b c"]\n',
    [
      's.yaml:2:14 written[1]: expected the name of a variable, got 5',
      's.yaml:2:17 written[2]: SITE_ROOT is set by kraftwerk, choose another name',
      's.yaml:2:28 written[3]: expected the name of a variable (A-Z a-z 0-9 _), got "b c"',
    ],
  ],
  [
    'a variable from two sides',
    'description: x\nvariables: {A: x}\nwritten: [B, A]\n',
    ['s.yaml:3:14 written[1]: A is in variables, too'],
  ],
  [
    'an empty command',
    'description: x\nhealth: []\n',
    ['s.yaml:2:9 health: expected a command, as a list of words, got a list'],
  ],
  [
    'a command',
    'description: x\nhealth: [test, {a: b}, "{sites}"]\n',
    [
      's.yaml:2:16 health[1]: expected text, got keys and values',
      's.yaml:2:24 health[2]: unknown placeholder {sites}, did you mean "{site}"?',
    ],
  ],
])('errors: %s', (_, text, errors) => {
  expect(errorsOf(text)).toEqual(errors);
});

describe('options that are wrong', () => {
  test.each<[option: string, errors: string[]]>([
    [
      'Days: {type: number, description: x, default: 3}',
      ['3 options: expected the name of an option (a-z 0-9 _ -), got "Days"'],
    ],
    ['a:', ['3 options.a: expected "type", "description" and "default", got nothing']],
    ['a: {}', ['3 options.a.type: missing, expected text, number, boolean, choice or list']],
    [
      'a: {type: nmber, default: 1}',
      ['13 options.a.type: expected text, number, boolean, choice or list, got "nmber"'],
    ],
    [
      'a: {type: number}',
      [
        '3 options.a.description: missing, expected what it is, in a line of at most 200 characters',
        '3 options.a.default: missing, expected a whole number',
      ],
    ],
    ['a: {type: number, description: x, default: 1.5}', ['46 options.a.default: expected a whole number, got 1.5']],
    [
      'a: {type: number, description: x, default: 9, min: 2, max: 5}',
      ['46 options.a.default: expected a whole number from 2 to 5, got 9'],
    ],
    ['a: {type: boolean, description: x, default: 1}', ['47 options.a.default: expected true or false, got 1']],
    ['a: {type: choice, description: x, default: a}', ['3 options.a.choices: missing, expected a list']],
    [
      'a: {type: choice, description: x, default: a, choices: []}',
      ['58 options.a.choices: expected at least one, got a list'],
    ],
    [
      'a: {type: choice, description: x, default: lnk, choices: [link, copy]}',
      ['46 options.a.default: unknown choice "lnk", did you mean "link"?'],
    ],
    ['a: {type: text, description: x, default: 5}', ['44 options.a.default: expected text, got 5']],
    [
      'a: {type: text, description: x, default: A, pattern: "[a-z]+"}',
      ['44 options.a.default: expected text that fits [a-z]+, got "A"'],
    ],
    [
      'a: {type: text, description: x, default: A, pattern: "[a-z"}',
      ['56 options.a.pattern: expected a regular expression, got "[a-z"'],
    ],
    [
      'a: {type: list, description: x, default: [a, B], pattern: "[a-z]"}',
      ['48 options.a.default[1]: expected text that fits [a-z], got "B"'],
    ],
    ['a: {type: list, description: x, default: a}', ['44 options.a.default: expected a list, got "a"']],
  ])('%s', (option, errors) => {
    expect(errorsOf(`description: x\noptions:\n  ${option}\n`)).toEqual(errors.map((error) => `s.yaml:3:${error}`));
  });
});

describe('a folder', () => {
  test.each(createTemplates({ configured: [] }).services())('%s is whole', (name) => {
    expect(readService(createTemplates({ configured: [] }), name)).toMatchObject({ name });
  });

  test('names its file in errors', () => {
    withTemplates({ 'services/spool/service.yaml': 'data: 1\n' }, (templates, folder) => {
      expect(() => readService(templates, 'spool' as ServiceName)).toThrow(
        `${folder}/services/spool/service.yaml:1:1 description: missing`,
      );
    });
  });

  test('has a script for all that it can do', () => {
    const files = {
      'services/spool/service.yaml': 'description: x\ndata: true\n',
      'services/spool/setup.sh': '',
      'services/spool/dump.sh': '',
    };
    withTemplates(files, (templates, folder) => {
      expect(() => readService(templates, 'spool' as ServiceName)).toThrow(
        expect.objectContaining({
          code: 'service.incomplete',
          message: 'the service spool has no destroy.sh, no load.sh',
          hints: [`beside its service.yaml: ${folder}/services/spool/service.yaml`],
        }),
      );
    });
  });

  test('can be one that an admin changes in part', () => {
    withTemplates({ 'services/files/setup.sh': 'echo mine\n' }, (templates) => {
      expect(readService(templates, 'files' as ServiceName)).toMatchObject({ name: 'files', uploads: true });
    });
  });

  test('that is not there', () => {
    expect(() => readService(createTemplates({ configured: [] }), 'nothing' as ServiceName)).toThrow(
      expect.objectContaining({ code: 'template.missing' }),
    );
  });
});
