// All commands of the admin's machine, in the order of `help`: one entry is all that a new one needs.
import type { CliCommand } from './command.ts';

export const COMMANDS: readonly CliCommand[] = [
  {
    name: 'receiver',
    summary: 'run the receiver in the foreground',
    usage: 'kraftwerk receiver [--config PATH]',
    details: [
      'Logs one JSON line with "event":"receiver.ready" when it listens. SIGTERM ends it after running deploys.',
    ],
    examples: ['kraftwerk receiver', 'kraftwerk receiver --config ./receiver.yaml'],
    load: () => import('./receiver.ts'),
  },
  {
    name: 'setup-receiver',
    summary: 'make this machine a receiver, and a node',
    usage: 'kraftwerk setup-receiver [--domain DOMAIN] [--port PORT] [--admin-key FILE|LINE] [--templates DIR]',
    details: [
      'As root, on Debian or Ubuntu. Running it again changes nothing, or mends what is broken; a configuration that is there stays.',
      '--domain DOMAIN: sites are PROJECT.DOMAIN and PROJECT-stage.DOMAIN; default: the name of the machine.',
      '--port PORT: where the receiver listens for git and ssh; default: 22, and 2222 where an sshd is on 22.',
      '--admin-key: a public key, or the file that holds it; default: the one that you logged in with as root or through sudo.',
      '--templates DIR: looked through before the built-in templates.',
    ],
    examples: [
      'kraftwerk setup-receiver --domain example.com',
      'kraftwerk setup-receiver --admin-key alice.pub --port 2200',
    ],
    load: () => import('./setup-receiver.ts'),
  },
  {
    name: 'setup-node',
    summary: 'make a server with root SSH a node',
    usage:
      'kraftwerk setup-node HOST [--as NAME] [--user root] [--port N] [--identity FILE] [--templates DIR] [OPTION…]',
    details: [
      'HOST: any Debian or Ubuntu server, as your ssh knows it. Running it again changes nothing, or mends what is broken.',
      '--as NAME: its name in the configuration; default: HOST.',
      '--user, --port, --identity: as for ssh; default: root, and what your ssh configuration says.',
      '--host-key SHA256:…: the only host key to believe; without it you are asked, unless your ssh knows the server.',
      '--yes: believe the host key unseen.',
      '--receiver-key FILE|LINE: the key of the receiver; default: that of the receiver on this machine.',
      '--take-over: the server is a node of another receiver, and shall be of this one.',
      '--templates DIR: looked through before the configured and the built-in templates.',
      "--config PATH: the receiver's configuration. --write: put the node's line into it; else it is printed.",
    ],
    examples: [
      'kraftwerk setup-node web1.example.com',
      'kraftwerk setup-node 203.0.113.7 --as web2 --identity ~/.ssh/web2',
    ],
    load: () => import('./setup-node.ts'),
  },
  {
    name: 'create-node',
    summary: 'order a server at a provider',
    usage: 'kraftwerk create-node NAME [--provider P] [--size-id ID] [--image-id ID] [--location-id ID] [OPTION…]',
    details: [
      'P: hetzner, digitalocean, linode, vultr or ec2. Running it again finds the server instead of ordering a second one.',
      'Defaults are provider, size_id, image_id, location_id and pubkey of the configuration.',
      "The provider's token comes from the environment: HCLOUD_TOKEN, DIGITALOCEAN_TOKEN, LINODE_TOKEN, VULTR_API_KEY,",
      'or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION.',
      '--list-plans, --list-images, --list-locations: what there is, with prices.',
      '--pubkey FILE|LINE: the key that lets root in; default: ~/.ssh/id_ed25519.pub.',
      '--yes: accept the price. --hosts: write the line of /etc/hosts. --setup: go on with setup-node. Else you are asked.',
      '--config PATH: the configuration. --json: the result, or a list, for programs.',
    ],
    examples: [
      'kraftwerk create-node --provider hetzner --list-plans',
      'kraftwerk create-node web1.example.com --provider hetzner --location-id fsn1 --size-id cx22 --image-id debian-12',
      'kraftwerk create-node web2.example.com --yes --json',
    ],
    load: () => import('./create-node.ts'),
  },
  {
    name: 'destroy-node',
    summary: 'delete a server that create-node has made',
    usage: 'kraftwerk destroy-node NAME [--confirm NAME] [--provider P] [--location-id ID] [--id ID] [OPTION…]',
    details: [
      'The server with all of its data goes, and its line in /etc/hosts. It asks for the name, unless --confirm has it.',
      '--id ID: also one that kraftwerk has not made; NAME has to be its name.',
      '--config PATH: the configuration. --json: the result for programs.',
    ],
    examples: [
      'kraftwerk destroy-node web1.example.com',
      'kraftwerk destroy-node web1.example.com --confirm web1.example.com',
    ],
    load: () => import('./destroy-node.ts'),
  },
  {
    name: 'stop-node',
    summary: 'stop a rootless node with all of its sites',
    usage: 'kraftwerk stop-node NAME [--config PATH]',
    details: ['A rootless node outlives the receiver; this ends its nginx and its processes.'],
    examples: ['kraftwerk stop-node here'],
    load: () => import('./stop-node.ts'),
  },
  {
    name: 'init',
    summary: 'make a WSGI project, ready to push',
    usage: 'kraftwerk init [NAME] [--directory DIR] [--templates DIR] [--config PATH]',
    details: [
      'NAME: the project, and the folder that is made; default: the current folder and its name.',
      '--directory DIR: the folder, where it differs from NAME.',
      '--templates DIR: files of DIR/skeleton come before those of the configured templates and the built-in ones.',
      "--config PATH: the admin's configuration that names templates; default: the one that is found.",
    ],
    examples: ['kraftwerk init blog', 'mkdir blog && cd blog && kraftwerk init'],
    load: () => import('./init.ts'),
  },
  {
    name: 'remote',
    summary: 'the git remotes that lead to a receiver',
    usage: 'kraftwerk remote [list | add ENVIRONMENT HOST] [--project NAME] [--json]',
    details: [
      'add: makes the git remote ENVIRONMENT, kraftwerk@HOST:PROJECT/ENVIRONMENT.',
      'HOST: a name or an address, where it is another port than 22 with :PORT.',
      '--project NAME: default: as the other remotes have it; else the folder of kraftwerk.yaml.',
    ],
    examples: [
      'kraftwerk remote',
      'kraftwerk remote add stage paas.example.com',
      'kraftwerk remote add live paas:2200',
    ],
    words: ['list', 'add'],
    load: () => import('./remote.ts'),
  },
  {
    name: 'check',
    summary: 'validate kraftwerk.yaml as the receiver would',
    usage: 'kraftwerk check [DIR | FILE] [--environment NAME] [--project NAME] [--json]',
    details: [
      'Lists every error with line and column and ends with 3 if there is one.',
      'Without DIR: the project that the current folder is in.',
      '--environment NAME: only this one; default: every environment that the file names.',
      '--project NAME: default: the name of the folder.',
    ],
    examples: ['kraftwerk check', 'kraftwerk check ~/sites/blog --environment live', 'kraftwerk check --json'],
    load: () => import('./check.ts'),
  },
  {
    name: 'show-config',
    summary: "show the receiver's configuration, resolved",
    usage: 'kraftwerk show-config [--config PATH] [--json]',
    details: ['Looked up in: --config, $KRAFTWERK_CONFIG, ~/.kraftwerk.yaml, /etc/kraftwerk.yaml.'],
    examples: ['kraftwerk show-config', 'kraftwerk show-config --config ./receiver.yaml --json'],
    load: () => import('./show-config.ts'),
  },
  {
    name: 'schema',
    summary: 'print the JSON Schema of kraftwerk.yaml',
    usage: 'kraftwerk schema',
    details: ['Editors complete and check kraftwerk.yaml with it.'],
    examples: ['kraftwerk schema > kraftwerk.schema.json'],
    load: () => import('./schema.ts'),
  },
  {
    name: 'completion',
    summary: 'print what a shell needs to complete commands',
    usage: 'kraftwerk completion bash|zsh|fish',
    details: ['Load it where your shell starts, as the examples do: ~/.bashrc, ~/.zshrc, ~/.config/fish/config.fish.'],
    examples: [
      'eval "$(kraftwerk completion bash)"',
      'eval "$(kraftwerk completion zsh)"    # after compinit',
      'kraftwerk completion fish | source',
    ],
    words: ['bash', 'zsh', 'fish'],
    load: () => import('./completion.ts'),
  },
  {
    name: 'version',
    summary: 'print the version',
    usage: 'kraftwerk version [--json]',
    details: [],
    examples: ['kraftwerk version', 'kraftwerk version -r live'],
    load: () => import('./version.ts'),
  },
  {
    name: 'help',
    summary: 'print usage and examples',
    usage: 'kraftwerk help [COMMAND]',
    details: [],
    examples: ['kraftwerk help', 'kraftwerk help init', 'kraftwerk help logs'],
    load: () => import('./help.ts'),
  },
];

export function findCliCommand(name: string): CliCommand | undefined {
  return COMMANDS.find((command) => command.name === name);
}
