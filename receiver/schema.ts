// The JSON Schema of kraftwerk.yaml, from the source that validates it. Pure.
import { z } from 'zod';
import { buildManifestSchema } from './manifest-schema.ts';

/** Draft 7, of what may be written; names of environments and services are the receiver's to know. */
export function buildJsonSchema(): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(buildManifestSchema({ environments: null, services: null }), {
    target: 'draft-7',
    io: 'input',
  });
  return { $schema, title: 'kraftwerk.yaml', description: 'A project that is deployed by git push', ...schema };
}
