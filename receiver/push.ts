/** The story of one push, top to bottom: refs, commit, kraftwerk.yaml, artifact, deploy. */
import { type CommitId, KraftwerkError, LIMITS } from '../node-agent/protocol.ts';
import type { Identity } from './access.ts';
import { checkTree } from './check-tree.ts';
import type { EnvironmentConfig } from './config.ts';
import { tellRemovedServices } from './data/removed-services.ts';
import type { Deployer } from './deploy/deploy.ts';
import { type DomainClaims, nodesWithDomain } from './deploy/domains.ts';
import type { OwnNames } from './deploy/own-names.ts';
import { describeChanges, planRelease, type ReleaseSpec } from './deploy/plan.ts';
import { tellDeploy } from './deploy/tell.ts';
import { type Artifact, packArtifact } from './git/artifact.ts';
import type { GitObject, ObjectReader } from './git/object-reader.ts';
import type { ProcReceive, RefUpdate, RefVerdict } from './git/proc-receive.ts';
import { openRepository } from './git/repository.ts';
import { assertPlainTree, createTreeReader, describeCommit, listTree, readTree, type TreeEntry } from './git/tree.ts';
import type { Instances } from './instances.ts';
import type { Journal } from './journal.ts';
import { knownServices } from './known-services.ts';
import { MANIFEST_FILE, parseManifest } from './manifest.ts';
import { type ManifestEntry, readManifestText } from './manifest-file.ts';
import { decideRefs, type PushOption, parsePushOptions } from './push-policy.ts';
import { type Target, targetName } from './target.ts';
import type { Templates } from './templates.ts';
import { headline, labelled, quoted, stepLine } from './transcript.ts';
import { detectWsgi } from './wsgi.ts';

export interface PushServices {
  data: string;
  journal: Journal;
  templates: Templates;
  deployer: Deployer;
  claims: DomainClaims;
  instances: Instances;
  ownNames: OwnNames;
  environments: readonly EnvironmentConfig['name'][];
  nowMs(): number;
  log(event: string, fields: Record<string, unknown>): void;
}

export interface PushContext {
  target: Target;
  environment: EnvironmentConfig;
  identity: Identity;
  /** Of the target's repository. */
  objects: ObjectReader;
  /** The client is gone. */
  signal: AbortSignal;
}

/** Decides about every ref of a push, deploys the branch among them, and tells git the verdicts. */
export async function receivePush(
  push: ProcReceive,
  context: PushContext,
  services: PushServices,
): Promise<RefVerdict[]> {
  const { target, environment } = context;
  const repository = openRepository(services.data, target);
  const { options, problems } = parsePushOptions(push.options);
  const record = services.journal.target(target);
  const decisions = decideRefs(push.updates, target, environment, record?.branch ?? null);
  const sayAll = (lines: readonly string[]): void => lines.forEach(push.say);

  const rejected = decisions.flatMap((decision) => (decision.action === 'reject' ? [decision] : []));
  // One message per kind of mistake, not per ref.
  for (const decision of rejected.filter(
    (one, index) => rejected.findIndex(({ reason }) => reason === one.reason) === index,
  )) {
    sayAll([...labelled('error', decision.message), ...decision.hints.flatMap((hint) => labelled('hint', hint))]);
  }
  for (const problem of problems) sayAll(labelled('error', problem));
  const blocked =
    problems.length > 0 ? 'unknown push option' : push.atomic && rejected.length > 0 ? 'atomic push' : null;

  const verdicts: RefVerdict[] = [];
  for (const [index, decision] of decisions.entries()) {
    const update = push.updates[index];
    if (update === undefined) continue;
    if (decision.action === 'reject') verdicts.push({ ref: update.ref, rejected: decision.reason });
    else if (blocked !== null) verdicts.push({ ref: update.ref, rejected: blocked });
    else if (decision.action === 'store') verdicts.push(await storeTag(repository, update));
    else verdicts.push({ ref: update.ref, rejected: await deployBranch(update, options, push.say, context, services) });
  }
  return verdicts;
}

async function storeTag(
  repository: ReturnType<typeof openRepository>,
  { ref, old, new: next }: RefUpdate,
): Promise<RefVerdict> {
  try {
    await repository.moveRef(ref, isZero(old) ? null : old, isZero(next) ? null : next);
    return { ref, rejected: null };
  } catch {
    return { ref, rejected: 'it has moved meanwhile; fetch first' };
  }
}

/** @returns null when the release serves, else why not, in a few words */
async function deployBranch(
  update: RefUpdate,
  options: ReadonlySet<PushOption>,
  say: (line: string) => void,
  context: PushContext,
  services: PushServices,
): Promise<string | null> {
  const { target, identity, objects, signal } = context;
  const { journal } = services;
  const told = await tellDeploy({ target, identity, signal, say }, services, async (sayLines) => {
    // Before anything else is looked at: no node is asked for a target that may not use its name there.
    services.instances.of(target);
    const before = journal.target(target);
    const release = journal.nextRelease(target);
    const generation = (before?.generation ?? 0) + (options.has('upgrade-packages') ? 1 : 0);
    const reading = readCommit(update.new, generation, context, services);
    reading.catch(() => undefined);
    const [{ commit, subject }] = await Promise.all([
      describeCommit(objects, update.new),
      checkHistory(update, context, services),
    ]);
    sayLines(headline(targetName(target), commit, subject));
    const { spec, artifact, configMs } = await reading;
    sayLines(stepLine('Config', `${MANIFEST_FILE} ok`, configMs));
    sayLines(tellRemovedServices(journal.data, target, spec));
    if (options.has('plan')) {
      sayLines(describePlan({ spec, commit, sha256: artifact.sha256, release }, update, context, services));
      return 'plan only';
    }
    if (options.has('upgrade-packages')) journal.raiseGeneration(target);
    return {
      target,
      kind: 'push',
      release,
      commit,
      subject,
      spec,
      artifact,
      ref: { name: update.ref, from: isZero(update.old) ? null : update.old },
      by: identity.name,
      override: options.has('override'),
      setUpServices: !options.has('no-service-setup'),
      runReleaseCommand: !options.has('skip-release'),
      dumpBeforeRelease: !options.has('no-dump'),
    };
  });
  return told.rejected;
}

