/** The receiver's runit service. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readVersion } from '../install-root.ts';
import type { Templates } from '../templates.ts';
import type { NodeFile } from './node-files.ts';

export interface ServiceValues {
  data: string;
  /** The Node.js that runs it, and the file that it runs. */
  node: string;
  program: string;
  config: string;
  /** Listens below port 1024. */
  privileged: boolean;
}

const SERVICE = '/etc/sv/kraftwerk';

export function renderServiceFiles(templates: Templates, values: ServiceValues): NodeFile[] {
  const hash = createHash('sha256').update(readFileSync(values.program)).digest('hex').slice(0, 16);
  // A file that changes with what it starts is what restarts the receiver after an update.
  const data = { ...values, build: `${readVersion()} ${hash}` };
  const script = (path: string, name: string, language: 'shell' | 'text' = 'shell'): NodeFile => ({
    path,
    mode: language === 'shell' ? '0755' : '0644',
    content: Buffer.from(templates.render(language, name, data)),
  });
  return [
    script(`${SERVICE}/log/run`, 'receiver/log'),
    script('/var/log/kraftwerk/config', 'receiver/log-config', 'text'),
    script(`${SERVICE}/finish`, 'receiver/finish'),
    script(`${SERVICE}/run`, 'receiver/run'),
  ];
}
