// YAML text -> plain value, the place of every key and value, and the text of every scalar. Pure.
import {
  constructFromEvents,
  EVENT_ID,
  type Event,
  getScalarValue,
  parseEvents,
  SCALAR_STYLE,
  YAMLException,
} from 'js-yaml';
import { KraftwerkError } from '../node-agent/protocol.ts';

export const MAX_YAML_BYTES = 64 * 1024;
const MAX_DEPTH = 20;

/** Both from 1. */
export interface Place {
  line: number;
  column: number;
}
export interface Problem extends Place {
  message: string;
}
export type Path = readonly (string | number)[];

interface Node {
  kind: 'scalar' | 'list' | 'mapping';
  start: number;
  /** Of the key that the node belongs to; of the node itself in a list. */
  keyStart: number;
  value: unknown;
  children: Map<string, Node>;
}

/** Everything that is wrong with one file: `message` is the first problem, `lines` are the others. */
export class YamlError extends KraftwerkError {
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(code: string, file: string, problems: readonly Problem[], hint: readonly string[] = []) {
    const sorted = sortProblems(problems);
    const lines = sorted.map(({ line, column, message }) => `${file}:${line}:${column} ${message}`);
    const reason = `${file} ${lines.length === 1 ? 'has an error' : `has ${lines.length} errors`}`;
    super(code, lines[0] ?? file, { lines: lines.slice(1), exit: 'config', reason, hint });
    this.file = file;
    this.problems = sorted;
  }
}

