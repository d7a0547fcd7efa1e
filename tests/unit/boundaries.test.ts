// Holds the import rules of the architecture: who may import whom, who may start programs, read the environment, end the process.
// Long because: the rules, and beside them one table in which each rule is seen to fail.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');

/** A path ending in `/` means every file below it, otherwise that file. */
type Place = string;

const sourceFolders: Place[] = ['receiver/', 'node-agent/'];
const allFolders: Place[] = [...sourceFolders, 'scripts/', 'tests/'];
const notOurs: Place[] = ['tests/fixtures/'];

const pureFiles: Place[] = [
  'receiver/manifest.ts',
  'receiver/config.ts',
  'receiver/access.ts',
  'receiver/transcript.ts',
  'receiver/deploy/plan.ts',
  'node-agent/protocol.ts',
  'node-agent/protocol-data.ts',
  'node-agent/requests.ts',
  'receiver/services.ts',
];

const importRules: { in: Place[]; except?: Place[]; forbid: RegExp; allowTypes?: true; because: string }[] = [
  {
    in: ['receiver/'],
    forbid: /^node-agent\/(?!(?:protocol|protocol-data|requests)\.ts$)/,
    because: 'receiver/ takes from node-agent/ only the protocol',
  },
  {
    in: ['receiver/'],
    except: ['receiver/instances.ts'],
    forbid: /^receiver\/instance-name\.ts$/,
    because: 'a name on a node has one owner: ask instances.of(target), which claims it',
  },
  { in: ['node-agent/'], forbid: /^receiver\//, because: 'node-agent/ takes nothing from receiver/' },
  { in: sourceFolders, forbid: /^(tests|scripts)\//, because: 'tests and scripts are not part of the product' },
  {
    in: sourceFolders,
    except: ['receiver/git/', 'receiver/nodes/', 'node-agent/system.ts'],
    forbid: /^(node:)?child_process$/,
    because: 'programs are started in receiver/git/, receiver/nodes/ and node-agent/system.ts only',
  },
  {
    in: ['node-agent/'],
    except: ['node-agent/system.ts', 'node-agent/remove-by-descriptor.ts'],
    forbid: /^(node:)?fs(\/promises)?$/,
    allowTypes: true,
    because: 'node-agent/system.ts, and what it removes trees with, are the only files of the agent that touch fs',
  },
];

const impureImport =
  /^(node:)?(fs|fs\/promises|child_process|net|tls|http|https|http2|dgram|timers|timers\/promises|sqlite|worker_threads)$/;

const textRules: { in: Place[]; except: Place[]; forbid: RegExp; because: string }[] = [
  {
    in: sourceFolders,
    except: [
      'receiver/main.ts',
      'receiver/cli/',
      'receiver/config.ts',
      // Lends it to a library that starts git with no other.
      'receiver/git/smart-http.ts',
      'node-agent/main.ts',
      'node-agent/system.ts',
    ],
    forbid:
      /\bprocess\s*\.\s*env\b|\bprocess\s*\[|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b|\benv\b[^;]*from\s*'(node:)?process'/,
    because: 'process.env is read in entry files and config.ts only: pass the value as an argument',
  },
  {
    in: sourceFolders,
    except: ['receiver/main.ts', 'receiver/cli/receiver.ts', 'node-agent/main.ts'],
    forbid: /\bprocess\s*\.\s*(exit|abort|reallyExit)\b/,
    because: 'only an entry file ends the process: throw a KraftwerkError, or return',
  },
  {
    in: ['receiver/'],
    // The door; and the routes that a node says it has, of which those that are nobody's go.
    except: ['receiver/instance-name.ts', 'receiver/instances.ts', 'receiver/router/routes.ts'],
    forbid: /\bas\s+InstanceName\b|<InstanceName>\(|\bparseInstanceName\b/,
    because: 'a name on a node has one owner: ask instances.of(target), which claims it',
  },
  {
    in: pureFiles,
    except: [],
    forbid: /\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.now\b|\bMath\.random\b|\bset(Timeout|Interval|Immediate)\b/,
    because: 'a pure file has no clock and no chance: take the time as an argument',
  },
  {
    in: allFolders,
    except: ['tests/scenarios/global-setup.ts'],
    forbid: /^[ \t]*export\s+default\b|\bas\s+default\b[^;]*\}/m,
    because: 'no default exports: name it',
  },
  {
    in: allFolders,
    except: [],
    forbid: /^[ \t]*export\s*(type\s*)?(\*|\{[^}]*\}\s*from\b)/m,
    because: 'no barrels: import from the file that defines it',
  },
];

const forbiddenNames: { name: RegExp; because: string }[] = [
  { name: /^(utils?|helpers?|misc|common)\.ts$/, because: 'name the file after what it is for' },
  { name: /^index\.ts$/, because: 'no barrels: import from the file that defines it' },
  { name: /^(?![a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9-]+)*\.ts$)/, because: 'file names are kebab-case' },
];

const maxLines = 300;

interface Import {
  /** Path from the project's root, or a package's name. */
  target: string;
  isTypeOnly: boolean;
}

interface SourceFile {
  path: string;
  text: string;
  /** The text with comments blanked: same lines, so that messages can say where. */
  code: string;
  imports: Import[];
}

function readSources(): SourceFile[] {
  return allFolders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !isIn(path, notOurs))
    .sort()
    .map((path) => parseSource(path, readFileSync(join(root, path), 'utf8')));
}

