// What documents say, compared with what it is about.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const text = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const { name, version, engines } = JSON.parse(text('package.json')) as {
  name: string;
  version: string;
  engines: { node: string };
};
const pages = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs')).flatMap((page) => (page.endsWith('.md') ? [`docs/${page}`] : [])),
];

/** Another's package would be run as root. */
it('whatever npm is told to install is this package, or its file', () => {
  const told = [...pages, 'scripts/build.ts', 'receiver/nodes/start-agent.ts'].flatMap((page) =>
    text(page)
      .split('\n')
      .flatMap((line, at) => {
        const [, words = ''] = /\bnpm (?:install|uninstall|i) -g ([^`#;&|\n]*)/.exec(line) ?? [];
        const [wanted] = words.split(' ').filter((word) => word !== '' && !word.startsWith('-'));
        return wanted === undefined ? [] : [{ where: `${page}:${at + 1}`, wanted: wanted.replace(/[.',)]+$/, '') }];
      }),
  );
  const good = new RegExp(`^(?:${name}(?:@.*)?|\\./${name}-(?:\\*|${version.replaceAll('.', '\\.')})\\.tgz)$`);
  expect(told.length).toBeGreaterThan(3);
  expect(told.filter(({ wanted }) => !good.test(wanted))).toEqual([]);
  expect(text('docs/install.md')).toContain(`${name}-${version}.tgz`);
});

it('the Node.js that pages ask for is the one of package.json', () => {
  const [, needed] = /^>=([0-9]+)$/.exec(engines.node) ?? [];
  expect(text('README.md')).toContain(`Node.js (${needed} or newer)`);
  expect(text('docs/install.md')).toContain(`Node.js ${needed} or newer`);
  expect(text('scripts/bootstrap')).toContain(`needs Node ${needed} or newer`);
});