function describePlan(
  next: Parameters<typeof describeChanges>[1],
  update: RefUpdate,
  { target, environment }: PushContext,
  { claims, journal }: PushServices,
): string[] {
  claims.take(target, next.spec, nodesWithDomain(environment)).release();
  const number = journal.target(target)?.current ?? null;
  const current = number === null ? null : journal.release(target, number);
  const changes = describeChanges(target, next, current && { ...current, sha256: current.artifact.sha256 });
  const deploy = `git push ${target.environment} ${update.ref.slice('refs/heads/'.length)}`;
  return [...changes.flatMap(quoted), ...labelled('hint', `nothing was changed; deploy it: ${deploy}`)];
}

function isZero(id: string): boolean {
  return /^0+$/.test(id);
}

async function checkHistory(
  update: RefUpdate,
  { target, environment, objects }: PushContext,
  { data }: PushServices,
): Promise<void> {
  const branch = update.ref.slice('refs/heads/'.length);
  // Over HTTP a client is told the refs before it waits for its turn.
  const now = await objects.read(`${update.ref}^{commit}`);
  if ((now?.id ?? null) !== (isZero(update.old) ? null : update.old)) {
    throw new KraftwerkError('push.moved', `${branch}: somebody else has pushed meanwhile`, {
      hint: `git pull --rebase ${environment.name} ${branch}`,
      reason: 'fetch first',
    });
  }
  if (
    !environment.fastForwardOnly ||
    isZero(update.old) ||
    (await openRepository(data, target).isAncestor(update.old, update.new))
  )
    return;
  throw new KraftwerkError(
    'push.not-fast-forward',
    `${branch}: what serves is not in the history of what is pushed, and ${environment.name} is fast_forward_only`,
    {
      hint: [`git pull --rebase ${environment.name} ${branch}`, 'or go back in time: ssh kraftwerk@HOST rollback'],
      reason: 'non-fast-forward',
    },
  );
}

/**
 * Reads and checks a commit's tree and kraftwerk.yaml, and packs it. What git is asked is asked at once: most pushes are good.
 * @throws KraftwerkError everything that is wrong with either
 */
export async function readCommit(
  commit: CommitId,
  generation: number,
  context: PushContext,
  services: Pick<PushServices, 'data' | 'journal' | 'templates' | 'environments' | 'nowMs' | 'ownNames'>,
): Promise<{ spec: ReleaseSpec; artifact: Artifact; configMs: number }> {
  const begin = services.nowMs();
  const { target, environment, objects } = context;
  const { path } = openRepository(services.data, target);
  const packing = packArtifact(services.data, path, commit, context.signal);
  const reading = objects.read(`${commit}:${MANIFEST_FILE}`);
  for (const started of [packing, reading]) started.catch(() => undefined);
  const listed = await readTree(objects, commit);
  const entries = listed ?? (await listTree(path, commit));
  assertPlainTree(entries);
  const tree = createTreeReader(objects, entries);
  const text = readManifestText(describeManifest(entries, await reading), tree.files);
  const manifest = parseManifest(text, {
    project: target.project,
    environment: environment.name,
    environments: services.environments,
    domainPattern: environment.domain,
    services: knownServices(services.templates),
    nodes: environment.nodes,
  });
  services.ownNames.refuse(manifest, (key) => manifest.where(key), servedNames(target, services.journal));
  checkTree(manifest, tree.files);
  const wsgi = await detectWsgi(manifest.wsgi, manifest, tree);
  const spec = planRelease(manifest, wsgi, tree.files, generation);
  const configMs = services.nowMs() - begin;
  const artifact = await packing.catch(async (error: unknown) => {
    if (isTooLarge(error)) assertPlainTree(await listTree(path, commit));
    throw error;
  });
  // A file cannot be larger than the artifact that it is in.
  if (listed !== null && artifact.bytes > LIMITS.fileBytes) assertPlainTree(await listTree(path, commit));
  return { spec, artifact, configMs };
}

/** Domains and aliases of what the target serves now. */
function servedNames(target: Target, journal: Journal): string[] {
  const current = journal.target(target)?.current ?? null;
  const spec = current === null ? undefined : journal.release(target, current)?.spec;
  return spec === undefined ? [] : [...spec.domains, ...spec.aliases];
}

function isTooLarge(error: unknown): boolean {
  return error instanceof KraftwerkError && error.code === 'artifact.limit';
}

function describeManifest(entries: readonly TreeEntry[], object: GitObject | null): ManifestEntry {
  const entry = entries.find(({ path }) => path === MANIFEST_FILE);
  if (entry === undefined) return { kind: object?.type === 'tree' ? 'folder' : 'none' };
  if (entry.mode === '120000') return { kind: 'link' };
  return { kind: 'file', size: object?.size ?? 0, content: object?.content ?? Buffer.alloc(0) };
}
