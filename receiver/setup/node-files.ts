/** The files that a node gets, beside packages and nginx's own: the agent, what starts it, and two settings. */
import { readFileSync } from 'node:fs';
import { installPath, readVersion } from '../install-root.ts';
import type { Templates } from '../templates.ts';
import type { ServerFacts } from './facts.ts';

export interface NodeFile {
  path: string;
  /** Octal: `0644`. */
  mode: string;
  content: Buffer;
}

export const AGENT_FOLDER = '/usr/local/lib/kraftwerk';

/** @param local for a receiver on the same machine, which starts its agent by sudo */
export function listNodeFiles(templates: Templates, local: boolean): NodeFile[] {
  const text = (path: string, mode: string, content: string): NodeFile => ({
    path,
    mode,
    content: Buffer.from(content),
  });
  const login = templates.read('node/agent-login');
  return [
    { path: `${AGENT_FOLDER}/agent.mjs`, mode: '0755', content: readFileSync(installPath('build', 'agent.mjs')) },
    text(`${AGENT_FOLDER}/agent.version`, '0644', `${readVersion()}\n`),
    text(`${AGENT_FOLDER}/agent-login`, '0755', login),
    ...(local ? [text(`${AGENT_FOLDER}/agent-local`, '0755', login)] : []),
    text('/etc/apt/apt.conf.d/60kraftwerk', '0644', templates.read('node/apt.conf')),
  ];
}

/** nginx's settings for all sites. */
export function renderNginxConf(templates: Templates, { ipv6 }: Pick<ServerFacts, 'ipv6'>): string {
  return templates.render('nginx', 'node/nginx-conf.d.conf', { ipv6 });
}
