/** Actor: an npm registry on this machine that has the package's dependencies, as package-lock.json says, and nothing else. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What `npm pack --json` tells, as far as needed, and the package.json. */
interface Packed {
  name: string;
  version: string;
  filename: string;
  integrity: string;
  shasum: string;
  manifest: object;
}

export interface NpmRegistry {
  port: number;
  close(): void;
}

/** Listens on all addresses: boxes reach it as `host`. The tarballs are what this machine's own npm fetches, or has. */
export async function startNpmRegistry(): Promise<NpmRegistry> {
  const folder = mkdtempSync(join(tmpdir(), 'kraftwerk-registry-'));
  const said = execFileSync(
    'npm',
    ['pack', '--json', '--silent', '--prefer-offline', '--ignore-scripts', '--pack-destination', folder, ...locked()],
    { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const packed = parsePacked(JSON.parse(said)).map((one) => ({ ...one, manifest: readManifest(folder, one) }));

  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '').slice(1);
    const tarball = packed.find(({ filename }) => path === filename);
    const versions = packed.filter(({ name }) => name === path);
    if (tarball !== undefined) {
      response.end(readFileSync(join(folder, tarball.filename)));
    } else if (versions.length > 0) {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify(describe(versions, `http://${request.headers.host}`)));
    } else {
      response.writeHead(404).end('{}');
    }
  });

  server.listen(0);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      server.closeAllConnections();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** NAME@VERSION of all that `npm install` fetches, and of what the install script of the package `node` does. */
function locked(): string[] {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version: string; dev?: boolean }>;
  };
  const names = Object.entries(lock.packages).flatMap(([path, { version, dev }]) => {
    const name = path.split('node_modules/').at(-1);
    return dev || name === undefined || name === '' ? [] : [`${name}@${version}`];
  });
  const node = names.find((name) => name.startsWith('node@'));
  return [...new Set([...names, `node-${process.platform}-${process.arch}@${node?.slice('node@'.length)}`])];
}

/** What a registry tells of a package. */
function describe(versions: readonly Packed[], base: string) {
  const entries = versions.map(({ version, filename, integrity, shasum, manifest }) => {
    const dist = { tarball: `${base}/${filename}`, integrity, shasum };
    return [version, { ...manifest, dist }] as const;
  });
  return { name: versions[0]?.name, 'dist-tags': { latest: newest(versions) }, versions: Object.fromEntries(entries) };
}

function readManifest(folder: string, { filename }: Pick<Packed, 'filename'>): object {
  // Not every package's folder is called `package`.
  const argv = ['-xzOf', join(folder, filename), '--wildcards', '--no-wildcards-match-slash', '*/package.json'];
  return JSON.parse(execFileSync('tar', argv, { encoding: 'utf8' })) as object;
}

/** npm 12 tells by name what those before tell in a list. */
function parsePacked(said: unknown): Omit<Packed, 'manifest'>[] {
  return Array.isArray(said) ? said : Object.values(said as object);
}

function newest(versions: readonly Packed[]): string {
  const sorted = versions.map(({ version }) => version).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  return sorted.at(-1) ?? '';
}
