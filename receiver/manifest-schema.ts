// The keys of a kraftwerk.yaml: one zod source for validation and for the JSON Schema. Pure.
import { z } from 'zod';
import { PROJECT_PATTERN, parseTreePath, type ServiceName } from '../node-agent/protocol.ts';
import { findDomainProblem } from './hostname.ts';
import type { Options } from './service-schema.ts';
import { didYouMean, keyNouns } from './yaml-validate.ts';

/** Names that have to be known; null accepts every well-formed name (JSON Schema, `kraftwerk check`). */
export interface KnownNames {
  environments: readonly string[] | null;
  services: KnownServices | null;
}

export interface KnownServices {
  names: readonly ServiceName[];
  /** What may stand below a service's name. @throws KraftwerkError `service.invalid` */
  optionsOf(name: ServiceName): z.ZodType;
}

const IDENTIFIER = '[A-Za-z_][A-Za-z0-9_]*';
const WSGI = new RegExp(`^${IDENTIFIER}(?:\\.${IDENTIFIER})*(?::${IDENTIFIER}(?:\\.${IDENTIFIER})*(?:\\(\\))?)?$`);
const WORKER_CLASSES = ['sync', 'gthread', 'gevent', 'eventlet', 'tornado'];
const RESERVED_VARIABLE = /^(?:KRAFTWERK_.*|SITE_ROOT)$/;
const STATIC_PREFIX = /^(?:\/[A-Za-z0-9._~-]+)+\/?$/;

type Refuse = (message: string) => void;

/** A string with one check that words its own message. */
function text(expected: string, check: (value: string, refuse: Refuse) => void): z.ZodString {
  return z.string({ error: `expected ${expected}` }).superRefine((value, context) => {
    check(value, (message) => context.addIssue({ code: 'custom', message }));
  });
}

function matching(pattern: RegExp, expected: string): z.ZodString {
  return z.string({ error: `expected ${expected}` }).regex(pattern, { error: `expected ${expected}` });
}

function wholeNumber(min: number, max: number): z.ZodInt {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

function seconds(min: number, max: number): z.ZodNumber {
  const error = `expected seconds, a number from ${min} to ${max}`;
  return z.number({ error }).min(min, { error }).max(max, { error });
}

/** Without a leading `./` and a trailing `/`, which people write and which mean nothing. */
export function normaliseTreePath(path: string): string {
  return path.replace(/^(?:\.\/)+(?=.)/, '').replace(/(?<=.)\/+$/, '');
}

function treePath(what: string): z.ZodString {
  const expected = `expected ${what}, a path inside the project`;
  return text(`${what}, a path inside the project`, (value, refuse) => {
    try {
      parseTreePath(normaliseTreePath(value), 'path');
    } catch {
      refuse(expected);
    }
  });
}

const domain = text('a domain name', (value, refuse) => {
  const problem = findDomainProblem(value);
  if (problem !== null) refuse(problem);
});

const aliasList = z
  .array(domain, { error: 'expected a list of domain names' })
  .max(100, { error: 'expected at most 100 names' });
const domainList = aliasList.min(1, { error: 'expected at least one domain name' });

function domains(list: z.ZodArray<z.ZodString>): z.ZodUnion<[z.ZodString, z.ZodArray<z.ZodString>]> {
  return z.union([domain, list], { error: 'expected a domain name or a list of them' });
}

const wsgi = text('module:callable', (value, refuse) => {
  if (WSGI.test(value)) return;
  const file = /^(?:\.\/)?([\w/]+?)(?:\/__init__)?\.py(:\w+)?$/.exec(value);
  const meant = file ? `, did you mean "${file[1]?.replaceAll('/', '.')}${file[2] ?? ''}"?` : '';
  refuse(`expected module:callable, as "blog.wsgi:application", got ${JSON.stringify(value.slice(0, 60))}${meant}`);
});

const workerClass = text('a worker class of gunicorn', (value, refuse) => {
  const dotted = new RegExp(`^${IDENTIFIER}(?:\\.${IDENTIFIER})+$`);
  if (WORKER_CLASSES.includes(value) || dotted.test(value)) return;
  refuse(
    `expected a worker class of gunicorn, got ${JSON.stringify(value.slice(0, 60))}${didYouMean(value, WORKER_CLASSES)}`,
  );
});

const variableName = text('the name of a variable', (value, refuse) => {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(value)) refuse('expected the name of a variable (A-Z a-z 0-9 _)');
  else if (RESERVED_VARIABLE.test(value)) refuse(`${value} is set by kraftwerk, choose another name`);
});
const anyScalar = z.union([z.string(), z.number(), z.boolean()], { error: 'expected text' });

