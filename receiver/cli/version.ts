// kraftwerk version: this program's version.
import { readVersion } from '../install-root.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  const { values } = parseOptions('version', argv, { json: { type: 'boolean' } });
  const version = readVersion();
  process.stdout.write(values.json ? `${JSON.stringify({ version })}\n` : `kraftwerk ${version}\n`);
  return 0;
}
