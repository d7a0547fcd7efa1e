// kraftwerk schema: the JSON Schema of kraftwerk.yaml, for editors.
import { buildJsonSchema } from '../schema.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  parseOptions('schema', argv, {});
  process.stdout.write(`${JSON.stringify(buildJsonSchema(), null, 2)}\n`);
  return 0;
}
