/** The cascade of templates and their rendering by eta, with output quoted for its target. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';
import { Eta } from 'eta';
import { KraftwerkError, PROJECT_PATTERN, type ServiceName } from '../node-agent/protocol.ts';
import { installPath } from './install-root.ts';

/** What a rendered text is for decides how `<%= %>` is quoted. */
export type Language = 'shell' | 'nginx' | 'text';

export type Templates = ReturnType<typeof createTemplates>;

/** A value as one word for sh. @throws KraftwerkError `template.value` for what is no text, or holds a NUL */
export function quoteForShell(value: unknown): string {
  const text = plain(value);
  if (text.includes('\0')) throw unsafe(value, 'a NUL byte');
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A value as one word for nginx: what would need quoting there is refused instead. */
export function quoteForNginx(value: unknown): string {
  const text = plain(value);
  if (!/^[A-Za-z0-9_./:@%+,=~-]+$/.test(text)) throw unsafe(value, 'a character with a meaning in nginx');
  return text;
}

function plain(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return String(value);
  throw unsafe(value, 'no text');
}

function unsafe(value: unknown, what: string): KraftwerkError {
  return new KraftwerkError(
    'template.value',
    `a template was given ${JSON.stringify(value)?.slice(0, 60) ?? typeof value}: ${what}`,
    {
      hint: 'mend the template, or the value that it is given',
    },
  );
}

export interface Cascade {
  /** What --templates names. */
  explicit?: string | undefined;
  /** The admin's, in their order. */
  configured: readonly string[];
  /** For a node: in each configured folder, `nodes/HOSTNAME/` comes before the folder itself. */
  hostname?: string | undefined;
  /** Default: those of this installation. */
  builtIn?: string;
}

/** A cascade's folders, from the most specific to the built-in one. @throws KraftwerkError `template.hostname` */
export function templateFolders({ builtIn, configured, explicit, hostname }: Cascade): string[] {
  // It becomes part of a path.
  if (hostname !== undefined && !/^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(hostname)) {
    throw new KraftwerkError('template.hostname', `${JSON.stringify(hostname.slice(0, 60))} is no node's name`);
  }
  return [
    ...(explicit === undefined ? [] : [explicit]),
    ...configured.flatMap((folder) => (hostname === undefined ? [folder] : [join(folder, 'nodes', hostname), folder])),
    builtIn ?? installPath('templates'),
  ];
}

export interface CascadeFile {
  /** Below the folder that was asked for, with `/`. */
  path: string;
  file: string;
}

/**
 * @param from the cascade, or its folders from the most specific to the built-in one; the first that has a file gives it.
 * A folder may come later: what is in it counts from then on.
 */
export function createTemplates(from: readonly string[] | Cascade) {
  const folders = 'configured' in from ? templateFolders(from) : from;

  /** The real path of a file, or of a folder, of one folder of the cascade; null: it has none. */
  function inside(folder: string, name: string): string | null {
    const path = join(folder, name);
    if (!existsSync(path)) return null;
    const root = realpathSync(folder);
    const real = realpathSync(path);
    if (real !== root && !real.startsWith(root + sep))
      throw new KraftwerkError('template.outside', `${path} leads outside ${root}`, {
        hint: 'templates must lie in their own folder',
      });
    return real;
  }

  /** The file's path in the first folder of the cascade that has it. */
  function find(name: string): string | null {
    for (const folder of folders) {
      const path = inside(folder, name);
      if (path !== null) return path;
    }
    return null;
  }

  function locate(name: string): string {
    const path = find(name);
    if (path === null)
      throw new KraftwerkError('template.missing', `there is no template ${name} in ${folders.join(', ')}`, {
        hint: 'kraftwerk show-config names the folders',
      });
    return path;
  }

  const engine = (escapeFunction: (value: unknown) => string): Eta => {
    const eta = new Eta({
      autoTrim: false,
      escapeFunction: escapeFunction as (value: unknown) => string,
      autoEscape: true,
      cache: true,
      varName: 'it',
      views: '/',
    });
    // Includes cross the cascade too: `include('project/nginx.conf')` finds the most specific one.
    eta.resolvePath = (name: string): string => locate(name.replace(/^\/+/, ''));
    return eta;
  };
  const engines: Readonly<Record<Language, Eta>> = {
    shell: engine(quoteForShell),
    nginx: engine(quoteForNginx),
    text: engine(plain),
  };
  const cache = new Map<string, { mtimeMs: number; run: (data: object) => string }>();

  return {
    folders,
    find,
    /** @throws KraftwerkError `template.missing`, `template.broken`, `template.value` */
    render(language: Language, name: string, data: object): string {
      const path = locate(name);
      const { mtimeMs } = statSync(path);
      const key = `${language}:${path}`;
      let entry = cache.get(key);
      try {
        if (entry === undefined || entry.mtimeMs !== mtimeMs) {
          const eta = engines[language];
          const compiled = eta.compile(readFileSync(path, 'utf8'));
          entry = { mtimeMs, run: (values) => eta.render(compiled, values) };
          cache.set(key, entry);
        }
        return entry.run(data);
      } catch (cause) {
        if (cause instanceof KraftwerkError) throw cause;
        throw new KraftwerkError(
          'template.broken',
          `${path}: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`,
          { cause, hint: 'mend the template' },
        );
      }
    },
    /** Text of a file of the cascade, as it stands. */
    read: (name: string): string => readFileSync(locate(name), 'utf8'),
    /** Files below `name` in all folders of the cascade, the most specific first: the same path may come again. */
    list(name: string): CascadeFile[] {
      return folders.flatMap((folder) => {
        const root = inside(folder, name);
        if (root === null) return [];
        return (readdirSync(root, { recursive: true }) as string[])
          .sort()
          .map((path) => ({ path: path.split(sep).join('/'), file: inside(folder, join(name, path)) ?? '' }))
          .filter(({ file }) => file !== '' && statSync(file).isFile());
      });
    },
    /** The services that some folder of the cascade has. */
    services(): ServiceName[] {
      const names = folders.flatMap((root) => {
        const folder = join(root, 'services');
        return existsSync(folder)
          ? readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
          : [];
      });
      return [...new Set(names.map(({ name }) => name))]
        .filter((name) => PROJECT_PATTERN.test(name))
        .sort() as ServiceName[];
    },
  };
}
