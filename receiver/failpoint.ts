/** Where a test can make the receiver end as kill -9 would, or halt: `KRAFTWERK_FAILPOINT=receiver:NAME:1:kill`, or `@FILE` with that in it. */
import { readFileSync } from 'node:fs';

export type Failpoint = (name: string) => void;

/** @param setting the variable's text; what it says about agents is of no concern here */
export function createFailpoint(setting: string | undefined): Failpoint {
  if (setting === undefined || setting === '') return () => undefined;
  let count = 0;
  return (name) => {
    const [side, wanted, at, effect] = readSetting(setting).trim().split(':');
    if (side !== 'receiver' || name !== wanted || ++count !== Number(at)) return;
    if (effect === 'stop') {
      process.kill(process.pid, 'SIGSTOP');
      return;
    }
    if (effect === 'kill') process.kill(process.pid, 'SIGKILL');
    throw new Error(`failpoint ${name}`);
  };
}

function readSetting(setting: string): string {
  if (!setting.startsWith('@')) return setting;
  try {
    return readFileSync(setting.slice(1), 'utf8');
  } catch {
    return '';
  }
}
