// The keys of the admin's configuration, those that work so far. Pure.
import { z } from 'zod';
import { PROJECT_PATTERN } from '../node-agent/protocol.ts';
import { backupsSchema } from './config-backups.ts';
import { findDomainProblem } from './hostname.ts';
import { PROVIDER_NAMES } from './providers/provider.ts';
import { joinChoices, keyNouns } from './yaml-validate.ts';

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

function providerId(expected: string) {
  const error = `expected ${expected}`;
  return z
    .union([z.string(), z.number()], { error })
    .refine((value) => /^[^\p{Cc}\s]{1,200}$/u.test(String(value)), { error });
}

const domainPattern = z.string({ error: 'expected a domain with {project} in it' }).superRefine((value, context) => {
  const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
  const filled = value.replaceAll('{project}', 'x');
  if (filled === value) refuse('expected a domain with {project} in it, as "{project}.example.com"');
  else if (/[{}]/.test(filled)) refuse('expected no other braces than {project}');
  else {
    const problem = findDomainProblem(filled);
    if (problem !== null) refuse(problem.replace(/, got .*$/s, ''));
  }
});

const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45})$/;

// One mapping with all keys: which go together is `config-nodes.ts`' to say, in words that a union does not find.
const node = z.strictObject(
  {
    local: z.literal(true, { error: 'expected true (this machine); without it the node is another one' }).optional(),
    root: text('a folder, as ./var/node').optional(),
    http_port: port().optional(),
    host: matching(HOST, 'a host name or an address').optional(),
    user: matching(/^[a-z_][a-z0-9_-]{0,31}$/, 'the name of a user').optional(),
    port: port().min(1, { error: 'expected a port from 1 to 65535' }).optional(),
    host_key: matching(/^SHA256:[A-Za-z0-9+/]{43}$/, 'a fingerprint, as "SHA256:…"').optional(),
    address: matching(HOST, 'a host name or an address').optional(),
  },
  { error: wrongMapping('{local: true}, {local: true, root: FOLDER} or {host_key: "SHA256:…"}') },
);

const BYTES = /^[1-9][0-9]{0,5}[MG]$/;
const limits = z.strictObject(
  {
    memory: matching(BYTES, 'megabytes or gigabytes, as 512M or 2G').optional(),
    processes: z
      .int({ error: 'expected a number of processes' })
      .min(10, { error: 'expected at least 10 processes' })
      .optional(),
  },
  { error: wrongMapping('{memory: 512M, processes: 100}') },
);

const environment = z.strictObject(
  {
    nodes: z
      .array(text('the name of a node'), { error: 'expected a list of nodes' })
      .min(1, { error: 'expected a node' })
      .max(100, { error: 'expected at most 100 nodes' }),
    router: text('the name of a node').optional(),
    suffix: matching(/^[-a-z0-9_]{0,20}$/, 'a suffix of at most 20 of a-z 0-9 - _').optional(),
    domain: domainPattern.optional(),
    branch: matching(
      /^(?![/.-])(?!.*(?:\.\.|\/\/|@\{|\.lock$|[/.]$))[A-Za-z0-9._/-]{1,100}$/,
      'the name of a branch',
    ).optional(),
    fast_forward_only: z.boolean({ error: 'expected true or false' }).optional(),
    limits: limits.optional(),
    protected: z.boolean({ error: 'expected true or false' }).optional(),
    backups: backupsSchema.optional(),
  },
  { error: wrongMapping('{nodes: [NODE], …}') },
);

const nodes = z.record(
  matching(/^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/, 'the name of a node (a-z 0-9 - and dots)'),
  node,
  {
    error: wrongMapping('nodes ("here: {local: true}")'),
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
  // What create-node takes from here.
  provider: z.enum(PROVIDER_NAMES, { error: `expected ${joinChoices(PROVIDER_NAMES)}` }).optional(),
  image_id: providerId('the id of an image').optional(),
  size_id: providerId('the id of a size').optional(),
  location_id: providerId('the id of a location').optional(),
  pubkey: text('a public key, or the file that holds it').optional(),
});

/** As it is written. */
export type WrittenConfig = z.output<typeof configSchema>;
