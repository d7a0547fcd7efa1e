/**
 * Byte code for a release, from a store of the site's own: keyed by the source's sha256 and the interpreter, filled by our own
 * compiler alone, hard-linked into the tree. What a build or a site has compiled is never believed.
 */
import { type Compiler, startCompiler } from './compiler.ts';
import type { SiteLayout } from './layout.ts';
import type { Limits } from './protocol.ts';
import { addFolder, below, PUBLISHED_RULES, type SealedTree, sealTree } from './sealed-tree.ts';
import { createSha256 } from './sha256.ts';
import { syncTrees } from './sync-tree.ts';
import type { System } from './system.ts';

/** A module of a tree. */
export interface Source {
  path: string;
  sha256: string;
  bytes: number;
}

/** The agent's note about what a deploy has left to be compiled when it serves. */
export interface Uncompiled {
  sources: readonly Source[];
  limits: Limits | null;
}

/** Up to this much changed source, the boot reads it as fast as Python's own start would take: its byte code can wait. */
const SMALL_BYTES = 128 * 1024;
/** A larger one is data: compiling it may take a hundred times its size. */
const MAX_SOURCE_BYTES = 2 * 1024 * 1024;
/** So many sources may end the compiler; with more of them the rest is left to the site's own start. */
const MAX_CRASHES = 10;
/** Byte code is about as large as its source. A few lines can be made to come to megabytes. */
const MAX_CODE = { times: 20, bytes: 64 * 1024, sum: 512 * 1024 * 1024 };
/** The fill stops after this time; Python compiles the rest at each start. */
const FILL_LIMIT_MS = 600_000;
const NAME_BYTES = 255;
const TAG = 'tag';

export interface ByteCodeOrder {
  system: System;
  site: SiteLayout;
  /** The interpreter that will run it, e.g. /usr/bin/python3; where it is missing, others say so. */
  python: string;
  limits: Limits | null;
  /** Nobody waits for it any more. */
  signal?: AbortSignal;
}

export type ByteCode = ReturnType<typeof createByteCode>;

/**
 * Collects which modules a tree has while it is unpacked. The compiler is started as soon as there is much to do, so that nobody
 * waits for Python to start.
 */
export function createByteCode(order: ByteCodeOrder) {
  const { system, site, python, limits } = order;
  const store = openStore(system, site, python);
  let sources: Source[] = [];
  let missingBytes = 0;
  let compiler: Compiler | null = null;
  return {
    onFile(path: string, content: readonly Uint8Array[]): void {
      if (!path.endsWith('.py')) return;
      const source = describe(path, content);
      sources.push(source);
      if (source.bytes <= MAX_SOURCE_BYTES && !store.has(source.sha256)) missingBytes += source.bytes;
      if (missingBytes > SMALL_BYTES) compiler ??= startCompiler(system, site, python, limits);
    },
    /** A build may have changed any of them, and made others. */
    readAgain(tree: SealedTree): void {
      sources = readSources(system, tree);
      missingBytes = 0;
    },
    /**
     * Links what the store has, and compiles the rest.
     * @returns what is little enough to be compiled when the site serves, by `compileLater`
     */
    async place(tree: SealedTree): Promise<readonly Source[]> {
      const missing = sources.filter((source) => !store.link(tree, source));
      const bytes = missing.reduce((sum, source) => sum + source.bytes, 0);
      if (missing.length === 0) return [];
      if (compiler === null && bytes <= SMALL_BYTES) {
        // Nothing is added to a closed tree but files in folders that are there.
        for (const { path } of missing) addFolder(system, tree, cacheOf(path), 0o755);
        return missing;
      }
      const first = compiler ?? undefined;
      compiler = null;
      await fill(order, store, tree, missing, first);
      return [];
    },
    /** Lets the compiler go where nothing is to be compiled after all. */
    cancel(): void {
      compiler?.end();
    },
  };
}

/** Compiles what a deploy has left for later, for the release that serves. */
export async function compileLater(order: ByteCodeOrder, release: string, sources: readonly Source[]): Promise<void> {
  const { system, site, python } = order;
  const tree = sealTree(system, release, PUBLISHED_RULES);
  const store = openStore(system, site, python);
  const folders = [...new Set(sources.map(({ path }) => cacheOf(path)))].filter((folder) => tree.folders.has(folder));
  const setModes = (mode: number): void => {
    for (const folder of folders) system.setMode(`${tree.path}/${folder}`, mode);
  };
  // Root writes to its closed folders; whoever else runs the agent opens them first.
  setModes(site.owner === null ? 0o755 : 0o550);
  try {
    await fill(
      order,
      store,
      tree,
      sources.filter((source) => !store.link(tree, source)),
    );
  } finally {
    setModes(site.owner === null ? 0o555 : 0o550);
  }
}

/** Removes byte code that no release has any more. */
export function pruneByteCode(system: System, site: SiteLayout): void {
  for (const interpreter of system.list(site.byteCode)) {
    const folder = `${site.byteCode}/${interpreter}`;
    for (const name of system.list(folder)) {
      // Hidden: left by an agent that was killed.
      const used = name === TAG || (!name.startsWith('.') && (system.stat(`${folder}/${name}`)?.nlink ?? 1) > 1);
      if (!used) system.remove(`${folder}/${name}`);
    }
    if (system.list(folder).every((name) => name === TAG)) system.remove(folder);
  }
}