function sortProblems(problems: readonly Problem[]): Problem[] {
  const seen = new Map(problems.map((problem) => [`${problem.line}:${problem.column} ${problem.message}`, problem]));
  return [...seen.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

export interface YamlOptions {
  /** The name that stands in front of each problem. */
  file: string;
  /** The code of the error: `manifest.invalid`. */
  code: string;
  /** Where a scalar is taken as it is written (`3.10`, `010`, `yes`), whatever YAML makes of it. */
  isText?: (path: Path) => boolean;
}

export interface YamlSource {
  readonly file: string;
  readonly code: string;
  readonly value: Readonly<Record<string, unknown>>;
  /** Where the key of `path` stands; of the nearest parent that exists when it is absent. */
  keyPlace(path: Path): Place;
  valuePlace(path: Path): Place;
  has(path: Path): boolean;
}

/**
 * The text of a file of `size` bytes; nobody needs to hand over more of it than MAX_YAML_BYTES.
 * @throws YamlError where it is too large, or not UTF-8 (YAML 1.2.2, 5.2: UTF-16 and UTF-32 are allowed there, by nobody here)
 */
export function decodeYaml(content: Buffer, size: number, options: Pick<YamlOptions, 'file' | 'code'>): string {
  assertSize(size, options);
  const text = content.toString('utf8');
  const again = Buffer.from(text);
  const at = content.findIndex((byte, index) => byte !== again[index]);
  if (at === -1) return text;
  const place = placer(text)(content.subarray(0, at).toString('utf8').length);
  const byte = `0x${content[at]?.toString(16).padStart(2, '0')}`;
  throw new YamlError(
    options.code,
    options.file,
    [{ ...place, message: `expected UTF-8, got the byte ${byte}` }],
    ['save it as UTF-8 (from Latin-1: iconv -f latin1 -t utf8 FILE > NEW)'],
  );
}

/** An empty file, or one of comments alone, is an empty mapping. @throws YamlError with the code of `options` */
export function parseYaml(input: string, options: YamlOptions): YamlSource {
  // The mark would move every column of the first line.
  const text = input.startsWith('\uFEFF') ? input.slice(1) : input;
  const fail = (problems: readonly Problem[]): never => {
    throw new YamlError(options.code, options.file, problems);
  };
  assertSize(Buffer.byteLength(text), options);

  const placeOf = placer(text);
  const { root, problems } = buildTree(text, placeOf, options, fail);
  if (problems.length > 0) fail(problems);
  if (root !== null && root.kind !== 'mapping') {
    fail([{ ...placeOf(root.start), message: `expected keys and values ("key: value"), got ${describe(root.value)}` }]);
  }
  const find = (path: Path): { node: Node | null; depth: number } => {
    let node = root;
    for (const [depth, part] of path.entries()) {
      const next = node?.children.get(String(part));
      if (next === undefined) return { node, depth };
      node = next;
    }
    return { node, depth: path.length };
  };
  return {
    file: options.file,
    code: options.code,
    value: (root?.value ?? {}) as Record<string, unknown>,
    keyPlace: (path) => placeOf(find(path).node?.keyStart ?? 0),
    valuePlace: (path) => placeOf(find(path).node?.start ?? 0),
    has: (path) => find(path).depth === path.length,
  };
}

function assertSize(bytes: number, { file, code }: Pick<YamlOptions, 'file' | 'code'>): void {
  if (bytes <= MAX_YAML_BYTES) return;
  const message = `at most ${MAX_YAML_BYTES} bytes are allowed, got ${bytes}`;
  throw new YamlError(code, file, [{ line: 1, column: 1, message }]);
}

type Fail = (problems: readonly Problem[]) => never;

function readEvents(text: string, placeOf: (offset: number) => Place, fail: Fail): Event[] {
  try {
    return parseEvents(text, { maxDepth: MAX_DEPTH });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const place = error.mark ? { line: error.mark.line + 1, column: error.mark.column + 1 } : placeOf(0);
    return fail([{ ...place, message: `not YAML: ${error.reason}` }]);
  }
}

/** Walks the events once; mistakes that YAML allows and we do not are collected. */
function buildTree(
  text: string,
  placeOf: (offset: number) => Place,
  options: YamlOptions,
  fail: Fail,
): { root: Node | null; problems: Problem[] } {
  const problems: Problem[] = [];
  const report = (offset: number, message: string): unknown => problems.push({ ...placeOf(offset), message });
  const events = readEvents(text, placeOf, fail);
  let position = 0;

  const readNode = (path: Path, keyStart: number | null): Node => {
    const event = events[position];
    position += 1;
    if (event === undefined || event.type === EVENT_ID.DOCUMENT || event.type === EVENT_ID.POP) {
      throw new TypeError(`yaml: unexpected event ${event?.type}`);
    }
    if (event.type === EVENT_ID.ALIAS) {
      // anchorStart is behind the star.
      const start = Math.max(0, event.anchorStart - 1);
      report(start, 'aliases ("*name") are not allowed: write the value out');
      return { kind: 'scalar', start, keyStart: keyStart ?? start, value: null, children: new Map() };
    }
    if (event.anchorStart >= 0) report(Math.max(0, event.anchorStart - 1), 'anchors ("&name") are not allowed');
    if (event.tagStart >= 0) report(event.tagStart, 'tags ("!name") are not allowed');

    if (event.type === EVENT_ID.SCALAR) {
      const quoted = event.style === SCALAR_STYLE.SINGLE_QUOTED || event.style === SCALAR_STYLE.DOUBLE_QUOTED;
      const block = event.style === SCALAR_STYLE.LITERAL_BLOCK || event.style === SCALAR_STYLE.FOLDED_BLOCK;
      const written = event.valueStart < 0 || block ? keyStart : null;
      const start = written ?? Math.max(0, event.valueStart - (quoted ? 1 : 0));
      const asText = event.tagStart >= 0 || options.isText?.(path) === true;
      const value = asText ? getScalarValue(text, event) : resolveScalar(text, event);
      return { kind: 'scalar', start, keyStart: keyStart ?? start, value, children: new Map() };
    }

    const node: Node = {
      kind: event.type === EVENT_ID.SEQUENCE ? 'list' : 'mapping',
      start: event.start,
      keyStart: keyStart ?? event.start,
      value: null,
      children: new Map(),
    };
    if (node.kind === 'list') {
      const items: unknown[] = [];
      while (events[position]?.type !== EVENT_ID.POP) {
        const item = readNode([...path, items.length], null);
        node.children.set(String(items.length), item);
        items.push(item.value);
      }
      node.value = items;
    } else {
      const entries: Record<string, unknown> = {};
      while (events[position]?.type !== EVENT_ID.POP) {
        const keyEvent = events[position];
        const keyNode = readNode(path, null);
        const key = keyEvent?.type === EVENT_ID.SCALAR ? getScalarValue(text, keyEvent) : null;
        const child = readNode([...path, key ?? ''], keyNode.start);
        if (key === null) report(keyNode.start, 'a key must be plain text');
        else if (key === '__proto__' || key === '<<') report(keyNode.start, `"${key}" is not allowed as a key`);
        else if (node.children.has(key)) {
          const { line } = placeOf(node.children.get(key)?.keyStart ?? 0);
          report(keyNode.start, `key ${JSON.stringify(key)} is given twice, first in line ${line}`);
        } else {
          node.children.set(key, child);
          entries[key] = child.value;
        }
      }
      node.value = entries;
    }
    position += 1;
    return node;
  };

  let root: Node | null = null;
  for (let documents = 0; position < events.length; documents += 1) {
    position += 1;
    if (events[position]?.type === EVENT_ID.POP || events[position] === undefined) {
      position += 1;
      continue;
    }
    const node = readNode([], null);
    position += 1;
    if (documents > 0) report(node.start, 'only one YAML document is allowed');
    else if (!(node.kind === 'scalar' && node.value === null)) root = node;
  }
  return { root, problems };
}

function resolveScalar(source: string, event: Event): unknown {
  const document: Event = { type: EVENT_ID.DOCUMENT, explicitStart: false, explicitEnd: false, directives: [] };
  return constructFromEvents([document, event, { type: EVENT_ID.POP }], { source, maxAliases: 0 })[0];
}

function placer(text: string): (offset: number) => Place {
  const starts = [0];
  for (const match of text.matchAll(/\r\n|\n|\r/g)) starts.push(match.index + match[0].length);
  return (offset) => {
    const line = starts.findLastIndex((start) => start <= offset);
    return { line: line + 1, column: offset - (starts[line] ?? 0) + 1 };
  };
}

/** A value in the words of an error message: `"two"`, `nothing`, `a list`. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'keys and values';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
