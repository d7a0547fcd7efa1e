// A YamlSource against a zod schema: every problem, in plain words, with its place. Pure.
import { z } from 'zod';
import { suggest } from './suggest.ts';
import { describe, type Path, type Problem, type YamlSource } from './yaml-source.ts';

/** What the keys of a mapping are called in messages ("unknown environment"); not part of the JSON Schema. */
export const keyNouns = z.registry<{ noun: string }>();

/** `value` is null when anything is wrong. */
export function validate<T extends z.ZodType>(
  schema: T,
  source: YamlSource,
): { value: z.output<T> | null; problems: Problem[] } {
  const result = schema.safeParse(source.value);
  if (result.success) return { value: result.data, problems: [] };
  // A key that is missing is often there, misspelt: the misspelling comes first.
  const unknown = result.error.issues.filter(({ code }) => code === 'unrecognized_keys');
  const issues = [...unknown, ...result.error.issues.filter(({ code }) => code !== 'unrecognized_keys')];
  return { value: null, problems: issues.flatMap((issue) => toProblems(schema, source, issue, [])) };
}

function toProblems(schema: z.ZodType, source: YamlSource, issue: z.core.$ZodIssue, prefix: Path): Problem[] {
  const path = [...prefix, ...(issue.path as (string | number)[])];
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      ...source.keyPlace([...path, key]),
      message: describeUnknownKey(key, path, schemasAt(schema, path)),
    }));
  }
  if (issue.code === 'invalid_union') {
    // The branch whose type fits knows better what is wrong than the union does.
    const fitting = issue.errors.filter(
      (branch) => !branch.some((inner) => inner.path.length === 0 && isWrongType(inner)),
    );
    const branch = fitting[0];
    if (fitting.length === 1 && branch) return branch.flatMap((inner) => toProblems(schema, source, inner, path));
  }
  if (issue.code === 'invalid_key') {
    const message = issue.issues[0]?.message ?? issue.message;
    return [{ ...source.keyPlace(path), message: label(path.slice(0, -1), withGot(message, path.at(-1))) }];
  }
  if (!source.has(path)) return [{ ...source.keyPlace(path), message: label(path, `missing, ${issue.message}`) }];
  return [{ ...source.valuePlace(path), message: label(path, withGot(issue.message, valueAt(source.value, path))) }];
}

function isWrongType(issue: z.core.$ZodIssue): boolean {
  return issue.code === 'invalid_type' || issue.code === 'invalid_value' || issue.code === 'invalid_union';
}

function withGot(message: string, value: unknown): string {
  return message.startsWith('expected ') && !message.includes(', got ')
    ? `${message}, got ${describe(value)}`
    : message;
}

function label(path: Path, message: string): string {
  return path.length === 0 ? message : `${formatPath(path)}: ${message}`;
}

/** `environments.live.aliases[1]` */
export function formatPath(path: Path): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`)).join('');
}

export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (inner, part) => (inner as Record<string | number, unknown> | null | undefined)?.[part],
    value,
  );
}

function describeUnknownKey(key: string, path: Path, schemas: readonly z.core.$ZodType[]): string {
  const noun = schemas.map((schema) => keyNouns.get(schema)?.noun).find((found) => found !== undefined);
  const known = schemas.flatMap((schema) => Object.keys((schema._zod.def as { shape?: object }).shape ?? {}));
  const where = noun !== undefined || path.length === 0 ? '' : ` in ${formatPath(path)}`;
  // Of another form that the value might have.
  if (known.includes(key)) return `${describe(key)}${where} does not go with the other keys there`;
  return `unknown ${noun ?? 'key'} ${describe(key)}${where}${didYouMean(key, known)}`;
}

/** `, did you mean "environments"?`, or the choices where they are few, or nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  const nearest = suggest(word, known);
  if (nearest !== null) return `, did you mean "${nearest}"?`;
  return known.length > 0 && known.length <= 10 ? `, expected ${joinChoices(known)}` : '';
}

export function joinChoices(choices: readonly string[]): string {
  return choices.length < 2 ? choices.join('') : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}

interface AnyDef {
  type: string;
  innerType?: z.core.$ZodType;
  options?: readonly z.core.$ZodType[];
  in?: z.core.$ZodType;
  shape?: Record<string, z.core.$ZodType>;
  valueType?: z.core.$ZodType;
  element?: z.core.$ZodType;
  getter?: () => z.core.$ZodType;
}

/** The schemas that a value at `path` may have to fit. */
function schemasAt(schema: z.core.$ZodType, path: Path): z.core.$ZodType[] {
  const def = schema._zod.def as unknown as AnyDef;
  const inner = def.innerType ?? (def.type === 'pipe' ? def.in : undefined) ?? def.getter?.();
  if (inner) return schemasAt(inner, path);
  if (def.type === 'union') return (def.options ?? []).flatMap((option) => schemasAt(option, path));
  const [part, ...rest] = path;
  if (part === undefined) return [schema];
  const next = def.type === 'object' ? def.shape?.[part] : def.type === 'array' ? def.element : def.valueType;
  return next ? schemasAt(next, rest) : [];
}