function parseSource(path: string, text: string): SourceFile {
  const code = blankComments(text);
  const statements = code.matchAll(
    /(?:^|[;\n}])\s*(?:import|export)\s+(?<type>type\s)?(?:[\w\s{},*$]*?\sfrom\s*|[\w\s{},*$]*?\}\s*from\s*)?['"](?<name>[^'"\n]+)['"]/g,
  );
  const calls = code.matchAll(/\b(?:import|require)\(\s*['"`](?<name>[^'"`\n]+)['"`]/g);
  const imports = [...statements, ...calls].map((match) => ({
    target: resolveImport(path, match.groups?.name ?? ''),
    isTypeOnly: match.groups?.type !== undefined,
  }));
  return { path, text, code, imports };
}

// One pass that knows strings and templates well enough not to take `https://` for a comment.
function blankComments(text: string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|(?<![\\/[])\/\/[^\n]*/g,
    (match, literal: string | undefined) => literal ?? match.replace(/[^\n]/g, ' '),
  );
}

function resolveImport(from: string, name: string): string {
  return name.startsWith('.') ? relative(root, resolve(root, dirname(from), name)) : name;
}

function isIn(path: string, places: Place[]): boolean {
  return places.some((place) => (place.endsWith('/') ? path.startsWith(place) : path === place));
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}

function findImportViolations(files: SourceFile[]): string[] {
  return files.flatMap((file) =>
    importRules
      .filter((rule) => isIn(file.path, rule.in) && !isIn(file.path, rule.except ?? []))
      .flatMap((rule) =>
        file.imports
          .filter(({ target, isTypeOnly }) => rule.forbid.test(target) && !(rule.allowTypes && isTypeOnly))
          .map(({ target }) => `${file.path} imports ${target}: ${rule.because}`),
      ),
  );
}

/** A pure file stays pure through what it imports: follows value imports to the first effect. */
function findImpurities(files: SourceFile[]): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const violations: string[] = [];
  for (const pure of files.filter((file) => isIn(file.path, pureFiles))) {
    const seen = new Set<string>();
    const visit = (file: SourceFile, chain: string[]) => {
      if (seen.has(file.path)) return;
      seen.add(file.path);
      for (const { target, isTypeOnly } of file.imports) {
        if (isTypeOnly) continue;
        if (impureImport.test(target)) {
          violations.push(
            `${[...chain, target].join(' -> ')}: ${pure.path} is pure: no files, programs, sockets, timers`,
          );
        }
        const next = byPath.get(target);
        if (next) visit(next, [...chain, next.path]);
      }
    };
    visit(pure, [pure.path]);
  }
  return violations;
}

function findTextViolations(files: SourceFile[]): string[] {
  return files.flatMap((file) =>
    textRules
      .filter((rule) => isIn(file.path, rule.in) && !isIn(file.path, rule.except))
      .flatMap((rule) => {
        const match = rule.forbid.exec(file.code);
        if (!match) return [];
        const offset = match.index + (match[0].length - match[0].trimStart().length);
        return [`${file.path}:${lineOf(file.code, offset)} ${match[0].trim()}: ${rule.because}`];
      }),
  );
}

function findNameViolations(files: SourceFile[]): string[] {
  return files.flatMap((file) =>
    forbiddenNames
      .filter(({ name }) => name.test(basename(file.path)))
      .map(({ because }) => `${file.path}: ${because}`),
  );
}

function findLongFiles(files: SourceFile[]): string[] {
  return files.flatMap((file) => {
    const lines = file.text.split('\n');
    const count = lines.at(-1) === '' ? lines.length - 1 : lines.length;
    if (count <= maxLines || lines.slice(0, 10).some((line) => line.includes('// Long because:'))) return [];
    return [
      `${file.path} has ${count} lines: split it, or say "// Long because: ..." in its first ten (limit ${maxLines})`,
    ];
  });
}

const checks: { name: string; find: (files: SourceFile[]) => string[] }[] = [
  { name: 'imports go the right way', find: findImportViolations },
  { name: 'pure files stay pure', find: findImpurities },
  { name: 'environment, exit, clock and exports are where they belong', find: findTextViolations },
  { name: 'file names say what a file is for', find: findNameViolations },
  { name: `files over ${maxLines} lines explain themselves`, find: findLongFiles },
];

describe('boundaries', () => {
  // This file names what it forbids.
  const files = readSources().filter((file) => file.path !== 'tests/unit/boundaries.test.ts');

  test.each(checks)('$name', ({ find }) => {
    expect(find(files)).toEqual([]);
  });
});

// The rules themselves: each is seen to fail once.
describe('boundary rules', () => {
  const cases: { path: string; text: string; expected: string[] }[] = [
    { path: 'receiver/push.ts', text: "import { parseRequest } from '../node-agent/protocol.ts';", expected: [] },
    {
      path: 'receiver/push.ts',
      text: "import {\n  unpack,\n} from '../node-agent/unpack.ts';",
      expected: ['receiver/push.ts imports node-agent/unpack.ts: receiver/ takes from node-agent/ only the protocol'],
    },
    {
      path: 'node-agent/deploy.ts',
      text: "import type { Manifest } from '../receiver/manifest.ts';",
      expected: ['node-agent/deploy.ts imports receiver/manifest.ts: node-agent/ takes nothing from receiver/'],
    },
    {
      path: 'receiver/push.ts',
      text: "const { spawn } = await import('node:child_process');",
      expected: [
        'receiver/push.ts imports node:child_process: programs are started in receiver/git/, receiver/nodes/ and node-agent/system.ts only',
      ],
    },
    { path: 'receiver/git/run.ts', text: "import { spawn } from 'node:child_process';", expected: [] },
    {
      path: 'receiver/push.ts',
      text: "import { instanceName } from './instance-name.ts';\nconst name = 'blog' as InstanceName;",
      expected: [
        'receiver/push.ts imports receiver/instance-name.ts: a name on a node has one owner: ask instances.of(target), which claims it',
        'receiver/push.ts:2 as InstanceName: a name on a node has one owner: ask instances.of(target), which claims it',
      ],
    },
    { path: 'receiver/push.ts', text: "// import { spawn } from 'node:child_process';", expected: [] },
    {
      path: 'node-agent/releases.ts',
      text: "import { rename } from 'node:fs/promises';",
      expected: [
        'node-agent/releases.ts imports node:fs/promises: node-agent/system.ts, and what it removes trees with, are the only files of the agent that touch fs',
      ],
    },
    {
      path: 'receiver/manifest.ts',
      text: "import { readFileSync } from 'node:fs';",
      expected: ['receiver/manifest.ts -> node:fs: receiver/manifest.ts is pure: no files, programs, sockets, timers'],
    },
    {
      path: 'receiver/push.ts',
      text: "const url = 'https://x';\nconst home = process.env.HOME;",
      expected: [
        'receiver/push.ts:2 process.env: process.env is read in entry files and config.ts only: pass the value as an argument',
      ],
    },
    { path: 'receiver/main.ts', text: 'process.exit(Number(process.env.CODE));', expected: [] },
    {
      path: 'receiver/commands/ps.ts',
      text: '\nprocess.exit(1);',
      expected: [
        'receiver/commands/ps.ts:2 process.exit: only an entry file ends the process: throw a KraftwerkError, or return',
      ],
    },
    { path: 'receiver/commands/ps.ts', text: 'process.exitCode = 1;', expected: [] },
    {
      path: 'receiver/transcript.ts',
      text: 'const at = Date.now();',
      expected: [
        'receiver/transcript.ts:1 Date.now: a pure file has no clock and no chance: take the time as an argument',
      ],
    },
    {
      path: 'receiver/table.ts',
      text: 'export default function table() {}',
      expected: ['receiver/table.ts:1 export default: no default exports: name it'],
    },
    {
      path: 'receiver/index.ts',
      text: "export { push } from './push.ts';",
      expected: [
        'receiver/index.ts:1 export { push } from: no barrels: import from the file that defines it',
        'receiver/index.ts: no barrels: import from the file that defines it',
      ],
    },
    { path: 'node-agent/utils.ts', text: '', expected: ['node-agent/utils.ts: name the file after what it is for'] },
    { path: 'receiver/sshServer.ts', text: '', expected: ['receiver/sshServer.ts: file names are kebab-case'] },
    {
      path: 'receiver/long.ts',
      text: 'x;\n'.repeat(301),
      expected: [
        'receiver/long.ts has 301 lines: split it, or say "// Long because: ..." in its first ten (limit 300)',
      ],
    },
    { path: 'receiver/long.ts', text: `// Long because: one table.\n${'x;\n'.repeat(301)}`, expected: [] },
  ];

  test.each(cases)('case %#: $path', ({ path, text, expected }) => {
    const files = [parseSource(path, text)];
    expect(checks.flatMap(({ find }) => find(files))).toEqual(expected);
  });

  test('a pure file is not pure when what it imports is not', () => {
    const files = [
      parseSource(
        'receiver/manifest.ts',
        "import { parseYaml } from './yaml.ts';\nimport type { Push } from './push.ts';",
      ),
      parseSource('receiver/yaml.ts', "import { readFile } from 'node:fs/promises';"),
      parseSource('receiver/push.ts', "import { connect } from 'node:net';"),
    ];
    expect(findImpurities(files)).toEqual([
      'receiver/manifest.ts -> receiver/yaml.ts -> node:fs/promises: receiver/manifest.ts is pure: no files, programs, sockets, timers',
    ]);
  });
});
