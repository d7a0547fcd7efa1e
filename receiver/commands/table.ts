/** All SSH commands, in the order of `help`. */
import type { Command } from './command.ts';
import { deploy } from './deploy.ts';
import { destroy } from './destroy.ts';
import { doctor } from './doctor.ts';
import { dump } from './dump.ts';
import { dumps } from './dumps.ts';
import { env } from './env.ts';
import { help } from './help.ts';
import { keys } from './keys.ts';
import { keysAdd } from './keys-add.ts';
import { keysRemove } from './keys-remove.ts';
import { load } from './load.ts';
import { logs } from './logs.ts';
import { maintenance } from './maintenance.ts';
import { nodes } from './nodes.ts';
import { projects } from './projects.ts';
import { ps } from './ps.ts';
import { releases } from './releases.ts';
import { restart } from './restart.ts';
import { rollback } from './rollback.ts';
import { servicesMove } from './services-move.ts';
import { stab } from './stab.ts';
import { start } from './start.ts';
import { status } from './status.ts';
import { stop } from './stop.ts';
import { syncServices } from './sync-services.ts';
import { tokens } from './tokens.ts';
import { tokensAdd } from './tokens-add.ts';
import { tokensRemove } from './tokens-remove.ts';
import { version } from './version.ts';
import { whoami } from './whoami.ts';

export const COMMANDS: readonly Command[] = [
  help,
  version,
  whoami,
  projects,
  status,
  logs,
  ps,
  restart,
  stop,
  start,
  releases,
  rollback,
  deploy,
  stab,
  env,
  dump,
  dumps,
  load,
  syncServices,
  servicesMove,
  maintenance,
  destroy,
  nodes,
  doctor,
  keys,
  keysAdd,
  keysRemove,
  tokens,
  tokensAdd,
  tokensRemove,
];
