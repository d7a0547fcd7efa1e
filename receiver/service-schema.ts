// The keys of a service.yaml, and what a service's options make of kraftwerk.yaml. Pure.
import { z } from 'zod';
import type { ServiceName } from '../node-agent/protocol.ts';
import { describe } from './yaml-source.ts';
import { didYouMean, joinChoices, keyNouns } from './yaml-validate.ts';

export type OptionValue = string | number | boolean | readonly string[];
export type Options = Readonly<Record<string, OptionValue>>;

/** `pattern` is of the whole text, or of each item. */
export type ServiceOption = { description: string } & (
  | { type: 'text'; pattern: string; default: string }
  | { type: 'number'; min: number; max: number; default: number }
  | { type: 'boolean'; default: boolean }
  | { type: 'choice'; choices: readonly string[]; default: string }
  | { type: 'list'; pattern: string; default: readonly string[] }
);

/** A service.yaml. Variables and health have placeholders. */
export interface ServiceDefinition {
  name: ServiceName;
  /** What it is, in a line. */
  description: string;
  install: {
    /** Debian packages that a node must have. */
    packages: readonly string[];
    /** systemd units that a package brings and nobody needs: off when kraftwerk has installed it. */
    disable: readonly string[];
  };
  /** Whether a rootless node can have it. */
  rootless: boolean;
  /** Whether nginx serves the site's uploads. */
  uploads: boolean;
  /** Whether there is something to dump and to load. */
  data: boolean;
  variables: Readonly<Record<string, string>>;
  /** Variables that setup.sh and load.sh write on the node. */
  written: readonly string[];
  options: Readonly<Record<string, ServiceOption>>;
  /** A command that the site's user can run when all is well; null: there is nothing to ask. */
  health: readonly string[] | null;
  /** How the site's other nodes reach it; null: they cannot. */
  link: ServiceLink | null;
}

/** Sockets of a service's server, which knows by them who connects. `folder` has placeholders. */
export interface ServiceLink {
  folder: string;
  sockets: readonly string[];
}

/** `sockets`: the folder of `link`, or where the link is on a node that has the data elsewhere. */
const PLACEHOLDERS = ['root', 'site', 'runtime', 'instance', 'project', 'environment', 'user', 'sockets'] as const;
export type Placeholders = Readonly<Record<(typeof PLACEHOLDERS)[number], string>>;
export const PLACEHOLDER = /\{([a-z]+)\}/g;

type Refuse = {
  /** @param continue false: what follows could not work with it */
  addIssue(issue: { code: 'custom'; message: string; path?: PropertyKey[]; continue?: false }): void;
};

function matching(pattern: RegExp, expected: string): z.ZodString {
  const error = `expected ${expected}`;
  return z.string({ error }).regex(pattern, { error });
}

/** Only for the type: an unknown key keeps its own issue. */
function mapping(expected: string) {
  return {
    error: (issue: { code?: string }) => (issue.code === 'invalid_type' ? `expected ${expected}` : undefined),
  };
}

const description = matching(/^[^\p{Cc}]{1,200}$/u, 'what it is, in a line of at most 200 characters');
const variableName = z.string({ error: 'expected the name of a variable' }).superRefine((name, context: Refuse) => {
  const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) refuse('expected the name of a variable (A-Z a-z 0-9 _)');
  else if (/^(?:KRAFTWERK_.*|SITE_ROOT)$/.test(name)) refuse(`${name} is set by kraftwerk, choose another name`);
});
const withPlaceholders = z.string({ error: 'expected text' }).superRefine((text, context: Refuse) => {
  if (text.includes('\0')) context.addIssue({ code: 'custom', message: 'a NUL byte is not allowed' });
  for (const [whole, name = ''] of text.matchAll(PLACEHOLDER)) {
    if ((PLACEHOLDERS as readonly string[]).includes(name)) continue;
    const known = PLACEHOLDERS.map((placeholder) => `{${placeholder}}`);
    const meant = didYouMean(whole, known) || `, known are ${known.join(' ')}`;
    context.addIssue({ code: 'custom', message: `unknown placeholder ${whole}${meant}` });
  }
});

const wholeNumber = z.int({ error: 'expected a whole number' });
const pattern = z.string({ error: 'expected a regular expression' }).superRefine((text, context: Refuse) => {
  try {
    new RegExp(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'expected a regular expression', continue: false });
  }
});
const words = z.array(z.string({ error: 'expected text' }), { error: 'expected a list' });

const option = z
  .discriminatedUnion(
    'type',
    [
      z.strictObject({
        type: z.literal('text'),
        description,
        pattern: pattern.default('.{0,1000}'),
        default: z.string({ error: 'expected text' }),
      }),
      z.strictObject({
        type: z.literal('number'),
        description,
        min: wholeNumber.default(0),
        max: wholeNumber.default(Number.MAX_SAFE_INTEGER),
        default: wholeNumber,
      }),
      z.strictObject({
        type: z.literal('boolean'),
        description,
        default: z.boolean({ error: 'expected true or false' }),
      }),
      z.strictObject({
        type: z.literal('choice'),
        description,
        choices: words.min(1, { error: 'expected at least one', abort: true }),
        default: z.string({ error: 'expected one of the choices' }),
      }),
      z.strictObject({ type: z.literal('list'), description, pattern: pattern.default('.{1,200}'), default: words }),
    ],
    {
      error: (issue) =>
        issue.code === 'invalid_union'
          ? 'expected text, number, boolean, choice or list'
          : 'expected "type", "description" and "default"',
    },
  )
  .superRefine((given, context: Refuse) => {
    const fits = valueSchema(given).safeParse(given.default);
    for (const { message, path } of fits.error?.issues ?? [])
      context.addIssue({ code: 'custom', path: ['default', ...path], message });
  });

