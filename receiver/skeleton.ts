// A new project's files from the skeleton: `__package__` in a path is the package, `dot-x` is `.x`, `x.eta` is rendered. Pure.
import { Eta } from 'eta';
import { KraftwerkError } from '../node-agent/protocol.ts';

export interface SkeletonValues {
  /** The project's name. */
  name: string;
  /** The Python package: the name with `-` as `_`. */
  package: string;
}

export interface SkeletonFile {
  /** Relative, with `/`. */
  path: string;
  content: Buffer;
  executable?: boolean;
  /** Where it comes from, for messages. Default: `path`. */
  origin?: string;
}

/**
 * The values are names (letters, digits, `_`, `-`), so that nothing has to be quoted.
 * @param files the most specific first: of two that make the same file, the first counts, with `.eta` or without
 * @throws KraftwerkError `template.broken`
 */
export function renderSkeleton(files: readonly SkeletonFile[], values: SkeletonValues): SkeletonFile[] {
  const eta = new Eta({ autoTrim: false, autoEscape: false, cache: false });
  const made = new Map<string, SkeletonFile>();
  for (const file of files) {
    const path = renderPath(file, values);
    if (made.has(path) || isInTheWay(path, made.keys())) continue;
    made.set(path, { ...file, path, content: renderContent(eta, file, values) });
  }
  return [...made.values()];
}

/** A file cannot be where another needs a folder. */
function isInTheWay(path: string, taken: Iterable<string>): boolean {
  return [...taken].some((other) => other.startsWith(`${path}/`) || path.startsWith(`${other}/`));
}

function renderContent(eta: Eta, { content, path, origin = path }: SkeletonFile, values: SkeletonValues): Buffer {
  if (!path.endsWith('.eta')) return content;
  try {
    return Buffer.from(eta.renderString(content.toString('utf8'), values));
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    throw new KraftwerkError('template.broken', `${origin}: ${reason}`, { hint: 'mend the template', cause });
  }
}

function renderPath({ path, origin = path }: SkeletonFile, values: SkeletonValues): string {
  const parts = path
    .replace(/\.eta$/, '')
    .split('/')
    .map((part) => part.replace(/^dot-/, '.').replaceAll('__package__', values.package));
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part === '.git')) {
    throw new KraftwerkError('template.broken', `${origin}: no file of a project can be called ${parts.join('/')}`, {
      hint: 'rename the template',
    });
  }
  return parts.join('/');
}
