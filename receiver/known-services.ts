/** The services that projects may ask for, as kraftwerk.yaml is held against them. */
import type { KnownServices } from './manifest-schema.ts';
import { optionsSchema } from './service-schema.ts';
import { readService } from './services.ts';
import type { Templates } from './templates.ts';

/** A broken service.yaml is the trouble of those who ask for it. */
export function knownServices(templates: Templates): KnownServices {
  return {
    names: templates.services(),
    optionsOf: (name) => optionsSchema(readService(templates, name)),
  };
}
