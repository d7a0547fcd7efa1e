/** Variables that services have written on the node: secrets, and what changes with a load. The site gets them at each start. */
import type { SiteLayout } from './layout.ts';
import { type ServiceName, WRITTEN_VARIABLES } from './protocol.ts';
import type { WrittenVariables } from './protocol-data.ts';
import { readCurrent } from './releases.ts';
import { stateFolder } from './service-script.ts';
import { exportLines } from './shell-text.ts';
import type { System } from './system.ts';

/** Of `$STATE_DIR/variables`, `NAME=value` to the end of each line, those that the site is to get. */
export function readWritten(
  system: System,
  site: SiteLayout,
  wanted: readonly { name: ServiceName; written: readonly string[] }[],
): Record<string, string> {
  const found = wanted.flatMap(({ name, written }) =>
    written.length === 0
      ? []
      : readVariables(system, site, name)
          .split('\n')
          .flatMap((line) => {
            const at = line.indexOf('=');
            const variable = line.slice(0, Math.max(at, 0));
            return written.includes(variable) ? [[variable, line.slice(at + 1)] as const] : [];
          }),
  );
  return Object.fromEntries(found);
}

function readVariables(system: System, site: SiteLayout, name: ServiceName): string {
  return system.readText(linkedVariables(site, name)) ?? system.readText(`${stateFolder(site, name)}/variables`) ?? '';
}

/** What was written on the node that has the service's data, where that is another one; see `links.ts`. */
export function linkedVariables(site: SiteLayout, name: ServiceName): string {
  return `${site.notes}/links/${name}`;
}

/**
 * Writes a release's start script, with these variables where they belong.
 * @param write not durable yet where the whole release is brought to disk afterwards
 */
export function writeRun(
  system: System,
  site: SiteLayout,
  release: number,
  text: string,
  variables: Readonly<Record<string, string>>,
  write: (path: string, text: string, mode: number) => void = system.writeIfChanged,
): void {
  const notes = site.releaseNotes(release);
  write(`${notes}/run.in`, text, 0o700);
  const script = text.replace(WRITTEN_VARIABLES, () => exportLines(variables));
  write(`${notes}/run`, script, 0o700);
}

/** After a load: what starts next has what the services have written now. */
export function rewriteRun(system: System, site: SiteLayout, wanted: WrittenVariables): void {
  const release = readCurrent(system, site)?.release;
  if (release === undefined) return;
  const text = system.readText(`${site.releaseNotes(release)}/run.in`);
  if (text !== null) writeRun(system, site, release, text, readWritten(system, site, wanted));
}
