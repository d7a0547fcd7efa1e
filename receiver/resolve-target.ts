/** `blog` or `blog/live`, as typed -> one target that the configuration knows. */
import { KraftwerkError } from '../node-agent/protocol.ts';
import type { Config } from './config.ts';
import type { TargetName } from './exec-line.ts';
import type { Journal } from './journal.ts';
import { suggest } from './suggest.ts';
import { type Target, targetName } from './target.ts';

/**
 * `blog` alone means: the only environment that it is deployed in; else the default environment; else an error with the choices.
 * @param forPush the project need not exist yet
 * @throws KraftwerkError `environment.unknown`, `target.ambiguous`
 */
export function createResolver(config: Config, journal: Pick<Journal, 'targets'>) {
  return (name: TargetName, visible: (target: Target) => boolean, forPush: boolean): Target | null => {
    const { project } = name;
    const deployed = journal
      .targets()
      .map(({ target }) => target)
      .filter((target) => target.project === project && visible(target));
    if (name.environment !== undefined) {
      const target: Target = { project, environment: name.environment };
      if (!config.environments.has(name.environment)) throw unknownEnvironment(target, config);
      if (!visible(target)) return null;
      return forPush || deployed.some((one) => one.environment === name.environment) ? target : null;
    }
    const [only] = deployed;
    if (only !== undefined && deployed.length === 1) return only;
    const fallback = config.defaultEnvironment;
    if (fallback !== null) {
      const target: Target = { project, environment: fallback };
      if (visible(target) && (forPush || deployed.some(({ environment }) => environment === fallback))) return target;
    }
    if (deployed.length === 0 && !forPush) return null;
    const choices =
      deployed.length > 0
        ? deployed.map(targetName)
        : [...config.environments.keys()]
            .map((environment) => targetName({ project, environment }))
            .filter((_, index) =>
              visible({ project, environment: [...config.environments.keys()][index] ?? project } as Target),
            );
    if (choices.length === 0) return null;
    throw new KraftwerkError('target.ambiguous', `${project}: which environment?`, {
      hint: choices.map((choice) => `say ${choice}`),
      exit: 'usage',
    });
  };
}

function unknownEnvironment(target: Target, config: Config): KraftwerkError {
  const names = [...config.environments.keys()];
  const meant = suggest(target.environment, names);
  return new KraftwerkError(
    'environment.unknown',
    `${targetName(target)}: there is no environment ${target.environment}${meant === null ? '' : `, did you mean ${meant}?`}`,
    {
      hint: `environments here: ${names.join(', ')}`,
      exit: 'denied',
      reason: 'unknown environment',
    },
  );
}
