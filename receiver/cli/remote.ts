// kraftwerk remote: the git remotes that lead to a receiver, and a new one.
import path from 'node:path';
import {
  type EnvironmentName,
  EXIT_CODES,
  KraftwerkError,
  PROJECT_PATTERN,
  type ProjectName,
} from '../../node-agent/protocol.ts';
import { readSurroundings, type Surroundings } from '../config.ts';
import { quoteWord } from '../exec-line.ts';
import { runUserGit } from '../git/user-programs.ts';
import { escapeForTerminal, printTable } from '../print-table.ts';
import { didYouMean } from '../yaml-validate.ts';
import { kraftwerkRemotes } from './choose-remote.ts';
import { parseOptions, usageError } from './parse-options.ts';
import { findProjectFolder, type GitRemote, readRemotes } from './project.ts';
import {
  addressKey,
  formatHost,
  formatRemoteUrl,
  formatTarget,
  parseHost,
  parseRemoteUrl,
  showUrl,
} from './remote-url.ts';

const NAME_RULE = 'expected a lower-case letter, then at most 27 of a-z 0-9 _ -';

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseOptions(
    'remote',
    argv,
    { project: { type: 'string' }, json: { type: 'boolean' } },
    3,
  );
  const [what = 'list', environment, host] = positionals;
  const surroundings = readSurroundings();
  if (what === 'list') {
    if (environment !== undefined) throw usageError('remote', `unexpected argument ${JSON.stringify(environment)}`);
    if (values.project !== undefined) throw usageError('remote', '--project goes with add');
    return await list(surroundings, values.json === true);
  }
  if (what !== 'add') {
    const hint = /^(?:rm|remove|delete)$/.test(what)
      ? `git remote remove ${quoteWord(environment ?? 'REMOTE')}`
      : undefined;
    throw usageError('remote', `unknown word ${JSON.stringify(what)}${didYouMean(what, ['list', 'add'])}`, hint);
  }
  if (environment === undefined || host === undefined) {
    throw usageError('remote', `add: ${environment === undefined ? 'the environment' : 'the host'} is missing`);
  }
  return await add(surroundings, { environment, host, project: values.project, json: values.json === true });
}

async function list(surroundings: Surroundings, json: boolean): Promise<number> {
  const remotes = await readRemotes('remote', surroundings);
  const own = kraftwerkRemotes(remotes);
  if (json) {
    const shown = own.map(({ address, name, target, url }) => ({
      remote: name,
      target: formatTarget(target),
      project: target.project,
      environment: target.environment ?? null,
      host: address.host,
      port: address.port,
      url,
    }));
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
  } else {
    const rows = own.map(({ address, name, target }) => [name, formatTarget(target), formatHost(address)]);
    process.stdout.write(printTable([{ title: 'REMOTE' }, { title: 'TARGET' }, { title: 'RECEIVER' }], rows));
    if (own.length === 0)
      process.stderr.write('no git remote leads to a receiver\nhint: kraftwerk remote add stage HOST\n');
  }
  for (const { name, parsed, url } of remotes) {
    if (parsed.kind === 'refused') {
      process.stderr.write(
        `warning: ${escapeForTerminal(`the git remote ${name} is ${showUrl(url)}: ${parsed.problem}`)}\n`,
      );
    }
  }
  return EXIT_CODES.ok;
}

interface Addition {
  environment: string;
  host: string;
  project: string | undefined;
  json: boolean;
}

async function add(surroundings: Surroundings, { environment, host, json, project }: Addition): Promise<number> {
  if (!PROJECT_PATTERN.test(environment)) {
    throw usageError(
      'remote',
      `ENVIRONMENT: ${NAME_RULE}, got ${JSON.stringify(environment.slice(0, 60))}`,
      'kraftwerk remote add stage HOST',
    );
  }
  const address = parseHost(host);
  if (typeof address === 'string') {
    throw usageError('remote', `HOST: ${address}`, `kraftwerk remote add ${environment} paas.example.com`);
  }
  const remotes = await readRemotes('remote', surroundings);
  const name = chooseProject(
    project,
    remotes,
    surroundings.cwd,
    `kraftwerk remote add ${environment} ${quoteWord(host)}`,
  );
  const target = { project: name, environment: environment as EnvironmentName };
  const url = formatRemoteUrl(address, target);
  const there = remotes.find((remote) => remote.name === environment);
  if (there !== undefined && !leadsTo(there, url)) throw taken(there, url);
  if (there === undefined) await addRemote(surroundings, environment, url);
  if (json) {
    const { host: at, port } = address;
    const shown = {
      remote: environment,
      target: formatTarget(target),
      ...target,
      host: at,
      port,
      url,
      added: there === undefined,
    };
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    return EXIT_CODES.ok;
  }
  const already = there === undefined ? '' : ' already';
  process.stderr.write(`${environment} is ${url}${already}. To deploy to it:\n\n`);
  process.stdout.write(`  git push ${environment} ${await readBranch(surroundings)}\n`);
  return EXIT_CODES.ok;
}

/** As the other remotes have it, else as the folder is called. */
function chooseProject(
  given: string | undefined,
  remotes: readonly GitRemote[],
  cwd: string,
  command: string,
): ProjectName {
  const named = new Set(kraftwerkRemotes(remotes).map(({ target }) => target.project));
  const [only] = named;
  const name = given ?? (named.size === 1 && only !== undefined ? only : path.basename(findProjectFolder(cwd)));
  if (PROJECT_PATTERN.test(name)) return name as ProjectName;
  const got = JSON.stringify(name.slice(0, 60));
  const where =
    given === undefined
      ? `the folder ${got} is no project's name: ${NAME_RULE}`
      : `--project: ${NAME_RULE}, got ${got}`;
  const corrected = name
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^[^a-z]+|-+$/g, '')
    .slice(0, 28);
  throw usageError('remote', where, `${command} --project ${PROJECT_PATTERN.test(corrected) ? corrected : 'NAME'}`);
}

function leadsTo({ parsed }: GitRemote, url: string): boolean {
  const wanted = parseRemoteUrl(url);
  if (parsed.kind !== 'ssh' || wanted.kind !== 'ssh') return false;
  return (
    addressKey(parsed.address) === addressKey(wanted.address) &&
    formatTarget(parsed.target) === formatTarget(wanted.target)
  );
}

function taken({ name, pushUrl, url: old }: GitRemote, url: string): KraftwerkError {
  return new KraftwerkError('remote.taken', `remote: the git remote ${name} is there already: ${showUrl(old)}`, {
    hint: `git remote set-url ${pushUrl ? '--push ' : ''}${name} ${quoteWord(url)}`,
  });
}

async function addRemote(surroundings: Surroundings, name: string, url: string): Promise<void> {
  const { code, stderr } = await runUserGit(['remote', 'add', name, url], surroundings);
  if (code === 0) return;
  const [first = '', ...lines] = stderr.trim().split('\n');
  throw new KraftwerkError('git.failed', `remote: git: ${first.replace(/^(?:fatal|error): /, '')}`, { lines });
}

/** The branch to push: the current one if it deploys. */
async function readBranch(surroundings: Surroundings): Promise<string> {
  const { stdout } = await runUserGit(['symbolic-ref', '--quiet', '--short', 'HEAD'], surroundings);
  return stdout.trim() === 'main' ? 'main' : 'master';
}
