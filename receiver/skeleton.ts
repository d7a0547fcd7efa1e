// A new project's files from the skeleton: `__package__` in a path is the package, `dot-x` is `.x`, `x.eta` is rendered. Pure.
import { Eta } from 'eta';

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
}

/** The values are names (letters, digits, `_`, `-`), so that nothing has to be quoted. */
export function renderSkeleton(files: readonly SkeletonFile[], values: SkeletonValues): SkeletonFile[] {
  const eta = new Eta({ autoTrim: false, autoEscape: false, cache: false });
  return files.map(({ path, content }) => {
    const target = renderPath(path, values);
    if (!path.endsWith('.eta')) return { path: target, content };
    return { path: target, content: Buffer.from(eta.renderString(content.toString('utf8'), values)) };
  });
}

function renderPath(path: string, values: SkeletonValues): string {
  return path
    .replace(/\.eta$/, '')
    .split('/')
    .map((part) => part.replace(/^dot-/, '.').replaceAll('__package__', values.package))
    .join('/');
}
