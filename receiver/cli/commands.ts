// The admin's commands: each name's file, loaded when it is called. What they are for stands in usage.ts.
import type { CommandName } from './usage.ts';

export interface CliCommand {
  /** Resolves to the exit code; data goes to stdout, the rest to stderr. */
  run(argv: string[]): Promise<number>;
}

const LOADERS: Readonly<Record<CommandName, () => Promise<CliCommand>>> = {
  receiver: () => import('./receiver.ts'),
  'stop-node': () => import('./stop-node.ts'),
  init: () => import('./init.ts'),
  check: () => import('./check.ts'),
  'show-config': () => import('./show-config.ts'),
  schema: () => import('./schema.ts'),
  version: () => import('./version.ts'),
  help: () => import('./help.ts'),
};

export function findCommand(name: string): (() => Promise<CliCommand>) | undefined {
  return Object.hasOwn(LOADERS, name) ? LOADERS[name as CommandName] : undefined;
}
