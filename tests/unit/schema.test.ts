// The JSON Schema and the manifest's parser come from one source.
import { expect, test } from 'vitest';
import { buildJsonSchema } from '../../receiver/schema.ts';

interface JsonSchema {
  $schema?: string;
  description?: string;
  properties: Record<string, JsonSchema>;
  additionalProperties?: boolean | JsonSchema;
  anyOf?: JsonSchema[];
  type?: string | string[];
}

const schema = buildJsonSchema() as unknown as JsonSchema;

test('draft 7, strict, every key described', () => {
  expect([schema.$schema, schema.additionalProperties]).toEqual(['http://json-schema.org/draft-07/schema#', false]);
  expect(Object.keys(schema.properties).sort()).toEqual([
    ...['aliases', 'build', 'domain', 'environ', 'environments', 'healthcheck', 'keep_releases', 'package', 'python'],
    ...[
      'release',
      'requirements',
      'scrub',
      'services',
      'src',
      'static',
      'threads',
      'timeout',
      'worker_class',
      'workers',
      'wsgi',
    ],
  ]);
  const bare = Object.entries(schema.properties).filter(([, value]) => !value.description);
  expect(bare).toEqual([]);
});

test('an environment has every key but environments', () => {
  const section = schema.properties.environments?.additionalProperties as JsonSchema;
  const { environments, ...base } = schema.properties;
  expect(environments?.type).toBe('object');
  expect(section.properties).toEqual(base);
  expect(section.additionalProperties).toBe(false);
});

test('what is taken as it is written may look like a number', () => {
  expect(schema.properties.python?.anyOf?.map(({ type }) => type)).toEqual(['string', 'number']);
  const environ = schema.properties.environ?.additionalProperties as JsonSchema;
  expect(environ).toEqual({ type: ['string', 'number', 'boolean'] });
});
