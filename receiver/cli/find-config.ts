// Finds and reads the admin's configuration: --config, $KRAFTWERK_CONFIG, ~/.kraftwerk.yaml, /etc/kraftwerk.yaml.
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { type Config, parseConfig, type Surroundings } from '../config.ts';

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

function readConfigFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new KraftwerkError('config.unreadable', `${file}: cannot be read (${reason})`, { exit: 'config', cause });
  }
}