const debianPackage = matching(/^[a-z0-9][a-z0-9+.-]{1,100}$/, 'the name of a Debian package');
const unit = matching(/^[A-Za-z0-9][A-Za-z0-9@_.-]{0,100}\.(?:service|socket|timer)$/, 'a unit, as "name.service"');

/** All of a `ServiceDefinition` but its name. */
export const definitionSchema = z
  .strictObject(
    {
      description,
      install: z
        .strictObject(
          {
            packages: z.array(debianPackage, { error: 'expected a list of packages' }).default([]),
            disable: z.array(unit, { error: 'expected a list of units' }).default([]),
          },
          mapping('"packages" and "disable"'),
        )
        .default({ packages: [], disable: [] }),
      rootless: z.boolean({ error: 'expected true or false' }).default(false),
      uploads: z.boolean({ error: 'expected true or false' }).default(false),
      data: z.boolean({ error: 'expected true or false' }).default(false),
      variables: z.record(variableName, withPlaceholders, mapping('variables ("NAME: value")')).default({}),
      written: z.array(variableName, { error: 'expected a list of variables' }).default([]),
      options: z
        .record(matching(/^[a-z][a-z0-9_-]{0,40}$/, 'the name of an option (a-z 0-9 _ -)'), option, mapping('options'))
        .default({}),
      health: z
        .array(withPlaceholders, { error: 'expected a command, as a list of words' })
        .min(1, { error: 'expected a command, as a list of words' })
        .nullable()
        .default(null),
      link: z
        .strictObject(
          {
            folder: withPlaceholders.regex(/^\/[A-Za-z0-9_./{}-]{1,90}$/, { error: 'expected the path of a folder' }),
            sockets: z
              .array(matching(/^[A-Za-z0-9_.-]{1,40}$/, 'the name of a socket'), { error: 'expected a list of names' })
              .min(1, { error: 'expected at least one socket' })
              .max(10, { error: 'expected at most 10 sockets' }),
          },
          mapping('"folder" and "sockets"'),
        )
        .nullable()
        .default(null),
    },
    mapping('keys and values'),
  )
  .superRefine(({ data, link, options, variables, written, health }, context: Refuse) => {
    const refuse = (path: PropertyKey[], message: string): void => context.addIssue({ code: 'custom', path, message });
    if (link !== null && !data) refuse(['link'], 'without data each node has the service itself: leave it out');
    if (Object.hasOwn(options, NODE_OPTION))
      refuse(['options', NODE_OPTION], 'is of kraftwerk itself, choose another name');
    if (link?.folder.includes('{sockets}')) refuse(['link', 'folder'], '{sockets} is this very folder');
    const texts: [PropertyKey[], string][] = [
      ...Object.entries(variables).map(([name, text]): [PropertyKey[], string] => [['variables', name], text]),
      ...(health ?? []).map((text, index): [PropertyKey[], string] => [['health', index], text]),
    ];
    for (const [path, text] of texts)
      if (link === null && text.includes('{sockets}')) refuse(path, '{sockets} needs "link"');
    written.forEach((name, index) => {
      if (Object.hasOwn(variables, name))
        context.addIssue({ code: 'custom', path: ['written', index], message: `${name} is in variables, too` });
    });
  });

function valueSchema(given: ServiceOption): z.ZodType<OptionValue> {
  switch (given.type) {
    case 'text':
      return whole(given.pattern);
    case 'number': {
      const error = `expected a whole number from ${given.min} to ${given.max}`;
      return z.int({ error }).min(given.min, { error }).max(given.max, { error });
    }
    case 'boolean':
      return z.boolean({ error: 'expected true or false' });
    case 'choice':
      return z.string({ error: `expected ${joinChoices(given.choices)}` }).superRefine((value, context: Refuse) => {
        if (given.choices.includes(value)) return;
        const meant = didYouMean(value, given.choices) || `, expected ${joinChoices(given.choices)}`;
        context.addIssue({ code: 'custom', message: `unknown choice ${describe(value)}${meant}` });
      });
    case 'list':
      // One may be written as it is, some in a line.
      return z.preprocess(
        (value) => (typeof value === 'string' ? value.split(/[\s,]+/).filter((item) => item !== '') : value),
        z.array(whole(given.pattern), { error: 'expected a list' }).max(100, { error: 'expected at most 100 items' }),
      );
  }
}

function whole(pattern: string): z.ZodString {
  // Neither a script nor a variable can hold a NUL.
  return matching(new RegExp(`^(?![^]*\\0)(?:${pattern})$`), `text that fits ${pattern}`);
}

/** Beside a service's own options: the node that is to have its data. */
export const NODE_OPTION = 'node';
const nodeOption: [string, z.ZodType] = [
  NODE_OPTION,
  z
    .string({ error: 'expected the name of a node' })
    .optional()
    .describe('where an environment has several nodes, the one that is to have its data; default: the first'),
];

/** For kraftwerk.yaml: what may stand below `services.NAME`. @param written false: for options that were read from it before */
export function optionsSchema({ options, data }: Pick<ServiceDefinition, 'options' | 'data'>, written = true) {
  const shape = Object.entries(options).map(([name, given]): [string, z.ZodType] => [
    name,
    valueSchema(given).optional().describe(given.description),
  ]);
  if (data && written) shape.push(nodeOption);
  const schema = z
    .strictObject(
      Object.fromEntries(shape) as Record<string, z.ZodOptional<z.ZodType<OptionValue>>>,
      mapping('options'),
    )
    .nullable();
  keyNouns.add(schema.unwrap(), { noun: 'option' });
  return schema;
}
