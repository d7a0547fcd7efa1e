// The nodes of the admin's configuration, and what environments say about them: every mistake with its place.
import { expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { parseConfig } from '../../receiver/config.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@example';
const HOST_KEY = `SHA256:${'a'.repeat(43)}`;
const ADMINS = `admins: ["${KEY}"]\n`;
const NODES = 'nodes: {here: {local: true, root: var}}\n';

function errorsOf(text: string): string[] {
  const context = {
    file: '/etc/kw/receiver.yaml',
    home: '/home/ada',
    readFile: (): string => '',
    isDirectory: (): boolean => true,
  };
  try {
    parseConfig(text, context);
  } catch (error) {
    if (error instanceof KraftwerkError) return [error.message, ...error.lines];
    throw error;
  }
  return [];
}

test.each<[string, string, string[]]>([
  [
    'a damaged fingerprint',
    `${ADMINS}nodes:\n  web1.example.com: {user: root, root: x, http_port: 1}\n  here: {local: true, host: x, http_port: 80}\n` +
      '  web2: {local: true, root: x, host_key: "SHA256:abc"}\nenvironments: {stage: {nodes: [here]}}\n',
    ['5:42 nodes.web2.host_key: expected a fingerprint, as "SHA256:…", got "SHA256:abc"'],
  ],
  [
    'keys that do not go together',
    `${ADMINS}nodes:\n  web1.example.com: {user: root, root: x, http_port: 1}\n  here: {local: true, host: x, http_port: 80}\n` +
      `  web: {local: true, root: x, host_key: "${HOST_KEY}"}\nenvironments: {stage: {nodes: [here]}}\n`,
    [
      '3:21 nodes.web1.example.com: host_key is missing: kraftwerk setup-node web1.example.com shows and pins it; this machine: {local: true}',
      '3:40 nodes.web1.example.com.root: only with local: true, on this machine',
      '3:54 nodes.web1.example.com.http_port: only with local: true, on this machine',
      '4:29 nodes.here.host: not with local: true, which means this machine',
      '4:43 nodes.here.http_port: only with root: a node without it serves on port 80',
      '5:41 nodes.web.host_key: not with local: true, which means this machine',
    ],
  ],
  [
    'two nodes on one machine, and one that is nowhere',
    `${ADMINS}nodes:\n  a.example: {host_key: "${HOST_KEY}"}\n  b: {host: A.example, host_key: "${HOST_KEY}"}\n` +
      `  c: {local: true}\n  d: {local: true}\n  e..f: {host_key: "${HOST_KEY}"}\nenvironments: {stage: {nodes: [c]}}\n`,
    [
      '4:6 nodes.b: is the machine of the node a.example already',
      '6:6 nodes.d: is the machine of the node c already',
      '7:9 nodes.e..f: is no host name; say where the node is: host: ADDRESS',
    ],
  ],
  [
    'a node twice',
    `${ADMINS}${NODES}environments: {stage: {nodes: [here, here]}}\n`,
    ['3:38 environments.stage.nodes: here stands there twice'],
  ],
  [
    'limits that are none',
    `${ADMINS}${NODES}environments: {stage: {nodes: [here], limits: {memory: 512, processes: 1}}}\n`,
    [
      '3:56 environments.stage.limits.memory: expected megabytes or gigabytes, as 512M or 2G, got 512',
      '3:72 environments.stage.limits.processes: expected at least 10 processes, got 1',
    ],
  ],
  [
    'an unknown router',
    `${ADMINS}${NODES}environments: {stage: {nodes: [here], router: hre}}\n`,
    ['3:47 environments.stage.router: no node "hre", did you mean "here"?'],
  ],
  [
    'a router that cannot reach a node',
    `${ADMINS}nodes: {a: {local: true, root: a}, b: {host_key: "${HOST_KEY}"}}\n` +
      'environments: {stage: {nodes: [a], router: b}}\n',
    ['3:44 environments.stage.router: b is another machine, and a can be reached on this one only'],
  ],
  [
    'equal suffixes on a router',
    `${ADMINS}nodes: {a: {local: true}, b: {local: true, root: b}, c: {local: true, root: c}}\n` +
      'environments: {stage: {nodes: [b], router: a}, live: {nodes: [c], router: a}}\n',
    ['3:48 environments.live.suffix: stage has the same suffix "" on the node a, try "-live"'],
  ],
  [
    'two nodes in one folder',
    `${ADMINS}nodes: {a: {local: true, root: x}, b: {local: true, root: x/}}\nenvironments: {stage: {nodes: [a]}}\n`,
    ['2:39 nodes.b: is the folder of the node a already'],
  ],
  [
    'two nodes of which one is inside the other',
    `${ADMINS}nodes: {a: {local: true, root: ./x/web/blog}, b: {local: true, root: ./x}, c: {local: true, root: ./xy}}\nenvironments: {stage: {nodes: [a]}}\n`,
    ['2:70 nodes.b.root: one of it and the folder of a is inside the other'],
  ],
])('%s is refused', (_, text, errors) => {
  expect(errorsOf(text)).toEqual(errors.map((line) => `/etc/kw/receiver.yaml:${line}`));
});
