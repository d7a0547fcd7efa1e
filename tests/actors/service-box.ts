/** Actor: a box with the servers of all services; its sites, and their services' scripts, run as docs/services.md says. */
import { fileURLToPath } from 'node:url';
import { planAccounts } from '../../node-agent/accounts.ts';
import { nodeLayout, siteLayout } from '../../node-agent/layout.ts';
import type { EnvironmentName, InstanceName, ProjectName, ServiceName } from '../../node-agent/protocol.ts';
import type { Options, ServiceDefinition } from '../../receiver/service-schema.ts';
import {
  fillPlaceholders,
  readService,
  renderScripts,
  type ScriptName,
  serviceValues,
} from '../../receiver/services.ts';
import { createTemplates, quoteForShell, type Templates } from '../../receiver/templates.ts';
import { makeImage, startBox } from './box.ts';
import { createBoxRunner, type Exec } from './box-runner.ts';
import { failing, hanging, KILLED } from './failing-script.ts';
import type { Outcome } from './ssh.ts';

const TEMPLATES = fileURLToPath(new URL('../../templates', import.meta.url));

/** The built-in templates, after those of an admin. */
export function templatesOf(...admin: readonly string[]): Templates {
  return createTemplates([...admin, TEMPLATES]);
}
const builtIn = templatesOf();
const ALL = createTemplates([TEMPLATES]).services();

/** As `setup-node` leaves it, as far as services need it. */
const NODE_PACKAGES = ['python3', 'procps', 'nginx-light', 'cron'];

/** What the agent does where a site is the first to ask for a service. */
function withServices(definitions: readonly ServiceDefinition[]): Promise<string> {
  const packages = [...NODE_PACKAGES, ...definitions.flatMap(({ install }) => install.packages)];
  const unwanted = definitions.flatMap(({ install }) => install.disable);
  return makeImage('services', [packages.join(), unwanted.join()], async (box) => {
    // They start at the next boot: twice would take twice as long. And whether an image survives a power cut is all the same.
    await box.run([
      'sh',
      '-c',
      'printf "#!/bin/sh\\nexit 101\\n" >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d',
    ]);
    await box.run(['apt-get', '-q', 'update']);
    await box.run([
      ...['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', 'install', '-q', '-y', '--no-install-recommends'],
      ...['-o', 'Dpkg::Options::=--force-unsafe-io', ...packages],
    ]);
    await box.run(['systemctl', 'disable', ...unwanted]);
    await box.run(['rm', '/usr/sbin/policy-rc.d']);
  });
}

export type ServiceBox = Awaited<ReturnType<typeof startServiceBox>>;
export type Site = ReturnType<typeof createSite>;
export type Service = ReturnType<typeof createService>;
export type Step = 'new' | 'swap' | 'back' | 'done';

export interface ServiceBoxOptions {
  name: string;
  disk?: string;
  /** With folders of an admin before the built-in ones. */
  templates?: Templates;
}

/** A box with the packages of all built-in services. `useBoxes` ends it. */
export async function startServiceBox({ name, disk = '4G', templates = builtIn }: ServiceBoxOptions) {
  const image = await withServices(ALL.map((service) => readService(builtIn, service)));
  const box = await startBox({ name, from: image, disk });
  const inBox = createBoxRunner(box.name);
  await asRoot(inBox, 'groupadd --system web && install -d -m 0755 /web && install -d -m 0711 /run/kraftwerk');
  return {
    box,
    /** @returns stdout @throws when it exits with anything but 0 */
    asRoot: (script: string): Promise<string> => asRoot(inBox, script),
    /** Makes the user, groups and folders of a site, as a deploy does. */
    async makeSite(instance: string): Promise<Site> {
      const layout = siteLayout(nodeLayout({ profile: 'system' }), instance as InstanceName);
      const accounts = planAccounts(layout, { users: new Map(), groups: new Map([['web', { gid: 1, members: [] }]]) });
      await asRoot(
        inBox,
        [
          'set -eu',
          ...accounts
            // The users that all sites share may be there already.
            .map((argv) => `${argv.map(quoteForShell).join(' ')} || getent passwd ${argv.at(-1)} >/dev/null`),
          `install -d -m 0750 -g ${layout.owner?.gate} ${layout.site}`,
          `install -d -m 0700 ${layout.notes} ${layout.notes}/services ${layout.site}/dump`,
        ].join('\n'),
      );
      return createSite(inBox, templates, instance);
    },
    site: (instance: string) => createSite(inBox, templates, instance),
  };
}

