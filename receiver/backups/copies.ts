/** Dumps in a store away from the machines: copied there after they are made, listed, and brought back. */
import type { Readable } from 'node:stream';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { DUMP_NAME_PATTERN, type DumpName } from '../../node-agent/protocol-data.ts';
import type { Audience, DataServices } from '../data/data-services.ts';
import type { MadeDump } from '../data/dump.ts';
import { openExport } from '../data/transfer.ts';
import { type Target, targetName } from '../target.ts';
import type { ObjectStore } from './object-store.ts';

export interface Copy {
  name: DumpName;
  /** Its part of a dump that is on several nodes; else null. */
  node: string | null;
  bytes: number;
  key: string;
}

/** `blog/live/2026-11-22T10:20:30.tar`; `….NODE.tar` where a dump has several parts. */
export async function copyDump(
  services: DataServices,
  store: ObjectStore,
  target: Target,
  { name, parts }: MadeDump,
  signal: AbortSignal,
): Promise<number> {
  let bytes = 0;
  for (const { node } of parts) {
    const { archive, done } = openExport(services, target, node, name, signal);
    const suffix = parts.length > 1 ? `.${node.name}` : '';
    const sent = await store.put(`${targetName(target)}/${name}${suffix}.tar`, archive, signal);
    await done;
    bytes += sent.bytes;
  }
  services.log('backup.copied', { target: targetName(target), name, bytes });
  return bytes;
}

/** Newest first. */
export async function listCopies(store: ObjectStore, target: Target): Promise<Copy[]> {
  const prefix = `${targetName(target)}/`;
  const objects = await store.list(prefix);
  return objects
    .flatMap(({ bytes, key }): Copy[] => {
      const [, name = '', node] = /^(.{19})(?:\.(.+))?\.tar$/.exec(key.slice(prefix.length)) ?? [];
      return DUMP_NAME_PATTERN.test(name) ? [{ name: name as DumpName, node: node ?? null, bytes, key }] : [];
    })
    .sort((a, b) => (a.name < b.name ? 1 : -1));
}

/** What is older than the newest `keep` dumps goes. */
export async function pruneCopies(store: ObjectStore, target: Target, keep: number): Promise<void> {
  const copies = await listCopies(store, target);
  const kept = [...new Set(copies.map(({ name }) => name))].slice(0, keep);
  for (const { key, name } of copies) if (!kept.includes(name)) await store.remove(key);
}

/** @throws KraftwerkError `copy.unknown`, `store.*` */
export async function openCopy(
  store: ObjectStore,
  target: Target,
  name: DumpName,
  { signal }: Audience,
): Promise<Readable> {
  const copies = (await listCopies(store, target)).filter((copy) => copy.name === name);
  const [copy] = copies;
  if (copy === undefined || copies.length > 1) {
    throw new KraftwerkError(
      'copy.unknown',
      copy === undefined
        ? `there is no copy of ${targetName(target)} ${name} in the store`
        : `the copy of ${targetName(target)} ${name} is in ${copies.length} parts`,
      {
        hint:
          copy === undefined
            ? `ssh kraftwerk@HOST dumps ${targetName(target)} --copies`
            : `load them one after the other from files: load ${targetName(target)} --upload`,
        exit: 'denied',
      },
    );
  }
  return store.get(copy.key, signal);
}

/** @throws KraftwerkError `copy.none` */
export function requireStore(
  { storeOf }: { storeOf(environment: string): ObjectStore | null },
  target: Target,
): ObjectStore {
  const store = storeOf(target.environment);
  if (store !== null) return store;
  throw new KraftwerkError('copy.none', `the backups of ${target.environment} are not copied anywhere`, {
    hint: "an admin names a store in the receiver's configuration: environments.NAME.backups.copy",
    exit: 'denied',
  });
}
