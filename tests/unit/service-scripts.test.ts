// The scripts of all services, the example of docs/services.md among them, as they are sent to nodes: whatever the
// options are, shellcheck has nothing to say.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type {
  AbsolutePath,
  EnvironmentName,
  InstanceName,
  NodeProfile,
  ProjectName,
} from '../../node-agent/protocol.ts';
import type { Options, OptionValue, ServiceOption } from '../../receiver/service-schema.ts';
import { readService, renderScripts, type ScriptName, serviceValues } from '../../receiver/services.ts';
import { createTemplates } from '../../receiver/templates.ts';
import { exampleOfDocs, writeFolder } from '../actors/service-folders.ts';

const hasShellcheck = spawnSync('shellcheck', ['--version']).status === 0;
if (!hasShellcheck)
  console.warn('skipped: shellcheck is not installed, the scripts of services were not checked with it');

const example = writeFolder(exampleOfDocs());
afterAll(() => rmSync(example, { recursive: true }));
const templates = createTemplates({ configured: [example] });
const services = templates.services();

const PROFILES: readonly NodeProfile[] = [
  { profile: 'system' },
  // A user's folder may be called anything.
  { profile: 'rootless', root: '/home/ada/a node' as AbsolutePath, httpPort: 8080 },
];

/** Some that an option may have, its limits among them. */
function valuesOf(option: ServiceOption): OptionValue[] {
  switch (option.type) {
    case 'number':
      return [option.min, option.default, option.max];
    case 'boolean':
      return [true, false];
    case 'choice':
      return [...option.choices];
    case 'list':
      return [[], ['pg_trgm'], ['pg_trgm', 'hstore', 'uuid-ossp']];
    case 'text':
      return [option.default, 'utf8mb4_unicode_ci'].filter((text) => new RegExp(`^(?:${option.pattern})$`).test(text));
  }
}

/** The defaults, and then all options at once with the first, the second and so on of what they may be. */
function optionsOf(options: Readonly<Record<string, ServiceOption>>): Options[] {
  const values = Object.entries(options).map(([name, option]) => ({ name, some: valuesOf(option) }));
  const rounds = Math.max(0, ...values.map(({ some }) => some.length));
  const round = (index: number): Options =>
    Object.fromEntries(values.map(({ name, some }) => [name, some[index % some.length] as OptionValue]));
  return [{}, ...Array.from({ length: rounds }, (_, index) => round(index))];
}

/** By a name that says what it is. */
function scriptsOf(service: (typeof services)[number]): Record<string, string> {
  const definition = readService(templates, service);
  const scripts: Record<string, string> = {};
  for (const profile of PROFILES.filter(({ profile }) => profile === 'system' || definition.rootless))
    for (const [index, options] of optionsOf(definition.options).entries()) {
      const values = serviceValues(definition, {
        profile,
        instance: 'a-site_with-28-characters_xx' as InstanceName,
        project: 'a-site_with-28-characters_xx' as ProjectName,
        environment: 'live' as EnvironmentName,
        options,
      });
      for (const [script, text] of Object.entries(renderScripts(templates, definition, values)))
        if (text !== null && !Object.values(scripts).includes(text))
          scripts[`${profile.profile}-${index}-${script}.sh`] = text;
    }
  return scripts;
}

function inFolder(scripts: Readonly<Record<string, string>>, argv: readonly [string, ...string[]]): string {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-shellcheck-'));
  try {
    for (const [name, text] of Object.entries(scripts)) writeFileSync(join(folder, name), text);
    const [program, ...args] = argv;
    const { stdout, stderr, error } = spawnSync(program, [...args, ...readdirSync(folder)], {
      cwd: folder,
      encoding: 'utf8',
    });
    if (error) throw error;
    return `${stdout}${stderr}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// Not every script uses every word of functions.sh, with every argument.
const SHELLCHECK = [
  'shellcheck',
  '--shell',
  'bash',
  '--exclude',
  'SC2034,SC2119,SC2120,SC2317,SC2329',
  '--format',
  'gcc',
] as const;

test.skipIf(!hasShellcheck).each(services)('shellcheck has nothing to say to %s', (service) => {
  expect(inFolder(scriptsOf(service), [...SHELLCHECK])).toBe('');
});

test.each(services)('a shell can read %s', (service) => {
  expect(inFolder(scriptsOf(service), ['bash', '-c', 'for file; do bash -n "$file"; done', 'bash'])).toBe('');
});

test('the example of the documentation is whole', () => {
  expect(Object.keys(exampleOfDocs()).sort()).toEqual(
    ['destroy.sh', 'dump.sh', 'load.sh', 'service.yaml', 'setup.sh'].map((file) => `services/spool/${file}`),
  );
});

test('every script of a service that scripts include is there once, and none is left over', () => {
  const known: readonly string[] = ['setup', 'destroy', 'dump', 'load'] satisfies ScriptName[];
  const files = templates.list('services').map(({ path }) => path);
  const included = new Set(
    templates
      .list('services')
      .flatMap(({ path }) => [...templates.read(`services/${path}`).matchAll(/include\('services\/([^']+)'/g)])
      .map(([, path]) => path),
  );
  const own = files.filter((path) => path.includes('/') && known.some((name) => path.endsWith(`/${name}.sh`)));
  const rest = files.filter((path) => !own.includes(path) && !path.endsWith('/service.yaml'));
  expect(rest.filter((path) => !included.has(path))).toEqual([]);
});