function describe(path: string, content: readonly Uint8Array[]): Source {
  const hash = createSha256();
  let bytes = 0;
  for (const chunk of content) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { path, sha256: hash.digest('hex'), bytes };
}

function readSources(system: System, tree: SealedTree): Source[] {
  const found: Source[] = [];
  for (const folder of tree.folders) {
    for (const entry of system.listEntries(`${tree.path}/${folder}`)) {
      if (!entry.isFile() || !entry.name.endsWith('.py')) continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      const full = below(tree, path);
      if ((system.stat(full)?.size ?? 0) > MAX_SOURCE_BYTES) continue;
      found.push(describe(path, [system.readBytes(full) ?? Buffer.alloc(0)]));
    }
  }
  return found;
}

function cacheOf(path: string): string {
  return `${path.slice(0, path.lastIndexOf('/') + 1)}__pycache__`;
}

type Store = ReturnType<typeof openStore>;

function openStore(system: System, site: SiteLayout, python: string) {
  const interpreter = system.realPath(python) ?? python;
  const stat = system.stat(interpreter);
  const key = createSha256()
    .update(JSON.stringify([interpreter, stat?.size, stat?.mtimeMs]))
    .digest('hex')
    .slice(0, 20);
  const folder = `${site.byteCode}/${key}`;
  let tag = system.readText(`${folder}/${TAG}`);
  const fileOf = (sha256: string): string => `${folder}/${sha256}.pyc`;
  return {
    folder,
    has: (sha256: string): boolean => system.exists(fileOf(sha256)),
    /** Where Python looks for it. @returns false where the store has none */
    link(tree: SealedTree, { path, sha256 }: Source): boolean {
      if (tag === null || !system.exists(fileOf(sha256))) return false;
      const slash = path.lastIndexOf('/');
      const cache = cacheOf(path);
      addFolder(system, tree, cache, 0o755);
      const name = `${path.slice(slash + 1, -'.py'.length)}.${tag}.pyc`;
      // Python compiles such a module at each start.
      if (Buffer.byteLength(name) > NAME_BYTES) return true;
      const place = below(tree, `${cache}/${name}`);
      // A file may have 65,000 names on ext4; without one more, Python compiles that module at each start.
      if (system.stat(place) === null) system.bytes.link(Buffer.from(fileOf(sha256)), Buffer.from(place));
      return true;
    },
    setTag(said: string): void {
      if (tag === said) return;
      system.writeVolatile(`${folder}/${TAG}`, said, site.owner === null ? 0o644 : 0o640);
      tag = said;
    },
  };
}

/** Compiles sources of a tree into the store, durably, and links them. Whatever cannot be compiled, Python compiles at each start. */
async function fill(
  order: ByteCodeOrder,
  store: Store,
  tree: SealedTree,
  sources: readonly Source[],
  started?: Compiler,
): Promise<void> {
  const { system, site, python, limits, signal } = order;
  const end = system.nowMs() + FILL_LIMIT_MS;
  let sum = 0;
  const part = `${store.folder}/.${system.pid}`;
  const made = new Map<string, Source[]>();
  let compiler = started ?? startCompiler(system, site, python, limits);
  let crashes = 0;
  /** Null where a source does not compile, or has ended the compiler: the next one gets a new one. */
  const compile = async (text: Buffer): Promise<Buffer | null> => {
    try {
      return await compiler.compile(text);
    } catch {
      compiler.end();
      if (++crashes <= MAX_CRASHES) compiler = startCompiler(system, site, python, limits);
      return null;
    }
  };
  try {
    const tag = await compiler.tag().catch(() => null);
    if (tag === null || !/^[a-z0-9-]{1,40}$/.test(tag)) return;
    system.makeFolder(part);
    store.setTag(tag);
    for (const source of sources) {
      if (signal?.aborted || system.nowMs() > end || sum > MAX_CODE.sum) break;
      const same = made.get(source.sha256);
      if (same !== undefined) same.push(source);
      if (same !== undefined || source.bytes > MAX_SOURCE_BYTES || crashes > MAX_CRASHES) continue;
      const text = system.readBytes(below(tree, source.path));
      const code = text === null ? null : await compile(text);
      if (code === null || code.length > MAX_CODE.times * source.bytes + MAX_CODE.bytes) continue;
      sum += code.length;
      system.createFile(`${part}/${source.sha256}.pyc`, [code], site.owner === null ? 0o644 : 0o640);
      made.set(source.sha256, [source]);
    }
    // Durable before it has its name: half of one would end whatever imports it.
    await syncTrees(system, [part]);
    for (const [sha256, all] of made) {
      system.rename(`${part}/${sha256}.pyc`, `${store.folder}/${sha256}.pyc`);
      for (const source of all) store.link(tree, source);
    }
  } finally {
    compiler.end();
    system.remove(part);
  }
}
