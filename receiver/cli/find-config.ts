// Finds and reads the admin's configuration: --config, $KRAFTWERK_CONFIG, ~/.kraftwerk.yaml, /etc/kraftwerk.yaml.
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { type Config, parseConfig, type Surroundings } from '../config.ts';
import { parseYaml } from '../yaml-source.ts';

const SYSTEM_CONFIG = '/etc/kraftwerk.yaml';

/** Absolute path of the first configuration that is there; one that was named has to be there. */
export function findConfig(
  named: string | undefined,
  { env, home, cwd }: Surroundings,
  system = SYSTEM_CONFIG,
): string {
  const variable = env.KRAFTWERK_CONFIG;
  const explicit = named ?? (variable === '' ? undefined : variable);
  if (explicit !== undefined) {
    const file = path.resolve(cwd, explicit);
    if (existsSync(file)) return file;
    const origin = named === undefined ? '$KRAFTWERK_CONFIG' : '--config';
    throw new KraftwerkError('config.missing', `${origin}: no file ${file}`, { exit: 'config' });
  }
  const candidates = [path.join(home, '.kraftwerk.yaml'), system];
  const found = candidates.find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new KraftwerkError('config.missing', `no configuration, looked for ${candidates.join(' and ')}`, {
    hint: ['name one: kraftwerk receiver --config PATH', 'docs/configuration.md has one to start from'],
    exit: 'config',
  });
}

/** @throws KraftwerkError `config.missing`, `config.unreadable`, `config.invalid` */
export function loadConfig(named: string | undefined, surroundings: Surroundings): Config {
  const file = findConfig(named, surroundings);
  return parseConfig(readConfigFile(file), {
    file,
    home: surroundings.home,
    readFile: (name) => readFileSync(name, 'utf8'),
    isDirectory: (name) => statSync(name, { throwIfNoEntry: false })?.isDirectory() === true,
  });
}

/**
 * The template folders of the configuration that is found, if any. Of one that was not named nothing else counts: it may be
 * the machine's, with keys that only root can read.
 * @throws KraftwerkError `config.invalid`, and as `loadConfig` for one that was named
 */
export function findTemplateFolders(named: string | undefined, surroundings: Surroundings, system?: string): string[] {
  if (named !== undefined || surroundings.env.KRAFTWERK_CONFIG) return [...loadConfig(named, surroundings).templates];
  let file: string;
  let text: string;
  try {
    file = findConfig(named, surroundings, system);
    text = readConfigFile(file);
  } catch (error) {
    if (error instanceof KraftwerkError && /^config\.(?:missing|unreadable)$/.test(error.code)) return [];
    throw error;
  }
  const { templates } = parseYaml(text, { file, code: 'config.invalid' }).value;
  const written = Array.isArray(templates) ? templates.filter((folder) => typeof folder === 'string') : [];
  return written.map((folder) => {
    const absolute = path.resolve(path.dirname(file), folder.replace(/^~(?=\/|$)/, surroundings.home));
    if (statSync(absolute, { throwIfNoEntry: false })?.isDirectory()) return absolute;
    throw new KraftwerkError('config.invalid', `${file}: templates: no folder ${absolute}`, { exit: 'config' });
  });
}

function readConfigFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new KraftwerkError('config.unreadable', `${file}: cannot be read (${reason})`, { exit: 'config', cause });
  }
}
