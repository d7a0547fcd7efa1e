/** What a set-up takes from the receiver's configuration, if there is one: less than the receiver does, so that an unfinished one will do. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { findConfig } from '../cli/find-config.ts';
import { DEFAULT_DATA, type Surroundings } from '../config.ts';
import { parseYaml } from '../yaml-source.ts';

export interface ReceiverSettings {
  file: string;
  data: string;
  templates: readonly string[];
  /** The host key that is pinned for a node; null: none. */
  pinnedKey(node: string): string | null;
  hasNode(node: string): boolean;
}

/** @param named --config. @throws KraftwerkError `config.missing` for one that was named, `config.invalid`, `config.unreadable` */
export function readReceiverSettings(named: string | undefined, surroundings: Surroundings): ReceiverSettings | null {
  let file: string;
  try {
    file = findConfig(named, surroundings);
  } catch (error) {
    const isNamed = named !== undefined || (surroundings.env.KRAFTWERK_CONFIG ?? '') !== '';
    if (!isNamed && error instanceof KraftwerkError && error.code === 'config.missing') return null;
    throw error;
  }
  const { value } = parseYaml(readText(file), { file, code: 'config.invalid' });
  const absolute = (written: string): string =>
    path.resolve(path.dirname(file), written.replace(/^~(?=\/|$)/, surroundings.home));
  const nodes = isRecord(value.nodes) ? value.nodes : {};
  const node = (name: string): Record<string, unknown> => {
    const found = Object.hasOwn(nodes, name) ? nodes[name] : {};
    return isRecord(found) ? found : {};
  };
  const folders = Array.isArray(value.templates) ? value.templates.filter((folder) => typeof folder === 'string') : [];
  return {
    file,
    data: absolute(typeof value.data === 'string' ? value.data : DEFAULT_DATA),
    templates: folders.map(absolute).filter((folder) => existsSync(folder)),
    pinnedKey(name) {
      const { host_key: key } = node(name);
      return typeof key === 'string' ? key : null;
    },
    hasNode: (name) => Object.hasOwn(nodes, name),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new KraftwerkError('config.unreadable', `${file}: cannot be read (${reason})`, { exit: 'config', cause });
  }
}