const staticPrefix = text('a URL prefix', (value, refuse) => {
  const dots = value.split('/').some((part) => part === '.' || part === '..');
  if (!STATIC_PREFIX.test(value) || dots) refuse('expected a URL prefix, as "/static"');
  else if (/^\/uploads\/?$/.test(value)) refuse("/uploads is served from the project's uploads, choose another prefix");
});

const healthPath = matching(/^\/[!-~]{0,1000}$/, 'a path that begins with "/"');
const statusRange = text('a status, as 200 or "200-399"', (value, refuse) => {
  const [, min = '', max = min] = /^([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?$/.exec(value) ?? [];
  if (min === '' || Number(min) > Number(max)) refuse('expected a status, as 200 or "200-399"');
});

const healthcheck = z.strictObject(
  {
    path: healthPath.optional().describe('The path that is asked; default /'),
    status: z
      .union([statusRange, wholeNumber(100, 599)], { error: 'expected a status, as 200 or "200-399"' })
      .optional()
      .describe('The status that counts as healthy, one or a range; default 200-399'),
    timeout: seconds(0.1, 60).optional().describe('Seconds to wait for one answer; default 5'),
    interval: seconds(0.1, 60).optional().describe('Seconds between two tries; default 1'),
    retries: wholeNumber(1, 100).optional().describe('Tries before the deploy fails; default 10'),
    settle: seconds(0, 300)
      .optional()
      .describe('Seconds that the new process must live on before the switch; default 0'),
  },
  { error: wrongMapping('a path, or keys and values') },
);

/** Only for the type: an unknown key of a strict object keeps its own issue. */
function wrongMapping(expected: string): (issue: { code?: string }) => string | undefined {
  return (issue) => (issue.code === 'invalid_type' ? `expected ${expected}` : undefined);
}

function command(what: string): z.ZodString {
  return text(what, (value, refuse) => {
    if (value.trim() === '' || value.length > 4096 || value.includes('\0'))
      refuse(`expected ${what}, of at most 4096 characters`);
  });
}

const name = matching(PROJECT_PATTERN, 'a name (a-z 0-9 _ -)');
const optionValue = z.union([anyScalar, z.array(z.string())], {
  error: 'expected text, a number, true, false or a list',
});
/** Where the services are not known. */
export const anyOptions = z
  .record(matching(/^[a-z][a-z0-9_-]{0,40}$/, 'the name of an option'), optionValue, { error: 'expected options' })
  .nullable();

function services(known: KnownServices | null): z.ZodType<readonly string[] | Record<string, Options | null>> {
  const serviceName = text('the name of a service', (value, refuse) => {
    if (known === null ? PROJECT_PATTERN.test(value) : known.names.includes(value as ServiceName)) return;
    refuse(`unknown service ${JSON.stringify(value.slice(0, 60))}${didYouMean(value, known?.names ?? [])}`);
  });
  const list = z.array(serviceName, { error: 'expected a list of services' }).superRefine((value, context) => {
    value.forEach((service, index) => {
      if (value.indexOf(service) < index)
        context.addIssue({ code: 'custom', path: [index], message: `${service} is named twice` });
    });
  });
  const mapping =
    known === null
      ? z.record(name, anyOptions)
      : // Only what a project asks for is read.
        z.strictObject(
          Object.fromEntries(
            known.names.map((service) => [service, z.lazy(() => known.optionsOf(service)).optional()]),
          ),
        );
  keyNouns.add(mapping, { noun: 'service' });
  const union = z.union([list, mapping], { error: 'expected a list of services, or "name: {options}"' });
  return union as z.ZodType<readonly string[] | Record<string, Options | null>>;
}

function sectionShape(known: KnownNames) {
  return {
    domain: domains(domainList)
      .optional()
      .describe("Domain or list of domains, the first is canonical; default: the environment's pattern"),
    aliases: domains(aliasList).optional().describe('Domains that answer 301 to the canonical one'),
    wsgi: wsgi.optional().describe('module[:callable] of the WSGI application; default: found'),
    workers: wholeNumber(1, 64).optional().describe('Processes of gunicorn; default: from cores and memory'),
    threads: wholeNumber(1, 64).optional().describe('Threads of each worker; default 1'),
    worker_class: workerClass.optional().describe('Worker class of gunicorn; default sync, gthread when threads > 1'),
    environ: z
      .record(variableName, anyScalar, { error: wrongMapping('variables ("NAME: value")') })
      .optional()
      .describe('Variables of the processes, taken as they are written'),
    package: matching(new RegExp(`^${IDENTIFIER}$`), 'the name of a Python package')
      .max(100, { error: 'expected at most 100 characters' })
      .optional()
      .describe("The Python package; default: the project's name, - as _"),
    src: treePath('a folder').optional().describe('Folder that holds the package and static/; default: package'),
    requirements: treePath('a file')
      .optional()
      .describe('What pip installs; default requirements.txt, which may be missing'),
    python: z
      .union([matching(/^3(?:\.[0-9]{1,2})?$/, 'a version of Python, as "3.11"'), z.number()], {
        error: 'expected a version of Python, as "3.11"',
      })
      .optional()
      .describe("Version of the node's Python; default: its /usr/bin/python3"),
    static: z
      .record(staticPrefix, treePath('a folder'), {
        error: wrongMapping('URL prefixes and folders ("/static: folder")'),
      })
      .optional()
      .describe('URL prefix: folder, served by nginx; default "/static: SRC/static"'),
    healthcheck: z
      .union([healthPath, healthcheck], { error: 'expected a path, or keys and values' })
      .optional()
      .describe('What the new release has to answer before it serves; default /'),
    timeout: seconds(1, 3600)
      .optional()
      .describe('Seconds a request may take, and an old release may drain; default 30'),
    keep_releases: wholeNumber(0, 100)
      .optional()
      .describe('Releases kept on each node beside the current one; default 5'),
    build: command('a command')
      .optional()
      .describe("Command run in the new release's tree before it becomes read-only"),
    release: command('a command')
      .optional()
      .describe("Command run once per deploy before the switch, with the site's environment"),
    scrub: command('a command')
      .optional()
      .describe('Command run after sync-services has loaded data of another environment, to remove what is personal'),
    services: services(known.services).optional().describe('List of services, or "name: {options}"'),
  };
}

/** Builds the schema of a whole kraftwerk.yaml. */
export function buildManifestSchema(known: KnownNames) {
  const shape = sectionShape(known);
  const section = z.strictObject(shape, { error: wrongMapping('keys and values') });
  const error = wrongMapping('environments ("stage: {…}")');
  const environments =
    known.environments === null
      ? z.record(name, section, { error })
      : z.strictObject(Object.fromEntries(known.environments.map((environment) => [environment, section.optional()])), {
          error,
        });
  keyNouns.add(environments, { noun: 'environment' });
  return z.strictObject(
    {
      ...shape,
      environments: (environments as z.ZodType<Record<string, Section | undefined>>)
        .optional()
        .describe('Any key above, for one environment only'),
    },
    { error: wrongMapping('keys and values') },
  );
}

/** The keys of the base, or of one environment, as they are written. */
export type Section = z.output<z.ZodObject<ReturnType<typeof sectionShape>, z.core.$strict>>;
