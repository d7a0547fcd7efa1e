/** All SSH commands. */
import type { Command } from './command.ts';
import { help } from './help.ts';
import { keys } from './keys.ts';
import { keysAdd } from './keys-add.ts';
import { keysRemove } from './keys-remove.ts';
import { version } from './version.ts';
import { whoami } from './whoami.ts';

export const COMMANDS: readonly Command[] = [help, version, whoami, keys, keysAdd, keysRemove];
