/** Actor: folders of services that an admin has, before the built-in ones. */
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTemplates, type Templates } from '../../receiver/templates.ts';

const PAGE = fileURLToPath(new URL('../../docs/services.md', import.meta.url));

/** With a folder of these files first, while `use` runs. */
export function withTemplates(
  files: Readonly<Record<string, string>>,
  use: (templates: Templates, folder: string) => void,
): void {
  const folder = writeFolder(files);
  try {
    use(createTemplates({ configured: [folder] }), folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The service that docs/services.md makes: path and text of each file. */
export function exampleOfDocs(): Record<string, string> {
  const blocks = readFileSync(PAGE, 'utf8').matchAll(/^\*\*`(services\/spool\/\S+)`\*\*\n\n((?: {4}.*\n|\n)+)/gm);
  return Object.fromEntries(
    [...blocks].map(([, path = '', block = '']) => [path, `${block.replace(/^ {4}/gm, '').trimEnd()}\n`]),
  );
}

/** @returns the folder, in the machine's folder for what is temporary; whoever asks removes it */
export function writeFolder(files: Readonly<Record<string, string>>): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'kraftwerk-services-')));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}
