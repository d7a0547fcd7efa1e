// The keys of the admin's configuration, those that work so far. Pure.
import { z } from 'zod';
import { PROJECT_PATTERN } from '../node-agent/protocol.ts';
import { findHostnameProblem } from './hostname.ts';
import { keyNouns } from './yaml-validate.ts';

function text(expected: string): z.ZodString {
  const error = `expected ${expected}`;
  return z
    .string({ error })
    .min(1, { error })
    .regex(/^\P{Cc}*$/u, { error });
}

function matching(pattern: RegExp, expected: string): z.ZodString {
  return z.string({ error: `expected ${expected}` }).regex(pattern, { error: `expected ${expected}` });
}

function port(): z.ZodInt {
  const error = 'expected a port from 0 to 65535 (0: a free one)';
  return z.int({ error }).min(0, { error }).max(65_535, { error });
}

function wrongMapping(expected: string): (issue: { code?: string }) => string | undefined {
  return (issue) => (issue.code === 'invalid_type' ? `expected ${expected}` : undefined);
}

const domainPattern = z.string({ error: 'expected a domain with {project} in it' }).superRefine((value, context) => {
  const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
  const filled = value.replaceAll('{project}', 'x');
  if (filled === value) refuse('expected a domain with {project} in it, as "{project}.example.com"');
  else if (/[{}]/.test(filled)) refuse('expected no other braces than {project}');
  else {
    const problem = findHostnameProblem(filled);
    if (problem !== null) refuse(problem.replace(/, got .*$/s, ''));
  }
});

const node = z.strictObject(
  {
    local: z.literal(true, { error: 'expected true: nodes on other machines are not in this version' }),
    root: text('a folder, as ./var/node: a local node keeps everything below it in this version'),
    http_port: port().optional(),
  },
  { error: wrongMapping('{local: true, root: FOLDER}') },
);

const environment = z.strictObject(
  {
    nodes: z
      .array(text('the name of a node'), { error: 'expected a list of nodes' })
      .min(1, { error: 'expected a node' })
      .max(1, { error: 'several nodes: not in this version, name one' }),
    suffix: matching(/^[-a-z0-9_]{0,20}$/, 'a suffix of at most 20 of a-z 0-9 - _').optional(),
    domain: domainPattern.optional(),
    branch: matching(
      /^(?![/.-])(?!.*(?:\.\.|\/\/|@\{|\.lock$|[/.]$))[A-Za-z0-9._/-]{1,100}$/,
      'the name of a branch',
    ).optional(),
    fast_forward_only: z.boolean({ error: 'expected true or false' }).optional(),
  },
  { error: wrongMapping('{nodes: [NODE], …}') },
);

const nodes = z.record(
  matching(/^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/, 'the name of a node (a-z 0-9 - and dots)'),
  node,
  {
    error: wrongMapping('nodes ("here: {local: true, root: ./var/node}")'),
  },
);
const environments = z.record(matching(PROJECT_PATTERN, 'the name of an environment (a-z 0-9 _ -)'), environment, {
  error: wrongMapping('environments ("stage: {nodes: [here]}")'),
});
keyNouns.add(nodes, { noun: 'node' });
keyNouns.add(environments, { noun: 'environment' });

const listen = z
  .strictObject(
    { host: matching(/^[A-Za-z0-9.:_-]{1,253}$/, 'an address to listen on').optional(), port: port().optional() },
    { error: wrongMapping('{host: ADDRESS, port: PORT}') },
  )
  .optional();

export const configSchema = z.strictObject({
  data: text('a folder').optional(),
  ssh: listen,
  http: listen,
  admins: z
    .array(text('a public key, or the file that holds it'), {
      error: 'expected a list of public keys, or of files that hold them',
    })
    .min(1, { error: 'expected at least one public key, or nobody gets in: [~/.ssh/id_ed25519.pub]' }),
  templates: z.array(text('a folder'), { error: 'expected a list of folders' }).optional(),
  default_environment: text('the name of an environment').optional(),
  nodes,
  environments,
});

/** As it is written. */
export type WrittenConfig = z.output<typeof configSchema>;