function createSite(inBox: Exec, templates: Templates, instance: string) {
  const folder = `/web/${instance}`;
  return {
    instance,
    user: `web-${instance}`,
    folder,
    service: (name: string, options: Options = {}) => createService(inBox, templates, instance, name, options),
    /** A program as the site's user, with these variables. */
    run: (script: string, variables: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
      inBox([...asUser(instance), ...words({ HOME: folder, ...variables }), 'bash', '--norc', '-c', script]),
  };
}

function createService(inBox: Exec, templates: Templates, instance: string, name: string, options: Options) {
  const definition = readService(templates, name as ServiceName);
  const values = serviceValues(definition, {
    profile: { profile: 'system' },
    instance: instance as InstanceName,
    project: instance as ProjectName,
    environment: 'live' as EnvironmentName,
    options,
  });
  const scripts = renderScripts(templates, definition, values);
  const { variables, health } = fillPlaceholders(definition, values);
  const state = `/web/${instance}/.kraftwerk/services/${name}`;

  /** The contract of docs/services.md. */
  async function run(
    script: ScriptName,
    environment: Readonly<Record<string, string>>,
    steps: readonly string[] = [''],
    change: (script: string) => string = (script) => script,
  ): Promise<Outcome> {
    const file = `/run/kraftwerk/.script.${instance}.${name}.${script}`;
    const given = words({ STATE_DIR: state, SITE_ROOT: `/web/${instance}`, ...environment });
    const start = `set -eu; install -d -m 0700 ${state}; cat >${file}; chmod 0600 ${file}; cd /; exec </dev/null
      words=("$@"); code=0
      for step in ${steps.map((step) => step || "''").join(' ')}; do
        [ "$code" = 0 ] || break
        "\${words[@]}" $step || code=$?
      done; rm -f ${file}; exit "$code"`;
    const text = change(scripts[script] ?? '');
    return inBox(['bash', '-c', start, 'bash', 'setsid', '-w', 'env', '-i', ...given, 'bash', file], text);
  }

  const service = {
    name,
    definition,
    /** @throws when it ends with anything but 0 @returns what it printed */
    setUp: async (): Promise<string> => good(await run('setup', {})),
    trySetUp: (): Promise<Outcome> => run('setup', {}),
    /** @param target what the dump is to become */
    dump: async (target: string): Promise<string> => good(await run('dump', { DUMP_TARGET: target })),
    tryDump: (target: string): Promise<Outcome> => run('dump', { DUMP_TARGET: target }),
    load: async (steps: readonly Step[], source = ''): Promise<string> =>
      good(await run('load', { DUMP_SOURCE: source }, steps)),
    tryLoad: (step: string, source = ''): Promise<Outcome> => run('load', { DUMP_SOURCE: source }, [step]),
    /** Kills a step, with all that it has started, before one of its commands. @returns whether it came so far */
    async cutLoad(step: Step, source: string, command: number): Promise<boolean> {
      const { code, stderr } = await run('load', { DUMP_SOURCE: source }, [step], (script) => failing(script, command));
      if (code !== 0 && code !== KILLED) throw new Error(`exit code ${code}\n${stderr}`);
      return code === KILLED;
    },
    /** A step, to its end. @returns how many commands it took, where it can be cut */
    async countLoad(step: Step, source = ''): Promise<number> {
      const said = good(await run('load', { DUMP_SOURCE: source }, [step], (script) => failing(script, 0)));
      return Number(said.split('\n').at(-1));
    },
    /** Starts a step, and returns when it has come to this command, before which it waits for its end. */
    async hangLoad(step: Step, source: string, command: number): Promise<void> {
      const mark = `/run/kraftwerk/.hangs.${instance}.${name}`;
      const hangs = run('load', { DUMP_SOURCE: source }, [step], (script) => hanging(script, command, mark));
      const reached = inBox(['bash', '-c', `until [ -e ${mark} ]; do sleep 0.05; done`]);
      const ended = await Promise.race([reached.then(() => null), hangs.catch(() => null)]);
      if (ended !== null) throw new Error(`it ended before command ${command}\n${ended.stderr}`);
    },
    async destroy(): Promise<string> {
      const said = good(await run('destroy', {}));
      await inBox(['rm', '-rf', state]);
      return said;
    },
    /** Those of service.yaml, and those that were written on the node. */
    async variables(): Promise<Record<string, string>> {
      const { stdout } = await inBox(['cat', `${state}/variables`]);
      const written = stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
      return { ...variables, ...(Object.fromEntries(written) as Record<string, string>) };
    },
    /** A script as the site's user, with the service's variables. @throws when it exits with anything but 0 */
    use: async (script: string): Promise<string> => good(await service.tryUse(script)),
    tryUse(script: string): Promise<Outcome> {
      const given = words({ HOME: `/web/${instance}`, ...variables });
      const start = `mapfile -t written < <(cat ${state}/variables 2>/dev/null); script=$1; shift
        exec "$@" "\${written[@]}" bash --norc -euo pipefail -c "$script"`;
      return inBox(['bash', '--norc', '-c', start, 'bash', script, ...asUser(instance), ...given]);
    },
    async health(): Promise<Outcome> {
      if (health === null) return { code: 0, stdout: '', stderr: '' };
      return inBox([...asUser(instance), ...words({}), ...health]);
    },
  };
  return service;
}

function asUser(instance: string): string[] {
  const user = `web-${instance}`;
  return ['setpriv', '--reuid', user, '--regid', user, '--init-groups', 'env', '-i', '-C', '/'];
}

function words(variables: Readonly<Record<string, string>>): string[] {
  const all = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...variables };
  return Object.entries(all).map(([name, value]) => `${name}=${value}`);
}

function good({ code, stdout, stderr }: Outcome): string {
  if (code !== 0) throw new Error(`exit code ${code}\n${stdout}${stderr}`);
  return `${stdout}${stderr}`.trim();
}

async function asRoot(inBox: Exec, script: string): Promise<string> {
  return good(await inBox(['bash', '--norc', '-euo', 'pipefail', '-c', script]));
}
