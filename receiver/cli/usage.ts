// The admin's commands in words: what help prints and what a mistake is answered with.

export interface CommandUsage {
  name: string;
  summary: string;
  usage: string;
  /** Lines of the command's own help. */
  details: readonly string[];
  examples: readonly string[];
}

export const USAGE = [
  {
    name: 'receiver',
    summary: 'run the receiver in the foreground',
    usage: 'kraftwerk receiver [--config PATH]',
    details: [
      'Logs one JSON line with "event":"receiver.ready" when it listens. SIGTERM ends it after running deploys.',
    ],
    examples: ['kraftwerk receiver', 'kraftwerk receiver --config ./receiver.yaml'],
  },
  {
    name: 'stop-node',
    summary: 'stop a rootless node with all of its sites',
    usage: 'kraftwerk stop-node NAME [--config PATH]',
    details: ['A rootless node outlives the receiver; this ends its nginx and its processes.'],
    examples: ['kraftwerk stop-node here'],
  },
  {
    name: 'init',
    summary: 'make a WSGI project, ready to push',
    usage: 'kraftwerk init [NAME] [--directory DIR]',
    details: [
      'NAME: the project, and the folder that is made; default: the current folder and its name.',
      '--directory DIR: the folder, where it differs from NAME.',
    ],
    examples: ['kraftwerk init blog', 'mkdir blog && cd blog && kraftwerk init'],
  },
  {
    name: 'check',
    summary: 'validate kraftwerk.yaml as the receiver would',
    usage: 'kraftwerk check [DIR | FILE] [--environment NAME] [--project NAME] [--json]',
    details: [
      'Lists every error with line and column and ends with 3 if there is one.',
      '--environment NAME: only this one; default: every environment that the file names.',
      '--project NAME: default: the name of the folder.',
    ],
    examples: ['kraftwerk check', 'kraftwerk check ~/sites/blog --environment live', 'kraftwerk check --json'],
  },
  {
    name: 'show-config',
    summary: "show the receiver's configuration, resolved",
    usage: 'kraftwerk show-config [--config PATH] [--json]',
    details: ['Looked up in: --config, $KRAFTWERK_CONFIG, ~/.kraftwerk.yaml, /etc/kraftwerk.yaml.'],
    examples: ['kraftwerk show-config', 'kraftwerk show-config --config ./receiver.yaml --json'],
  },
  {
    name: 'schema',
    summary: 'print the JSON Schema of kraftwerk.yaml',
    usage: 'kraftwerk schema',
    details: ['Editors complete and check kraftwerk.yaml with it.'],
    examples: ['kraftwerk schema > kraftwerk.schema.json'],
  },
  {
    name: 'version',
    summary: 'print the version',
    usage: 'kraftwerk version [--json]',
    details: [],
    examples: ['kraftwerk version'],
  },
  {
    name: 'help',
    summary: 'print usage and examples',
    usage: 'kraftwerk help [COMMAND]',
    details: [],
    examples: ['kraftwerk help', 'kraftwerk help init'],
  },
] as const satisfies readonly CommandUsage[];

export type CommandName = (typeof USAGE)[number]['name'];

export function findUsage(name: string): CommandUsage | undefined {
  return USAGE.find((usage) => usage.name === name);
}
